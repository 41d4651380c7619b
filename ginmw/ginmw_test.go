package ginmw_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/core/mwtest"
	"github.com/spillway-go/spillway/ginmw"
)

func init() { gin.SetMode(gin.TestMode) }

func TestConformance(t *testing.T) {
	mwtest.Run(t, adapter(func(*gin.Engine) {}))
}

// Each of these options changes how gin finds a route.
func TestPaths(t *testing.T) {
	for name, option := range map[string]func(*gin.Engine){
		"RemoveExtraSlash":                 func(r *gin.Engine) { r.RemoveExtraSlash = true },
		"UseRawPath":                       func(r *gin.Engine) { r.UseRawPath = true },
		"UseRawPath without unescaping":    func(r *gin.Engine) { r.UseRawPath, r.UnescapePathValues = true, false },
		"UseEscapedPath":                   func(r *gin.Engine) { r.UseEscapedPath = true },
		"UseEscapedPath, RemoveExtraSlash": func(r *gin.Engine) { r.UseEscapedPath, r.RemoveExtraSlash = true, true },
		"RedirectFixedPath":                func(r *gin.Engine) { r.RedirectFixedPath = true },
		"no redirects":                     func(r *gin.Engine) { r.RedirectTrailingSlash = false },
		"HandleMethodNotAllowed":           func(r *gin.Engine) { r.HandleMethodNotAllowed = true },
	} {
		t.Run(name, func(t *testing.T) { mwtest.RunPaths(t, adapter(option)) })
	}
}

func adapter(option func(*gin.Engine)) mwtest.Adapter {
	return mwtest.Adapter{
		Serve: func(t testing.TB, l net.Listener, app mwtest.App) {
			r := gin.New()
			option(r)
			r.Use(survive(t), front)
			r.Use(limits(t, app, app.Policies)...)
			for _, route := range app.Routes {
				r.Handle(route.Method, ginPath(route.Path), append(limits(t, app, route.Policies), ok(app, route.Path))...)
			}
			r.NoRoute(ok(app, ""))
			mwtest.ServeHTTP(t, l, r)
		},
		Key: ginmw.Key(func(c *gin.Context) (string, error) { return c.GetHeader(mwtest.KeyHeader), nil }),
	}
}

func ok(app mwtest.App, path string) gin.HandlerFunc {
	return func(c *gin.Context) {
		app.Decided(ginmw.Decision(c))
		app.Called(path)
		status, _ := mwtest.Answer(c.GetHeader(mwtest.AnswerHeader))
		c.String(status, "ok")
	}
}

// survive is gin's own way to survive a panic, of those that the suite asks for.
func survive(t testing.TB) gin.HandlerFunc {
	return gin.CustomRecoveryWithWriter(nil, func(c *gin.Context, reason any) {
		if reason != mwtest.Panic {
			t.Errorf("%s %q: a panic: %v", c.Request.Method, c.Request.RequestURI, reason)
		}
		c.AbortWithStatus(http.StatusInternalServerError)
	})
}

func limits(t testing.TB, app mwtest.App, policies []core.Policy) (handlers []gin.HandlerFunc) {
	for _, policy := range policies {
		if app.Refusal == "" {
			handlers = append(handlers, ginmw.Limit(app.Limiter, policy))
			continue
		}
		guard, err := core.NewGuard(app.Limiter, policy)
		if err != nil {
			t.Fatal(err)
		}
		handlers = append(handlers, ginmw.Handler(guard, func(c *gin.Context, decision core.Decision) {
			c.String(decision.Status, app.Refusal)
		}))
	}
	return handlers
}

// front stands for authentication and CORS.
func front(c *gin.Context) {
	for _, names := range c.Request.Header.Values(mwtest.ExposeHeader) {
		c.Writer.Header().Add("Access-Control-Expose-Headers", names)
	}
	if user := c.GetHeader(mwtest.UserHeader); user != "" {
		c.Set(mwtest.UserKey, user)
	}
	if user := c.GetHeader(mwtest.ContextUserHeader); user != "" {
		c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), mwtest.ContextUserKey{}, user))
	}
}

