// Package echomw limits requests in echo v4.
//
//	limiter := core.New(core.NewMemory())
//	e := echo.New()
//	e.Use(echomw.Limit(limiter, core.Policy{Limit: core.PerMinute(100)}))
//
// It works on an instance, on a group and on a single route alike. A refusal is
// returned as an [*echo.HTTPError] with the status 429, so that middlewares in
// front see it and the application's own HTTPErrorHandler answers, by default
// with {"message":"Too Many Requests"}.
//
// Put it behind the CORS middleware, or a browser reports a refusal as a
// network error; behind authentication if the key is the user; and in front of
// all that is expensive. With [echo.Echo.Pre] it sees a request before the
// middlewares behind it rewrite its path.
//
// In echo the last parameter of a route takes all that is left: /users/:id is
// the route of /users/7/posts as well, if there is no other. The route of a
// [core.Policy] that limits all of it is "/users/{id...}".
//
// The client's IP is that of the connection. [echo.Context.RealIP] is not
// asked, since by default echo believes forwarded headers from everywhere. The
// ResponseWriter is handed on as it is.
package echomw

import (
	"fmt"

	"github.com/labstack/echo/v4"

	"github.com/spillway-go/spillway/core"
)

// Limit returns a middleware that limits requests by policy. It panics if the
// policy is invalid, as [regexp.MustCompile] does; for a policy that is not
// written in the program use [core.NewGuard] and [Handler].
func Limit(limiter *core.Limiter, policy core.Policy) echo.MiddlewareFunc {
	guard, err := core.NewGuard(limiter, policy)
	if err != nil {
		panic(err)
	}
	return Handler(guard, nil)
}

// Handler returns a middleware that asks guard about each request, sets the
// headers of its decision, and calls refuse in place of the next handler if the
// request may not pass. A nil refuse means [Refuse].
func Handler(guard *core.Guard, refuse func(echo.Context, core.Decision) error) echo.MiddlewareFunc {
	if refuse == nil {
		refuse = Refuse
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			decision := guard.Check(request{c})
			decision.SetHeaders(c.Response().Header())
			if !decision.Allowed {
				return refuse(c, decision)
			}
			if decision.Shared() {
				c.Set(decisionKey, decision)
			}
			if decision.NeedsStatus() {
				return settle(next, c, decision)
			}
			return next(c)
		}
	}
}

// Refuse returns an [*echo.HTTPError] with the status of the decision, mostly 429, and
// its name as message.
func Refuse(_ echo.Context, decision core.Decision) error {
	return echo.NewHTTPError(decision.Status)
}

// Decision returns what the last guard in front of a handler has decided, if its
// policy says ShareDecision.
func Decision(c echo.Context) (core.Decision, bool) {
	decision, ok := c.Get(decisionKey).(core.Decision)
	return decision, ok
}

const decisionKey = "spillway.decision"

// Key makes a key of what is in echo's context. It is for guards in echo only;
// elsewhere it finds no key.
func Key(key func(echo.Context) (string, error)) core.KeyFunc {
	return func(r core.Request) (string, error) {
		if r, ok := r.(request); ok {
			return key(r.c)
		}
		return "", fmt.Errorf("echomw: Key: the request is a %T: %w", r, core.ErrNoKey)
	}
}
