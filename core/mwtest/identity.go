package mwtest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/spillway-go/spillway/core"
)

// identityCases are about clients behind a proxy. The proxy is 127.0.0.1.
var identityCases = []testCase{
	{
		"behind a proxy", "a header is worth as much as whoever wrote it: the proxy's names the client, anybody else's names nobody.",
		(*suite).testBehindProxy,
	},
	{
		"forged in front of the proxy's", "what stands in front of the address that the proxy has appended was written by the client.",
		(*suite).testForgedInFront,
	},
	{
		"victim behind a proxy", "whoever can spend a limit in the name of somebody else can lock him out.",
		(*suite).testVictimBehindProxy,
	},
	{
		"one subscriber's addresses", "a subscriber has 2^64 addresses of IPv6, and one limit.",
		(*suite).testSubscriber,
	},
	{
		"forwarded headers", "who a client is depends on all lines of the one header that was named, in their order, and on nothing that is not an address.",
		(*suite).testForwardedHeaders,
	},
	{
		"proxy on a unix socket", "a peer on a unix socket is believed only if somebody has said so.",
		(*suite).testUnixProxy,
	},
	{
		"lists of addresses", "a list that believes a forged address lets everybody in, or locks anybody out.",
		(*suite).testLists,
	},
}

func prefixes(texts ...string) (prefixes []netip.Prefix) {
	for _, text := range texts {
		prefixes = append(prefixes, netip.MustParsePrefix(text))
	}
	return prefixes
}

// behindProxy says that the proxy at 127.0.0.1 writes the header.
func behindProxy(header string) core.ClientIP {
	return core.ClientIP{Header: header, Trusted: prefixes("127.0.0.1/32")}
}

func (s *suite) testBehindProxy() {
	srv := s.serve(limited(core.Policy{Limit: core.PerHour(3), ClientIP: behindProxy("X-Forwarded-For")}))
	proxy, other := srv.localhost(), srv.peer("127.0.0.2")
	for _, client := range []string{"198.51.100.1", "198.51.100.2", "2001:db8::1"} {
		if passed := srv.passed(5, proxy, "/", "X-Forwarded-For: "+client); passed != 3 {
			s.Errorf("%d requests of %s pass through the proxy, want 3", passed, client)
		}
	}
	passed := 0
	for i := range 10 {
		passed += srv.passed(1, other, "/", fmt.Sprintf("X-Forwarded-For: 198.51.100.%d", i))
	}
	if passed != 3 {
		s.Errorf("%d requests pass of a peer that is no proxy and claims ten addresses, want 3", passed)
	}
	if passed := srv.passed(5, proxy, "/"); passed != 3 {
		s.Errorf("%d requests of the proxy itself pass, want 3", passed)
	}
}

func (s *suite) testForgedInFront() {
	srv := s.serve(limited(core.Policy{Limit: core.PerHour(10), ClientIP: behindProxy("X-Forwarded-For")}))
	p := srv.localhost()
	passed := 0
	for i := range 1000 {
		forged := fmt.Sprintf("203.0.%d.%d", i/250, i%250+1)
		lines := []string{
			"X-Forwarded-For: " + forged + ", 198.51.100.7",
			"Forwarded: for=" + forged,
			"X-Real-IP: " + forged,
		}
		if i%2 == 0 {
			lines = append([]string{"X-Forwarded-For: " + forged + `, "`}, lines...)
		}
		passed += srv.passed(1, p, "/", lines...)
	}
	if passed != 10 {
		s.Errorf("%d of 1000 requests of one client with forged addresses pass, want 10", passed)
	}
}

func (s *suite) testVictimBehindProxy() {
	srv := s.serve(limited(core.Policy{Limit: core.PerHour(3), ClientIP: behindProxy("X-Forwarded-For")}))
	proxy, other := srv.localhost(), srv.peer("127.0.0.2")
	srv.passed(20, proxy, "/", "X-Forwarded-For: 198.51.100.1, 203.0.113.66")
	srv.passed(20, proxy, "/", "X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 203.0.113.66")
	srv.passed(20, other, "/", "X-Forwarded-For: 198.51.100.1")
	if passed := srv.passed(5, proxy, "/", "X-Forwarded-For: 198.51.100.1"); passed != 3 {
		s.Errorf("after others have forged the victim's address, %d requests of the victim pass, want 3", passed)
	}
}

