package mwtest

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spillway-go/spillway/core"
)

// countCases are about policies that count only some of the requests.
var countCases = []testCase{
	{
		"failures", "a limit on wrong passwords is one on guessing, and costs those nothing who know theirs.",
		(*suite).testFailures,
	},
	{
		"failures at once", "guesses that are under way together must not all slip in before the first of them has failed.",
		(*suite).testFailuresAtOnce,
	},
	{
		"ways to answer", "whether a request has failed must not depend on how the handler says so.",
		(*suite).testWaysToAnswer,
	},
	{
		"hanging up", "whoever hangs up before he is answered must not be able to choose what counts.",
		(*suite).testHangingUp,
	},
	{
		"stacked counts", "a request that a limiter further in refuses has failed for the one further out.",
		(*suite).testStackedCounts,
	},
}

func answer(what string) string { return AnswerHeader + ": " + what }

func (s *suite) testFailures() {
	srv := s.serve(limited(core.Policy{Name: "login", Limit: core.PerHour(5), Count: core.CountFailures}))
	p := srv.localhost()
	if passed := srv.passed(1000, p, "/login"); passed != 1000 {
		s.Errorf("%d of 1000 right passwords pass, want all", passed)
	}
	for i := range 5 {
		srv.want(http.StatusUnauthorized, p, "/login", answer("401"))
		if i < 4 {
			s.wantRemaining("a right password", srv.want(http.StatusOK, p, "/login"), 3-i)
		}
	}
	srv.want(http.StatusTooManyRequests, p, "/login", answer("401"))
	srv.want(http.StatusTooManyRequests, p, "/login")
	srv.want(http.StatusOK, srv.peer("127.0.0.2"), "/login")
	if calls := srv.callsOf(""); calls != 1000+5+4+1 {
		s.Errorf("the handler was called %d times, want 1010", calls)
	}
}

// wantRemaining checks how many requests are left.
func (s *suite) wantRemaining(what string, r response, remaining int) {
	s.Helper()
	items, err := parseList(r.header.Get("Ratelimit"))
	if err != nil || len(items) != 1 || items[0].parameters["r"] != int64(remaining) {
		s.Errorf("%s: RateLimit is %q, want %d remaining", what, r.header.Get("Ratelimit"), remaining)
	}
}

func (s *suite) testFailuresAtOnce() {
	srv := s.serve(limited(core.Policy{Name: "login", Limit: core.PerHour(5), Count: core.CountFailures}))
	var wrong, refused atomic.Int64
	srv.concurrently(100, func(_ int, p *peer) error {
		r, err := p.do("POST", "/login", answer("401"))
		switch r.status {
		case http.StatusUnauthorized:
			wrong.Add(1)
		case http.StatusTooManyRequests:
			refused.Add(1)
		}
		return err
	})
	if wrong.Load() != 5 || refused.Load() != 95 || srv.callsOf("") != 5 {
		s.Errorf("of 100 wrong passwords at once %d are tried, %d are refused and %d reach the handler, want 5, 95 and 5",
			wrong.Load(), refused.Load(), srv.callsOf(""))
	}
}

func (s *suite) testWaysToAnswer() {
	for _, c := range []struct {
		answer string
		failed bool
	}{
		{"200", false},
		{"201", false},
		{"302", false},
		{"399", false},
		{"400", true},
		{"401", true},
		{"404", true},
		{"500", true},
		{"599", true},
		{"error 401", true},
		{"error 404", true},
		{"error 502", true},
		{"error 302", false},
		{"panic", true},
	} {
		for _, count := range []core.Count{core.CountFailures, core.CountSuccesses} {
			srv := s.serve(limited(core.Policy{Name: "login", Limit: core.PerHour(10), Count: count}))
			p := srv.localhost()
			for range 3 {
				r, err := p.do("GET", "/", answer(c.answer))
				if c.answer == "panic" {
					continue // some servers answer it, and others hang up
				}
				if status, _ := Answer(c.answer); err != nil || r.status != status {
					s.Errorf("the handler is told to answer %s: status %d, %v", c.answer, r.status, err)
				}
			}
			want := 9
			if c.failed == (count == core.CountFailures) {
				want = 6
			}
			s.wantRemaining("after three times "+c.answer, srv.want(http.StatusOK, p, "/"), want)
			if calls := srv.callsOf(""); calls != 4 {
				s.Errorf("after %s the handler was called %d times, want 4", c.answer, calls)
			}
		}
	}
}

