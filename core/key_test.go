package core_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/spillway-go/spillway/core"
)

func TestByIP(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:80":                    "192.0.2.1",
		"192.0.2.1":                       "192.0.2.1",
		"192.0.2.1:":                      "192.0.2.1",
		"[::ffff:192.0.2.1]:80":           "192.0.2.1",
		"[::ffff:c000:201]:80":            "192.0.2.1",
		"::ffff:192.0.2.1":                "192.0.2.1",
		"[0:0:0:0:0:ffff:192.0.2.1]:1":    "192.0.2.1",
		"[::ffff:192.0.2.1%eth0]:80":      "192.0.2.1",
		"127.0.0.1:1":                     "127.0.0.1",
		"[2001:db8::1]:80":                "2001:db8::/64",
		"[2001:DB8:0:0:ffff::1]:80":       "2001:db8::/64",
		"[2001:db8:0:0:a:b:c:d]:80":       "2001:db8::/64",
		"2001:db8::1":                     "2001:db8::/64",
		"[2001:db8::1]":                   "2001:db8::/64",
		"[2001:db8:0:1::1]:80":            "2001:db8:0:1::/64",
		"[fe80::1%eth0]:80":               "fe80::/64",
		"[fe80::1%attacker-chosen]:80":    "fe80::/64",
		"[::1]:80":                        "::/64",
		"[64:ff9b::192.0.2.1]:80":         "64:ff9b::/64",
		"":                                "",
		"@":                               "",
		"/run/app.sock":                   "",
		"pipe":                            "",
		"localhost:80":                    "",
		"0.0.0.0:0":                       "",
		"[::]:0":                          "",
		"[::ffff:0.0.0.0]:0":              "",
		"010.0.0.1:80":                    "",
		"192.0.2.1.5:80":                  "",
		"192.0.2:80":                      "",
		"192.0.2.256:80":                  "",
		"[192.0.2.1:80":                   "",
		"[2001:db8::1":                    "",
		"<nil>":                           "",
		"unknown":                         "",
		" 192.0.2.1:80":                   "",
		"192.0.2.1\x00:80":                "",
		strings.Repeat("1", 1<<20) + ":1": "",
	} {
		got, err := core.ByIP(&testRequest{remote: remote})
		if got != want || (err == nil) != (want != "") || (err != nil && !errors.Is(err, core.ErrNoKey)) {
			t.Errorf("ByIP(%.60q) = %q, %v; want %q", remote, got, err, want)
		}
	}
}

func TestByIPBelievesNoHeader(t *testing.T) {
	r := get("/")
	r.header = http.Header{}
	for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "X-Forwarded"} {
		r.header.Set(name, "203.0.113.9")
	}
	if got, err := core.ByIP(r); got != "192.0.2.1" || err != nil {
		t.Errorf("ByIP = %q, %v; want the peer", got, err)
	}
}

func FuzzByIP(f *testing.F) {
	for _, seed := range []string{"192.0.2.1:80", "[2001:db8::1%eth0]:80", "::ffff:192.0.2.1", "@", "", "[::]:0", "1:2:3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, remote string) {
		key, err := core.ByIP(&testRequest{remote: remote})
		if err != nil {
			if key != "" || !errors.Is(err, core.ErrNoKey) {
				t.Fatalf("%q: %q, %v", remote, key, err)
			}
			return
		}
		if addr, err := netip.ParseAddr(key); err == nil {
			if !addr.Is4() || addr.String() != key || addr.IsUnspecified() {
				t.Fatalf("%q: %q is not a canonical IPv4 address", remote, key)
			}
			return
		}
		prefix, err := netip.ParsePrefix(key)
		if err != nil || prefix.Bits() != 64 || prefix.Masked().String() != key || prefix.Addr().Is4In6() || prefix.Addr().Zone() != "" {
			t.Fatalf("%q: %q is not a canonical /64", remote, key)
		}
	})
}

func TestByHeader(t *testing.T) {
	key := core.ByHeader("X-API-Key")
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"absent":          {nil, ""},
		"empty":           {[]string{""}, ""},
		"spaces":          {[]string{" \t "}, ""},
		"plain":           {[]string{"secret"}, "secret"},
		"spaces around":   {[]string{" secret\t"}, "secret"},
		"case kept":       {[]string{"SeCret"}, "SeCret"},
		"with a comma":    {[]string{"a, b"}, "a, b"},
		"twice":           {[]string{"secret", "other"}, ""},
		"twice the same":  {[]string{"secret", "secret"}, ""},
		"any bytes":       {[]string{"\x00{}:\xff"}, "\x00{}:\xff"},
		"long":            {[]string{strings.Repeat("k", 8<<10)}, strings.Repeat("k", 8<<10)},
		"too long":        {[]string{strings.Repeat("k", 8<<10+1)}, ""},
		"one of them nil": {[]string{"", "secret"}, ""},
	} {
		got, err := key(&testRequest{header: http.Header{"X-Api-Key": c.lines}})
		if got != c.want || (err == nil) != (c.want != "") || (err != nil && !errors.Is(err, core.ErrNoKey)) {
			t.Errorf("%s: %.40q, %v; want %.40q", name, got, err, c.want)
		}
	}
	for _, name := range []string{"", "X Y", "X:Y", "X\r\nY", "X-Ä", "(", strings.Repeat("é", 1000)} {
		wantPanic(t, "X-API-Key", func() { core.ByHeader(name) })
	}
}

