package nethttp

import (
	"context"
	"net/http"
	"strings"

	"github.com/spillway-go/spillway/internal/peer"
)

// A request is a view of the framework's request for a guard.
type request struct{ r *http.Request }

func (r request) Context() context.Context         { return r.r.Context() }
func (r request) Method() string                   { return r.r.Method }
func (r request) Path() string                     { return peer.Path(r.r.URL) }
func (r request) Header(name string) string        { return strings.Join(r.HeaderLines(name), ", ") }
func (r request) HeaderLines(name string) []string { return r.r.Header.Values(name) }
func (r request) HTTPHeader() http.Header          { return r.r.Header }
func (r request) RemoteAddr() string               { return peer.Addr(r.r) }
func (r request) Value(key any) any                { return r.r.Context().Value(key) }
