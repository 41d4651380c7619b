package core_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway-go/spillway/core"
)

// from is a request of a client with an address.
func from(addr string) *testRequest {
	return &testRequest{method: "GET", path: "/", remote: netip.AddrPortFrom(netip.MustParseAddr(addr), 4711).String()}
}

func TestPolicyCost(t *testing.T) {
	cost := func(r core.Request) int {
		n, _ := strconv.Atoi(r.Header("Cost"))
		return n
	}
	synctest.Test(t, func(t *testing.T) {
		guard := newGuard(t, core.Policy{Name: "default", Limit: core.PerMinute(100), Cost: cost})
		check := func(cost string) core.Decision {
			r := get("/")
			r.header = http.Header{"Cost": {cost}}
			return guard.Check(r)
		}
		for range 100 {
			check("1")
		}
		time.Sleep(12 * time.Second)
		if d := check("5"); !d.Allowed || headers(d)["Ratelimit"] != `"default";r=15;t=9` {
			t.Errorf("cost 5: %+v, %v", d.Result, headers(d))
		}
		d := check("30")
		if fields := headers(d); d.Allowed || d.Remaining != 15 || fields["Retry-After"] != "9" || fields["Ratelimit"] != `"default";r=15;t=9` {
			t.Errorf("cost 30: %+v, %v", d.Result, fields)
		}
		if d := check("0"); !d.Allowed || headers(d)["Ratelimit"] != `"default";r=15;t=9` {
			t.Errorf("cost 0: %+v, %v", d.Result, headers(d))
		}
		d = check("101")
		fields := headers(d)
		if d.Allowed || d.Status != http.StatusRequestEntityTooLarge || !errors.Is(d.Err, core.ErrCostExceedsBurst) || len(fields) != 1 || fields["Cache-Control"] != "no-store" {
			t.Errorf("cost 101: %+v, %v; want 413 and no Retry-After", d, fields)
		}
		if d := check("-5"); !d.Allowed || d.Remaining != 14 {
			t.Errorf("cost -5: %+v, want it to count as 1", d.Result)
		}
		if d := check(strconv.Itoa(1 << 62)); d.Allowed || d.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("a cost that overflows: %+v", d.Result)
		}
	})
}

