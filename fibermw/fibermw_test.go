package fibermw_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	survival "github.com/gofiber/fiber/v2/middleware/recover"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/core/mwtest"
	"github.com/spillway-go/spillway/fibermw"
)

func TestConformance(t *testing.T) {
	mwtest.Run(t, adapter(fiber.Config{}))
}

// A client cannot choose its address where fiber believes a header, either.
func TestConformanceWithProxyHeader(t *testing.T) {
	mwtest.Run(t, adapter(fiber.Config{ProxyHeader: fiber.HeaderXForwardedFor}))
}

// Each of these options changes how fiber finds a route.
func TestPaths(t *testing.T) {
	for name, config := range map[string]fiber.Config{
		"CaseSensitive": {CaseSensitive: true},
		"StrictRouting": {StrictRouting: true},
		"UnescapePath":  {UnescapePath: true},
		"UnescapePath, CaseSensitive, StrictRouting":  {UnescapePath: true, CaseSensitive: true, StrictRouting: true},
		"Immutable, UnescapePath and a body streamed": {Immutable: true, UnescapePath: true, StreamRequestBody: true},
	} {
		t.Run(name, func(t *testing.T) { mwtest.RunPaths(t, adapter(config)) })
	}
	t.Run("mounted", func(t *testing.T) {
		mwtest.RunPaths(t, mwtest.Adapter{Serve: func(t testing.TB, l net.Listener, app mwtest.App) {
			root := newApp(fiber.Config{})
			handlers := limits(t, app, app.Policies)
			for _, route := range app.Routes {
				// The first segment is where the app is mounted.
				path := fiberPath(route.Path)
				first := strings.Index(path[1:]+"/", "/") + 1
				mounted := fiber.New()
				for _, handler := range handlers {
					mounted.Use(handler)
				}
				mounted.Add(route.Method, "/"+strings.TrimPrefix(path[first:], "/"), ok(app, route.Path))
				root.Mount(path[:first], mounted)
			}
			root.Use(ok(app, ""))
			start(t, l, root)
		}})
	})
}

func adapter(config fiber.Config) mwtest.Adapter {
	return mwtest.Adapter{
		Serve: func(t testing.TB, l net.Listener, app mwtest.App) {
			server := newApp(config)
			server.Use(survive(t), front)
			for _, handler := range limits(t, app, app.Policies) {
				server.Use(handler)
			}
			for _, route := range app.Routes {
				server.Add(route.Method, fiberPath(route.Path), append(limits(t, app, route.Policies), ok(app, route.Path))...)
			}
			server.Use(ok(app, ""))
			start(t, l, server)
		},
		Key: fibermw.Key(func(c *fiber.Ctx) (string, error) { return c.Get(mwtest.KeyHeader), nil }),

		ReturnsErrors: true,
	}
}

// newApp returns an App without a banner, with its own ErrorHandler, and room for a header that is longer
// than a key may be.
func newApp(config fiber.Config) *fiber.App {
	config.DisableStartupMessage = true
	config.ReadBufferSize = 16 << 10
	config.ErrorHandler = answerError
	return fiber.New(config)
}

func start(t testing.TB, l net.Listener, app *fiber.App) {
	ended := make(chan error, 1)
	go func() { ended <- app.Listener(l) }()
	t.Cleanup(func() {
		if err := app.ShutdownWithTimeout(5 * time.Second); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		_ = l.Close()
		if err := <-ended; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("the server ended with: %v", err)
		}
	})
}

func ok(app mwtest.App, path string) fiber.Handler {
	return func(c *fiber.Ctx) error {
		app.Decided(fibermw.Decision(c))
		app.Called(path)
		status, asError := mwtest.Answer(c.Get(mwtest.AnswerHeader))
		if asError {
			return fiber.NewError(status)
		}
		return c.Status(status).SendString("ok")
	}
}

// answerError is an application's own ErrorHandler.
func answerError(c *fiber.Ctx, err error) error {
	var fiberError *fiber.Error
	if !errors.As(err, &fiberError) {
		fiberError = fiber.ErrInternalServerError
	}
	return c.Status(fiberError.Code).SendString(mwtest.Handled + fiberError.Message)
}

