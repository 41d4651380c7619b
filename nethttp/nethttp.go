// Package nethttp limits requests in net/http, and in every router that takes
// its middleware, such as chi. It needs nothing but the standard library.
//
//	limiter := core.New(core.NewMemory())
//	limit := nethttp.Limit(limiter, core.Policy{Limit: core.PerMinute(100)})
//	http.ListenAndServe(":8080", limit(mux))
//
// A refused request does not reach the next handler. The answer is a problem in
// JSON, plain text or HTML, as the client prefers.
//
// Put it behind the CORS middleware, or a browser reports a refusal as a
// network error; behind authentication if the key is the user; and in front of
// all that is expensive. To wrap the handler of a single route limits that
// route alone.
//
// The client's IP is that of the connection; no forwarded header is believed.
// The ResponseWriter is handed on as it is, so flushing, hijacking and
// http.ResponseController work as without the middleware. Only a policy that
// counts some of the requests (Policy.Count) has to wrap it, to see the status.
package nethttp

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/spillway-go/spillway/core"
)

// Limit returns a middleware that limits requests by policy. It panics if the
// policy is invalid, as [regexp.MustCompile] does; for a policy that is not
// written in the program use [core.NewGuard] and [Handler].
func Limit(limiter *core.Limiter, policy core.Policy) func(http.Handler) http.Handler {
	guard, err := core.NewGuard(limiter, policy)
	if err != nil {
		panic(err)
	}
	return Handler(guard, nil)
}

// Handler returns a middleware that asks guard about each request, sets the
// headers of its decision, and calls refuse in place of the next handler if the
// request may not pass. A nil refuse means [Refuse].
func Handler(guard *core.Guard, refuse func(http.ResponseWriter, *http.Request, core.Decision)) func(http.Handler) http.Handler {
	if refuse == nil {
		refuse = Refuse
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			decision := guard.Check(request{r})
			decision.SetHeaders(w.Header())
			if !decision.Allowed {
				refuse(w, r, decision)
				return
			}
			if decision.Shared() {
				r = r.WithContext(context.WithValue(r.Context(), decisionKey{}, decision))
			}
			if decision.NeedsStatus() {
				settle(next, w, r, decision)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Refuse answers with the status of the decision, mostly 429, and a body in the
// form that the client accepts: [core.Decision.Body].
func Refuse(w http.ResponseWriter, r *http.Request, decision core.Decision) {
	contentType, body := decision.Body(request{r}.Header("Accept"))
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(decision.Status)
	_, _ = io.WriteString(w, body)
}

// Decision returns what the last guard in front of a handler has decided, if its
// policy says ShareDecision.
func Decision(r *http.Request) (core.Decision, bool) {
	decision, ok := r.Context().Value(decisionKey{}).(core.Decision)
	return decision, ok
}

type decisionKey struct{}

// Key makes a key of what is in the request. It is for guards in net/http only;
// elsewhere it finds no key.
func Key(key func(*http.Request) (string, error)) core.KeyFunc {
	return func(r core.Request) (string, error) {
		if r, ok := r.(request); ok {
			return key(r.r)
		}
		return "", fmt.Errorf("nethttp: Key: the request is a %T: %w", r, core.ErrNoKey)
	}
}
