package mwtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spillway-go/spillway/core"
)

// answerCases are about what a client is answered.
var answerCases = []testCase{
	{
		"limit", "as many requests pass as the limit says, and a refused one is not handled.",
		(*suite).testLimit,
	},
	{
		"fields", "clients pace themselves by these fields, and a field nobody asked for is a change of the application's answers.",
		(*suite).testFields,
	},
	{
		"older fields", "clients that know only X-RateLimit read a wrong number as quietly as a right one.",
		(*suite).testOlderFields,
	},
	{
		"unix time", "with XRateLimitUnix the reset is a point in time, as GitHub has it.",
		(*suite).testUnixTime,
	},
	{
		"no fields", "who wants no fields wants none, but a refusal without Retry-After makes clients try at once.",
		(*suite).testNoFields,
	},
	{
		"retry after", "a client that waits as long as it was told must not be refused again.",
		(*suite).testRetryAfter,
	},
	{
		"custom refusal", "applications answer in their own format, and must not have to remember how to stop the chain.",
		(*suite).testCustomRefusal,
	},
	{
		"HEAD", "an answer to HEAD with a body is read as the beginning of the next answer.",
		(*suite).testHead,
	},
	{
		"body", "a refused upload must be answered, not waited for forever, and its bytes are not the next request.",
		(*suite).testBody,
	},
	{
		"stacked", "with two policies a request passes both, the lists have both, and the single values are those of the tighter one, in whatever order they come.",
		(*suite).testStacked,
	},
	{
		"outage", "a store that is down is not the client's fault: the request passes, and nothing is claimed about limits.",
		(*suite).testOutage,
	},
	{
		"invalid policy", "a policy that cannot work must be noticed at start, not by the first request.",
		(*suite).testInvalidPolicy,
	},
}

func (s *suite) testLimit() {
	srv := s.serve(limited(core.Policy{Limit: core.PerHour(3)}))
	p := srv.localhost()
	for range 3 {
		if r := srv.want(http.StatusOK, p, "/"); r.body != "ok" {
			s.Errorf("the body of a request that passes is %q, want the handler's %q", r.body, "ok")
		}
	}
	for range 5 {
		r := srv.want(http.StatusTooManyRequests, p, "/")
		if !strings.Contains(r.body, "Too Many Requests") || strings.Contains(r.body, "ok") {
			s.Errorf("the body of a refusal is %q, want Too Many Requests in it", r.body)
		}
	}
	if calls := srv.callsOf(""); calls != 3 {
		s.Errorf("the handler was called %d times, want 3", calls)
	}
}

// inOneSecond sends n requests to a fresh server, and again if that took so long
// that the numbers in the answers may have changed meanwhile.
func (s *suite) inOneSecond(policy core.Policy, n int) []response {
	for range 20 {
		srv := s.serve(limited(policy))
		p := srv.localhost()
		var responses []response
		start := time.Now()
		for range n {
			responses = append(responses, srv.get(p, "/"))
		}
		if time.Since(start) < time.Second {
			return responses
		}
	}
	s.Fatal("the server takes more than a second for a few requests")
	return nil
}

func (s *suite) testFields() {
	for _, policy := range []core.Policy{
		{Name: "api", Limit: core.PerHour(2)},
		{Limit: core.PerHour(2)},
	} {
		name := policy.Name
		if name == "" {
			name = policy.Limit.String()
		}
		r := s.inOneSecond(policy, 3)
		told := func(rateLimit string) map[string]string {
			return map[string]string{
				"Ratelimit-Policy": fmt.Sprintf("%q;q=2;w=3600", name),
				"Ratelimit":        fmt.Sprintf("%q;%s", name, rateLimit),
			}
		}
		s.wantFields(r[0], told("r=1;t=1800"))
		s.wantFields(r[1], told("r=0;t=1800"))
		s.wantFields(r[2], refusal("1800", told("r=0;t=1800")))
	}
}

