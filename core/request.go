package core

import (
	"context"
	"net/http"
)

// A Request is a view of an HTTP request, as a [Guard] and a [KeyFunc] see it.
// The adapters implement it. It is valid only until the Guard has decided: in
// fiber its strings point into memory that is used again for the next request.
type Request interface {
	// Context is the context that the store is asked with.
	Context() context.Context

	// Method is the request's method, as in "GET".
	Method() string

	// Path is the path of the request's URL as it was sent, escapes included and
	// without the query: "/caf%C3%A9".
	Path() string

	// Header returns the value of a header, or "" if it is absent. Several lines
	// of the same header are joined by ", ", in their order (RFC 9110, section
	// 5.3). Everything in it was written by the client.
	Header(name string) string

	// HeaderLines returns the lines of a header, each as it was sent.
	HeaderLines(name string) []string

	// HTTPHeader returns all headers, which must not be changed.
	HTTPHeader() http.Header

	// RemoteAddr is the network address of the peer, mostly "IP:port". Behind a
	// proxy, this is the proxy.
	RemoteAddr() string

	// Value returns what a middleware in front has left under key, or nil: from
	// the framework's own store (gin's and echo's Set, fiber's Locals), or from
	// the request's context.
	Value(key any) any
}
