package nethttp_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/core/mwtest"
	"github.com/spillway-go/spillway/nethttp"
)

func TestConformance(t *testing.T) {
	mwtest.Run(t, mwtest.Adapter{Serve: serve, Key: nethttp.Key(headerKey)})
}

// TestPaths has no ServeMux in front, which redirects most spellings by itself.
func TestPaths(t *testing.T) {
	mwtest.RunPaths(t, mwtest.Adapter{Serve: func(t testing.TB, l net.Listener, app mwtest.App) {
		mwtest.ServeHTTP(t, l, limit(t, app, app.Policies, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// The laxest of routers: it ignores case, escapes, slashes and dots.
			path := strings.ToLower("/" + strings.Trim(r.URL.Path, "/"))
			for _, route := range app.Routes {
				prefix, wildcard, _ := strings.Cut(route.Path, "{")
				_, suffix, _ := strings.Cut(wildcard, "}")
				if path == route.Path || wildcard != "" && strings.HasPrefix(path, prefix) && strings.HasSuffix(path, suffix) {
					app.Called(route.Path)
				}
			}
		})))
	}})
}

func serve(t testing.TB, l net.Listener, app mwtest.App) {
	mux := http.NewServeMux()
	mux.Handle("/", ok(app, ""))
	for _, route := range app.Routes {
		mux.Handle(route.Method+" "+route.Path, limit(t, app, route.Policies, ok(app, route.Path)))
	}
	mwtest.ServeHTTP(t, l, login(limit(t, app, app.Policies, mux)))
}

func ok(app mwtest.App, path string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		app.Called(path)
		_, _ = io.WriteString(w, "ok")
	})
}

// limit puts policies in front of next, the first one outermost.
func limit(t testing.TB, app mwtest.App, policies []core.Policy, next http.Handler) http.Handler {
	for i := len(policies) - 1; i >= 0; i-- {
		if app.Refusal == "" {
			next = nethttp.Limit(app.Limiter, policies[i])(next)
			continue
		}
		guard, err := core.NewGuard(app.Limiter, policies[i])
		if err != nil {
			t.Fatal(err)
		}
		next = nethttp.Handler(guard, func(w http.ResponseWriter, _ *http.Request, decision core.Decision) {
			w.WriteHeader(decision.Status)
			_, _ = io.WriteString(w, app.Refusal)
		})(next)
	}
	return next
}

// login stands for authentication.
func login(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user := r.Header.Get(mwtest.UserHeader); user != "" {
			r = r.WithContext(context.WithValue(r.Context(), mwtest.UserKey, user))
		}
		if user := r.Header.Get(mwtest.ContextUserHeader); user != "" {
			r = r.WithContext(context.WithValue(r.Context(), mwtest.ContextUserKey{}, user))
		}
		next.ServeHTTP(w, r)
	})
}

func headerKey(r *http.Request) (string, error) { return r.Header.Get(mwtest.KeyHeader), nil }

// A middleware that wraps the writer takes away what the wrapper does not have.
func TestWriterIsNotWrapped(t *testing.T) {
	var inside http.ResponseWriter
	handler := nethttp.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(1)})(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { inside = w }))
	outside := httptest.NewRecorder()
	handler.ServeHTTP(outside, httptest.NewRequest("GET", "/", nil))
	if inside != outside {
		t.Errorf("the handler's writer is %T %p, want the server's, %T %p", inside, inside, outside, outside)
	}
}

func TestWriterCanDoAll(t *testing.T) {
	limit := nethttp.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(10)})
	server := httptest.NewServer(limit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, isFlusher := w.(http.Flusher)
		_, isHijacker := w.(http.Hijacker)
		_, isReaderFrom := w.(io.ReaderFrom)
		if !isFlusher || !isHijacker || !isReaderFrom {
			t.Errorf("the writer %T is http.Flusher: %t, http.Hijacker: %t, io.ReaderFrom: %t", w, isFlusher, isHijacker, isReaderFrom)
		}
		control := http.NewResponseController(w)
		if r.URL.Path == "/flush" {
			_, _ = io.WriteString(w, "first\n")
			if err := control.Flush(); err != nil {
				t.Errorf("Flush: %v", err)
				return
			}
			<-r.Context().Done() // the client hangs up when it has read the first line
			return
		}
		conn, _, err := control.Hijack()
		if err != nil {
			t.Errorf("Hijack: %v", err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nraw\n")
	})))
	defer server.Close()

	ctx, hangUp := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/flush", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(response.Body).ReadString('\n'); line != "first\n" {
		t.Errorf("the flushed line is %q, %v", line, err)
	}
	hangUp()
	_ = response.Body.Close()

	response, err = server.Client().Get(server.URL + "/hijack")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if line, err := bufio.NewReader(response.Body).ReadString('\n'); line != "raw\n" {
		t.Errorf("after the upgrade comes %q, %v", line, err)
	}
}

// A handler that panics has been counted, and holds nothing up.
func TestPanicInHandler(t *testing.T) {
	handler := nethttp.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(2)})(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	statuses := map[any]int{}
	for range 5 {
		func() {
			defer func() {
				if reason := recover(); reason != nil {
					statuses[reason]++
				}
			}()
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			statuses[w.Code]++
		}()
	}
	if statuses[http.ErrAbortHandler] != 2 || statuses[http.StatusTooManyRequests] != 3 {
		t.Errorf("the panics and statuses are %v, want 2 panics and 3 refusals", statuses)
	}
}

func TestKeyErrors(t *testing.T) {
	failed := errors.New("failed")
	key := nethttp.Key(func(*http.Request) (string, error) { return "key", failed })
	handler := nethttp.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(1), Key: key})(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, want := range []int{http.StatusOK, http.StatusTooManyRequests} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != want {
			t.Errorf("without a key the status is %d, want %d: the address counts", w.Code, want)
		}
	}
}

func BenchmarkBare(b *testing.B) {
	benchmark(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
}

func BenchmarkLimit(b *testing.B) {
	limit := nethttp.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerSecond(1_000_000)})
	benchmark(b, limit(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })))
}

func benchmark(b *testing.B, handler http.Handler) {
	b.ReportAllocs()
	r := httptest.NewRequest("GET", "/", nil)
	w := &discard{header: make(http.Header)}
	for b.Loop() {
		clear(w.header)
		handler.ServeHTTP(w, r)
	}
	if w.status != http.StatusNoContent {
		b.Fatalf("the status is %d", w.status)
	}
}

// discard is a ResponseWriter that costs nothing.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
