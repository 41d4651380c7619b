// Package peer tells who is at the other end of a connection and what path he has
// sent, for the adapters of frameworks that are built on net/http.
package peer

import (
	"net"
	"net/http"
	"net/url"
)

// Addr is the network address of the peer. It is "@" for every peer on a unix
// socket: there a client may call itself whatever it likes, "10.0.0.1:80" for one.
func Addr(r *http.Request) string {
	if _, unix := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr); unix {
		return "@"
	}
	return r.RemoteAddr
}

// Path is the path as it was sent. [url.URL.EscapedPath] is not, if there was
// something in it that should have been escaped: it loses the other escapes then,
// and routers that look at RawPath see them.
func Path(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}
