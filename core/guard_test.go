package core_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway-go/spillway/core"
)

func TestGuardHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := newGuard(t, core.Policy{Name: "default", Limit: core.PerMinute(100)})
		check := func(want map[string]string) {
			t.Helper()
			if got := headers(guard.Check(get("/"))); !maps.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		}
		passes := func(rateLimit string) map[string]string {
			return map[string]string{"Ratelimit-Policy": `"default";q=100;w=60`, "Ratelimit": rateLimit}
		}
		check(passes(`"default";r=99;t=60`))
		time.Sleep(2 * time.Second)
		for range 38 {
			guard.Check(get("/"))
		}
		check(passes(`"default";r=61;t=37`))

		time.Sleep(time.Hour)
		for range 100 {
			guard.Check(get("/"))
		}
		time.Sleep(250 * ms)
		refused := passes(`"default";r=0;t=1`)
		refused["Retry-After"] = "1"
		refused["Cache-Control"] = "no-store"
		check(refused)
	})
}

func TestGuardHeadersOfSeveralLimits(t *testing.T) {
	guard := newGuard(t, core.Policy{Name: "api", Limit: core.PerSecond(10), And: []core.Limit{core.PerMinute(100)}})
	const policy = `"api 10/s";q=10;w=1, "api 100/m";q=100;w=60`
	got := headers(guard.Check(get("/")))
	want := map[string]string{"Ratelimit-Policy": policy, "Ratelimit": `"api 10/s";r=9;t=1, "api 100/m";r=99;t=60`}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for range 9 {
		guard.Check(get("/"))
	}
	got = headers(guard.Check(get("/")))
	want = map[string]string{"Ratelimit-Policy": policy, "Ratelimit": `"api 10/s";r=0;t=1`, "Retry-After": "1", "Cache-Control": "no-store"}
	if !maps.Equal(got, want) {
		t.Errorf("refused:\ngot  %v\nwant %v", got, want)
	}
}

func TestGuardPolicyField(t *testing.T) {
	for _, c := range []struct {
		policy core.Policy
		path   string
		want   string
	}{
		{core.Policy{Limit: core.PerMinute(100)}, "/", `"100/m";q=100;w=60`},
		{core.Policy{Limit: core.PerMinute(100).WithBurst(20)}, "/", `"100/m burst 20";q=100;w=60`},
		{core.Policy{Name: "b", Limit: core.PerSecond(10).WithBurst(20)}, "/", `"b";q=20;w=2`},
		{core.Policy{Name: "b", Limit: core.PerSecond(10).WithBurst(25)}, "/", `"b";q=25;w=3`},
		{core.Policy{Name: "b", Limit: core.Limit{Rate: 10, Period: 100 * ms}}, "/", `"b";q=100;w=1`},
		{core.Policy{Name: "b", Limit: core.Limit{Rate: 10, Period: 300 * ms}}, "/", `"b";q=10`},
		{core.Policy{Name: "b", Limit: core.Limit{Rate: 10, Period: 1500 * ms}}, "/", `"b";q=10;w=2`},
		{core.Policy{Name: `a "b" \c`, Limit: core.PerDay(1)}, "/", `"a \"b\" \\c";q=1;w=86400`},
		{core.Policy{Limit: core.PerSecond(1), And: []core.Limit{core.PerHour(60), core.PerDay(100)}}, "/",
			`"1/s";q=1;w=1, "60/h";q=60;w=3600, "100/d";q=100;w=86400`},
		{core.Policy{Limit: core.PerSecond(1), Routes: []core.Route{{Pattern: "GET /é/{id}", Limit: core.PerSecond(2)}}}, "/é/1", `"GET /%C3%A9/{id}";q=2;w=1`},
		{core.Policy{Name: "n", Routes: []core.Route{{Pattern: "/a", Limit: core.PerSecond(2), And: []core.Limit{core.PerHour(5)}}}}, "/a",
			`"n /a 2/s";q=2;w=1, "n /a 5/h";q=5;w=3600`},
	} {
		if got := headers(newGuard(t, c.policy).Check(get(c.path)))["Ratelimit-Policy"]; got != c.want {
			t.Errorf("%+v: %s, want %s", c.policy, got, c.want)
		}
	}
}

func TestGuardOtherHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Unix()
		limit := core.PerMinute(2).WithBurst(2)
		unix := func(seconds int64) string { return strconv.FormatInt(now+seconds, 10) }
		for _, c := range []struct {
			headers core.Headers
			passes  map[string]string
			refused map[string]string
		}{
			{core.NoHeaders, nil, nil},
			{core.XRateLimit,
				map[string]string{"X-Ratelimit-Limit": "2", "X-Ratelimit-Remaining": "1", "X-Ratelimit-Reset": "30"},
				map[string]string{"X-Ratelimit-Limit": "2", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": "30"}},
			{core.XRateLimitUnix,
				map[string]string{"X-Ratelimit-Limit": "2", "X-Ratelimit-Remaining": "1", "X-Ratelimit-Reset": unix(30)},
				map[string]string{"X-Ratelimit-Limit": "2", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": unix(30)}},
			{core.RateLimitFields | core.XRateLimit,
				map[string]string{"Ratelimit-Policy": `"p";q=2;w=60`, "Ratelimit": `"p";r=1;t=30`, "X-Ratelimit-Limit": "2", "X-Ratelimit-Remaining": "1", "X-Ratelimit-Reset": "30"},
				map[string]string{"Ratelimit-Policy": `"p";q=2;w=60`, "Ratelimit": `"p";r=0;t=30`, "X-Ratelimit-Limit": "2", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": "30"}},
		} {
			guard := newGuard(t, core.Policy{Name: "p", Limit: limit, Headers: c.headers})
			if got := headers(guard.Check(get("/"))); !maps.Equal(got, c.passes) {
				t.Errorf("Headers %d: got %v, want %v", c.headers, got, c.passes)
			}
			guard.Check(get("/"))
			want := map[string]string{"Retry-After": "30", "Cache-Control": "no-store"}
			maps.Copy(want, c.refused)
			if got := headers(guard.Check(get("/"))); !maps.Equal(got, want) {
				t.Errorf("Headers %d, refused: got %v, want %v", c.headers, got, want)
			}
		}
	})
}

// For many limits and moments: a client that waits Retry-After seconds is
// admitted, one that waits a second less is not; t is never later; r is never
// above q.
func TestRetryAfterIsTrue(t *testing.T) {
	for _, text := range []string{"1/s", "3/s", "10/s burst 1", "7/m", "100/m", "100/m burst 3", "5/h burst 2", "1/d", "1/1500ms", "3/7s burst 5", "1000/s"} {
		synctest.Test(t, func(t *testing.T) {
			limit, err := core.ParseLimit(text)
			if err != nil {
				t.Fatal(err)
			}
			guard := newGuard(t, core.Policy{Name: "p", Limit: limit, And: []core.Limit{{Rate: 50, Period: 2 * time.Minute, Burst: 500}}[:len(text)%2]})
			for i := range 400 {
				d := guard.Check(get("/"))
				fields := headers(d)
				if _, ok := fields["Retry-After"]; ok == d.Allowed {
					t.Fatalf("%s: allowed %v with %v", text, d.Allowed, fields)
				}
				quotas := parameters(t, fields["Ratelimit-Policy"], "q")
				for name, r := range parameters(t, fields["Ratelimit"], "r") {
					if r < 0 || r > quotas[name] {
						t.Fatalf("%s: r=%d of q=%d", text, r, quotas[name])
					}
				}
				if d.Allowed {
					if i%7 == 0 {
						time.Sleep(time.Duration(i) * 13 * ms)
					}
					continue
				}
				retry, err := strconv.Atoi(fields["Retry-After"])
				if err != nil || retry < 1 {
					t.Fatalf("%s: Retry-After %q", text, fields["Retry-After"])
				}
				for _, seconds := range parameters(t, fields["Ratelimit"], "t") {
					if seconds > retry {
						t.Fatalf("%s: t=%d is later than Retry-After: %d", text, seconds, retry)
					}
				}
				if d.Remaining != 0 || d.Status != http.StatusTooManyRequests {
					t.Fatalf("%s: a refusal with %d remaining and status %d", text, d.Remaining, d.Status)
				}
				if retry >= 2 {
					time.Sleep(time.Duration(retry-1) * time.Second)
					if guard.Check(get("/")).Allowed {
						t.Fatalf("%s: admitted a second before Retry-After", text)
					}
					time.Sleep(time.Second)
				} else {
					time.Sleep(time.Second)
				}
				if !guard.Check(get("/")).Allowed {
					t.Fatalf("%s: refused after exactly Retry-After", text)
				}
			}
		})
	}
}

// parameters reads one integer parameter of each item in a list.
func parameters(t *testing.T, list, name string) map[string]int {
	t.Helper()
	values := make(map[string]int)
	for item := range strings.SplitSeq(list, ", ") {
		parts := strings.Split(item, ";")
		for _, part := range parts[1:] {
			if text, ok := strings.CutPrefix(part, name+"="); ok {
				value, err := strconv.Atoi(text)
				if err != nil {
					t.Fatalf("%q: %v", list, err)
				}
				values[parts[0]] = value
			}
		}
	}
	return values
}

func TestGuardKeys(t *testing.T) {
	one := core.PerHour(1)
	withKey := func(remote, key string) *testRequest {
		r := get("/")
		r.remote = remote
		if key != "" {
			r.header = http.Header{"X-Api-Key": {key}}
		}
		return r
	}
	failing := func(core.Request) (string, error) { return "", errors.New("boom") }
	empty := func(core.Request) (string, error) { return "", nil }
	long := func(core.Request) (string, error) { return strings.Repeat("k", 1<<20), nil }
	for name, c := range map[string]struct {
		key      core.KeyFunc
		requests []*testRequest
		want     string // + allowed, - refused
	}{
		"by default the IP": {nil,
			[]*testRequest{withKey("192.0.2.1:1", ""), withKey("192.0.2.1:2", "x"), withKey("192.0.2.2:1", ""), withKey("[::ffff:192.0.2.2]:9", "")}, "+-+-"},
		"a header": {core.ByHeader("X-API-Key"),
			[]*testRequest{withKey("192.0.2.1:1", "a"), withKey("192.0.2.2:1", "a"), withKey("192.0.2.1:1", "b")}, "+-+"},
		"no header: the IP, in buckets of its own": {core.ByHeader("X-API-Key"),
			[]*testRequest{withKey("192.0.2.1:1", ""), withKey("192.0.2.1:1", ""), withKey("192.0.2.9:1", "192.0.2.1"), withKey("192.0.2.2:1", "")}, "+-++"},
		"a failing key: the IP":  {failing, []*testRequest{withKey("192.0.2.1:1", ""), withKey("192.0.2.1:1", ""), withKey("192.0.2.2:1", "")}, "+-+"},
		"an empty key: the IP":   {empty, []*testRequest{withKey("192.0.2.1:1", ""), withKey("192.0.2.1:1", ""), withKey("192.0.2.2:1", "")}, "+-+"},
		"too long a key: the IP": {long, []*testRequest{withKey("192.0.2.1:1", ""), withKey("192.0.2.1:1", ""), withKey("192.0.2.2:1", "")}, "+-+"},
		"no address: one bucket": {nil, []*testRequest{withKey("@", ""), withKey("", ""), withKey("/run/x.sock", ""), withKey("192.0.2.2:1", "")}, "+--+"},
		"everyone":               {core.Everyone, []*testRequest{withKey("192.0.2.1:1", ""), withKey("192.0.2.2:1", ""), withKey("@", "x")}, "+--"},
		"one /64":                {nil, []*testRequest{withKey("[2001:db8::1]:1", ""), withKey("[2001:db8::ffff]:1", ""), withKey("[2001:db8:0:1::1]:1", "")}, "+-+"},
	} {
		guard := newGuard(t, core.Policy{Limit: one, Key: c.key})
		got := ""
		for _, r := range c.requests {
			got += map[bool]string{true: "+", false: "-"}[guard.Check(r).Allowed]
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestGuardRouteKeys(t *testing.T) {
	guard := newGuard(t, core.Policy{
		Limit: core.PerHour(1),
		Key:   core.ByHeader("X-User"),
		Routes: []core.Route{
			{Pattern: "/everyone", Limit: core.PerHour(1), Key: core.Everyone},
			{Pattern: "/inherits", Limit: core.PerHour(1)},
			{Pattern: "/exempt"},
		},
	})
	check := func(path, user string, want bool) {
		t.Helper()
		r := get(path)
		r.header = http.Header{"X-User": {user}}
		if d := guard.Check(r); d.Allowed != want {
			t.Errorf("%s as %s: allowed %v", path, user, d.Allowed)
		}
	}
	check("/", "a", true)
	check("/other", "a", false)
	check("/", "b", true)
	check("/everyone", "a", true)
	check("/everyone", "b", false)
	check("/inherits", "a", true)
	check("/inherits", "a", false)
	check("/inherits", "b", true)
	for range 100 {
		check("/exempt", "a", true)
	}
	if d := guard.Check(get("/exempt")); len(headers(d)) != 0 || d.Route != "/exempt" || d.Limit != (core.Limit{}) {
		t.Errorf("an exempt request: %+v, want no headers", d)
	}
}

func TestGuardWithStoreDown(t *testing.T) {
	guard, err := core.NewGuard(core.New(downStore{errDown}), core.Policy{Limit: core.PerHour(1), Headers: core.XRateLimit})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		d := guard.Check(get("/"))
		if !d.Allowed || d.Status != 0 || !errors.Is(d.Err, errDown) || len(headers(d)) != 0 {
			t.Errorf("%+v, want it allowed, with the error and without headers", d)
		}
	}
}

func TestGuardAsksWithTheRequestsContext(t *testing.T) {
	type key struct{}
	var asked atomic.Bool
	store := storeFunc(func(ctx context.Context, buckets []core.Bucket) (bool, error) {
		asked.Store(ctx.Value(key{}) == "here")
		return true, nil
	})
	guard, err := core.NewGuard(core.New(store), core.Policy{Limit: core.PerHour(1)})
	if err != nil {
		t.Fatal(err)
	}
	r := get("/")
	r.ctx = context.WithValue(t.Context(), key{}, "here")
	if guard.Check(r); !asked.Load() {
		t.Error("the store was asked with another context")
	}
}

// A client that hangs up before it is counted must not look like an outage.
func TestGuardCountsWhoHasHungUp(t *testing.T) {
	memory := core.NewMemory()
	store := storeFunc(func(ctx context.Context, buckets []core.Bucket) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		return memory.Pour(ctx, buckets)
	})
	guard, err := core.NewGuard(core.New(store), core.Policy{Limit: core.PerHour(5)})
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	admitted := 0
	for range 100 {
		r := get("/")
		r.ctx = gone
		if guard.Check(r).Allowed {
			admitted++
		}
	}
	if admitted != 5 {
		t.Errorf("%d requests of clients that have hung up are admitted, want 5", admitted)
	}
}

type storeFunc func(context.Context, []core.Bucket) (bool, error)

func (f storeFunc) Pour(ctx context.Context, buckets []core.Bucket) (bool, error) {
	return f(ctx, buckets)
}

// What reaches a store is fit for any: the scope has no braces, spaces or bytes
// of a client, and the buckets of one decision have one key.
func TestGuardBuckets(t *testing.T) {
	var scopes []string
	store := storeFunc(func(_ context.Context, buckets []core.Bucket) (bool, error) {
		for _, b := range buckets {
			scopes = append(scopes, b.Scope)
			if b.Key != buckets[0].Key || b.Amount != 36*time.Second && b.Amount != 864*time.Second {
				t.Errorf("%+v", b)
			}
		}
		return true, nil
	})
	guard, err := core.NewGuard(core.New(store), core.Policy{
		Name: "my {api}: %", Limit: core.PerHour(100), And: []core.Limit{core.PerDay(100)},
		Key:    core.ByHeader("X-User"),
		Routes: []core.Route{{Pattern: "GET /users/{id}", Limit: core.PerHour(100)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	guard.Check(get("/"))
	r := get("/users/7")
	r.header = http.Header{"X-User": {"alice"}}
	guard.Check(r)
	want := []string{
		"my%20%7Bapi%7D%3A%20%25:h:ip", "my%20%7Bapi%7D%3A%20%25:d:ip",
		"my%20%7Bapi%7D%3A%20%25:GET%20/users/%7Bid%7D:h",
	}
	if fmt.Sprint(scopes) != fmt.Sprint(want) {
		t.Errorf("scopes\n%q, want\n%q", scopes, want)
	}
}

func TestNewGuardRefusesWhatCannotBe(t *testing.T) {
	limit := core.PerHour(1)
	for name, c := range map[string]struct {
		policy core.Policy
		want   string
	}{
		"nothing limited":         {core.Policy{}, "it limits nothing"},
		"only exemptions":         {core.Policy{Routes: []core.Route{{Pattern: "/a"}}}, "it limits nothing"},
		"and without limit":       {core.Policy{And: []core.Limit{limit}}, "And"},
		"invalid limit":           {core.Policy{Limit: core.PerHour(-1)}, "Rate is -1"},
		"half a limit":            {core.Policy{Limit: core.Limit{Period: time.Hour}}, "Rate is 0"},
		"burst alone":             {core.Policy{Limit: core.Limit{}.WithBurst(5)}, "Rate is 0"},
		"invalid further limit":   {core.Policy{Limit: limit, And: []core.Limit{{}}}, "Rate is 0"},
		"same period":             {core.Policy{Limit: limit, And: []core.Limit{core.PerHour(2)}}, "same period"},
		"same period of two":      {core.Policy{Limit: limit, And: []core.Limit{core.PerDay(2), core.PerDay(3)}}, "same period"},
		"invalid limit of route":  {core.Policy{Limit: limit, Routes: []core.Route{{Pattern: "/a", Limit: core.PerHour(-1)}}}, `route "/a"`},
		"route and without limit": {core.Policy{Limit: limit, Routes: []core.Route{{Pattern: "/a", And: []core.Limit{limit}}}}, `route "/a"`},
		"newline in the name":     {core.Policy{Name: "a\r\nX-Evil: 1", Limit: limit}, "printable ASCII"},
		"a name not in ASCII":     {core.Policy{Name: "café", Limit: limit}, "printable ASCII"},
		"a byte that is no text":  {core.Policy{Name: "\xff", Limit: limit}, "printable ASCII"},
		"delete":                  {core.Policy{Name: "\x7f", Limit: limit}, "printable ASCII"},
		"a long name":             {core.Policy{Name: strings.Repeat("n", 65), Limit: limit}, "64"},
		"unknown headers":         {core.Policy{Limit: limit, Headers: 1 << 8}, "Headers"},
		"none and some":           {core.Policy{Limit: limit, Headers: core.NoHeaders | core.XRateLimit}, "NoHeaders"},
		"two units of reset":      {core.Policy{Limit: limit, Headers: core.XRateLimit | core.XRateLimitUnix}, "one of them"},
	} {
		guard, err := core.NewGuard(core.New(core.NewMemory()), c.policy)
		if guard != nil || !errors.Is(err, core.ErrInvalidPolicy) || !containsAll(err.Error(), "core: ", c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, %v; want an error that says %s", name, guard, err, c.want)
		}
	}
	wantPanic(t, "New(NewMemory())", func() { _, _ = core.NewGuard(nil, core.Policy{Limit: limit}) })
}

func TestPoliciesOnOneLimiter(t *testing.T) {
	limiter := core.New(core.NewMemory())
	policy := func(name string, limit core.Limit) error {
		_, err := core.NewGuard(limiter, core.Policy{Name: name, Limit: limit})
		return err
	}
	for _, c := range []struct {
		name  string
		limit core.Limit
		want  string
	}{
		{"", core.PerMinute(100), ""},
		{"", core.PerMinute(200), ""},
		{"", core.PerMinute(100), "give this one a Name"},
		{"100/m", core.PerMinute(100), "give this one a Name"},
		{"login", core.PerMinute(5), ""},
		{"login", core.PerMinute(5), ""},
		{"login", core.PerMinute(6), "has other limits"},
		{"login", core.PerMinute(5), ""},
	} {
		err := policy(c.name, c.limit)
		if (err == nil) != (c.want == "") || err != nil && !(errors.Is(err, core.ErrInvalidPolicy) && strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q with %v: %v, want %q", c.name, c.limit, err, c.want)
		}
	}

	// The same policy twice is one bucket; different ones are two.
	guards := make([]*core.Guard, 3)
	for i, name := range []string{"a", "a", "b"} {
		var err error
		if guards[i], err = core.NewGuard(limiter, core.Policy{Name: name, Limit: core.PerHour(1)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []bool{true, false, true} {
		if got := guards[i].Check(get("/")).Allowed; got != want {
			t.Errorf("policy %d: allowed %v, want %v", i, got, want)
		}
	}
}
