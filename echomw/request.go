package echomw

import (
	"context"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/spillway-go/spillway/internal/peer"
)

// A request is a view of the framework's request for a guard.
type request struct{ c echo.Context }

func (r request) Context() context.Context         { return r.c.Request().Context() }
func (r request) Method() string                   { return r.c.Request().Method }
func (r request) Path() string                     { return peer.Path(r.c.Request().URL) }
func (r request) Header(name string) string        { return strings.Join(r.HeaderLines(name), ", ") }
func (r request) HeaderLines(name string) []string { return r.c.Request().Header.Values(name) }
func (r request) HTTPHeader() http.Header          { return r.c.Request().Header }
func (r request) RemoteAddr() string               { return peer.Addr(r.c.Request()) }

func (r request) Value(key any) any {
	if name, ok := key.(string); ok {
		if value := r.c.Get(name); value != nil {
			return value
		}
	}
	return r.c.Request().Context().Value(key)
}
