package echomw_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/labstack/echo/v4"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/echomw"
)

// All requests of a client are limited to 100 a minute, and the login to 2.
func Example() {
	limiter := core.New(core.NewMemory())

	e := echo.New()
	e.Use(echomw.Limit(limiter, core.Policy{Limit: core.PerMinute(100)}))
	e.POST("/login", func(c echo.Context) error {
		return c.String(http.StatusOK, "welcome")
	}, echomw.Limit(limiter, core.Policy{Name: "login", Limit: core.PerMinute(2)}))

	for range 3 {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, httptest.NewRequest("POST", "/login", nil))
		fmt.Println(w.Code, w.Header().Get("RateLimit"))
	}

	// Output:
	// 200 "100/m";r=99;t=60, "login";r=1;t=30
	// 200 "100/m";r=98;t=59, "login";r=0;t=30
	// 429 "login";r=0;t=30
}