func TestPolicyLimitFor(t *testing.T) {
	plans := map[string]core.Limit{"pro": core.PerHour(20), "free": core.PerHour(2), "broken": {Rate: -1, Period: time.Hour}, "clash": core.PerDay(5)}
	var made atomic.Int64
	guard := newGuard(t, core.Policy{
		Name:  "api",
		Limit: core.PerHour(3),
		And:   []core.Limit{core.PerDay(15)},
		Key:   core.ByHeader("X-User"),
		LimitFor: func(r core.Request) (core.Limit, error) {
			switch plan := r.Header("X-Plan"); plan {
			case "error":
				return core.PerHour(1000), errors.New("the database is down")
			case "made up":
				return core.PerHour(int(1000 + made.Add(1))), nil
			default:
				return plans[plan], nil
			}
		},
		Routes: []core.Route{{Pattern: "/route", Limit: core.PerHour(1)}},
	})
	admitted := func(user, plan, path string) int {
		n := 0
		for range 100 {
			r := get(path)
			r.header = http.Header{"X-User": {user}, "X-Plan": {plan}}
			if guard.Check(r).Allowed {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		plan, path string
		want       int
		why        string
	}{
		{"pro", "/", 15, "the plan's limit, and the day's with it"},
		{"free", "/", 2, "the plan's limit"},
		{"unknown", "/", 3, "a zero limit is not unlimited"},
		{"broken", "/", 3, "nor is an invalid one"},
		{"error", "/", 3, "nor an error"},
		{"clash", "/", 3, "nor one that would share a bucket with And"},
		{"pro", "/route", 1, "a route has its own"},
	} {
		if got := admitted(c.plan+c.path, c.plan, c.path); got != c.want {
			t.Errorf("%s: %d admitted, want %d", c.why, got, c.want)
		}
	}
	// An upgrade goes on with the bucket as it is: half of the hour is spent, and
	// the other half takes 10 at 20 an hour.
	r := get("/")
	r.header = http.Header{"X-User": {"upgrader"}, "X-Plan": {"free"}}
	if !guard.Check(r).Allowed {
		t.Error("refused before the upgrade")
	}
	if got := admitted("upgrader", "pro", "/"); got != 10 {
		t.Errorf("%d admitted after the upgrade, want 10", got)
	}
	for i := range 2000 { // more limits than are kept ready
		admitted(fmt.Sprint("user ", i%10), "made up", "/")
	}
}

func TestPolicySkipAndLists(t *testing.T) {
	guard := newGuard(t, core.Policy{
		Limit:  core.PerHour(1),
		Skip:   func(r core.Request) bool { return r.Header("X-Internal") == "yes" },
		Exempt: prefixes("198.51.100.0/24", "2001:db8:1::/48", "::ffff:203.0.113.0/120"),
		Deny:   prefixes("198.51.100.66/32", "2001:db8:2::/48"),
		ClientIP: core.ClientIP{
			Header: "X-Forwarded-For", Trusted: proxies,
		},
		Routes: []core.Route{{Pattern: "/healthz"}},
	})
	check := func(r *testRequest) string {
		outcome := ""
		for range 2 {
			d := guard.Check(r)
			switch {
			case d.Exempt:
				outcome += "e"
			case d.Allowed:
				outcome += "a"
			default:
				outcome += strconv.Itoa(d.Status) + " "
			}
			if _, retry := headers(d)["Retry-After"]; retry != (d.Status == 429) {
				t.Errorf("%d with Retry-After %v", d.Status, retry)
			}
		}
		return outcome
	}
	internal, health := get("/"), from("198.51.100.66")
	internal.header = http.Header{"X-Internal": {"yes"}}
	health.path = "/healthz"
	for name, c := range map[string]struct {
		r    *testRequest
		want string
	}{
		"an ordinary client":      {from("192.0.2.9"), "a429 "},
		"skipped":                 {internal, "ee"},
		"on the list":             {from("198.51.100.7"), "ee"},
		"on the list, mapped":     {from("::ffff:198.51.100.8"), "ee"},
		"on the list by IPv6":     {from("2001:db8:1::9"), "ee"},
		"a mapped prefix":         {from("203.0.113.9"), "ee"},
		"denied":                  {from("198.51.100.66"), "403 403 "},
		"denied by IPv6":          {from("2001:db8:2::1"), "403 403 "},
		"denied on an exempt one": {health, "403 403 "},
		"vouched for":             {forwardedRequest("10.0.0.1:1", "X-Forwarded-For", "198.51.100.7"), "ee"},
		"denied behind a proxy":   {forwardedRequest("10.0.0.1:1", "X-Forwarded-For", "198.51.100.66"), "403 403 "},
		"forged":                  {forwardedRequest("192.0.2.10:1", "X-Forwarded-For", "198.51.100.7"), "a429 "},
		"forged before the proxy": {forwardedRequest("10.0.0.1:1", "X-Forwarded-For", "198.51.100.7, 192.0.2.11"), "a429 "},
		"no address":              {forwardedRequest("@", "X-Forwarded-For", "198.51.100.7"), "a429 "},
	} {
		if got := check(c.r); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestPolicyExemptPreflight(t *testing.T) {
	preflight := http.Header{"Origin": {"https://example.com"}, "Access-Control-Request-Method": {"POST"}}
	for name, c := range map[string]struct {
		method string
		header http.Header
		exempt bool
	}{
		"a preflight":          {"OPTIONS", preflight, true},
		"another OPTIONS":      {"OPTIONS", nil, false},
		"without the method":   {"OPTIONS", http.Header{"Origin": {"https://example.com"}}, false},
		"without the origin":   {"OPTIONS", http.Header{"Access-Control-Request-Method": {"POST"}}, false},
		"a POST that looks so": {"POST", preflight, false},
		"a GET that looks so":  {"GET", preflight, false},
		"in another case":      {"options", preflight, false},
	} {
		for _, on := range []bool{true, false} {
			guard := newGuard(t, core.Policy{Limit: core.PerHour(1), ExemptPreflight: on})
			r := get("/")
			r.method, r.header = c.method, c.header
			if d := guard.Check(r); d.Exempt != (on && c.exempt) {
				t.Errorf("%s, ExemptPreflight %v: exempt %v", name, on, d.Exempt)
			}
		}
	}
}

func TestPolicyCount(t *testing.T) {
	for count, want := range map[core.Count]string{
		//                  200 302 404 500 none
		core.CountAll:       "+++++",
		core.CountFailures:  "..+++",
		core.CountSuccesses: "++...",
	} {
		got := ""
		for _, status := range []int{200, 302, 404, 500, 0} {
			guard := newGuard(t, core.Policy{Limit: core.PerHour(5), And: []core.Limit{core.PerDay(5)}, Count: count})
			d := guard.Check(get("/"))
			if d.NeedsStatus() != (count != core.CountAll) {
				t.Errorf("Count %d: NeedsStatus %v", count, d.NeedsStatus())
			}
			again := d
			d.Settle(t.Context(), status)
			again.Settle(t.Context(), 200) // a second time changes nothing
			again.Settle(t.Context(), 500)
			switch d := guard.Check(get("/")); d.Remaining {
			case 3:
				got += "+"
			case 4:
				got += "."
			default:
				t.Errorf("Count %d, status %d: %d remain", count, status, d.Remaining)
			}
		}
		if got != want {
			t.Errorf("Count %d: %s, want %s", count, got, want)
		}
	}
}

func TestPolicyCountsFailuresOfParallelLogins(t *testing.T) {
	guard := newGuard(t, core.Policy{
		Limit: core.Limit{Rate: 5, Period: 15 * time.Minute},
		Count: core.CountFailures,
		Key:   core.Join(core.ByHeader("Account"), core.ByIP),
	})
	login := func(ctx context.Context, account string, right bool) bool {
		r := get("/login")
		r.ctx, r.header = ctx, http.Header{"Account": {account}}
		d := guard.Check(r)
		if !d.Allowed {
			return false
		}
		status := http.StatusUnauthorized
		if right {
			status = http.StatusOK
		}
		d.Settle(ctx, status)
		return true
	}
	var tried atomic.Int64
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			// A client that hangs up does not choose what counts.
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if login(ctx, "alice", false) {
				tried.Add(1)
			}
		})
	}
	group.Wait()
	if tried.Load() != 5 {
		t.Errorf("%d wrong passwords were tried, want 5", tried.Load())
	}
	for range 1000 {
		if !login(t.Context(), "bob", true) {
			t.Fatal("a right password was refused")
		}
	}
}

func TestPolicyMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// As nginx's rate=10r/s burst=4 delay=1: 2 at once, 3 more held, the rest refused.
		guard := newGuard(t, core.Policy{Limit: core.PerSecond(10).WithBurst(2), MaxWait: 300 * ms})
		start := time.Now()
		var mu sync.Mutex
		outcome := make(map[time.Duration]int)
		refused := 0
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				d := guard.Check(get("/"))
				mu.Lock()
				defer mu.Unlock()
				if !d.Allowed {
					refused++
					if d.RetryAfter != 100*ms || d.Waited != 0 {
						t.Errorf("refused: %+v", d)
					}
					return
				}
				if d.Waited != time.Since(start) || d.RetryAfter != 0 || d.Remaining > 1 {
					t.Errorf("held: %+v after %v", d, time.Since(start))
				}
				outcome[time.Since(start)]++
			})
		}
		group.Wait()
		if want := map[time.Duration]int{0: 2, 100 * ms: 1, 200 * ms: 1, 300 * ms: 1}; fmt.Sprint(outcome) != fmt.Sprint(want) || refused != 5 {
			t.Errorf("departures %v and %d refused, want %v and 5", outcome, refused, want)
		}
	})
}

func TestPolicyMaxWaitGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := newGuard(t, core.Policy{Limit: core.Every(time.Second), MaxWait: 10 * time.Second, MaxWaiting: 3})
		guard.Check(get("/"))
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for i := range 5 {
			group.Go(func() {
				r := get("/")
				r.ctx = ctx
				d := guard.Check(r)
				if d.Allowed || d.Err == nil || d.Status != http.StatusTooManyRequests || headers(d)["Retry-After"] == "" {
					t.Errorf("%d: %+v", i, d)
				}
				if full := !errors.Is(d.Err, context.Canceled); full != (time.Since(start) == 0) {
					t.Errorf("%d: %v after %v", i, d.Err, time.Since(start))
				}
			})
			synctest.Wait()
		}
		time.Sleep(500 * ms)
		cancel()
		group.Wait()
		soon, cancel := context.WithTimeout(t.Context(), 499*ms)
		defer cancel()
		r := get("/")
		r.ctx = soon
		if d := guard.Check(r); d.Allowed || !errors.Is(d.Err, context.DeadlineExceeded) || time.Since(start) != 500*ms {
			t.Errorf("a turn after the deadline: %+v after %v, want it refused at once", d, time.Since(start))
		}
		if d := guard.Check(get("/")); !d.Allowed || time.Since(start) != time.Second {
			t.Errorf("the next: %+v after %v, want 1s as if nobody had waited", d, time.Since(start))
		}
	})
}

