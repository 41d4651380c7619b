package echomw_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/core/mwtest"
	"github.com/spillway-go/spillway/echomw"
)

func TestConformance(t *testing.T) {
	mwtest.Run(t, adapter(func(*echo.Echo) {}))
}

// Middlewares that rewrite a path change how echo finds a route.
func TestPaths(t *testing.T) {
	for name, rewrite := range map[string]func(*url.URL){
		"without a trailing slash, as echo's middleware does": func(u *url.URL) { u.Path = strings.TrimSuffix(u.Path, "/") },
		"without escapes": func(u *url.URL) { u.RawPath = "" },
		"cleaned":         func(u *url.URL) { u.Path, u.RawPath = path.Clean(u.Path), "" },
		"in lower case":   func(u *url.URL) { u.Path, u.RawPath = strings.ToLower(u.Path), "" },
	} {
		t.Run(name, func(t *testing.T) {
			mwtest.RunPaths(t, adapter(func(e *echo.Echo) {
				e.Pre(func(next echo.HandlerFunc) echo.HandlerFunc {
					return func(c echo.Context) error {
						rewrite(c.Request().URL)
						return next(c)
					}
				})
			}))
		})
	}
}

func adapter(option func(*echo.Echo)) mwtest.Adapter {
	return mwtest.Adapter{
		Serve: func(t testing.TB, l net.Listener, app mwtest.App) {
			e := echo.New()
			option(e)
			e.HTTPErrorHandler = answerError
			e.Use(survive(t), front)
			e.Use(limits(t, app, app.Policies)...)
			for _, route := range app.Routes {
				e.Add(route.Method, echoPath(route.Path), ok(app, route.Path), limits(t, app, route.Policies)...)
			}
			e.RouteNotFound("/*", ok(app, ""))
			mwtest.ServeHTTP(t, l, e)
		},
		Key: echomw.Key(func(c echo.Context) (string, error) { return c.Request().Header.Get(mwtest.KeyHeader), nil }),

		ReturnsErrors: true,
	}
}

func ok(app mwtest.App, path string) echo.HandlerFunc {
	return func(c echo.Context) error {
		app.Decided(echomw.Decision(c))
		app.Called(path)
		status, asError := mwtest.Answer(c.Request().Header.Get(mwtest.AnswerHeader))
		if asError {
			return echo.NewHTTPError(status)
		}
		return c.String(status, "ok")
	}
}

// answerError is an application's own HTTPErrorHandler.
func answerError(err error, c echo.Context) {
	var httpError *echo.HTTPError
	if !errors.As(err, &httpError) {
		httpError = echo.ErrInternalServerError
	}
	_ = c.String(httpError.Code, mwtest.Handled+fmt.Sprint(httpError.Message))
}

// survive recovers from the panics that the suite asks for, as echo's middleware
// does, whose package needs a module that this one does not.
func survive(t testing.TB) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) (err error) {
			defer func() {
				if reason := recover(); reason != nil {
					if reason != mwtest.Panic {
						t.Errorf("%s %q: a panic: %v", c.Request().Method, c.Request().RequestURI, reason)
					}
					err = fmt.Errorf("%v", reason)
				}
			}()
			return next(c)
		}
	}
}

func limits(t testing.TB, app mwtest.App, policies []core.Policy) (middlewares []echo.MiddlewareFunc) {
	for _, policy := range policies {
		if app.Refusal == "" {
			middlewares = append(middlewares, echomw.Limit(app.Limiter, policy))
			continue
		}
		guard, err := core.NewGuard(app.Limiter, policy)
		if err != nil {
			t.Fatal(err)
		}
		middlewares = append(middlewares, echomw.Handler(guard, func(c echo.Context, decision core.Decision) error {
			return c.String(decision.Status, app.Refusal)
		}))
	}
	return middlewares
}

// front stands for authentication and CORS.
func front(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		for _, names := range r.Header.Values(mwtest.ExposeHeader) {
			c.Response().Header().Add("Access-Control-Expose-Headers", names)
		}
		if user := r.Header.Get(mwtest.UserHeader); user != "" {
			c.Set(mwtest.UserKey, user)
		}
		if user := r.Header.Get(mwtest.ContextUserHeader); user != "" {
			c.SetRequest(r.WithContext(context.WithValue(r.Context(), mwtest.ContextUserKey{}, user)))
		}
		return next(c)
	}
}

// echoPath writes /users/{id} and /files/{path...} as echo does.
func echoPath(path string) string {
	return strings.NewReplacer("{path...}", "*", "{", ":", "}", "").Replace(path)
}

