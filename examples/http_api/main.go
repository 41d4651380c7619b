// Command http_api is a small HTTP API with a limit for each of its routes.
//
//	go run ./examples/http_api
//	go run ./examples/http_api -addr :8080 -redis redis://localhost:6379
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/core/redisstore"
	"github.com/spillway-go/spillway/nethttp"
)

// policy is the whole of the rate limiting. Who is limited is the client's IP,
// since it names no other Key.
var policy = core.Policy{
	Name:  "api",
	Limit: core.PerMinute(100), // whatever has no route below
	Routes: []core.Route{
		{Pattern: "GET /{$}", Limit: core.PerSecond(3)},
		{Pattern: "POST /login", Limit: core.PerMinute(5)}, // nobody mistypes a password more often
		{Pattern: "GET /search", Limit: core.PerSecond(10).WithBurst(20)},
		{Pattern: "GET /healthz"}, // no limit: a probe that is refused looks like an outage
	},
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	redisURL := flag.String("redis", "", "URL of a Redis to keep the buckets in, like redis://localhost:6379 (default: in memory)")
	flag.Parse()
	if err := run(*addr, *redisURL); err != nil {
		fmt.Fprintln(os.Stderr, "http_api:", err)
		os.Exit(1)
	}
}

func run(addr, redisURL string) error {
	var store core.Store = core.NewMemory()
	where := "in memory"
	if redisURL != "" {
		shared, err := redisstore.Open(redisURL)
		if err != nil {
			return err
		}
		defer shared.Close()
		store, where = shared, "in Redis"
	}
	limit := nethttp.Limit(core.New(store), policy)

	// Listening before saying so: a port that is taken is an error, not a hint.
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf(hints, listener.Addr(), where)
	return serve(listener, limit(api()))
}

func api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", say("hello"))
	mux.HandleFunc("POST /login", say("welcome"))
	mux.HandleFunc("GET /search", say("found nothing"))
	mux.HandleFunc("GET /healthz", say("ok"))
	return mux
}

func say(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text+"\n") }
}

// serve answers requests until the process is told to end, and finishes those
// that have begun.
func serve(listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second, // a client that dawdles over its headers is not counted by any limit
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stop() // a second Ctrl-C ends the process at once
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return server.Close()
}

const hints = `http_api listens on http://%[1]s, its buckets are %[2]s.

The root takes 3 requests a second. See three pass, and then a 429 with Retry-After:

  for i in 1 2 3 4 5; do curl -si http://%[1]s/; done

POST /login takes 5 a minute, GET /search 10 a second and 20 at once, the rest 100 a minute:

  for i in 1 2 3 4 5 6; do curl -si -X POST http://%[1]s/login; done
  for i in $(seq 25); do curl -so /dev/null -w '%%{http_code}\n' http://%[1]s/search; done

GET /healthz is exempt:

  curl -si http://%[1]s/healthz
`