// Whoever gives up in the middle of a line leaves a gap, and nobody can save up
// turns to leave all at once.
func TestPolicyMaxWaitCannotBeSavedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := newGuard(t, core.Policy{Limit: core.Every(time.Second), MaxWait: 10 * time.Second})
		start := time.Now()
		var mu sync.Mutex
		left := make(map[time.Duration]int)
		var group sync.WaitGroup
		for range 10 { // fill the line, and let all but the last two give up
			ctx, cancel := context.WithCancel(t.Context())
			for i := range 11 {
				group.Go(func() {
					r := get("/")
					if i < 9 {
						r.ctx = ctx
					}
					if d := guard.Check(r); d.Allowed {
						mu.Lock()
						defer mu.Unlock()
						left[time.Since(start)]++
					}
				})
				synctest.Wait()
			}
			cancel()
			synctest.Wait()
		}
		group.Wait()
		for at, n := range left {
			if n > 1 || at%time.Second != 0 {
				t.Errorf("%d requests leave at %v, want one at a time and a second apart", n, at)
			}
		}
		if len(left) != 3 {
			t.Errorf("%d requests left, want the first and the last two", len(left))
		}
	})
}

// What a request was charged drains while it is under way, and is given back no
// more: otherwise slow requests would be a way to save up attempts.
func TestPolicyCountCannotBeSavedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := newGuard(t, core.Policy{Limit: core.PerMinute(5), Count: core.CountFailures})
		var slow []core.Decision
		for range 50 {
			if d := guard.Check(get("/")); d.Allowed {
				slow = append(slow, d)
			}
			time.Sleep(12 * time.Second)
		}
		time.Sleep(time.Minute)
		failures := 0
		for i := range 100 {
			if d := guard.Check(get("/")); d.Allowed {
				d.Settle(t.Context(), http.StatusUnauthorized)
				failures++
			}
			if i < len(slow) {
				slow[i].Settle(t.Context(), http.StatusOK)
			}
		}
		if failures != 5 {
			t.Errorf("%d failures at once, want 5", failures)
		}
		// A quick success is free to the last nanosecond.
		time.Sleep(time.Hour)
		for range 100 {
			d := guard.Check(get("/"))
			time.Sleep(50 * ms)
			d.Settle(t.Context(), http.StatusOK)
		}
		if d := guard.Check(get("/")); d.Remaining != 4 || d.ResetAfter != 12*time.Second {
			t.Errorf("after 100 successes: %+v", d.Result)
		}
	})
}

