package nethttp_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/nethttp"
)

// All requests of a client are limited to 100 a minute, and the login to 2.
func Example() {
	limiter := core.New(core.NewMemory())

	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "welcome") })

	limit := nethttp.Limit(limiter, core.Policy{
		Name:   "site",
		Limit:  core.PerMinute(100),
		Routes: []core.Route{{Pattern: "POST /login", Limit: core.PerMinute(2)}},
	})
	handler := limit(mux) // for http.ListenAndServe

	for range 3 {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("POST", "/login", nil))
		fmt.Println(w.Code, w.Header().Get("RateLimit"))
	}

	// Output:
	// 200 "site POST /login";r=1;t=30
	// 200 "site POST /login";r=0;t=30
	// 429 "site POST /login";r=0;t=30
}