func (s *suite) testSubscriber() {
	const limit, clients, batch = 10, 4, 256
	addresses := 1 << 16
	if slow || testing.Short() {
		addresses = 1 << 12
	}
	app := limited(core.Policy{Limit: core.PerHour(limit), ClientIP: behindProxy("X-Forwarded-For"), Headers: core.NoHeaders})
	app.Refusal = "no"
	srv := s.serve(app)
	var passed atomic.Int64
	srv.concurrently(clients, func(client int, p *peer) error {
		for first := client * batch; first < addresses; first += clients * batch {
			var requests strings.Builder
			for i := range batch {
				address := fmt.Sprintf("2001:db8:0:1:%x:%x::%x", rand.Uint32()>>16, rand.Uint32()>>16, first+i)
				requests.WriteString(request("GET", "/", "X-Forwarded-For: "+address))
			}
			if err := p.write(requests.String()); err != nil {
				return err
			}
			for range batch {
				r, err := p.receive("GET")
				if err != nil {
					return err
				}
				if r.status == http.StatusOK {
					passed.Add(1)
				}
			}
		}
		return nil
	})
	if passed.Load() != limit {
		s.Errorf("%d requests from %d addresses of one /64 pass, want %d", passed.Load(), addresses, limit)
	}
	for _, neighbour := range []string{"2001:db8::1", "2001:db8:0:2::1"} {
		if passed := srv.passed(limit+1, srv.localhost(), "/", "X-Forwarded-For: "+neighbour); passed != limit {
			s.Errorf("%d requests of the neighbour %s pass, want %d", passed, neighbour, limit)
		}
	}
}

func (s *suite) testForwardedHeaders() {
	const (
		proxy  = "127.0.0.1"
		client = "198.51.100.7"
	)
	for header, cases := range map[string][]struct {
		key   string
		lines []string
	}{
		"X-Forwarded-For": {
			{client, []string{client}},
			{client, []string{"203.0.113.1", client}},
			{client, []string{"203.0.113.1, 203.0.113.2", "203.0.113.3, " + client}},
			{client, []string{"203.0.113.1, " + client, proxy}},
			{client, []string{client, "", proxy + ",, ", " "}},
			{client, []string{"203.0.113.1 garbage", client}},
			{client, []string{client + ":4711"}},
			{client, []string{"::ffff:" + client}},
			{"2001:db8::/64", []string{"2001:db8::1"}},
			{"2001:db8::/64", []string{"[2001:db8::2]:4711"}},
			{proxy, nil},
			{proxy, []string{""}},
			{proxy, []string{"garbage"}},
			{proxy, []string{client + ", unknown"}},
			{proxy, []string{client + " " + client}},
			{proxy, []string{"010.0.0.1"}},
			{proxy, []string{"<nil>"}},
			{proxy, []string{client + "\xff"}},
			{proxy, []string{"0.0.0.0"}},
			{proxy, []string{client, strings.Repeat("x", 4<<10)}},
		},
		"Forwarded": {
			{client, []string{"for=" + client}},
			{client, []string{"for=203.0.113.1;proto=https", `By=203.0.113.43;For="` + client + `:4711"`}},
			{client, []string{"for=203.0.113.1, for=" + client, "for=" + proxy}},
			{client, []string{`for="203.0.113.1, for=203.0.113.2`, "for=" + client}},
			{"2001:db8::/64", []string{`for="[2001:db8::1]:80"`}},
			{proxy, nil},
			{proxy, []string{"for=unknown"}},
			{proxy, []string{"for=_hidden"}},
			{proxy, []string{client}},
			{proxy, []string{"proto=https"}},
			{proxy, []string{"for=" + client + ";for=" + client}},
		},
		"X-Real-IP": {
			{client, []string{client}},
			{"2001:db8::/64", []string{"2001:db8::1"}},
			{proxy, nil},
			{proxy, []string{""}},
			{proxy, []string{client, client}},
			{proxy, []string{"203.0.113.1, " + client}},
			{proxy, []string{"garbage"}},
		},
	} {
		store := newLedger()
		srv := s.serve(App{Limiter: core.New(store), Policies: []core.Policy{
			{Limit: core.PerHour(1_000_000), ClientIP: behindProxy(header)},
		}})
		trusted, other := srv.peer(proxy), srv.peer("127.0.0.2")
		for _, c := range cases {
			var lines []string
			for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-IP"} {
				if name != header {
					lines = append(lines, name+": 203.0.113.99") // it was not named
				}
			}
			for _, line := range c.lines {
				lines = append(lines, header+": "+line)
			}
			srv.want(http.StatusOK, trusted, "/", lines...)
			if got := store.lastKey(); got != c.key {
				s.Errorf("the client of a proxy who sends %s %q is %s, want %s", header, c.lines, got, c.key)
			}
			srv.want(http.StatusOK, other, "/", lines...)
			if got := store.lastKey(); got != "127.0.0.2" {
				s.Errorf("a peer that is no proxy and sends %s %q is %s, want 127.0.0.2", header, c.lines, got)
			}
		}
	}
}

