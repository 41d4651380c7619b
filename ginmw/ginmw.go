// Package ginmw limits requests in gin.
//
//	limiter := core.New(core.NewMemory())
//	r := gin.New()
//	r.Use(ginmw.Limit(limiter, core.Policy{Limit: core.PerMinute(100)}))
//
// It works on an engine, on a group and on a single route alike. A refused
// request is aborted: the handlers behind the middleware are not called, and
// those in front find the 429 in c.Writer.Status. The answer is a problem in JSON,
// plain text or HTML, as the client prefers.
//
// Put it behind the CORS middleware, or a browser reports a refusal as a
// network error; behind authentication if the key is the user; and in front of
// all that is expensive.
//
// The client's IP is that of the connection. [gin.Context.ClientIP] is not
// asked, since gin believes forwarded headers from everywhere unless told
// otherwise. The ResponseWriter is handed on as it is, unless the policy says
// core.NotOnRedirects.
package ginmw

import (
	"fmt"

	"github.com/gin-gonic/gin"

	"github.com/spillway-go/spillway/core"
)

// Limit returns a middleware that limits requests by policy. It panics if the
// policy is invalid, as [regexp.MustCompile] does; for a policy that is not
// written in the program use [core.NewGuard] and [Handler].
func Limit(limiter *core.Limiter, policy core.Policy) gin.HandlerFunc {
	guard, err := core.NewGuard(limiter, policy)
	if err != nil {
		panic(err)
	}
	return Handler(guard, nil)
}

// Handler returns a middleware that asks guard about each request, sets the
// headers of its decision, and calls refuse in place of the next handler if the
// request may not pass. A nil refuse means [Refuse]. The request is aborted
// already when refuse is called.
func Handler(guard *core.Guard, refuse func(*gin.Context, core.Decision)) gin.HandlerFunc {
	if refuse == nil {
		refuse = Refuse
	}
	return func(c *gin.Context) {
		decision := guard.Check(request{c})
		decision.SetHeaders(c.Writer.Header())
		if !decision.Allowed {
			c.Abort() // gin goes on to the next handler unless told not to
			refuse(c, decision)
			return
		}
		if decision.Shared() {
			c.Set(decisionKey{}, decision)
		}
		if decision.NeedsStatus() {
			settle(c, decision)
		}
	}
}

// Refuse answers with the status of the decision, mostly 429, and a body in the
// form that the client accepts: [core.Decision.Body].
func Refuse(c *gin.Context, decision core.Decision) {
	contentType, body := decision.Body(request{c}.Header("Accept"))
	c.Header("X-Content-Type-Options", "nosniff")
	c.Data(decision.Status, contentType, []byte(body))
}

// Decision returns what the last guard in front of a handler has decided, if its
// policy says ShareDecision.
func Decision(c *gin.Context) (core.Decision, bool) {
	value, _ := c.Get(decisionKey{})
	decision, ok := value.(core.Decision)
	return decision, ok
}

type decisionKey struct{}

// Key makes a key of what is in gin's context. It is for guards in gin only;
// elsewhere it finds no key.
func Key(key func(*gin.Context) (string, error)) core.KeyFunc {
	return func(r core.Request) (string, error) {
		if r, ok := r.(request); ok {
			return key(r.c)
		}
		return "", fmt.Errorf("ginmw: Key: the request is a %T: %w", r, core.ErrNoKey)
	}
}