// A success that was slow, on top of others that were quick, does not erase the
// failures that came after it.
func TestPolicyCountKeepsTheFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := newGuard(t, core.Policy{Limit: core.Limit{Rate: 10, Period: 10 * time.Second}, Count: core.CountFailures})
		var slow []core.Decision
		for range 10 {
			var quick []core.Decision
			for range 9 {
				if d := guard.Check(get("/")); d.Allowed {
					quick = append(quick, d)
				}
			}
			if d := guard.Check(get("/")); d.Allowed {
				slow = append(slow, d)
			}
			for _, d := range quick {
				d.Settle(t.Context(), http.StatusOK)
			}
		}
		time.Sleep(9*time.Second - ms)
		failures := 0
		fail := func() {
			for range 20 {
				if d := guard.Check(get("/")); d.Allowed {
					d.Settle(t.Context(), http.StatusUnauthorized)
					failures++
				}
			}
		}
		fail()
		for _, d := range slow {
			d.Settle(t.Context(), http.StatusOK)
		}
		fail()
		if failures > 10 {
			t.Errorf("%d failures at once, want at most 10", failures)
		}
	})
}

// While requests are held, a success gives nothing back: who took its place would
// leave together with the last of them.
func TestPolicyCountAndMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := newGuard(t, core.Policy{Limit: core.Every(time.Second), MaxWait: 20 * time.Second, Count: core.CountFailures})
		start := time.Now()
		left := make(chan time.Duration, 100)
		var group sync.WaitGroup
		hold := func() {
			group.Go(func() {
				if d := guard.Check(get("/")); d.Allowed {
					left <- time.Since(start)
					d.Settle(t.Context(), http.StatusUnauthorized)
				}
			})
			synctest.Wait()
		}
		slow := guard.Check(get("/"))
		for range 5 {
			hold()
		}
		time.Sleep(300 * ms)
		slow.Settle(t.Context(), http.StatusOK)
		for range 5 {
			hold()
		}
		group.Wait()
		for i := range 10 {
			if got, want := <-left, time.Duration(i+1)*time.Second; got != want {
				t.Errorf("request %d leaves at %v, want %v", i, got, want)
			}
		}
	})
}

// Two guards of one policy have one line, and what costs nothing does not wait.
func TestPolicyMaxWaitOfTwoGuards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := core.New(core.NewMemory())
		policy := core.Policy{Name: "api", Limit: core.Every(time.Second), MaxWait: 20 * time.Second,
			Cost: func(r core.Request) int { return 1 - len(r.HeaderLines("X-Free")) }}
		var guards [2]*core.Guard
		for i := range guards {
			var err error
			if guards[i], err = core.NewGuard(limiter, policy); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		left := make(map[time.Duration]int)
		var group sync.WaitGroup
		ask := func(guard *core.Guard, ctx context.Context) {
			group.Go(func() {
				r := get("/")
				r.ctx = ctx
				if d := guard.Check(r); d.Allowed {
					mu.Lock()
					defer mu.Unlock()
					left[time.Since(start)]++
				}
			})
			synctest.Wait()
		}
		ask(guards[0], t.Context())
		for range 5 {
			ask(guards[0], ctx)
		}
		for range 5 {
			ask(guards[1], t.Context())
		}
		free := get("/")
		free.header = http.Header{"X-Free": {"yes"}}
		if d := guards[0].Check(free); !d.Allowed || time.Since(start) != 0 {
			t.Errorf("what costs nothing: %+v after %v", d.Result, time.Since(start))
		}
		cancel()
		synctest.Wait()
		for range 5 {
			ask(guards[0], t.Context())
		}
		group.Wait()
		for at, n := range left {
			if n > 1 {
				t.Errorf("%d requests leave at %v", n, at)
			}
		}
	})
}