// The application decides what a refusal looks like, and its logger and metrics
// in front of the limit see an error.
func TestRefusalIsAnError(t *testing.T) {
	var outer, handled error
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		handled = err
		_ = c.String(http.StatusTeapot, "the application's own")
	}
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			outer = next(c)
			return outer
		}
	})
	e.Use(echomw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(1)}))
	e.GET("/", func(c echo.Context) error { return c.NoContent(http.StatusNoContent) })
	get := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		return w
	}
	if w := get(); w.Code != http.StatusNoContent || outer != nil {
		t.Errorf("the first request: status %d, error %v", w.Code, outer)
	}
	w := get()
	for where, err := range map[string]error{"a middleware in front": outer, "the HTTPErrorHandler": handled} {
		var refused *echo.HTTPError
		if !errors.As(err, &refused) || refused.Code != http.StatusTooManyRequests {
			t.Errorf("%s sees %v, want an echo.HTTPError with the status 429", where, err)
		}
	}
	if w.Code != http.StatusTeapot || w.Body.String() != "the application's own" || w.Header().Get("Retry-After") == "" {
		t.Errorf("the answer is %d %q with %v, want the application's own and Retry-After", w.Code, w.Body, w.Header())
	}
}

// The last parameter of echo's route takes more than a segment, and so must the
// pattern that limits it.
func TestLastParameter(t *testing.T) {
	e := echo.New()
	e.Use(echomw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(100), Routes: []core.Route{
		{Pattern: "/users/{id...}", Limit: core.PerHour(2)},
	}}))
	e.GET("/users/:id", func(c echo.Context) error { return c.String(http.StatusOK, c.Param("id")) })
	var answers []string
	for _, target := range []string{"/users/7", "/users/7/posts", "/users/8", "/users/8/posts"} {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		answers = append(answers, w.Body.String())
	}
	if answers[0] != "7" || answers[1] != "7/posts" || !strings.Contains(answers[2], "Too Many") || !strings.Contains(answers[3], "Too Many") {
		t.Errorf("the answers are %q, want two users and two refusals", answers)
	}
}

func TestDefaultAnswer(t *testing.T) {
	e := echo.New()
	e.Use(echomw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(1)}))
	var w *httptest.ResponseRecorder
	for range 2 {
		w = httptest.NewRecorder()
		e.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	}
	if want := `{"message":"Too Many Requests"}`; w.Code != http.StatusTooManyRequests || strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("the answer is %d %s, want 429 %s", w.Code, w.Body, want)
	}
}

// What echo has been told by Set goes before what is in the request's context.
func TestSetGoesBeforeContext(t *testing.T) {
	var users []any
	e := echo.New()
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			//lint:ignore SA1029 echo's own keys are strings
			c.SetRequest(c.Request().WithContext(context.WithValue(c.Request().Context(), mwtest.UserKey, "context")))
			if c.Request().URL.Path == "/set" {
				c.Set(mwtest.UserKey, "set")
			}
			return next(c)
		}
	})
	e.Use(echomw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(10), Key: func(r core.Request) (string, error) {
		users = append(users, r.Value(mwtest.UserKey))
		return "key", nil
	}}))
	for _, path := range []string{"/set", "/context"} {
		e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	if users[0] != "set" || users[1] != "context" {
		t.Errorf("the users are %v, want set and context", users)
	}
}

// A client that hangs up makes the handler return an error, and must not be able
// to choose what counts.
func TestErrorAfterTheAnswer(t *testing.T) {
	for count, want := range map[core.Count]int{core.CountSuccesses: http.StatusTooManyRequests, core.CountFailures: http.StatusOK} {
		e := echo.New()
		e.Use(echomw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(1), Count: count}))
		e.GET("/", func(c echo.Context) error {
			return errors.Join(c.String(http.StatusOK, "ok"), errors.New("broken pipe"))
		})
		e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		w := httptest.NewRecorder()
		e.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != want {
			t.Errorf("Count %d: after an answer of 200 and an error the status is %d, want %d", count, w.Code, want)
		}
	}
}

func TestWriterIsNotWrapped(t *testing.T) {
	for _, count := range []core.Count{core.CountAll, core.CountFailures} {
		var outside, inside http.ResponseWriter
		e := echo.New()
		e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
			return func(c echo.Context) error {
				outside = c.Response().Writer
				return next(c)
			}
		})
		e.Use(echomw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(1), Count: count}))
		e.GET("/", func(c echo.Context) error {
			inside = c.Response().Writer
			return nil
		})
		e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		if inside == nil || inside != outside {
			t.Errorf("Count %d: the handler's writer is %T, want the one in front, %T", count, inside, outside)
		}
	}
}

func BenchmarkBare(b *testing.B) { benchmark(b, echo.New()) }

func BenchmarkLimit(b *testing.B) {
	e := echo.New()
	e.Use(echomw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerSecond(1_000_000)}))
	benchmark(b, e)
}

func benchmark(b *testing.B, e *echo.Echo) {
	b.ReportAllocs()
	e.GET("/", func(c echo.Context) error { return c.NoContent(http.StatusNoContent) })
	request := httptest.NewRequest("GET", "/", nil)
	w := &discard{header: make(http.Header)}
	for b.Loop() {
		clear(w.header)
		e.ServeHTTP(w, request)
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
