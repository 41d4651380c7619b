package core

import (
	"net/netip"
	"strings"
)

// peerAddr reads the IP from a peer's network address: "192.0.2.1:80",
// "[2001:db8::1%eth0]:80", and the same without a port. It is false for
// everything else, such as the "@" or path of a unix socket.
//
// An IPv4 address that is mapped into IPv6 is unmapped, and a zone is stripped:
// both are spellings of one peer.
func peerAddr(remote string) (netip.Addr, bool) {
	host := remote
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 {
			return netip.Addr{}, false
		}
		host = host[1:end]
	} else if colon := strings.IndexByte(host, ':'); colon == strings.LastIndexByte(host, ':') && colon >= 0 {
		host = host[:colon]
	}
	addr, err := netip.ParseAddr(host)
	addr = addr.Unmap().WithZone("")
	if err != nil || addr.IsUnspecified() {
		return netip.Addr{}, false
	}
	return addr, true
}

// clientPrefix is the length of the part of an IPv6 address that names a client.
// One subscriber is given a whole /64, 2^64 addresses, or more (RFC 6177), so
// single addresses would be 2^64 buckets for one client.
const clientPrefix = 64

// ipKey is an address as a key: "192.0.2.1", or "2001:db8::/64".
func ipKey(addr netip.Addr) string {
	if addr.Is4() {
		return addr.String()
	}
	prefix, _ := addr.Prefix(clientPrefix) // fails only for lengths above 128
	return prefix.String()
}