func (s *suite) testOlderFields() {
	told := func(remaining, reset string) map[string]string {
		return map[string]string{"X-Ratelimit-Limit": "2", "X-Ratelimit-Remaining": remaining, "X-Ratelimit-Reset": reset}
	}
	r := s.inOneSecond(core.Policy{Limit: core.PerHour(2), Headers: core.XRateLimit}, 3)
	s.wantFields(r[0], told("1", "1800"))
	s.wantFields(r[1], told("0", "3600"))
	s.wantFields(r[2], refusal("1800", told("0", "1800")))
}

func (s *suite) testUnixTime() {
	srv := s.serve(limited(core.Policy{Limit: core.PerHour(2), Headers: core.XRateLimitUnix}))
	before := time.Now().Unix()
	r := srv.get(srv.localhost(), "/")
	after := time.Now().Unix() + 1
	reset, err := strconv.ParseInt(r.header.Get("X-Ratelimit-Reset"), 10, 64)
	if err != nil || reset < before+1800 || reset > after+1800 {
		s.Errorf("X-RateLimit-Reset is %q, want half an hour after %d", r.header.Get("X-Ratelimit-Reset"), before)
	}
}

func (s *suite) testNoFields() {
	r := s.inOneSecond(core.Policy{Limit: core.PerHour(1), Headers: core.NoHeaders}, 2)
	s.wantFields(r[0], nil)
	s.wantFields(r[1], refusal("3600", nil))
}

// refusal adds what a refusal says in any case.
func refusal(retryAfter string, fields map[string]string) map[string]string {
	all := map[string]string{"Retry-After": retryAfter, "Cache-Control": "no-store"}
	maps.Copy(all, fields)
	return all
}

// anyField are those that a framework may add to an answer of its own.
var anyField = []string{"Connection", "Content-Length", "Content-Type", "Date", "Server", "Vary", "X-Content-Type-Options"}

// wantFields compares all the header fields of an answer.
func (s *suite) wantFields(r response, want map[string]string) {
	s.Helper()
	for name, value := range want {
		if got := r.header.Values(name); len(got) != 1 || got[0] != value {
			s.Errorf("status %d: %s is %q, want %q once", r.status, name, got, value)
		}
	}
	for name, values := range r.header {
		if _, wanted := want[name]; !wanted && !slices.Contains(anyField, name) {
			s.Errorf("status %d: there is a field %s: %q that nobody asked for", r.status, name, values)
		}
	}
}

func (s *suite) testRetryAfter() {
	srv := s.serve(limited(core.Policy{Limit: core.Every(time.Second)}))
	p := srv.localhost()
	srv.want(http.StatusOK, p, "/")
	r := srv.want(http.StatusTooManyRequests, p, "/")
	wait, err := strconv.Atoi(r.header.Get("Retry-After"))
	if err != nil || wait != 1 {
		s.Fatalf("Retry-After is %q, want 1: whole seconds, rounded up", r.header.Get("Retry-After"))
	}
	time.Sleep(time.Duration(wait) * time.Second)
	srv.want(http.StatusOK, p, "/")
}

func (s *suite) testCustomRefusal() {
	app := limited(core.Policy{Name: "custom", Limit: core.PerHour(1)})
	app.Refusal = "come back later"
	srv := s.serve(app)
	p := srv.localhost()
	srv.want(http.StatusOK, p, "/")
	r := srv.want(http.StatusTooManyRequests, p, "/")
	if r.body != app.Refusal {
		s.Errorf("the body is %q, want %q and nothing else", r.body, app.Refusal)
	}
	if r.header.Get("Retry-After") == "" || r.header.Get("Ratelimit") == "" {
		s.Errorf("the fields are missing from a custom refusal: %v", r.header)
	}
	if calls := srv.callsOf(""); calls != 1 {
		s.Errorf("the handler was called %d times, want 1", calls)
	}
}