// survive is fiber's own way to survive a panic, of those that the suite asks for.
func survive(t testing.TB) fiber.Handler {
	return survival.New(survival.Config{EnableStackTrace: true, StackTraceHandler: func(c *fiber.Ctx, reason any) {
		if reason != mwtest.Panic {
			t.Errorf("%s %q: a panic: %v", c.Method(), c.OriginalURL(), reason)
		}
	}})
}

func limits(t testing.TB, app mwtest.App, policies []core.Policy) (handlers []fiber.Handler) {
	for _, policy := range policies {
		if app.Refusal == "" {
			handlers = append(handlers, fibermw.Limit(app.Limiter, policy))
			continue
		}
		guard, err := core.NewGuard(app.Limiter, policy)
		if err != nil {
			t.Fatal(err)
		}
		handlers = append(handlers, fibermw.Handler(guard, func(c *fiber.Ctx, decision core.Decision) error {
			return c.Status(decision.Status).SendString(app.Refusal)
		}))
	}
	return handlers
}

// front stands for authentication and CORS. What it leaves points into fasthttp's
// memory.
func front(c *fiber.Ctx) error {
	for _, names := range c.Request().Header.PeekAll(mwtest.ExposeHeader) {
		c.Response().Header.Add("Access-Control-Expose-Headers", string(names))
	}
	if user := c.Get(mwtest.UserHeader); user != "" {
		c.Locals(mwtest.UserKey, user)
	}
	if user := c.Get(mwtest.ContextUserHeader); user != "" {
		c.SetUserContext(context.WithValue(c.UserContext(), mwtest.ContextUserKey{}, user))
	}
	return c.Next()
}

// fiberPath writes /users/{id} and /files/{path...} as fiber does.
func fiberPath(path string) string {
	return strings.NewReplacer("{path...}", "*", "{", ":", "}", "").Replace(path)
}

// The application decides what a refusal looks like, and its logger and metrics
// in front of the limit see an error.
func TestRefusalIsAnError(t *testing.T) {
	var outer, handled error
	app := fiber.New(fiber.Config{ErrorHandler: func(c *fiber.Ctx, err error) error {
		handled = err
		return c.Status(http.StatusTeapot).SendString("the application's own")
	}})
	app.Use(func(c *fiber.Ctx) error {
		outer = c.Next()
		return outer
	})
	app.Use(fibermw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(1)}))
	app.Get("/", func(c *fiber.Ctx) error { return c.SendStatus(http.StatusNoContent) })

	if status, _, _ := get(t, app, "/"); status != http.StatusNoContent || outer != nil {
		t.Errorf("the first request: status %d, error %v", status, outer)
	}
	status, header, body := get(t, app, "/")
	for where, err := range map[string]error{"a handler in front": outer, "the ErrorHandler": handled} {
		var refused *fiber.Error
		if !errors.As(err, &refused) || refused.Code != http.StatusTooManyRequests {
			t.Errorf("%s sees %v, want a fiber.Error with the status 429", where, err)
		}
	}
	if status != http.StatusTeapot || body != "the application's own" || header.Get("Retry-After") == "" {
		t.Errorf("the answer is %d %q with %v, want the application's own and Retry-After", status, body, header)
	}
}

// A mounted app has a limit of its own, and its own ErrorHandler answers.
func TestMountedApp(t *testing.T) {
	mounted := fiber.New(fiber.Config{ErrorHandler: func(c *fiber.Ctx, err error) error {
		return c.Status(http.StatusTeapot).SendString("mounted: " + err.Error())
	}})
	mounted.Use(fibermw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(100), Routes: []core.Route{
		{Pattern: "/api/users/{id}", Limit: core.PerHour(1)}, // with the prefix under which it is mounted
	}}))
	mounted.Get("/users/:id", func(c *fiber.Ctx) error { return c.SendString("user") })
	app := fiber.New()
	app.Mount("/api", mounted)
	app.Get("/", func(c *fiber.Ctx) error { return c.SendString("home") })

	for _, want := range []string{"200 user", "418 mounted: Too Many Requests"} {
		status, _, body := get(t, app, "/api/users/7")
		if got := fmt.Sprint(status, " ", body); got != want {
			t.Errorf("the mounted app answers %q, want %q", got, want)
		}
	}
	for range 3 {
		if status, header, _ := get(t, app, "/"); status != http.StatusOK || header.Get("RateLimit") != "" {
			t.Errorf("outside of the mounted app: status %d with %v", status, header)
		}
	}
}