// Plans with bursts of their own have buckets of their own, so that the refusals
// of a small one do not cut off what is owed under a large one.
func TestPolicyLimitForCannotBePlayedOff(t *testing.T) {
	guard := newGuard(t, core.Policy{
		Limit: core.PerHour(10).WithBurst(1),
		LimitFor: func(r core.Request) (core.Limit, error) {
			if r.Header("X-Plan") == "pro" {
				return core.PerHour(1000), nil
			}
			return core.Limit{}, core.ErrNoKey
		},
	})
	admitted := 0
	for range 5000 {
		for _, plan := range []string{"pro", ""} {
			r := get("/")
			r.header = http.Header{"X-Plan": {plan}}
			if guard.Check(r).Allowed {
				admitted++
			}
		}
	}
	if admitted != 1001 {
		t.Errorf("%d admitted, want 1001", admitted)
	}
}

func TestPoliciesOfOneNameThatDiffer(t *testing.T) {
	limiter := core.New(core.NewMemory())
	limit := core.Every(time.Second)
	if _, err := core.NewGuard(limiter, core.Policy{Name: "a", Limit: limit}); err != nil {
		t.Fatal(err)
	}
	for name, policy := range map[string]core.Policy{
		"MaxWait":      {Name: "a", Limit: limit, MaxWait: time.Second},
		"kind of key":  {Name: "a", Limit: limit, Key: core.ByHeader("X-API-Key")},
		"limit":        {Name: "a", Limit: core.Every(2 * time.Second)},
		"one more":     {Name: "a", Limit: limit, And: []core.Limit{core.PerDay(5)}},
		"burst":        {Name: "a", Limit: limit.WithBurst(2)},
		"one route":    {Name: "a", Limit: limit, Routes: []core.Route{{Pattern: "/a", Limit: limit}}},
		"not the rest": {Name: "a", Routes: []core.Route{{Pattern: "/a", Limit: limit}}},
	} {
		if _, err := core.NewGuard(limiter, policy); !errors.Is(err, core.ErrInvalidPolicy) {
			t.Errorf("another %s: %v, want an error", name, err)
		}
	}
}

func TestPolicyShadow(t *testing.T) {
	limiter := core.New(core.NewMemory())
	policy := core.Policy{Name: "api", Limit: core.PerHour(2)}
	enforced, err := core.NewGuard(limiter, policy)
	if err != nil {
		t.Fatal(err)
	}
	policy.Shadow, policy.Limit, policy.Deny, policy.MaxWait = true, core.PerHour(1), prefixes("198.51.100.0/24"), time.Hour/2
	shadow, err := core.NewGuard(limiter, policy)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		d := shadow.Check(get("/"))
		if !d.Allowed || d.Status != 0 || d.Shadowed != (i > 0) || len(headers(d)) != 0 || (d.RetryAfter > 0) != (i > 0) {
			t.Errorf("request %d: %+v, %v", i, d, headers(d))
		}
	}
	if d := shadow.Check(from("198.51.100.1")); !d.Allowed || !d.Shadowed {
		t.Errorf("denied: %+v", d)
	}
	if d := enforced.Check(get("/")); !d.Allowed || d.Remaining != 1 {
		t.Errorf("the enforced policy: %+v, want its bucket untouched", d)
	}
}

