package ginmw

import (
	"context"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/spillway-go/spillway/internal/peer"
)

// A request is a view of the framework's request for a guard.
type request struct{ c *gin.Context }

func (r request) Context() context.Context         { return r.c.Request.Context() }
func (r request) Method() string                   { return r.c.Request.Method }
func (r request) Path() string                     { return peer.Path(r.c.Request.URL) }
func (r request) Header(name string) string        { return strings.Join(r.HeaderLines(name), ", ") }
func (r request) HeaderLines(name string) []string { return r.c.Request.Header.Values(name) }
func (r request) HTTPHeader() http.Header          { return r.c.Request.Header }
func (r request) RemoteAddr() string               { return peer.Addr(r.c.Request) }

func (r request) Value(key any) any {
	if value, ok := r.c.Get(key); ok {
		return value
	}
	return r.c.Request.Context().Value(key)
}
