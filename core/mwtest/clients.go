package mwtest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spillway-go/spillway/core"
)

// clientCases are about telling clients apart.
var clientCases = []testCase{
	{
		"forged addresses", "whoever can choose the address that he is limited by is not limited.",
		(*suite).testForgedAddresses,
	},
	{
		"victim", "whoever can choose the address that he is limited by can use up somebody else's limit.",
		(*suite).testVictim,
	},
	{
		"addresses", "clients with different addresses have different buckets.",
		(*suite).testAddresses,
	},
	{
		"unix socket", "peers without an IP address share one bucket; none of them is unlimited.",
		(*suite).testUnixSocket,
	},
	{
		"view", "all that is decided about a request is decided by what the adapter shows of it.",
		(*suite).testView,
	},
	{
		"header key", "each key in a header has a bucket; without a key, or with two, the address counts.",
		(*suite).testHeaderKey,
	},
	{
		"user key", "the user is where the application's own authentication has left it.",
		(*suite).testUserKey,
	},
	{
		"framework key", "Key reads from the framework's own context, and only there.",
		(*suite).testFrameworkKey,
	},
	{
		"secret", "a key may be a password to the application: it is nobody's business, least of all a log's.",
		(*suite).testSecret,
	},
}

func (s *suite) testForgedAddresses() {
	srv := s.serve(limited(core.Policy{Limit: core.PerHour(10)}))
	p := srv.localhost()
	passed := 0
	for i := range 1000 {
		forged := fmt.Sprintf("203.0.%d.%d", i/250, i%250+1)
		lines := []string{
			"X-Forwarded-For: " + forged,
			"X-Real-IP: " + forged,
			"Forwarded: for=" + forged,
			"True-Client-IP: " + forged,
			"CF-Connecting-IP: " + forged,
		}
		if i%2 == 0 {
			lines = lines[i/2%5:][:1]
		}
		passed += srv.passed(1, p, "/", lines...)
	}
	if passed != 10 {
		s.Errorf("%d of 1000 requests with forged addresses pass, want 10", passed)
	}
}

func (s *suite) testVictim() {
	srv := s.serve(limited(core.Policy{Limit: core.PerHour(3)}))
	attacker, victim := srv.peer("127.0.0.2"), srv.peer("127.0.0.3")
	srv.passed(20, attacker, "/", "X-Forwarded-For: 127.0.0.3", "X-Real-IP: 127.0.0.3", "Forwarded: for=127.0.0.3")
	if passed := srv.passed(5, victim, "/"); passed != 3 {
		s.Errorf("after somebody else used the victim's address, %d requests of the victim pass, want 3", passed)
	}
}

func (s *suite) testAddresses() {
	srv := s.serve(limited(core.Policy{Limit: core.PerHour(3)}))
	for _, ip := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
		// The second connection has another port.
		if passed := srv.passed(3, srv.peer(ip), "/") + srv.passed(3, srv.peer(ip), "/"); passed != 3 {
			s.Errorf("%d requests from %s pass, want 3", passed, ip)
		}
	}
}

func (s *suite) testUnixSocket() {
	srv := s.serveUnix(limited(core.Policy{Limit: core.PerHour(3)}))
	passed := 0
	for i := range 3 {
		passed += srv.passed(3, srv.peer(""), "/", fmt.Sprintf("X-Forwarded-For: 203.0.113.%d", i))
		// The client's end of the socket may be called like an address.
		name := fmt.Sprintf("203.0.113.%d:4711", i)
		_ = os.Remove(name)
		s.Cleanup(func() { _ = os.Remove(name) })
		p := srv.peer("")
		p.local = &net.UnixAddr{Name: name, Net: "unix"}
		passed += srv.passed(3, p, "/")
	}
	if passed != 3 {
		s.Errorf("%d requests over a unix socket pass, want 3 for all peers together", passed)
	}
}

// A view is what an adapter shows of a request, copied.
type view struct {
	method, path, remote   string
	twice, once, empty, no []string
	joined, missing        string
	all                    http.Header // of those in the cases
	context                bool
	nothing                any
}

func viewOf(r core.Request) view {
	lines := func(name string) []string {
		var copied []string
		for _, line := range r.HeaderLines(name) {
			copied = append(copied, strings.Clone(line))
		}
		return copied
	}
	all := make(http.Header)
	for _, name := range []string{"X-Twice", "X-Once", "X-Empty", "X-No"} {
		for _, line := range r.HTTPHeader().Values(name) {
			all.Add(name, strings.Clone(line))
		}
	}
	return view{
		all:     all,
		method:  strings.Clone(r.Method()),
		path:    strings.Clone(r.Path()),
		remote:  strings.Clone(r.RemoteAddr()),
		twice:   lines("X-Twice"),
		once:    lines("x-once"),
		empty:   lines("X-Empty"),
		no:      lines("X-No"),
		joined:  strings.Clone(r.Header("x-tWICE")),
		missing: strings.Clone(r.Header("X-No")),
		context: r.Context() != nil && r.Context().Err() == nil,
		nothing: r.Value("nothing"),
	}
}