func TestPolicyOnOutage(t *testing.T) {
	guard, err := core.NewGuard(core.New(downStore{errDown}), core.Policy{Limit: core.PerHour(1), OnOutage: core.Closed, Headers: core.ExposeHeaders})
	if err != nil {
		t.Fatal(err)
	}
	d := guard.Check(get("/"))
	fields := headers(d)
	if d.Allowed || !d.Degraded || d.Status != http.StatusServiceUnavailable || !errors.Is(d.Err, errDown) || fields["Retry-After"] != "5" || fields["Access-Control-Expose-Headers"] != "Retry-After" || len(fields) != 3 {
		t.Errorf("%+v, %v; want 503 with Retry-After and no numbers", d, fields)
	}
	_, body := d.Body("application/problem+json")
	if !strings.Contains(body, "temporary-reduced-capacity") || !strings.Contains(body, `"status":503`) || strings.Contains(body, "violated") {
		t.Errorf("body %s", body)
	}
}

func TestSwap(t *testing.T) {
	limiter := core.New(core.NewMemory())
	newGuard := func(policy core.Policy) *core.Guard {
		t.Helper()
		guard, err := core.NewGuard(limiter, policy)
		if err != nil {
			t.Fatal(err)
		}
		return guard
	}
	policy := core.Policy{Name: "api", Limit: core.PerHour(10), Routes: []core.Route{{Pattern: "/same", Limit: core.PerHour(10)}}}
	guard := newGuard(policy)
	for range 5 {
		guard.Check(get("/"))
		guard.Check(get("/same"))
	}
	swap := func(policy core.Policy, want string) {
		t.Helper()
		err := guard.Swap(policy)
		if (err == nil) != (want == "") || err != nil && !(errors.Is(err, core.ErrInvalidPolicy) && strings.Contains(err.Error(), want)) {
			t.Errorf("Swap: %v, want %q", err, want)
		}
	}
	policy.Limit = core.PerHour(-1)
	swap(policy, "Rate is -1")
	if d := guard.Check(get("/")); d.Remaining != 4 {
		t.Errorf("after an invalid policy %d remain, want 4: the one before stays", d.Remaining)
	}
	policy.Limit = core.PerHour(20)
	swap(policy, "")
	// The debt is 36 minutes, which are 12 requests of 3 minutes each.
	if d := guard.Check(get("/")); d.Remaining != 7 {
		t.Errorf("after a raise %d remain, want 7: the debt is kept", d.Remaining)
	}
	if d := guard.Check(get("/same")); d.Remaining != 4 {
		t.Errorf("of the route that is the same %d remain, want 4", d.Remaining)
	}

	other := newGuard(core.Policy{Name: "other", Limit: core.PerHour(1)})
	policy.Name = "other"
	swap(policy, "also named")
	policy.Name = "renamed"
	swap(policy, "")
	newGuard(core.Policy{Name: "api", Limit: core.PerHour(7)}) // the name is free again
	twin := newGuard(core.Policy{Name: "other", Limit: core.PerHour(1)})
	if err := twin.Swap(core.Policy{Name: "other", Limit: core.PerHour(2)}); err == nil {
		t.Error("one of two guards of a name got another limit")
	}
	if err := twin.Swap(core.Policy{Name: "twin", Limit: core.PerHour(2)}); err != nil {
		t.Error(err)
	}
	if err := other.Swap(core.Policy{Name: "other", Limit: core.PerHour(3)}); err != nil {
		t.Errorf("the only one left of its name: %v", err)
	}
}

func TestSwapWhileServing(t *testing.T) {
	guard := newGuard(t, core.Policy{Name: "api", Limit: core.PerDay(1000)})
	var group sync.WaitGroup
	var admitted atomic.Int64
	for range 8 {
		group.Go(func() {
			for range 500 {
				if guard.Check(get("/")).Allowed {
					admitted.Add(1)
				}
			}
		})
	}
	group.Go(func() {
		for i := range 500 {
			if err := guard.Swap(core.Policy{Name: "api", Limit: core.PerDay(1000), Headers: core.Headers(1 << (i % 2))}); err != nil {
				t.Error(err)
			}
		}
	})
	group.Wait()
	if admitted.Load() != 1000 {
		t.Errorf("%d admitted, want 1000 whatever the policy was swapped for", admitted.Load())
	}
}

