package mwtest

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/spillway-go/spillway/core"
)

// policyCases are about what else a policy can say.
var policyCases = []testCase{
	{
		"cost", "a request that costs more than there is must be told when to come back, and one that can never pass must not.",
		(*suite).testCost,
	},
	{
		"plans", "what a customer pays for is the customer's, and no mistake in it is a way around the limit.",
		(*suite).testPlans,
	},
	{
		"limits together", "a request that the tight limit refuses must not use up the loose one.",
		(*suite).testTogether,
	},
	{
		"skip", "what is exempt is under no limit, and is told about none.",
		(*suite).testSkip,
	},
	{
		"preflight", "a browser whose preflight is refused reports a network error, and any OPTIONS is not a preflight.",
		(*suite).testPreflight,
	},
	{
		"holding", "requests that are held leave at the limit's pace and never earlier, and the others are refused at once.",
		(*suite).testHolding,
	},
	{
		"shadow", "a policy that is only tried out must not be noticed by anybody.",
		(*suite).testShadow,
	},
	{
		"shared decision", "a handler finds what was decided about this request, and not about another one before it.",
		(*suite).testSharedDecision,
	},
	{
		"shared decision in an outage", "a handler can tell a request that was not counted from one that was.",
		(*suite).testSharedOutage,
	},
}

// costOf has a client choose the cost of a request.
func costOf(r core.Request) int {
	cost, err := strconv.Atoi(r.Header("X-Cost"))
	if err != nil {
		return 1
	}
	return cost
}

func (s *suite) testCost() {
	srv := s.serve(limited(core.Policy{Name: "api", Limit: core.PerHour(10), Cost: costOf}))
	p := srv.localhost()
	check := func(cost string, status, remaining int) {
		r := srv.want(status, p, "/", "X-Cost: "+cost)
		if remaining >= 0 {
			s.wantRemaining("cost "+cost, r, remaining)
		}
		switch status {
		case http.StatusTooManyRequests:
			if wait := number(r.header.Get("Retry-After")); wait < 300 || wait > 360 {
				s.Errorf("cost %s: Retry-After is %d, want 360 or a little less", cost, wait)
			}
		case http.StatusRequestEntityTooLarge:
			s.wantFields(r, map[string]string{"Cache-Control": "no-store"})
		}
	}
	check("4", http.StatusOK, 6)
	check("7", http.StatusTooManyRequests, 6)
	check("11", http.StatusRequestEntityTooLarge, -1)
	check("9223372036854775807", http.StatusRequestEntityTooLarge, -1)
	check("0", http.StatusOK, 6)
	check("-3", http.StatusOK, 5)
	check("5", http.StatusOK, 0)
	check("0", http.StatusOK, 0)
	check("1", http.StatusTooManyRequests, 0)
	if calls := srv.callsOf(""); calls != 5 {
		s.Errorf("the handler was called %d times, want 5", calls)
	}
}

func (s *suite) testPlans() {
	plans := map[string]core.Limit{"pro": core.PerHour(5), "free": core.PerHour(2), "broken": {Rate: -1}}
	srv := s.serve(limited(core.Policy{
		Name:  "api",
		Limit: core.PerHour(3),
		Key:   core.ByHeader("X-API-Key"),
		LimitFor: func(r core.Request) (core.Limit, error) {
			plan, ok := plans[r.Header("X-Plan")]
			if !ok {
				return core.PerHour(1000), errors.New("no such plan")
			}
			return plan, nil
		},
		Routes: []core.Route{{Pattern: "/route", Limit: core.PerHour(1)}},
	}))
	p := srv.localhost()
	for i, c := range []struct {
		plan, path string
		want       int
	}{{"pro", "/", 5}, {"free", "/", 2}, {"broken", "/", 3}, {"unknown", "/", 3}, {"", "/", 3}, {"pro", "/route", 1}} {
		if passed := srv.passed(7, p, c.path, fmt.Sprintf("X-API-Key: %d", i), "X-Plan: "+c.plan); passed != c.want {
			s.Errorf("%d requests to %s with the plan %q pass, want %d", passed, c.path, c.plan, c.want)
		}
	}
	// Nobody starts afresh by changing the plan: 2 of 2 are spent, and so are 5 of 5.
	srv.want(http.StatusTooManyRequests, p, "/", "X-API-Key: 1", "X-Plan: pro")
	r := srv.want(http.StatusOK, p, "/", "X-API-Key: other", "X-Plan: pro")
	if got := r.header.Get("Ratelimit-Policy"); got != `"api";q=5;w=3600` {
		s.Errorf("RateLimit-Policy is %q, want the plan's", got)
	}
}

