// Package peer tells who is at the other end of a connection, for the adapters
// of frameworks that are built on net/http.
package peer

import (
	"net"
	"net/http"
)

// Addr is the network address of the peer. It is "@" for every peer on a unix
// socket: there a client may call itself whatever it likes, "10.0.0.1:80" for one.
func Addr(r *http.Request) string {
	if _, unix := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr); unix {
		return "@"
	}
	return r.RemoteAddr
}