func (s *suite) testHangingUp() {
	for _, c := range []struct {
		answer       string
		inner, outer core.Count
	}{
		{"401", core.CountFailures, core.CountSuccesses},
		{"panic", core.CountFailures, core.CountSuccesses},
		{"200", core.CountSuccesses, core.CountFailures},
	} {
		s.hangUp(c.answer, c.inner, c.outer, true)
		s.hangUp(c.answer, c.inner, c.outer, false)
	}
}

// hangUp has clients hang up before they are asked for, or else before they are
// answered. The outer policy gives back what the inner one keeps. That says when
// the inner one has made up its mind, since it is told the status first.
func (s *suite) hangUp(what string, inner, outer core.Count, early bool) {
	var holding atomic.Bool
	var ctx context.Context
	step := make(chan struct{})
	hold := func() {
		step <- struct{}{}                     // the request is under way
		<-step                                 // and its client is gone
		if ended := ctx.Done(); ended != nil { // in fiber it does not end
			s.wait(ended, "the end of the request's context")
		}
	}
	store := newLedger()
	srv := s.serve(App{Limiter: core.New(store), Policies: []core.Policy{
		{Name: "outer", Limit: core.PerHour(100), Count: outer, Skip: func(r core.Request) bool {
			if holding.Load() {
				ctx = r.Context()
			}
			if holding.Load() && early {
				hold()
			}
			return false
		}},
		{Name: "inner", Limit: core.PerHour(3), Count: inner},
	}})
	srv.during(func() {
		if !early {
			hold()
		}
	})
	holding.Store(true)
	for range 3 {
		p := srv.localhost()
		if err := p.write(request("GET", "/", answer(what))); err != nil {
			s.Fatal(err)
		}
		s.wait(step, "the request to be under way")
		p.close()
		step <- struct{}{}
		select {
		case scope := <-store.returned:
			if !strings.HasPrefix(scope, "outer:") {
				s.Errorf("a client hangs up, early %t, on an answer of %s: %q gets something back", early, what, scope)
			}
		case <-time.After(patience):
			s.Fatalf("a client hangs up, early %t, on an answer of %s: the outer policy gets nothing back", early, what)
		}
	}
	holding.Store(false)
	srv.during(nil)
	srv.want(http.StatusTooManyRequests, srv.localhost(), "/", answer(what))
}

// wait waits until something is sent, or done.
func (s *suite) wait(done <-chan struct{}, what string) {
	s.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		s.Errorf("waited in vain for %s", what)
	}
}

func (s *suite) testStackedCounts() {
	srv := s.serve(limited(
		core.Policy{Name: "outer", Limit: core.PerHour(5), Count: core.CountFailures},
		core.Policy{Name: "inner", Limit: core.PerHour(2)},
	))
	p := srv.localhost()
	for _, remaining := range []string{`"outer";r=4;`, `"outer";r=4;`} {
		r := srv.want(http.StatusOK, p, "/")
		if got := r.header.Get("Ratelimit"); !strings.HasPrefix(got, remaining) {
			s.Errorf("RateLimit is %q, want %s first", got, remaining)
		}
	}
	for range 5 {
		r := srv.want(http.StatusTooManyRequests, p, "/")
		if got := r.header.Get("Ratelimit"); !strings.HasPrefix(got, `"inner"`) {
			s.Errorf("RateLimit is %q, want the inner policy's refusal", got)
		}
	}
	r := srv.want(http.StatusTooManyRequests, p, "/")
	if got := r.header.Get("Ratelimit"); !strings.HasPrefix(got, `"outer"`) {
		s.Errorf("RateLimit is %q, want the outer policy's refusal, after 5 failures", got)
	}
}