func (s *suite) testTogether() {
	for _, limits := range [][2]core.Limit{
		{core.PerHour(3), core.PerDay(10)},
		{core.PerDay(10), core.PerHour(3)},
	} {
		srv := s.serve(limited(core.Policy{Name: "api", Limit: limits[0], And: []core.Limit{limits[1]}, Cost: costOf}))
		p := srv.localhost()
		if passed := srv.passed(20, p, "/"); passed != 3 {
			s.Errorf("%d of 20 requests pass, want 3", passed)
		}
		refused := srv.want(http.StatusTooManyRequests, p, "/")
		if items, _ := parseList(refused.header.Get("Ratelimit")); len(items) != 1 || items[0].value != "api 3/h" {
			s.Errorf("a refusal has RateLimit %q, want the hour's only", refused.header.Get("Ratelimit"))
		}
		items, err := parseList(srv.want(http.StatusOK, p, "/", "X-Cost: 0").header.Get("Ratelimit"))
		if err != nil || len(items) != 2 {
			s.Fatalf("RateLimit has %v, %v; want two members", items, err)
		}
		for i, limit := range limits {
			remaining := map[core.Limit]int64{core.PerHour(3): 0, core.PerDay(10): 7}[limit]
			if items[i].value != "api "+limit.String() || items[i].parameters["r"] != remaining {
				s.Errorf("RateLimit has %v, want %v with %d remaining", items[i], limit, remaining)
			}
		}
	}
}

func (s *suite) testSkip() {
	srv := s.serve(limited(core.Policy{
		Limit: core.PerHour(2),
		Skip:  func(r core.Request) bool { return r.Header("X-Internal") == "yes" || r.Method() == "DELETE" },
	}))
	p := srv.localhost()
	for range 5 {
		s.wantFields(srv.want(http.StatusOK, p, "/", "X-Internal: yes"), nil)
		s.wantFields(srv.do(p, "DELETE", "/"), nil)
	}
	if passed := srv.passed(5, p, "/", "X-Internal: no"); passed != 2 {
		s.Errorf("%d requests that are not skipped pass, want 2", passed)
	}
}

func (s *suite) testPreflight() {
	preflight := []string{"Origin: https://example.com", "Access-Control-Request-Method: POST"}
	for _, exempt := range []bool{true, false} {
		srv := s.serve(limited(core.Policy{Limit: core.PerHour(2), ExemptPreflight: exempt}))
		p := srv.localhost()
		passed := func(n int, method string, lines ...string) (passed int) {
			for range n {
				if srv.do(p, method, "/", lines...).status == http.StatusOK {
					passed++
				}
			}
			return passed
		}
		want := 2
		if exempt {
			want = 10
		}
		if got := passed(10, "OPTIONS", preflight...); got != want {
			s.Errorf("ExemptPreflight %t: %d of 10 preflights pass, want %d", exempt, got, want)
		}
		if !exempt {
			continue
		}
		others := passed(2, "OPTIONS") + passed(2, "OPTIONS", preflight[0]) + passed(2, "OPTIONS", preflight[1]) + passed(2, "POST", preflight...)
		if others != 2 {
			s.Errorf("%d requests that are no preflights pass, want 2", others)
		}
	}
}

func (s *suite) testHolding() {
	const gap = 100 * time.Millisecond
	for range 10 {
		srv := s.serve(limited(core.Policy{Limit: core.PerSecond(10).WithBurst(1), MaxWait: 3 * gap}))
		var mu sync.Mutex
		var passed, refused []time.Duration
		var peers []*peer
		for range 6 {
			p := srv.localhost()
			if err := p.dial(); err != nil {
				s.Fatal(err)
			}
			peers = append(peers, p)
		}
		start := time.Now()
		srv.during(func() {
			mu.Lock()
			defer mu.Unlock()
			passed = append(passed, time.Since(start))
		})
		var wg sync.WaitGroup
		for _, p := range peers {
			wg.Go(func() {
				r, err := p.do("GET", "/")
				if err != nil {
					s.Error(err)
				}
				if r.status == http.StatusTooManyRequests {
					mu.Lock()
					defer mu.Unlock()
					refused = append(refused, time.Since(start))
				}
			})
		}
		wg.Wait()
		for i, at := range passed {
			if earliest := time.Duration(i) * gap; at < earliest {
				s.Errorf("request %d leaves after %v, want not before %v", i, at, earliest)
			}
		}
		if len(refused) > 0 && refused[len(refused)-1] >= gap {
			continue // so slow a machine has had room for another one meanwhile
		}
		if len(passed) != 4 || len(refused) != 2 {
			s.Errorf("of 6 requests at once %d pass and %d are refused, want 4 and 2", len(passed), len(refused))
		}
		return
	}
	s.Fatal("a refusal takes longer than a request is to be held")
}