func (s *suite) testView() {
	var mu sync.Mutex
	var got view
	srv := s.serve(limited(core.Policy{Limit: core.PerHour(10), Key: func(r core.Request) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		got = viewOf(r)
		return "key", nil
	}}))
	p := srv.localhost()
	srv.do(p, "DELETE", "/caf%C3%A9/a%2Fb/C?query=1&path=/d", "X-Twice: one", "X-Once:  1", "X-Empty:", "x-twice: two, three")
	mu.Lock()
	defer mu.Unlock()
	check := func(what string, got, want any) {
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			s.Errorf("%s is %q, want %q", what, got, want)
		}
	}
	check("Method", got.method, "DELETE")
	check("Path, as sent and without the query,", got.path, "/caf%C3%A9/a%2Fb/C")
	check("RemoteAddr", got.remote, p.conn.LocalAddr().String())
	check("HeaderLines of a header sent twice", got.twice, []string{"one", "two, three"})
	check("Header of a header sent twice", got.joined, "one, two, three")
	check("HeaderLines of a header sent once", got.once, []string{"1"})
	check("HeaderLines of an empty header", got.empty, []string{""})
	check("HeaderLines of no header", got.no, []string(nil))
	check("Header of no header", got.missing, "")
	check("HTTPHeader", got.all, http.Header{"X-Twice": {"one", "two, three"}, "X-Once": {"1"}, "X-Empty": {""}})
	if !got.context {
		s.Error("Context is nil or has ended")
	}
	if got.nothing != nil {
		s.Errorf("Value of a key that nobody has set is %v, want nil", got.nothing)
	}
}

func (s *suite) testHeaderKey() {
	srv := s.serve(limited(core.Policy{Limit: core.PerHour(2), Key: core.ByHeader("X-API-Key")}))
	p := srv.localhost()
	for _, key := range []string{"first", "other", "127.0.0.1"} {
		if passed := srv.passed(4, p, "/", "X-API-Key: "+key); passed != 2 {
			s.Errorf("%d requests with the key %s pass, want 2", passed, key)
		}
	}
	// Who checks the key may look at one line and the limiter at the other.
	passed := 0
	for i := range 4 {
		passed += srv.passed(1, p, "/", "X-API-Key: first", fmt.Sprintf("X-API-Key: %d", i))
	}
	passed += srv.passed(2, p, "/")
	passed += srv.passed(2, p, "/", "X-API-Key:")
	if passed != 2 {
		s.Errorf("%d requests pass that have two keys, none, or an empty one, want 2 for their address", passed)
	}
	if passed := srv.passed(4, srv.peer("127.0.0.2"), "/"); passed != 2 {
		s.Errorf("%d requests without a key pass from another address, want 2", passed)
	}
}

func (s *suite) testUserKey() {
	for name, key := range map[string]any{UserHeader: UserKey, ContextUserHeader: ContextUserKey{}} {
		srv := s.serve(limited(core.Policy{Limit: core.PerHour(2), Key: core.ByUser(key)}))
		p := srv.localhost()
		for _, user := range []string{"alice", "bobby"} {
			passed := srv.passed(2, p, "/", name+": "+user) + srv.passed(2, srv.peer("127.0.0.2"), "/", name+": "+user)
			if passed != 2 {
				s.Errorf("%d requests of the user %s in %s pass, want 2", passed, user, name)
			}
		}
		if passed := srv.passed(4, p, "/"); passed != 2 {
			s.Errorf("%d requests without a user in %s pass, want 2 for their address", passed, name)
		}
	}
}

func (s *suite) testFrameworkKey() {
	srv := s.serve(limited(core.Policy{Limit: core.PerHour(2), Key: s.adapter.Key}))
	p := srv.localhost()
	for _, key := range []string{"first", "other"} {
		if passed := srv.passed(4, p, "/", KeyHeader+": "+key); passed != 2 {
			s.Errorf("%d requests with the key %s pass, want 2", passed, key)
		}
	}
	if passed := srv.passed(4, p, "/"); passed != 2 {
		s.Errorf("%d requests without a key pass, want 2 for their address", passed)
	}
	if key, err := s.adapter.Key(nil); !errors.Is(err, core.ErrNoKey) {
		s.Errorf("Key in another framework: %q, %v; want core.ErrNoKey", key, err)
	}
}

func (s *suite) testSecret() {
	const secret = "canary-4711"
	srv := s.serve(limited(core.Policy{Limit: core.PerHour(2), Key: core.ByHeader("Authorization"), Headers: core.RateLimitFields | core.XRateLimit}))
	p := srv.localhost()
	var statuses []int
	for range 4 {
		r := srv.get(p, "/", "Authorization: "+secret)
		statuses = append(statuses, r.status)
		if strings.Contains(fmt.Sprint(r.header, r.body), secret) {
			s.Errorf("the secret is in an answer: %v %s", r.header, r.body)
		}
	}
	if want := []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests, http.StatusTooManyRequests}; !slices.Equal(statuses, want) {
		s.Errorf("the statuses are %v, want %v", statuses, want)
	}
}