// serveUnix serves on a unix socket.
func (s *suite) serveUnix(app App) *server {
	dir, err := os.MkdirTemp("", "mwtest") // not TempDir: the name of a socket has to be short
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		s.Fatal(err)
	}
	return s.serveOn(l, app)
}

func (s *suite) testUnixProxy() {
	clients := []string{"198.51.100.1", "198.51.100.2"}
	trusting := behindProxy("X-Forwarded-For")
	trusting.TrustUnixSocket = true
	srv := s.serveUnix(limited(core.Policy{Limit: core.PerHour(3), ClientIP: trusting, Deny: prefixes("203.0.113.0/24")}))
	for _, client := range clients {
		if passed := srv.passed(5, srv.peer(""), "/", "X-Forwarded-For: "+client); passed != 3 {
			s.Errorf("%d requests of %s pass through a trusted socket, want 3", passed, client)
		}
	}
	srv.want(http.StatusForbidden, srv.peer(""), "/", "X-Forwarded-For: 203.0.113.1")
	if passed := srv.passed(5, srv.peer(""), "/") + srv.passed(5, srv.peer(""), "/", "X-Forwarded-For: garbage"); passed != 3 {
		s.Errorf("%d requests without an address pass through a trusted socket, want 3 for all of them", passed)
	}

	srv = s.serveUnix(limited(core.Policy{
		Limit: core.PerHour(3), ClientIP: behindProxy("X-Forwarded-For"), Deny: prefixes("203.0.113.0/24"), Exempt: prefixes(clients[1] + "/32"),
	}))
	passed := srv.passed(1, srv.peer(""), "/", "X-Forwarded-For: 203.0.113.1")
	for _, client := range clients {
		passed += srv.passed(5, srv.peer(""), "/", "X-Forwarded-For: "+client)
	}
	if passed != 3 {
		s.Errorf("%d requests pass through a socket that is not trusted, want 3 for all peers together", passed)
	}
}

func (s *suite) testLists() {
	srv := s.serve(limited(core.Policy{
		Limit:    core.PerHour(2),
		ClientIP: behindProxy("X-Forwarded-For"),
		Exempt:   prefixes("198.51.100.0/24", "127.0.0.3/32", "2001:db8:1::/48"),
		Deny:     prefixes("198.51.100.66/32", "203.0.113.0/24", "2001:db8:2::/48"),
	}))
	for _, c := range []struct {
		peer, forwarded string
		want            []int
		why             string
	}{
		{"127.0.0.1", "198.51.100.1", []int{200, 200, 200}, "an exempt client"},
		{"127.0.0.1", "2001:db8:1::1", []int{200, 200, 200}, "an exempt client"},
		{"127.0.0.3", "", []int{200, 200, 200}, "an exempt peer"},
		{"127.0.0.3", "203.0.113.1", []int{200, 200, 200}, "an exempt peer that claims a denied address"},
		{"127.0.0.1", "203.0.113.1", []int{403, 403, 403}, "a denied client"},
		{"127.0.0.1", "2001:db8:2::1", []int{403, 403, 403}, "a denied client"},
		{"127.0.0.1", "198.51.100.66", []int{403, 403, 403}, "a client who is exempt and denied"},
		{"127.0.0.1", "198.51.100.1, 203.0.113.1", []int{403, 403, 403}, "a denied client who claims an exempt address"},
		{"127.0.0.1", "203.0.113.1, 192.0.2.1", []int{200, 200, 429}, "a client who claims a denied address"},
		{"127.0.0.1", "198.51.100.1, 192.0.2.2", []int{200, 200, 429}, "a client who claims an exempt address"},
		{"127.0.0.2", "198.51.100.1", []int{200, 200, 429}, "a peer that claims an exempt address"},
	} {
		p := srv.peer(c.peer)
		for _, want := range c.want {
			r := srv.want(want, p, "/", "X-Forwarded-For: "+c.forwarded)
			switch want {
			case http.StatusForbidden:
				s.wantFields(r, map[string]string{"Cache-Control": "no-store"})
			case http.StatusOK:
				if exempt := c.want[2] == http.StatusOK; exempt != (r.header.Get("Ratelimit") == "") {
					s.Errorf("%s: RateLimit is %q", c.why, r.header.Get("Ratelimit"))
				}
			}
			if r.status != want {
				s.Errorf("that was %s", c.why)
			}
		}
	}
}