func (s *suite) testShadow() {
	srv := s.serve(limited(core.Policy{
		Limit: core.PerHour(2), Shadow: true, ShareDecision: true, Cost: costOf,
		ClientIP: behindProxy("X-Forwarded-For"), Deny: prefixes("203.0.113.0/24"), Headers: core.RateLimitFields | core.XRateLimit,
	}))
	p := srv.localhost()
	check := func(shadowed bool, lines ...string) {
		s.wantFields(srv.want(http.StatusOK, p, "/", lines...), nil)
		if d, ok := srv.lastDecision(); !ok || d.Shadowed != shadowed || !d.Allowed || d.Status != 0 {
			s.Errorf("%q: the decision is %+v, want Shadowed %t", lines, d, shadowed)
		}
	}
	for i := range 5 {
		check(i >= 2)
	}
	check(true, "X-Cost: 3")
	check(true, "X-Forwarded-For: 203.0.113.1")

	srv = s.serve(App{Limiter: core.New(outage{}), Policies: []core.Policy{
		{Limit: core.PerHour(2), Shadow: true, OnOutage: core.Closed},
	}})
	s.wantFields(srv.want(http.StatusOK, srv.localhost(), "/"), nil)
}

func (s *suite) testSharedDecision() {
	app := limited()
	app.Routes = []Route{
		{Method: "GET", Path: "/shared", Policies: []core.Policy{{Name: "shared", Limit: core.PerHour(4), ShareDecision: true}}},
		{Method: "GET", Path: "/counted", Policies: []core.Policy{{Name: "counted", Limit: core.PerHour(4), ShareDecision: true, Count: core.CountFailures}}},
		{Method: "GET", Path: "/exempt", Policies: []core.Policy{{
			Name: "exempt", Limit: core.PerHour(4), ShareDecision: true, Routes: []core.Route{{Pattern: "/exempt"}},
		}}},
		{Method: "GET", Path: "/kept", Policies: []core.Policy{{Name: "kept", Limit: core.PerHour(100)}}},
		{Method: "GET", Path: "/both", Policies: []core.Policy{
			{Name: "outer", Limit: core.PerHour(100), ShareDecision: true},
			{Name: "last", Limit: core.PerHour(50), ShareDecision: true},
			{Name: "silent", Limit: core.PerHour(70)},
		}},
	}
	srv := s.serve(app)
	p := srv.localhost() // on one connection, where memory is used again
	for i := range 4 {
		for _, path := range []string{"/shared", "/kept", "/counted", "/rest", "/both", "/kept", "/exempt"} {
			srv.want(http.StatusOK, p, path)
			d, found := srv.lastDecision()
			got := "none"
			if found {
				got = fmt.Sprint(d.Policy, " ", d.Allowed, " ", d.Remaining, " ", d.Exempt, " ", d.Shadowed || d.Degraded || d.Status != 0)
			}
			want := map[string]string{
				"/shared":  fmt.Sprint("shared true ", 3-i, " false false"),
				"/counted": "counted true 3 false false",
				"/exempt":  "exempt true 0 true false",
				"/both":    fmt.Sprint("last true ", 49-i, " false false"),
				"/kept":    "none",
				"/rest":    "none",
			}[path]
			if got != want {
				s.Errorf("the handler of %s finds the decision %s, want %s", path, got, want)
			}
		}
	}
}

func (s *suite) testSharedOutage() {
	srv := s.serve(App{Limiter: core.New(outage{}), Policies: []core.Policy{{Name: "api", Limit: core.PerHour(1), ShareDecision: true}}})
	srv.want(http.StatusOK, srv.localhost(), "/")
	if d, ok := srv.lastDecision(); !ok || d.Policy != "api" || !d.Degraded || d.Err == nil {
		s.Errorf("in an outage the handler finds the decision %+v, %t, want it Degraded", d, ok)
	}
}
