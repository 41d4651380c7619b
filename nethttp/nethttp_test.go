package nethttp_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	mwtest.ServeHTTP(t, l, front(limit(t, app, app.Policies, mux)))
}

func ok(app mwtest.App, path string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		app.Decided(nethttp.Decision(r))
		app.Called(path)
		status, _ := mwtest.Answer(r.Header.Get(mwtest.AnswerHeader))
		w.WriteHeader(status)
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

// front stands for authentication and CORS.
func front(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, names := range r.Header.Values(mwtest.ExposeHeader) {
			w.Header().Add("Access-Control-Expose-Headers", names)
		}
		if user := r.Header.Get(mwtest.UserHeader); user != "" {
			//lint:ignore SA1029 net/http has no other store for the suite's key
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

// With Count the writer is wrapped, and can do the same.
func TestWriterCanDoAll(t *testing.T) {
	for _, count := range []core.Count{core.CountAll, core.CountFailures, core.CountSuccesses} {
		testWriter(t, count)
	}
}

func testWriter(t *testing.T, count core.Count) {
	big := strings.Repeat("0123456789", 100_000)
	file := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(file, []byte(big), 0o600); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, isFlusher := w.(http.Flusher)
		_, isHijacker := w.(http.Hijacker)
		_, isReaderFrom := w.(io.ReaderFrom)
		if !isFlusher || !isHijacker || !isReaderFrom {
			t.Errorf("Count %d: the writer %T is http.Flusher: %t, http.Hijacker: %t, io.ReaderFrom: %t", count, w, isFlusher, isHijacker, isReaderFrom)
		}
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Errorf("Count %d: SetWriteDeadline: %v", count, err)
		}
	})
	stream := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Errorf("Count %d: Flush: %v", count, err)
			return
		}
		<-r.Context().Done() // the client hangs up when it has read the first line
	}
	mux.HandleFunc("/stream", stream)
	mux.HandleFunc("/stream/failed", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		w.WriteHeader(http.StatusOK) // too late
		stream(w, r)
	})
	mux.HandleFunc("/abort/failed", func(w http.ResponseWriter, r *http.Request) {
		stream(w, r)
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/early/failed", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "first\n")
	})
	mux.HandleFunc("/old", func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		_, _ = io.WriteString(w, "first\n")
	})
	mux.HandleFunc("/hijack", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("Count %d: Hijack: %v", count, err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nfirst\n")
	})
	mux.HandleFunc("/copy", func(w http.ResponseWriter, _ *http.Request) {
		from, err := os.Open(file)
		if err != nil {
			t.Error(err)
			return
		}
		defer from.Close()
		if n, err := io.Copy(w, from); err != nil || n != int64(len(big)) {
			t.Errorf("Count %d: Copy: %d, %v", count, n, err)
		}
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	mux.HandleFunc("/file/failed", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file+"/none") })

	for path, want := range map[string]string{
		"/": "", "/stream": "first\n", "/stream/failed": "first\n", "/abort/failed": "first\n", "/early/failed": "first\n",
		"/old": "first\n", "/hijack": "first\n", "/copy": big, "/file": big, "/file/failed": "404 page not found\n",
	} {
		limited := nethttp.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(10), Count: count})(mux)
		settled := make(chan struct{}, 1)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() { settled <- struct{}{} }()
			limited.ServeHTTP(w, r)
		}))
		if got := firstLine(t, server, path); got != want {
			t.Errorf("Count %d: %s answers %.50q, want %.50q", count, path, got, want)
		}
		<-settled
		response, err := server.Client().Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		remaining := "8"
		if failed := strings.HasSuffix(path, "/failed"); count != core.CountAll && failed != (count == core.CountFailures) {
			remaining = "9"
		}
		if got := response.Header.Get("RateLimit"); !strings.HasPrefix(got, `"10/h";r=`+remaining+";") {
			t.Errorf("Count %d: after %s RateLimit is %s, want %s remaining", count, path, got, remaining)
		}
		server.Close()
	}
}

// firstLine reads the answer up to the end of the first line, and hangs up.
func firstLine(t *testing.T, server *httptest.Server, path string) string {
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	request, err := http.NewRequestWithContext(ctx, "GET", server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	line, err := bufio.NewReader(response.Body).ReadString('\n')
	if err != nil && err != io.EOF {
		t.Errorf("%s: %v", path, err)
	}
	return line
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