// ginPath writes /users/{id} and /files/{path...} as gin does.
func ginPath(path string) string {
	return strings.NewReplacer("{path...}", "*path", "{", ":", "}", "").Replace(path)
}

func TestRefusalAbortsTheChain(t *testing.T) {
	for name, refuse := range map[string]func(*gin.Context, core.Decision){
		"the default":       nil,
		"one that does not": func(*gin.Context, core.Decision) {},
		"one that does too": func(c *gin.Context, d core.Decision) { c.AbortWithStatus(d.Status) },
		"one that goes on":  func(c *gin.Context, _ core.Decision) { c.Next() },
	} {
		guard, err := core.NewGuard(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(1)})
		if err != nil {
			t.Fatal(err)
		}
		var calls, refused int
		r := gin.New()
		r.Use(func(c *gin.Context) {
			c.Next()
			if c.IsAborted() {
				refused++
			}
		})
		r.Use(ginmw.Handler(guard, refuse))
		r.GET("/", func(*gin.Context) { calls++ }, func(*gin.Context) { calls++ })
		for range 3 {
			r.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}
		if calls != 2 || refused != 2 {
			t.Errorf("a refuse function that aborts, %s: of 3 requests %d are aborted, and %d handlers are called, want 2 and the 2 of the one that passes",
				name, refused, calls)
		}
	}
}

// What gin has been told by Set goes before what is in the request's context.
func TestSetGoesBeforeContext(t *testing.T) {
	type otherKey struct{}
	var users []any
	r := gin.New()
	r.Use(func(c *gin.Context) {
		c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), otherKey{}, "context"))
		if c.Request.URL.Path == "/set" {
			c.Set(otherKey{}, "set")
		}
	})
	r.Use(ginmw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(10), Key: func(r core.Request) (string, error) {
		users = append(users, r.Value(otherKey{}))
		return "key", nil
	}}))
	for _, path := range []string{"/set", "/context"} {
		r.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	if users[0] != "set" || users[1] != "context" {
		t.Errorf("the users are %v, want set and context", users)
	}
}

func TestWriterIsNotWrapped(t *testing.T) {
	for _, count := range []core.Count{core.CountAll, core.CountFailures} {
		var outside, inside gin.ResponseWriter
		r := gin.New()
		r.Use(func(c *gin.Context) { outside = c.Writer })
		r.Use(ginmw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(1), Count: count}))
		r.GET("/", func(c *gin.Context) { inside = c.Writer })
		r.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		if inside == nil || inside != outside {
			t.Errorf("Count %d: the handler's writer is %T, want the one in front, %T", count, inside, outside)
		}
	}
}

// An answer that has begun is not all there if the handler panics.
func TestPanicInTheAnswer(t *testing.T) {
	r := gin.New()
	r.Use(gin.CustomRecoveryWithWriter(nil, func(c *gin.Context, _ any) { c.Abort() }))
	r.Use(ginmw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(2), Count: core.CountFailures}))
	r.GET("/", func(c *gin.Context) {
		c.String(http.StatusOK, "the beginning")
		panic("of the end")
	})
	var statuses []int
	for range 3 {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		statuses = append(statuses, w.Code)
	}
	if statuses[1] != http.StatusOK || statuses[2] != http.StatusTooManyRequests {
		t.Errorf("the statuses are %v, want 200, 200, 429", statuses)
	}
}

func BenchmarkBare(b *testing.B) { benchmark(b, gin.New()) }

func BenchmarkLimit(b *testing.B) {
	r := gin.New()
	r.Use(ginmw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerSecond(1_000_000)}))
	benchmark(b, r)
}

func benchmark(b *testing.B, r *gin.Engine) {
	b.ReportAllocs()
	r.GET("/", func(c *gin.Context) { c.Status(http.StatusNoContent) })
	request := httptest.NewRequest("GET", "/", nil)
	w := &discard{header: make(http.Header)}
	for b.Loop() {
		clear(w.header)
		r.ServeHTTP(w, request)
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