func (s *suite) testHead() {
	srv := s.serve(limited(core.Policy{Limit: core.PerHour(1)}))
	p := srv.localhost()
	for _, want := range []int{http.StatusOK, http.StatusTooManyRequests, http.StatusTooManyRequests} {
		if r := srv.do(p, "HEAD", "/"); r.status != want {
			s.Errorf("HEAD: the status is %d, want %d", r.status, want)
		}
		if p.conn != nil && p.reader.Buffered() > 0 {
			s.Error("HEAD: there are bytes after the header")
		}
	}
	srv.want(http.StatusTooManyRequests, p, "/")
}

func (s *suite) testBody() {
	srv := s.serve(limited(core.Policy{Limit: core.PerHour(1)}))
	p := srv.localhost()
	upload := "GET /stolen HTTP/1.1\r\nHost: example.com\r\n\r\n" + strings.Repeat("x", 64<<10)
	for _, want := range []int{http.StatusOK, http.StatusTooManyRequests, http.StatusTooManyRequests} {
		r, err := p.send("POST", fmt.Sprintf("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: %d\r\n\r\n%s", len(upload), upload))
		if err != nil {
			s.Fatal(err)
		}
		if r.status != want {
			s.Errorf("POST: the status is %d, want %d", r.status, want)
		}
	}
	if calls := srv.callsOf(""); calls != 1 {
		s.Errorf("the handler was called %d times, want 1", calls)
	}
}

func (s *suite) testStacked() {
	const headers = core.RateLimitFields | core.XRateLimit
	tight := core.Policy{Name: "tight", Limit: core.PerHour(2), Headers: headers}
	wide := core.Policy{Name: "wide", Limit: core.PerHour(5), Headers: headers}
	for _, policies := range [][]core.Policy{{tight, wide}, {wide, tight}} {
		srv := s.serve(limited(policies...))
		p := srv.localhost()
		first, second := policies[0].Name, policies[1].Name
		field := map[string]string{"tight": `"tight";q=2;w=3600`, "wide": `"wide";q=5;w=3600`}
		item := map[string]string{"tight": `"tight";r=1;t=1800`, "wide": `"wide";r=4;t=2880`}
		s.wantFields(srv.want(http.StatusOK, p, "/"), map[string]string{
			"Ratelimit-Policy": field[first] + ", " + field[second], "Ratelimit": item[first] + ", " + item[second],
			"X-Ratelimit-Limit": "2", "X-Ratelimit-Remaining": "1", "X-Ratelimit-Reset": "1800",
		})
		srv.want(http.StatusOK, p, "/")
		policy := field[first] + ", " + field[second]
		if first == "tight" {
			policy = field[first] // the second was not asked
		}
		s.wantFields(srv.want(http.StatusTooManyRequests, p, "/"), map[string]string{
			"Ratelimit-Policy": policy, "Ratelimit": `"tight";r=0;t=1800`,
			"X-Ratelimit-Limit": "2", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": "1800",
			"Retry-After": "1800", "Cache-Control": "no-store",
		})
	}
}

// outage is a store that is down.
type outage struct{}

func (outage) Pour(context.Context, []core.Bucket) (bool, error) {
	return false, errors.New("the store is down")
}

func (s *suite) testOutage() {
	srv := s.serve(App{Limiter: core.New(outage{}), Policies: []core.Policy{{Limit: core.PerHour(1)}}})
	p := srv.localhost()
	for range 3 {
		r := srv.want(http.StatusOK, p, "/")
		s.wantFields(r, nil)
		if r.body != "ok" {
			s.Errorf("the body is %q, want the handler's %q", r.body, "ok")
		}
	}
}

func (s *suite) testInvalidPolicy() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	defer l.Close()
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, core.ErrInvalidPolicy) {
			s.Errorf("Limit with an invalid policy: the panic is %v, want the error of core.NewGuard", err)
		}
	}()
	app := limited(core.Policy{})
	app.Called = func(string) {}
	s.adapter.Serve(s, l, app)
}
