package core

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// A KeyFunc finds out whose bucket a request is poured into. Requests with the
// same key share one.
//
// If it returns an error or the empty key, a [Guard] limits the request by the
// client's IP instead, in buckets of their own: a request never becomes
// unlimited by leaving out its key, nor can a key be made up that is somebody
// else's IP. Return [ErrNoKey] if the request has none.
//
// The key may be a secret: no store keeps it in clear. A KeyFunc is called for
// each request, by many at once.
type KeyFunc func(Request) (string, error)

// maxKey bounds the length of a key, in bytes. A longer one is no key: there is
// no honest use for it, and hashing it would be work for an attacker to order.
const maxKey = 8 << 10

// ByIP is the key of a client's IP address, as in "192.0.2.1": that of the peer
// of the connection, which cannot be forged. No forwarded header is believed.
// Behind a proxy all clients have the proxy's address.
//
// IPv6 addresses are cut to their /64, "2001:db8::/64", which is what a single
// subscriber owns; IPv4 addresses mapped into IPv6 are unmapped; zones are
// stripped. If the peer has no IP, as on a unix socket, the error is
// [ErrNoKey], and a [Guard] puts all such peers into one bucket.
func ByIP(r Request) (string, error) {
	addr, ok := peerAddr(r.RemoteAddr())
	if !ok {
		return "", errNoPeer
	}
	return ipKey(addr, defaultIPv6Prefix), nil
}

// ByHeader is the key that a header holds, such as an API key. Spaces around it
// are ignored. If the header is absent, empty, sent more than once, or longer than
// 8 KiB, the error is [ErrNoKey].
//
// A client can send whatever it likes: without a check of the key elsewhere, a
// new value is a new bucket. Use it behind the middleware that checks, or
// together with a limit by IP. ByHeader panics if name is not the name of a
// header.
func ByHeader(name string) KeyFunc {
	if !isToken(name) {
		panic(fmt.Sprintf("core: ByHeader(%s): want the name of a header, like \"X-API-Key\"", excerpt(name)))
	}
	missing := fmt.Errorf("core: ByHeader(%q): %w: want the header exactly once and not empty", name, ErrNoKey)
	return func(r Request) (string, error) {
		// Of several lines, who checks the key may read the first and we the last.
		lines := r.HeaderLines(name)
		if len(lines) != 1 {
			return "", missing
		}
		key := strings.Trim(lines[0], " \t")
		if key == "" || len(key) > maxKey {
			return "", missing
		}
		return key, nil
	}
}

// ByUser is the key that a middleware in front has left under key, in the
// request's context or the framework's own store (gin's and echo's Set, fiber's
// Locals): the user whom it has authenticated. If there is none, the error is
// [ErrNoKey].
//
// The value may be a string, an integer, or have a String method; another one
// is an error, since its text might not tell users apart. ByUser panics if key
// is nil or cannot be compared, as [context.WithValue] does.
func ByUser(key any) KeyFunc {
	if key == nil || !reflect.TypeOf(key).Comparable() {
		panic(fmt.Sprintf("core: ByUser(%T): want the key under which the user was stored, like \"user\"", key))
	}
	missing := fmt.Errorf("core: ByUser: %w: there is no user in the request", ErrNoKey)
	return func(r Request) (string, error) {
		user, err := userKey(r.Value(key))
		if err == nil && user == "" {
			return "", missing
		}
		return user, err
	}
}

// userKey writes a user's identity as a key, which is empty if there is none.
func userKey(user any) (string, error) {
	switch user := user.(type) {
	case nil:
		return "", nil
	case string:
		return user, nil
	}
	v := reflect.ValueOf(user)
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return "", nil
	}
	if s, ok := user.(fmt.Stringer); ok {
		return s.String(), nil
	}
	switch {
	case v.Kind() == reflect.String:
		return v.String(), nil
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10), nil
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10), nil
	}
	return "", fmt.Errorf("core: ByUser: a user of type %T: want a string, an integer, or a String method", user)
}

// Everyone is one key for all: a limit for the whole service rather than for each client.
func Everyone(Request) (string, error) { return "everyone", nil }

// FirstOf is the key of the first function that finds one. If none does, the
// error is [ErrNoKey].
//
//	core.FirstOf(core.ByUser("user"), core.ByHeader("X-API-Key"))
//
// The key also says which function found it, so a header that spells a user's
// name is not that user. A function that fails with another error than
// [ErrNoKey] ends the search with it. FirstOf panics if there is no function or
// one is nil.
func FirstOf(funcs ...KeyFunc) KeyFunc {
	mustHaveFuncs("FirstOf", funcs)
	return func(r Request) (string, error) {
		for i, f := range funcs {
			key, err := f(r)
			switch {
			case err == nil && key != "":
				return strconv.Itoa(i) + " " + key, nil
			case err != nil && !errors.Is(err, ErrNoKey):
				return "", err
			}
		}
		return "", fmt.Errorf("core: FirstOf: %w", ErrNoKey)
	}
}

// Join is the key of all the functions together: a bucket for each user and IP,
// for one. No two different tuples make the same key, whatever is in them. If
// one of them finds no key, the error is [ErrNoKey]. Join panics if there is no
// function or one is nil.
//
//	core.Join(core.ByUser("user"), core.ByIP)
func Join(funcs ...KeyFunc) KeyFunc {
	mustHaveFuncs("Join", funcs)
	return func(r Request) (string, error) {
		var joined strings.Builder
		for _, f := range funcs {
			key, err := f(r)
			if err != nil {
				return "", err
			}
			if key == "" {
				return "", fmt.Errorf("core: Join: %w", ErrNoKey)
			}
			// The length in front says where a part ends.
			joined.WriteString(strconv.Itoa(len(key)))
			joined.WriteByte(' ')
			joined.WriteString(key)
		}
		return joined.String(), nil
	}
}

func mustHaveFuncs(name string, funcs []KeyFunc) {
	if len(funcs) == 0 {
		panic("core: " + name + ": want at least one KeyFunc, like ByIP")
	}
	for i, f := range funcs {
		if f == nil {
			panic(fmt.Sprintf("core: %s: KeyFunc %d is nil", name, i))
		}
	}
}

// isToken reports whether s can be the name of a header (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if b := s[i]; !isDigit(b) && !isLetter(b) && strings.IndexByte("!#$%&'*+-.^_`|~", b) < 0 {
			return false
		}
	}
	return s != ""
}
