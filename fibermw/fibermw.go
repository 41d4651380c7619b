// Package fibermw limits requests in fiber v2.
//
//	limiter := core.New(core.NewMemory())
//	app := fiber.New()
//	app.Use(fibermw.Limit(limiter, core.Policy{Limit: core.PerMinute(100)}))
//
// It works on an app, on a mounted app, on a group and on a single route alike.
// A refusal is returned as a [*fiber.Error] with the status 429, so that
// middlewares in front see it and the application's own ErrorHandler answers,
// by default with plain text.
//
// Fiber runs handlers in the order in which they are registered: call Use
// before the routes that it is to guard. Put it behind the CORS middleware, or
// a browser reports a refusal as a network error; behind authentication if the
// key is the user; and in front of all that is expensive.
//
// The client's IP is that of the connection. [fiber.Ctx.IP] is not asked, since
// with a ProxyHeader it is what the client says, unless told otherwise. Fiber's
// strings point into memory that is used again for the next request; nothing
// keeps one of them when the handler returns, so Immutable need not be set.
package fibermw

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/utils"

	"github.com/spillway-go/spillway/core"
)

// Limit returns a handler that limits requests by policy. It panics if the
// policy is invalid, as [regexp.MustCompile] does; for a policy that is not
// written in the program use [core.NewGuard] and [Handler].
func Limit(limiter *core.Limiter, policy core.Policy) fiber.Handler {
	guard, err := core.NewGuard(limiter, policy)
	if err != nil {
		panic(err)
	}
	return Handler(guard, nil)
}

// Handler returns a handler that asks guard about each request, sets the
// headers of its decision, and calls refuse in place of the next handler if the
// request may not pass. A nil refuse means [Refuse].
func Handler(guard *core.Guard, refuse func(*fiber.Ctx, core.Decision) error) fiber.Handler {
	if refuse == nil {
		refuse = Refuse
	}
	return func(c *fiber.Ctx) error {
		decision := guard.Check(request{c})
		decision.SetHeaders(responseHeader{c})
		if !decision.Allowed {
			return refuse(c, decision)
		}
		if decision.Shared() {
			c.Locals(decisionKey{}, decision)
		}
		if decision.NeedsStatus() {
			return settle(c, decision)
		}
		return c.Next()
	}
}

// settle calls the handlers behind and tells the decision the status of the
// answer, which is none after a panic. Only the app's error handler knows what it
// makes of an error, so it is called here, as fiber's logger does; middlewares in
// front find the status in the response then, and no error.
func settle(c *fiber.Ctx, decision core.Decision) error {
	status := 0
	defer func() { decision.Settle(c.UserContext(), status) }()
	if err := c.Next(); err != nil {
		if err = c.App().ErrorHandler(c, err); err != nil {
			_ = c.SendStatus(fiber.StatusInternalServerError)
		}
	}
	status = c.Response().StatusCode()
	decision.AmendHeaders(responseHeader{c}, status)
	return nil
}

// Refuse returns a [*fiber.Error] with the status of the decision, mostly 429, and its
// name as message.
func Refuse(_ *fiber.Ctx, decision core.Decision) error {
	return fiber.NewError(decision.Status)
}

// Decision returns what the last guard in front of a handler has decided, if its
// policy says ShareDecision.
func Decision(c *fiber.Ctx) (core.Decision, bool) {
	decision, ok := c.Locals(decisionKey{}).(core.Decision)
	return decision, ok
}

type decisionKey struct{}

// Key makes a key of what is in fiber's context. It is for guards in fiber only;
// elsewhere it finds no key. The key may point into fiber's memory, as c.Get
// does: it is not kept.
func Key(key func(*fiber.Ctx) (string, error)) core.KeyFunc {
	return func(r core.Request) (string, error) {
		if r, ok := r.(request); ok {
			return key(r.c)
		}
		return "", fmt.Errorf("fibermw: Key: the request is a %T: %w", r, core.ErrNoKey)
	}
}

type responseHeader struct{ c *fiber.Ctx }

func (h responseHeader) Values(name string) []string {
	return lines(h.c.Response().Header.PeekAll(name))
}

func (h responseHeader) Del(name string) { h.c.Response().Header.Del(name) }

// Set replaces all lines; fasthttp's own replaces the first and leaves the others.
func (h responseHeader) Set(name, value string) {
	h.Del(name)
	h.c.Set(name, value)
}

type request struct{ c *fiber.Ctx }

func (r request) Context() context.Context  { return r.c.UserContext() }
func (r request) Method() string            { return r.c.Method() }
func (r request) Header(name string) string { return strings.Join(r.HeaderLines(name), ", ") }

// RemoteAddr is "@" on a unix socket, where a client may call itself what it likes.
func (r request) RemoteAddr() string {
	addr := r.c.Context().RemoteAddr()
	if _, unix := addr.(*net.UnixAddr); unix {
		return "@"
	}
	return addr.String()
}

// Path is not c.Path, which with UnescapePath has its escapes removed already.
// Without StrictRouting fiber's router looks at no trailing slash.
func (r request) Path() string {
	path := utils.UnsafeString(r.c.Request().URI().PathOriginal())
	if trimmed := strings.TrimRight(path, "/"); trimmed != "" && !r.c.App().Config().StrictRouting {
		return trimmed
	}
	return path
}

func (r request) HeaderLines(name string) []string {
	return lines(r.c.Request().Header.PeekAll(name))
}

func (r request) HTTPHeader() http.Header { return r.c.GetReqHeaders() }

func lines(values [][]byte) []string {
	lines := make([]string, len(values))
	for i, value := range values {
		lines[i] = utils.UnsafeString(value)
	}
	return lines
}

func (r request) Value(key any) any {
	if value := r.c.Locals(key); value != nil {
		return value
	}
	return r.c.UserContext().Value(key)
}