func TestPolicyInJSON(t *testing.T) {
	var policy core.Policy
	err := json.Unmarshal([]byte(`{
		"Name": "api", "Limit": "100/m", "And": ["1000/h"],
		"Routes": [{"Pattern": "POST /login", "Limit": "5/m"}, {"Pattern": "/healthz"}],
		"Exempt": ["10.0.0.0/8"], "ClientIP": {"Header": "X-Forwarded-For", "Trusted": ["10.0.0.1/32"]}
	}`), &policy)
	if err != nil {
		t.Fatal(err)
	}
	guard := newGuard(t, policy)
	r := get("/login")
	r.method = "POST"
	if d := guard.Check(r); d.Limit != core.PerMinute(5) {
		t.Errorf("%+v", d)
	}
	if d := guard.Check(get("/healthz")); !d.Exempt {
		t.Errorf("%+v", d)
	}
	for _, p := range []core.Policy{{Limit: core.PerMinute(5)}, {Name: "a", Routes: []core.Route{{Pattern: "/healthz"}, {Pattern: "/", Limit: core.PerSecond(1)}}}} {
		text, err := json.Marshal(p)
		var back core.Policy
		if err == nil {
			err = json.Unmarshal(text, &back)
		}
		if err != nil || fmt.Sprintf("%+v", back) != fmt.Sprintf("%+v", p) {
			t.Errorf("%+v came back as %+v from %s, %v", p, back, text, err)
		}
	}
	for _, text := range []string{`{"Limit": ""}`, `{"Limit": "fast"}`, `{"Limit": 100}`, `{"Limit": {"Rate": 100}}`, `{"Exempt": ["everybody"]}`} {
		if err := json.Unmarshal([]byte(text), &policy); err == nil {
			t.Errorf("%s is read without an error", text)
		}
	}
}

func TestPolicyRefusesWhatCannotBe(t *testing.T) {
	limit := core.PerHour(1)
	many := make([]core.Limit, 17)
	for i := range many {
		many[i] = core.Every(time.Duration(i+1) * time.Minute)
	}
	for name, c := range map[string]struct {
		policy core.Policy
		want   string
	}{
		"unknown count":          {core.Policy{Limit: limit, Count: 3}, "Count"},
		"unknown outage":         {core.Policy{Limit: limit, OnOutage: 2}, "OnOutage"},
		"negative wait":          {core.Policy{Limit: limit, MaxWait: -1}, "MaxWait"},
		"endless wait":           {core.Policy{Limit: limit, MaxWait: 1<<63 - 1}, "MaxWait"},
		"wait beyond the clock":  {core.Policy{Limit: core.Every(1 << 61).WithBurst(2), MaxWait: 1 << 60}, "146 years"},
		"negative room":          {core.Policy{Limit: limit, MaxWaiting: -1}, "MaxWaiting"},
		"LimitFor without Limit": {core.Policy{LimitFor: func(core.Request) (core.Limit, error) { return limit, nil }, Routes: []core.Route{{Pattern: "/", Limit: limit}}}, "LimitFor"},
		"an invalid exemption":   {core.Policy{Limit: limit, Exempt: []netip.Prefix{{}}}, "Exempt"},
		"an invalid denial":      {core.Policy{Limit: limit, Deny: []netip.Prefix{{}}}, "Deny"},
		"too many limits":        {core.Policy{Limit: limit, And: many}, "at most 16"},
		"drafts that clash":      {core.Policy{Limit: limit, Headers: core.RateLimitFields | core.RateLimitDraft07}, "one of them"},
	} {
		if _, err := core.NewGuard(core.New(core.NewMemory()), c.policy); !errors.Is(err, core.ErrInvalidPolicy) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error that says %s", name, err, c.want)
		}
	}
}
