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

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

// proxies are trusted in all tests here.
var proxies = prefixes("10.0.0.0/8", "2001:db8:ffff::/48")

func forwardedRequest(peer, header string, lines ...string) *testRequest {
	return &testRequest{method: "GET", path: "/", remote: peer, header: http.Header{http.CanonicalHeaderKey(header): lines}}
}

func TestByForwardedIP(t *testing.T) {
	const proxy, client = "10.0.0.1:4711", "198.51.100.7"
	many := strings.Repeat("10.0.0.9, ", 100)
	for name, c := range map[string]struct {
		peer  string
		lines []string
		want  string
	}{
		"the usual":                           {proxy, []string{client}, client},
		"no header":                           {proxy, nil, "10.0.0.1"},
		"an empty header":                     {proxy, []string{""}, "10.0.0.1"},
		"only separators":                     {proxy, []string{" , ,, "}, "10.0.0.1"},
		"two proxies":                         {proxy, []string{client + ", 10.0.0.2"}, client},
		"three proxies":                       {proxy, []string{client + ",10.9.9.9 ,\t10.0.0.2"}, client},
		"all of them proxies":                 {proxy, []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"two lines":                           {proxy, []string{client, "10.0.0.2"}, client},
		"forged in the same line":             {proxy, []string{"6.6.6.6, " + client}, client},
		"forged in a line before":             {proxy, []string{"6.6.6.6", client}, client},
		"forged as a proxy":                   {proxy, []string{"10.0.0.66, " + client}, client},
		"forged by the hundred":               {proxy, []string{strings.Repeat("6.6.6.6, ", 1000) + client}, client},
		"forged with quotes":                  {proxy, []string{`"6.6.6.6, ` + client}, client},
		"forged with a quote before":          {proxy, []string{`"`, client}, client},
		"forged with a NUL":                   {proxy, []string{"6.6.6.6\x00, " + client}, client},
		"the peer is nobody's proxy":          {"203.0.113.5:1", []string{"6.6.6.6"}, "203.0.113.5"},
		"the peer claims to be one":           {"203.0.113.5:1", []string{"6.6.6.6, 10.0.0.2"}, "203.0.113.5"},
		"a mapped peer":                       {"[::ffff:10.0.0.1]:1", []string{client}, client},
		"a peer by IPv6":                      {"[2001:db8:ffff::1]:1", []string{client}, client},
		"a peer with a zone":                  {"[2001:db8:ffff::1%eth0]:1", []string{client}, client},
		"with a port":                         {proxy, []string{client + ":4711"}, client},
		"with a mapped address":               {proxy, []string{"::ffff:" + client}, client},
		"mapped in hex":                       {proxy, []string{"::ffff:c633:6407"}, client},
		"mapped in brackets with a port":      {proxy, []string{"[::ffff:" + client + "]:80"}, client},
		"a mapped proxy":                      {proxy, []string{client + ", ::ffff:10.0.0.2"}, client},
		"a proxy with a port":                 {proxy, []string{client + ", 10.0.0.2:80"}, client},
		"IPv6":                                {proxy, []string{"2001:db8::1"}, "2001:db8::/64"},
		"IPv6 in brackets":                    {proxy, []string{"[2001:db8::1]"}, "2001:db8::/64"},
		"IPv6 with a port":                    {proxy, []string{"[2001:db8::1]:80"}, "2001:db8::/64"},
		"IPv6 with a zone":                    {proxy, []string{"fe80::1%eth0"}, "fe80::/64"},
		"a zoned proxy":                       {proxy, []string{client + ", 2001:db8:ffff::2%x"}, client},
		"upper case":                          {proxy, []string{"2001:DB8::ABCD"}, "2001:db8::/64"},
		"garbage":                             {proxy, []string{"garbage"}, "10.0.0.1"},
		"garbage, then a proxy":               {proxy, []string{client + ", garbage, 10.0.0.2"}, "10.0.0.2"},
		"unknown":                             {proxy, []string{"unknown"}, "10.0.0.1"},
		"a name":                              {proxy, []string{"localhost"}, "10.0.0.1"},
		"unspecified":                         {proxy, []string{"0.0.0.0"}, "10.0.0.1"},
		"unspecified IPv6":                    {proxy, []string{"::"}, "10.0.0.1"},
		"octal":                               {proxy, []string{"0300.0250.0.1"}, "10.0.0.1"},
		"leading zeros":                       {proxy, []string{"198.051.100.007"}, "10.0.0.1"},
		"hexadecimal":                         {proxy, []string{"0xc6336407"}, "10.0.0.1"},
		"as an integer":                       {proxy, []string{"3325256711"}, "10.0.0.1"},
		"too short":                           {proxy, []string{"198.51.100"}, "10.0.0.1"},
		"too long":                            {proxy, []string{"198.51.100.7.8"}, "10.0.0.1"},
		"a prefix":                            {proxy, []string{"198.51.100.0/24"}, "10.0.0.1"},
		"a bad port":                          {proxy, []string{client + ":http"}, "10.0.0.1"},
		"a long port":                         {proxy, []string{client + ":123456"}, "10.0.0.1"},
		"an empty port":                       {proxy, []string{client + ":"}, "10.0.0.1"},
		"text after brackets":                 {proxy, []string{"[2001:db8::1]x"}, "10.0.0.1"},
		"an open bracket":                     {proxy, []string{"[2001:db8::1"}, "10.0.0.1"},
		"a closing bracket":                   {proxy, []string{"2001:db8::1]"}, "10.0.0.1"},
		"a quoted address":                    {proxy, []string{`"` + client + `"`}, "10.0.0.1"},
		"separated by semicolons":             {proxy, []string{"6.6.6.6; " + client}, "10.0.0.1"},
		"separated by spaces":                 {proxy, []string{"6.6.6.6 " + client}, "10.0.0.1"},
		"not ASCII":                           {proxy, []string{"１.２.３.４"}, "10.0.0.1"},
		"a line feed":                         {proxy, []string{client + "\n"}, "10.0.0.1"},
		"a byte that is no text":              {proxy, []string{"\xff"}, "10.0.0.1"},
		"script":                              {proxy, []string{"<script>"}, "10.0.0.1"},
		"more hops than there are":            {proxy, []string{client + ", " + strings.TrimSuffix(many, ", ")}, "10.0.0.9"},
		"a mebibyte of commas":                {proxy, []string{strings.Repeat(",", 1<<20)}, "10.0.0.1"},
		"a mebibyte of text":                  {proxy, []string{strings.Repeat("x", 1<<20)}, "10.0.0.1"},
		"a mebibyte, then the client":         {proxy, []string{strings.Repeat("x", 1<<20) + ", " + client}, client},
		"a mebibyte of quotes":                {proxy, []string{strings.Repeat(`"`, 1<<20)}, "10.0.0.1"},
		"spaces longer than what is examined": {proxy, []string{client + strings.Repeat(" ", 9<<10)}, "10.0.0.1"},
		"no peer":                             {"@", []string{client}, ""},
		"a path for a peer":                   {"/run/app.sock", []string{client}, ""},
	} {
		got, err := core.ByForwardedIP(proxies...)(forwardedRequest(c.peer, "X-Forwarded-For", c.lines...))
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, core.ErrNoKey) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

func TestByForwardedIPLooksAtNoOtherHeader(t *testing.T) {
	r := forwardedRequest("10.0.0.1:1", "X-Real-IP", "6.6.6.6")
	r.header.Set("Forwarded", "for=6.6.6.6")
	r.header.Set("X-Forwarded", "6.6.6.6")
	if got, _ := core.ByForwardedIP(proxies...)(r); got != "10.0.0.1" {
		t.Errorf("without X-Forwarded-For the key is %q, want the proxy", got)
	}
}

func TestByClientIPFromForwarded(t *testing.T) {
	key := core.ByClientIP(core.ClientIP{Header: "forwarded", Trusted: proxies})
	const client = "198.51.100.7"
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"the usual":                    {[]string{"for=" + client}, client},
		"with other parameters":        {[]string{"proto=https;for=" + client + ";by=10.0.0.1;host=example.com"}, client},
		"in another case":              {[]string{"For=" + client}, client},
		"quoted":                       {[]string{`for="198.51.100.7"`}, client},
		"quoted with a port":           {[]string{`for="198.51.100.7:4711"`}, client},
		"an obfuscated port":           {[]string{`for="198.51.100.7:_x.y-1"`}, client},
		"IPv6":                         {[]string{`for="[2001:db8::1]:80"`}, "2001:db8::/64"},
		"two proxies":                  {[]string{"for=" + client + ", for=10.0.0.2"}, client},
		"two lines":                    {[]string{"for=" + client, "for=10.0.0.2;proto=http"}, client},
		"forged":                       {[]string{"for=6.6.6.6, for=" + client}, client},
		"forged with an open quote":    {[]string{`for="6.6.6.6, for=` + client}, client},
		"forged with an escape":        {[]string{`for="6.6.6.6\", for=` + client}, client},
		"forged with both":             {[]string{`for="\\\"", x="\\", for=` + client}, client},
		"an open quote after a proxy":  {[]string{`for="` + client + `, for=10.0.0.2`}, "10.0.0.2"},
		"a comma in quotes":            {[]string{`for=6.6.6.6, for=198.51.100.7;host="a, for=9.9.9.9"`}, client},
		"a semicolon in quotes":        {[]string{`host="a;for=9.9.9.9";for=198.51.100.7`}, client},
		"an escaped quote":             {[]string{`host="a\";for=9.9.9.9";for=198.51.100.7`}, client},
		"escapes in the address":       {[]string{`for="\1\98.51.100.7"`}, client},
		"unknown":                      {[]string{"for=unknown"}, "10.0.0.1"},
		"obfuscated":                   {[]string{"for=_hidden"}, "10.0.0.1"},
		"obfuscated, behind a proxy":   {[]string{"for=" + client + ", for=_hidden, for=10.0.0.2"}, "10.0.0.2"},
		"twice":                        {[]string{"for=6.6.6.6;for=" + client}, "10.0.0.1"},
		"no for":                       {[]string{"proto=https"}, "10.0.0.1"},
		"no value":                     {[]string{"for="}, "10.0.0.1"},
		"no equals":                    {[]string{"for"}, "10.0.0.1"},
		"a space before the equals":    {[]string{"for =" + client}, "10.0.0.1"},
		"a space after the equals":     {[]string{"for= " + client}, client},
		"a quote in a token":           {[]string{`for=198.51"."100.7`}, "10.0.0.1"},
		"text after the quote":         {[]string{`for="198.51.100.7"x`}, "10.0.0.1"},
		"an address of another header": {[]string{client}, "10.0.0.1"},
		"empty elements":               {[]string{", for=" + client + " ,, "}, client},
		"empty pairs":                  {[]string{";for=" + client + ";"}, client},
		"a mebibyte of quotes":         {[]string{strings.Repeat(`"`, 1<<20)}, "10.0.0.1"},
		"a mebibyte of backslashes":    {[]string{strings.Repeat(`\`, 1<<20) + `"`}, "10.0.0.1"},
		"nothing":                      {nil, "10.0.0.1"},
	} {
		if got, err := key(forwardedRequest("10.0.0.1:1", "Forwarded", c.lines...)); got != c.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

func TestByClientIPFromOneHeader(t *testing.T) {
	key := core.ByClientIP(core.ClientIP{Header: "CF-Connecting-IP", Trusted: proxies})
	for name, c := range map[string]struct {
		peer  string
		lines []string
		want  string
	}{
		"the usual":            {"10.0.0.1:1", []string{"198.51.100.7"}, "198.51.100.7"},
		"with spaces":          {"10.0.0.1:1", []string{" 198.51.100.7\t"}, "198.51.100.7"},
		"with a port":          {"10.0.0.1:1", []string{"[2001:db8::1]:80"}, "2001:db8::/64"},
		"missing":              {"10.0.0.1:1", nil, "10.0.0.1"},
		"twice":                {"10.0.0.1:1", []string{"198.51.100.7", "198.51.100.7"}, "10.0.0.1"},
		"a list":               {"10.0.0.1:1", []string{"6.6.6.6, 198.51.100.7"}, "10.0.0.1"},
		"garbage":              {"10.0.0.1:1", []string{"garbage"}, "10.0.0.1"},
		"long":                 {"10.0.0.1:1", []string{strings.Repeat(" ", 1<<20) + "198.51.100.7"}, "10.0.0.1"},
		"from nobody's proxy":  {"203.0.113.5:1", []string{"6.6.6.6"}, "203.0.113.5"},
		"from a unix socket":   {"@", []string{"6.6.6.6"}, ""},
		"another proxy's name": {"10.0.0.1:1", []string{"10.0.0.2"}, "10.0.0.2"},
	} {
		if got, err := key(forwardedRequest(c.peer, "CF-Connecting-IP", c.lines...)); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

func TestClientIPOnUnixSockets(t *testing.T) {
	key := core.ByClientIP(core.ClientIP{Header: "X-Forwarded-For", TrustUnixSocket: true})
	for _, peer := range []string{"@", "", "/run/app.sock"} {
		if got, err := key(forwardedRequest(peer, "X-Forwarded-For", "6.6.6.6, 198.51.100.7")); got != "198.51.100.7" || err != nil {
			t.Errorf("peer %q: %q, %v; want the client", peer, got, err)
		}
		if got, err := key(forwardedRequest(peer, "X-Forwarded-For", "garbage")); got != "" || !errors.Is(err, core.ErrNoKey) {
			t.Errorf("peer %q with garbage: %q, %v; want no key", peer, got, err)
		}
	}
	if got, _ := key(forwardedRequest("203.0.113.5:1", "X-Forwarded-For", "6.6.6.6")); got != "203.0.113.5" {
		t.Errorf("a peer with an address: %q, want itself", got)
	}
}

// leftmost believes whoever comes first, and so everybody.
type leftmost struct{ calls *int }

func (s leftmost) ClientIP(headers http.Header, remoteAddr string) string {
	*s.calls++
	first, _, _ := strings.Cut(headers.Get("X-Forwarded-For"), ",")
	return first
}

func TestClientIPStrategy(t *testing.T) {
	calls := 0
	key := core.ByClientIP(core.ClientIP{Strategy: leftmost{&calls}, IPv6Prefix: 48})
	for header, want := range map[string]string{
		"198.51.100.7, 10.0.0.1": "198.51.100.7", "2001:db8::1": "2001:db8::/48", "fe80::1%eth0": "fe80::/48", "::ffff:198.51.100.7": "198.51.100.7",
		"": "203.0.113.5", "garbage": "203.0.113.5", "0.0.0.0": "203.0.113.5",
	} {
		if got, err := key(forwardedRequest("203.0.113.5:1", "X-Forwarded-For", header)); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", header, got, err, want)
		}
	}
	if calls != 7 {
		t.Errorf("the strategy was asked %d times", calls)
	}
}

func TestClientIPv6Prefix(t *testing.T) {
	for bits, want := range map[int]string{0: "2001:db8:1:2::/64", 64: "2001:db8:1:2::/64", 56: "2001:db8:1::/56", 48: "2001:db8:1::/48", 32: "2001:db8::/32", 128: "2001:db8:1:2:3:4:5:6/128"} {
		key := core.ByClientIP(core.ClientIP{IPv6Prefix: bits})
		if got, err := key(&testRequest{remote: "[2001:db8:1:2:3:4:5:6]:80"}); got != want || err != nil {
			t.Errorf("%d bits: %q, %v; want %q", bits, got, err, want)
		}
		if got, _ := key(&testRequest{remote: "192.0.2.1:80"}); got != "192.0.2.1" {
			t.Errorf("%d bits: %q for an IPv4 address", bits, got)
		}
	}
}

func TestClientIPTrustList(t *testing.T) {
	find := func(trusted string, peer string) string {
		key, _ := core.ByForwardedIP(netip.MustParsePrefix(trusted))(forwardedRequest(peer, "X-Forwarded-For", "198.51.100.7"))
		return key
	}
	for _, c := range []struct{ trusted, peer, want string }{
		{"10.0.0.1/8", "10.9.9.9:1", "198.51.100.7"},                  // bits of a host
		{"::ffff:10.0.0.0/104", "10.9.9.9:1", "198.51.100.7"},         // a mapped prefix
		{"::ffff:10.0.0.1/128", "10.0.0.1:1", "198.51.100.7"},         // a mapped address
		{"::ffff:10.0.0.1/128", "10.0.0.2:1", "10.0.0.2"},             //
		{"10.0.0.1/32", "[::ffff:10.0.0.1]:1", "198.51.100.7"},        // a mapped peer
		{"2001:db8::1/64", "[2001:db8::ffff]:1", "198.51.100.7"},      //
		{"fe80::/10", "[fe80::1%eth0]:1", "198.51.100.7"},             // a zone
		{"2001:db8::/64", "[2001:db8:0:1::1]:1", "2001:db8:0:1::/64"}, //
	} {
		if got := find(c.trusted, c.peer); got != c.want {
			t.Errorf("trusting %s, peer %s: %q, want %q", c.trusted, c.peer, got, c.want)
		}
	}
}

func TestClientIPRefusesWhatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		clientIP core.ClientIP
		want     string
	}{
		"everybody":             {core.ClientIP{Header: "X-Forwarded-For", Trusted: prefixes("0.0.0.0/0")}, "TrustTheWholeWorld"},
		"everybody by IPv6":     {core.ClientIP{Header: "X-Forwarded-For", Trusted: prefixes("10.0.0.0/8", "::/0")}, "TrustTheWholeWorld"},
		"everybody, mapped":     {core.ClientIP{Header: "X-Forwarded-For", Trusted: prefixes("::ffff:0.0.0.0/96")}, "TrustTheWholeWorld"},
		"an invalid prefix":     {core.ClientIP{Header: "X-Forwarded-For", Trusted: []netip.Prefix{{}}}, "invalid prefix"},
		"nobody trusted":        {core.ClientIP{Header: "X-Forwarded-For"}, "without Trusted"},
		"no header":             {core.ClientIP{Trusted: proxies}, "without a Header"},
		"no header, a socket":   {core.ClientIP{TrustUnixSocket: true}, "without a Header"},
		"no name of a header":   {core.ClientIP{Header: "X Forwarded", Trusted: proxies}, "name of a header"},
		"a strategy and more":   {core.ClientIP{Strategy: leftmost{}, Header: "X-Forwarded-For", Trusted: proxies}, "decides by itself"},
		"too short a prefix":    {core.ClientIP{IPv6Prefix: 31}, "32 to 128"},
		"too long a prefix":     {core.ClientIP{IPv6Prefix: 129}, "32 to 128"},
		"a prefix below nought": {core.ClientIP{IPv6Prefix: -1}, "32 to 128"},
	} {
		_, err := core.NewGuard(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(1), ClientIP: c.clientIP})
		if !errors.Is(err, core.ErrInvalidPolicy) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error that says %s", name, err, c.want)
		}
		wantPanic(t, c.want, func() { core.ByClientIP(c.clientIP) })
	}
	wantPanic(t, "without Trusted", func() { core.ByForwardedIP() })
	loud := core.ClientIP{Header: "X-Forwarded-For", Trusted: prefixes("0.0.0.0/0"), TrustTheWholeWorld: true}
	if got, err := core.ByClientIP(loud)(forwardedRequest("203.0.113.5:1", "X-Forwarded-For", "6.6.6.6")); got != "6.6.6.6" || err != nil {
		t.Errorf("said loudly: %q, %v", got, err)
	}
}

func TestPolicyClientIP(t *testing.T) {
	policy := core.Policy{
		Limit:    core.PerHour(1),
		Key:      core.ByHeader("X-API-Key"),
		ClientIP: core.ClientIP{Header: "X-Forwarded-For", Trusted: proxies, IPv6Prefix: 48},
		Routes:   []core.Route{{Pattern: "/route", Limit: core.PerHour(1)}},
	}
	guard := newGuard(t, policy)
	policy.Key = nil
	byIP := newGuard(t, policy)
	for _, c := range []struct {
		client string
		want   bool
	}{{"198.51.100.7", true}, {"198.51.100.7", false}, {"198.51.100.8", true}, {"2001:db8:1:1::1", true}, {"2001:db8:1:2::1", false}} {
		if d := guard.Check(forwardedRequest("10.0.0.1:1", "X-Forwarded-For", c.client)); d.Allowed != c.want {
			t.Errorf("%s without a key: allowed %v", c.client, d.Allowed)
		}
		if d := byIP.Check(forwardedRequest("10.0.0.1:1", "X-Forwarded-For", c.client)); d.Allowed != c.want {
			t.Errorf("%s by IP: allowed %v", c.client, d.Allowed)
		}
	}
}

func FuzzForwarded(f *testing.F) {
	for _, seed := range []string{"198.51.100.7", "for=198.51.100.7", `for="[2001:db8::1]:80";proto=http, for=10.0.0.2`, `"`, `\"`, ",,,", "10.0.0.9,10.0.0.8"} {
		f.Add(seed, "6.6.6.6, ")
		f.Add(seed, `for="`)
	}
	byName := make(map[string]core.KeyFunc)
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip"} {
		byName[name] = core.ByClientIP(core.ClientIP{Header: name, Trusted: proxies})
	}
	f.Fuzz(func(t *testing.T, line, forged string) {
		for name, key := range byName {
			got, err := key(forwardedRequest("10.0.0.1:1", name, line))
			if err != nil || !isCanonical(got) {
				t.Fatalf("%s: %q: %q, %v is not a canonical address", name, line, got, err)
			}
			if got, _ := key(forwardedRequest("203.0.113.5:1", name, line)); got != "203.0.113.5" {
				t.Fatalf("%s: %q: a peer that is not trusted is %q", name, line, got)
			}
			if name == "X-Real-Ip" {
				continue
			}
			// Whatever a client puts in front of what the proxies have written changes nothing.
			written := "198.51.100.7"
			if name == "Forwarded" {
				written = "for=" + written
			}
			for _, lines := range [][]string{{forged + line + "," + written}, {forged, line, written}, {forged + line, written + ", "}} {
				if got, err := key(forwardedRequest("10.0.0.1:1", name, lines...)); got != "198.51.100.7" || err != nil {
					t.Fatalf("%s: %q: forged to %q, %v", name, lines, got, err)
				}
			}
		}
	})
}

// isCanonical reports whether key is the only spelling of an IPv4 address or /64.
func isCanonical(key string) bool {
	if addr, err := netip.ParseAddr(key); err == nil {
		return addr.Is4() && addr.String() == key && !addr.IsUnspecified()
	}
	prefix, err := netip.ParsePrefix(key)
	return err == nil && prefix.Bits() == 64 && fmt.Sprint(prefix.Masked()) == key && !prefix.Addr().Is4In6() && prefix.Addr().Zone() == ""
}
