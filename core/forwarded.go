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
	} else if colon := strings.IndexByte(host, ':'); colon >= 0 && colon == strings.LastIndexByte(host, ':') {
		host = host[:colon]
	}
	addr, err := netip.ParseAddr(host)
	addr = addr.Unmap().WithZone("")
	if err != nil || addr.IsUnspecified() {
		return netip.Addr{}, false
	}
	return addr, true
}

// nodeAddr reads an address that a proxy has written: as peerAddr, but what
// follows it can only be a port.
func nodeAddr(node string) (netip.Addr, bool) {
	node = strings.Trim(node, " \t")
	port := ""
	if end := strings.IndexByte(node, ']'); end >= 0 {
		port = node[end+1:]
	} else if colon := strings.IndexByte(node, ':'); colon == strings.LastIndexByte(node, ':') && colon >= 0 {
		port = node[colon:]
	}
	if port != "" && !isPort(port) {
		return netip.Addr{}, false
	}
	return peerAddr(node)
}

// isPort reports whether s is a colon and up to five digits, or one of RFC 7239's
// obfuscated ports, a colon and an underscore with letters, digits, "." "_" "-".
func isPort(s string) bool {
	digits, obfuscated := strings.CutPrefix(s, ":_")
	if obfuscated {
		return digits != "" && !strings.ContainsFunc(digits, func(r rune) bool {
			return r > '~' || !isDigit(byte(r)) && !isLetter(byte(r)) && !strings.ContainsRune("._-", r)
		})
	}
	digits, ok := strings.CutPrefix(s, ":")
	return ok && len(digits) >= 1 && len(digits) <= 5 && !strings.ContainsFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
}

// cutLast cuts the last element off a list, at the last comma that is not inside
// a quoted string, looking at no more than most bytes.
//
// It reads backwards, since what stands at the end was written last: a quote that
// a client has opened and not closed cannot swallow what the proxies have
// appended to it.
func cutLast(list string, most int) (rest, last string, more bool) {
	quoted := false
	for i := len(list) - 1; i >= 0 && i >= len(list)-most; i-- {
		switch list[i] {
		case '"':
			if !quoted || !escaped(list, i) {
				quoted = !quoted
			}
		case ',':
			if !quoted {
				return list[:i], list[i+1:], true
			}
		}
	}
	return "", list, false
}

// escaped reports whether the character at i has an odd number of backslashes
// in front of it.
func escaped(s string, i int) bool {
	n := 0
	for n < i && s[i-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// forwardedAddr reads the address from an element of a Forwarded header
// (RFC 7239, section 4): for=192.0.2.43;proto=http. It is false for the
// identifiers that are no address, "unknown" and those with an underscore.
func forwardedAddr(element string) (netip.Addr, bool) {
	node, found := "", false
	for more := true; more; {
		var pair string
		pair, element, more = cutPair(element)
		name, value, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
		switch {
		case pair == "":
			continue
		case !ok || !isToken(name):
			return netip.Addr{}, false
		case !strings.EqualFold(name, "for"):
			continue
		case found:
			return netip.Addr{}, false
		}
		if node, ok = unquote(value); !ok {
			return netip.Addr{}, false
		}
		found = true
	}
	return nodeAddr(node)
}

// cutPair cuts the first pair off an element, at the first semicolon that is not
// inside a quoted string.
func cutPair(element string) (pair, rest string, more bool) {
	quoted := false
	for i := 0; i < len(element); i++ {
		switch c := element[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ';' && !quoted:
			return element[:i], element[i+1:], true
		}
	}
	return element, "", false
}

// unquote reads a token or a quoted string (RFC 9110, section 5.6.4).
func unquote(s string) (string, bool) {
	if !strings.HasPrefix(s, `"`) {
		return s, !strings.Contains(s, `"`)
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), i == len(s)-1
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}
