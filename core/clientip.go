package core

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// A ClientIP says where the IP address of a client is found. The zero value is
// the peer of the connection, which cannot be forged, and is right where clients
// connect to the server itself.
//
// Behind proxies the peer is a proxy, and the client's address stands in a
// header, which anybody can write. So a header is believed only as far as
// somebody trusted has vouched for it: if the peer is in Trusted, it has written
// the last address; if that is in Trusted as well, it has written the one before,
// and so on. The first address that is not in Trusted is the client. What a
// client puts in front of it changes nothing.
//
// Everything that is wrong ends the walk at the last address that was vouched
// for: a text that is no address, more than 64 hops, more than 8 KiB. Then clients
// share the bucket of a proxy instead of making up buckets of their own.
type ClientIP struct {
	// Header is the header that the proxies write, and the only one that is looked
	// at: "X-Forwarded-For", "Forwarded" (RFC 7239), or one that holds a single
	// address, like "X-Real-IP" or "CF-Connecting-IP". Empty means none.
	//
	// Name a header only if the proxies set it or append to it in every request.
	// One that they hand on as it came is the client's to choose.
	Header string

	// Trusted are the addresses of the proxies, and of nobody else. A prefix of IPv4
	// addresses mapped into IPv6 means the IPv4 addresses.
	Trusted []netip.Prefix

	// TrustUnixSocket trusts a peer without an IP address, as a proxy on the same
	// machine is one that connects through a unix socket.
	TrustUnixSocket bool

	// TrustTheWholeWorld admits a prefix of length 0 in Trusted. With it every client
	// chooses its own address.
	TrustTheWholeWorld bool

	// Strategy finds the address in place of all of the above, from the request's
	// headers and the peer's network address, and returns "" if it finds none: then
	// the client is the peer. Those of github.com/realclientip/realclientip-go are
	// of this form.
	Strategy interface {
		ClientIP(headers http.Header, remoteAddr string) string
	} `json:"-"`

	// IPv6Prefix is how many bits of an IPv6 address name a client, from 32 to 128.
	// Zero means 64: one subscriber is given a /64, 2^64 addresses, or more
	// (RFC 6177).
	IPv6Prefix int
}

// ByForwardedIP is the key of a client's IP address behind the proxies in
// trusted, who write X-Forwarded-For. It is shorthand for ByClientIP with these
// two. Without a peer in trusted it is [ByIP].
//
//	core.ByForwardedIP(netip.MustParsePrefix("10.0.0.0/8"))
func ByForwardedIP(trusted ...netip.Prefix) KeyFunc {
	return ByClientIP(ClientIP{Header: forwardedFor, Trusted: trusted})
}

// ByClientIP is the key of a client's IP address as found by c. It panics if c
// is invalid. To find the IP in the same way for all that a [Policy] needs it
// for, set [Policy.ClientIP] instead.
func ByClientIP(c ClientIP) KeyFunc {
	finder, err := newIPFinder(c)
	if err != nil {
		panic("core: ByClientIP: " + err.Error())
	}
	return finder.key
}

const (
	forwardedFor = "X-Forwarded-For"
	forwarded    = "Forwarded"

	defaultIPv6Prefix = 64

	// How much of a header is looked at, from its end.
	maxHops        = 64
	maxHeaderBytes = 8 << 10
)

// An ipFinder is a ClientIP made ready.
type ipFinder struct {
	strategy interface {
		ClientIP(headers http.Header, remoteAddr string) string
	}
	header   string
	addrOf   func(element string) (netip.Addr, bool) // nil: a single address
	trusted  []netip.Prefix
	unix     bool
	v6Prefix int
}

