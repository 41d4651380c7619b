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
	"fmt"

	"github.com/gofiber/fiber/v2"

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