// With UnescapePath, fiber removes one level of escapes and the table must not
// remove another: else a path is routed by one text and limited by another.
func TestUnescapePath(t *testing.T) {
	var path string
	app := fiber.New(fiber.Config{UnescapePath: true})
	app.Use(fibermw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(10), Key: func(r core.Request) (string, error) {
		path = strings.Clone(r.Path())
		return "key", nil
	}}))
	get(t, app, "/a%252Fb")
	if path != "/a%252Fb" {
		t.Errorf("the path is %q, want it as it was sent, /a%%252Fb", path)
	}
}

// A handler in front may have changed the path or the method: then they count.
func TestRewrittenRequest(t *testing.T) {
	app := fiber.New()
	app.Use(func(c *fiber.Ctx) error {
		if c.Path() == "/old" {
			c.Path("/new")
			c.Method("PUT")
		}
		return c.Next()
	})
	app.Use(fibermw.Limit(core.New(core.NewMemory()), core.Policy{Name: "table", Limit: core.PerHour(10), Routes: []core.Route{
		{Pattern: "PUT /new", Limit: core.PerHour(1)},
	}}))
	_, header, _ := get(t, app, "/old")
	if got, want := header.Get("RateLimit"), `"table PUT /new";r=0;t=3600`; got != want {
		t.Errorf("RateLimit is %q, want %q", got, want)
	}
}

// What fiber has been told by Locals goes before what is in the UserContext.
func TestLocalsGoBeforeUserContext(t *testing.T) {
	var users []any
	app := fiber.New()
	app.Use(func(c *fiber.Ctx) error {
		//lint:ignore SA1029 the same key as in Locals
		c.SetUserContext(context.WithValue(c.UserContext(), mwtest.UserKey, "context"))
		if c.Path() == "/set" {
			c.Locals(mwtest.UserKey, "set")
		}
		return c.Next()
	})
	app.Use(fibermw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(10), Key: func(r core.Request) (string, error) {
		users = append(users, r.Value(mwtest.UserKey))
		return "key", nil
	}}))
	get(t, app, "/set")
	get(t, app, "/context")
	if users[0] != "set" || users[1] != "context" {
		t.Errorf("the users are %v, want set and context", users)
	}
}

func get(t *testing.T, app *fiber.App, target string) (status int, header http.Header, body string) {
	t.Helper()
	response, err := app.Test(httptest.NewRequest("GET", target, nil), -1)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(text)
}

func BenchmarkBare(b *testing.B) { benchmark(b, fiber.New()) }

func BenchmarkLimit(b *testing.B) {
	app := fiber.New()
	app.Use(fibermw.Limit(core.New(core.NewMemory()), core.Policy{Limit: core.PerSecond(1_000_000)}))
	benchmark(b, app)
}

func benchmark(b *testing.B, app *fiber.App) {
	b.ReportAllocs()
	app.Get("/", func(c *fiber.Ctx) error { return c.SendStatus(http.StatusNoContent) })
	handler := app.Handler()
	c := argument(handler)
	c.SetRemoteAddr(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1234})
	c.Request.SetRequestURI("/")
	for b.Loop() {
		c.Response.Reset()
		c.ResetUserValues()
		handler(c)
	}
	if status := c.Response.StatusCode(); status != http.StatusNoContent {
		b.Fatalf("the status is %d", status)
	}
}

// argument is what a function wants, without a word about its type: fasthttp is
// fiber's dependency and not ours.
func argument[T any](func(*T)) *T { return new(T) }