func newIPFinder(c ClientIP) (*ipFinder, error) {
	f := &ipFinder{strategy: c.Strategy, header: c.Header, unix: c.TrustUnixSocket, v6Prefix: c.IPv6Prefix}
	switch {
	case f.v6Prefix == 0:
		f.v6Prefix = defaultIPv6Prefix
	case f.v6Prefix < 32 || f.v6Prefix > 128:
		return nil, fmt.Errorf("IPv6Prefix %d: want 32 to 128, or 0 for %d", c.IPv6Prefix, defaultIPv6Prefix)
	}
	var err error
	if f.trusted, err = addressList("Trusted", c.Trusted); err != nil {
		return nil, err
	}
	for _, prefix := range f.trusted {
		if prefix.Bits() != 0 {
			continue
		}
		if !c.TrustTheWholeWorld {
			return nil, fmt.Errorf("Trusted: %v trusts everybody, and so every client chooses its own address: name the proxies, like \"10.0.0.0/8\", or set TrustTheWholeWorld", prefix)
		}
		warnWholeWorld.once("", "prefix", prefix.String())
	}
	trusts := len(f.trusted) > 0 || f.unix
	switch {
	case f.strategy != nil && (trusts || f.header != ""):
		return nil, errors.New("Strategy goes with no Header and nothing trusted: it decides by itself")
	case f.header == "" && trusts:
		return nil, errors.New("Trusted without a Header: want the one that the proxies write, like \"X-Forwarded-For\"")
	case f.header == "":
		return f, nil
	case !isToken(f.header):
		return nil, fmt.Errorf("Header %s: want the name of a header, like \"X-Forwarded-For\"", excerpt(f.header))
	case !trusts:
		return nil, fmt.Errorf("Header %q without Trusted: want the addresses of the proxies, like netip.MustParsePrefix(\"10.0.0.0/8\")", f.header)
	case strings.EqualFold(f.header, forwardedFor):
		f.addrOf = nodeAddr
	case strings.EqualFold(f.header, forwarded):
		f.addrOf = forwardedAddr
	}
	return f, nil
}

// key is the KeyFunc of a finder.
func (f *ipFinder) key(r Request) (string, error) {
	addr, ok := f.find(r)
	if !ok {
		return "", errNoPeer
	}
	return ipKey(addr, f.v6Prefix), nil
}

var errNoPeer = fmt.Errorf("core: %w: the peer has no IP address", ErrNoKey)

// find returns the client's address, or false if nobody has one.
func (f *ipFinder) find(r Request) (netip.Addr, bool) {
	peer, ok := peerAddr(r.RemoteAddr())
	if f.strategy != nil {
		if addr, found := nodeAddr(f.strategy.ClientIP(r.HTTPHeader(), r.RemoteAddr())); found {
			return addr, true
		}
		return peer, ok
	}
	if f.header == "" || ok && !f.trusts(peer) || !ok && !f.unix {
		return peer, ok
	}
	lines := r.HeaderLines(f.header)
	if f.addrOf != nil {
		return f.walk(peer, ok, lines)
	}
	if len(lines) == 1 && len(lines[0]) <= maxHeaderBytes {
		if addr, found := nodeAddr(lines[0]); found {
			return addr, true
		}
	}
	return peer, ok
}

// walk goes over the elements of all lines from the last to the first, as long
// as they are trusted. It returns the last address that was vouched for.
func (f *ipFinder) walk(vouched netip.Addr, ok bool, lines []string) (netip.Addr, bool) {
	hops, bytes := 0, 0
	for i := len(lines) - 1; i >= 0; i-- {
		rest := lines[i]
		for more := true; more; {
			var element string
			rest, element, more = cutLast(rest, maxHeaderBytes-bytes)
			hops, bytes = hops+1, bytes+len(element)+1
			if hops > maxHops || bytes > maxHeaderBytes {
				return vouched, ok
			}
			if element = strings.Trim(element, " \t"); element == "" {
				continue // RFC 9110, section 5.6.1, has empty elements ignored
			}
			addr, valid := f.addrOf(element)
			if !valid {
				return vouched, ok
			}
			if vouched, ok = addr, true; !f.trusts(addr) {
				return vouched, ok
			}
		}
	}
	return vouched, ok
}

func (f *ipFinder) trusts(addr netip.Addr) bool { return containsAddr(f.trusted, addr) }

// addressList makes prefixes comparable with addresses that are unmapped.
func addressList(name string, prefixes []netip.Prefix) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, prefix := range prefixes {
		if !prefix.IsValid() {
			return nil, fmt.Errorf("%s: an invalid prefix, want one like netip.MustParsePrefix(\"10.0.0.0/8\")", name)
		}
		if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		}
		list = append(list, prefix.Masked())
	}
	return list, nil
}

func containsAddr(list []netip.Prefix, addr netip.Addr) bool {
	for _, prefix := range list {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// ipKey is an address as a key: "192.0.2.1", or "2001:db8::/64".
func ipKey(addr netip.Addr, v6Prefix int) string {
	if addr.Is4() {
		return addr.String()
	}
	prefix, _ := addr.Prefix(v6Prefix) // fails only for lengths above 128
	return prefix.String()
}