type userID string

type account struct{ id int }

func (a *account) String() string { return fmt.Sprint("account ", a.id) }

func TestByUser(t *testing.T) {
	type key struct{}
	by := core.ByUser(key{})
	for name, c := range map[string]struct {
		user any
		want string
	}{
		"nobody":          {nil, ""},
		"a string":        {"alice", "alice"},
		"an empty string": {"", ""},
		"a named string":  {userID("alice"), "alice"},
		"an int":          {42, "42"},
		"an int64":        {int64(-42), "-42"},
		"a uint8":         {uint8(7), "7"},
		"a Stringer":      {&account{7}, "account 7"},
		"a nil Stringer":  {(*account)(nil), ""},
		"an address":      {netip.MustParseAddr("192.0.2.1"), "192.0.2.1"},
	} {
		got, err := by(&testRequest{values: map[any]any{key{}: c.user}})
		if got != c.want || (err == nil) != (c.want != "") || (err != nil && !errors.Is(err, core.ErrNoKey)) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	// The text of these differs from request to request, or not from user to user.
	for name, user := range map[string]any{"a pointer": new(string), "a struct": struct{ ID int }{1}, "a func": func() {}, "a float": 1.5, "bytes": []byte("x")} {
		got, err := by(&testRequest{values: map[any]any{key{}: user}})
		if got != "" || err == nil || errors.Is(err, core.ErrNoKey) {
			t.Errorf("%s: %q, %v; want an error of its own", name, got, err)
		}
	}
	wantPanic(t, "ByUser", func() { core.ByUser(nil) })
	wantPanic(t, "ByUser", func() { core.ByUser([]string{"user"}) })
}

func TestFirstOf(t *testing.T) {
	boom := errors.New("boom")
	found := func(key string) core.KeyFunc { return func(core.Request) (string, error) { return key, nil } }
	failing := func(err error) core.KeyFunc { return func(core.Request) (string, error) { return "", err } }
	none := failing(fmt.Errorf("wrapped: %w", core.ErrNoKey))

	a, _ := core.FirstOf(found("k"), found("other"))(nil)
	b, _ := core.FirstOf(none, found(""), found("k"))(nil)
	if a == "" || b == "" || a == b {
		t.Errorf("the same text from two functions is %q and %q, want two different keys", a, b)
	}
	if key, err := core.FirstOf(none, found(""))(nil); key != "" || !errors.Is(err, core.ErrNoKey) {
		t.Errorf("none finds a key: %q, %v", key, err)
	}
	if key, err := core.FirstOf(failing(boom), found("k"))(nil); key != "" || !errors.Is(err, boom) {
		t.Errorf("one fails: %q, %v; want its error", key, err)
	}
	wantPanic(t, "FirstOf", func() { core.FirstOf() })
	wantPanic(t, "FirstOf", func() { core.FirstOf(core.ByIP, nil) })
}

func TestJoin(t *testing.T) {
	tuple := func(parts ...string) (string, error) {
		funcs := make([]core.KeyFunc, len(parts))
		for i, part := range parts {
			funcs[i] = func(core.Request) (string, error) { return part, nil }
		}
		return core.Join(funcs...)(nil)
	}
	seen := make(map[string]string)
	parts := []string{"a", "b", "ab", "1 a", "1 a1 b", " ", "1", ":", "a:b", "|", "{}", "\x00", "2", "2 ab", "\xff"}
	try := func(parts ...string) {
		key, err := tuple(parts...)
		if err != nil {
			t.Errorf("%q: %v", parts, err)
		}
		if other, ok := seen[key]; ok {
			t.Errorf("%q and %s are both %q", parts, other, key)
		}
		seen[key] = fmt.Sprintf("%q", parts)
	}
	for _, a := range parts {
		try(a)
		for _, b := range parts {
			try(a, b)
			for _, c := range parts {
				try(a, b, c)
			}
		}
	}
	if key, err := tuple("a", ""); key != "" || !errors.Is(err, core.ErrNoKey) {
		t.Errorf("an empty part: %q, %v; want no key", key, err)
	}
	if key, err := core.Join(core.ByIP, core.ByHeader("X-API-Key"))(get("/")); key != "" || !errors.Is(err, core.ErrNoKey) {
		t.Errorf("a missing part: %q, %v; want no key", key, err)
	}
	wantPanic(t, "Join", func() { core.Join() })
	wantPanic(t, "Join", func() { core.Join(nil) })
}
