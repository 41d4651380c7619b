// Command per_user_limiting gives each caller the limits of its plan: users who
// sign in, programs that send an API key, and strangers, who are limited by
// their IP and more tightly.
//
//	go run ./examples/per_user_limiting
//	go run ./examples/per_user_limiting -addr :8080 -redis redis://localhost:6379
package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"flag"
	"fmt"
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

// A plan is what somebody has booked. The names of the policies keep the
// buckets of the plans apart, so who changes plans starts afresh.
type plan string

const (
	none plan = "anonymous"
	free plan = "free"
	pro  plan = "pro"
)

// byCaller finds whose bucket it is. FirstOf keeps users and API keys apart, so
// a key that spells a user's name is not that user.
var byCaller = core.FirstOf(core.ByUser(userKey{}), core.ByHeader(apiKeyHeader))

var policies = map[plan]core.Policy{
	free: {
		Limit: core.PerMinute(30).WithBurst(5),
		Key:   byCaller,
	},
	pro: {
		Limit: core.PerSecond(10).WithBurst(20),
		And:   []core.Limit{core.PerHour(5000)},
		Key:   byCaller,
	},
	// A stranger's headers prove nothing, so the key is the IP. Wrong passwords
	// and made-up API keys end up here too, which makes guessing them slow.
	none: {
		Limit: core.PerMinute(12).WithBurst(3),
		Key:   core.ByIP,
	},
}

// The tables below stand for a database. A real one has hashes of passwords and
// keys, not what they are.
var (
	users = map[string]struct {
		password string
		plan     plan
	}{
		"ada": {"lovelace", pro},
		"bob": {"builder", free},
	}
	apiKeys = map[string]plan{
		"demo-key-pro":  pro,
		"demo-key-free": free,
	}
)

const apiKeyHeader = "X-API-Key"

// What authenticate leaves in the request's context.
type (
	userKey struct{} // the name of the user, who may be none
	planKey struct{} // the plan, always
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	redisURL := flag.String("redis", "", "URL of a Redis to keep the buckets in, like redis://localhost:6379 (default: in memory)")
	flag.Parse()
	if err := run(*addr, *redisURL); err != nil {
		fmt.Fprintln(os.Stderr, "per_user_limiting:", err)
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
	limiter := core.New(store)

	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf(hints, listener.Addr(), where)
	return serve(listener, authenticate(limitByPlan(limiter, http.HandlerFunc(hello))))
}

// authenticate finds out who calls and leaves it in the context. It refuses
// nobody: who is not known is a stranger, and is limited before being told so.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if name, plan, ok := signedIn(r); ok {
			ctx = context.WithValue(ctx, userKey{}, name)
			ctx = context.WithValue(ctx, planKey{}, plan)
		} else if plan, ok := apiKeys[r.Header.Get(apiKeyHeader)]; ok {
			ctx = context.WithValue(ctx, planKey{}, plan)
		} else {
			ctx = context.WithValue(ctx, planKey{}, none)
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func signedIn(r *http.Request) (name string, _ plan, ok bool) {
	name, password, _ := r.BasicAuth()
	user, known := users[name]
	if !known || subtle.ConstantTimeCompare([]byte(password), []byte(user.password)) == 0 {
		return "", none, false
	}
	return name, user.plan, true
}

// limitByPlan puts next behind one guard for each plan, and sends a request to
// that of its caller.
func limitByPlan(limiter *core.Limiter, next http.Handler) http.Handler {
	limited := make(map[plan]http.Handler)
	for plan, policy := range policies {
		policy.Name = string(plan)
		limited[plan] = nethttp.Limit(limiter, policy)(next)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limited[planOf(r)].ServeHTTP(w, r)
	})
}

func planOf(r *http.Request) plan { return r.Context().Value(planKey{}).(plan) }

func hello(w http.ResponseWriter, r *http.Request) {
	plan := planOf(r)
	if plan == none && (r.Header.Get("Authorization") != "" || r.Header.Get(apiKeyHeader) != "") {
		w.Header().Set("WWW-Authenticate", `Basic realm="demo"`)
		http.Error(w, "wrong password or API key", http.StatusUnauthorized)
		return
	}
	fmt.Fprintf(w, "hello, your plan is %s\n", plan)
}

// serve answers requests until the process is told to end, and finishes those
// that have begun.
func serve(listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
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

const hints = `per_user_limiting listens on http://%[1]s, its buckets are %[2]s.

A stranger may come 3 times at once, then every 5 seconds:

  for i in 1 2 3 4; do curl -si http://%[1]s/; done

Bob's plan is free: 5 at once, then every 2 seconds. So is this API key, which has a bucket of its own:

  for i in 1 2 3 4 5 6; do curl -si -u bob:builder http://%[1]s/; done
  for i in 1 2 3 4 5 6; do curl -si -H 'X-API-Key: demo-key-free' http://%[1]s/; done

Ada's is pro: 10 a second and 20 at once, and 5000 an hour:

  for i in 1 2 3 4 5 6; do curl -si -u ada:lovelace http://%[1]s/; done
  for i in 1 2 3 4 5 6; do curl -si -H 'X-API-Key: demo-key-pro' http://%[1]s/; done

A wrong password is a stranger's:

  for i in 1 2 3 4; do curl -si -u ada:byron http://%[1]s/; done
`
