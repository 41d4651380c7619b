package mwtest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spillway-go/spillway/core"
)

// fieldCases are about the header fields in all their forms, of one policy and of
// several.
var fieldCases = []testCase{
	{
		"dialects", "a client understands one dialect, and takes a mixture for something else.",
		(*suite).testDialects,
	},
	{
		"exposed fields", "a script of another origin sees the fields that are exposed, and must not lose those that others have.",
		(*suite).testExposed,
	},
	{
		"redirects", "a client may take the fields of a redirect for those of the place that it is sent to.",
		(*suite).testRedirects,
	},
	{
		"three limiters", "whatever their order is, the lists have all, and the single values are those of the tightest.",
		(*suite).testThreeLimiters,
	},
	{
		"twice the same", "a policy that was registered twice counts twice, but is not two policies.",
		(*suite).testTwiceTheSame,
	},
}

// current reports whether a policy sends the fields of the current draft.
func current(h core.Headers) bool {
	return h&core.RateLimitFields != 0 || h&^core.ExposeHeaders == 0
}

// dialects are all the combinations that make sense.
func dialects() (all []core.Headers) {
	for _, draft := range []core.Headers{0, core.RateLimitFields, core.RateLimitDraft07, core.RateLimitDraft06, core.RateLimitDraft07 | core.RateLimitDraft06} {
		for _, old := range []core.Headers{0, core.XRateLimit, core.XRateLimitUnix} {
			all = append(all, draft|old, draft|old|core.ExposeHeaders)
		}
	}
	return append(all, core.NoHeaders)
}

// A stack of policies says by arithmetic alone what the next request is answered,
// if it all happens within a second. Their limits have no burst of their own.
type stack []*counted

type counted struct {
	core.Policy
	admitted int
}

// next returns the status and the fields, and the fields that are Unix times:
// for them the seconds from now.
func (st stack) next() (status int, fields map[string]string, unix bool) {
	fields = make(map[string]string)
	least := make(map[string]int)
	add := func(name, member string) {
		if fields[name] != "" {
			member = fields[name] + ", " + member
		}
		fields[name] = member
	}
	for _, c := range st {
		quota, window := c.Limit.Rate, int(c.Limit.Period/time.Second)
		interval := window / quota
		refused := c.admitted == quota
		if !refused {
			c.admitted++
		}
		remaining, reset := quota-c.admitted, c.admitted*interval
		effective := max(interval, remaining*interval)
		if refused {
			reset, effective = interval, interval
		}
		tightest := func(dialect string) bool {
			before, known := least[dialect]
			if known && before <= remaining && !refused {
				return false
			}
			least[dialect] = remaining
			return true
		}
		three := func(prefix string) {
			fields[prefix+"Limit"], fields[prefix+"Remaining"], fields[prefix+"Reset"] = strconv.Itoa(quota), strconv.Itoa(remaining), strconv.Itoa(reset)
		}
		h := c.Headers
		listed := named(fields["Ratelimit"])
		if refused {
			// That others let the request pass is no news for who is refused.
			for _, name := range []string{"Ratelimit", "Ratelimit-Limit", "Ratelimit-Remaining", "Ratelimit-Reset", "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset"} {
				delete(fields, name)
			}
			if h&core.NoHeaders != 0 {
				delete(fields, "Ratelimit-Policy")
			}
		}
		if current(h) || refused && h&core.NoHeaders == 0 && listed {
			// The current draft and the older ones have fields of one name, and the
			// older ones give way. A refusal does not leave there what would
			// contradict its Retry-After.
			if !named(fields["Ratelimit-Policy"]) {
				delete(fields, "Ratelimit-Policy")
			}
			if refused || !named(fields["Ratelimit"]) {
				delete(fields, "Ratelimit") // a refusal lists only what is in the way
			}
			add("Ratelimit-Policy", fmt.Sprintf("%q;q=%d;w=%d", c.Name, quota, window))
			add("Ratelimit", fmt.Sprintf("%q;r=%d;t=%d", c.Name, remaining, effective))
		}
		if h&(core.RateLimitDraft07|core.RateLimitDraft06) != 0 && !named(fields["Ratelimit-Policy"]) {
			add("Ratelimit-Policy", fmt.Sprintf("%d;w=%d", quota, window))
		}
		if h&core.RateLimitDraft07 != 0 && !named(fields["Ratelimit"]) && tightest("07") {
			fields["Ratelimit"] = fmt.Sprintf("limit=%d, remaining=%d, reset=%d", quota, remaining, reset)
		}
		if h&core.RateLimitDraft06 != 0 && tightest("06") {
			three("Ratelimit-")
		}
		if h&(core.XRateLimit|core.XRateLimitUnix) != 0 && tightest("X") {
			three("X-Ratelimit-")
			unix = h&core.XRateLimitUnix != 0
		}
		if refused {
			return http.StatusTooManyRequests, refusal(strconv.Itoa(interval), fields), unix
		}
	}
	return http.StatusOK, fields, unix
}

// named reports whether the members of a list have names, as in the current draft.
func named(field string) bool { return strings.HasPrefix(field, `"`) }

// wantNext sends n requests to each of several paths, and compares the answers
// with what the stack in front of that path says.
func (s *suite) wantNext(n int, build func() (App, map[string]stack)) {
	for range 20 {
		app, stacks := build()
		srv := s.serve(app)
		p := srv.localhost()
		var mistakes []string
		late := false
		for path, stack := range stacks {
			start := time.Now()
			for i := range n {
				now := time.Now().Unix()
				r := srv.get(p, path)
				status, fields, unix := stack.next()
				if unix {
					relative(r.header, now)
				}
				if got := ours(r.header); r.status != status || got != ours(headerOf(fields)) {
					mistakes = append(mistakes, fmt.Sprintf("%s, request %d: status %d, want %d\ngot  %s\nwant %s", path, i, r.status, status, got, ours(headerOf(fields))))
				}
			}
			late = late || time.Since(start) > time.Second/2
		}
		if late {
			continue // the numbers may have changed meanwhile
		}
		for _, mistake := range mistakes {
			s.Error(mistake)
		}
		return
	}
	s.Fatal("the server takes more than half a second for a few requests")
}

// relative turns a Unix time in X-RateLimit-Reset into seconds from now.
func relative(h http.Header, now int64) {
	const name = "X-Ratelimit-Reset"
	// It is rounded up, and a second may have begun meanwhile.
	for _, later := range []int64{0, 1, 2} {
		if seconds := number(h.Get(name)) - now - later; seconds > 0 && seconds%100 == 0 {
			h.Set(name, strconv.FormatInt(seconds, 10))
			return
		}
	}
}

func headerOf(fields map[string]string) http.Header {
	h := make(http.Header)
	for name, value := range fields {
		h.Set(name, value)
	}
	return h
}

// ours is what a header says of limits, in order.
func ours(h http.Header) string {
	var b strings.Builder
	for _, name := range []string{
		"Ratelimit-Policy", "Ratelimit", "Ratelimit-Limit", "Ratelimit-Remaining", "Ratelimit-Reset",
		"X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset", "Retry-After", "Cache-Control",
	} {
		for _, value := range h.Values(name) {
			fmt.Fprintf(&b, "%s: %s | ", name, value)
		}
	}
	return b.String()
}

func (s *suite) testDialects() {
	s.wantNext(6, func() (App, map[string]stack) {
		app, stacks := limited(), make(map[string]stack)
		for _, h := range dialects() {
			if h == core.NoHeaders {
				continue // see the case of that name
			}
			name := fmt.Sprintf("dialect-%d", h)
			policy := core.Policy{Name: name, Limit: core.PerHour(4), Headers: h}
			app.Routes = append(app.Routes, Route{Method: "GET", Path: "/" + name, Policies: []core.Policy{policy}})
			stacks["/"+name] = stack{{Policy: policy}}
		}
		return app, stacks
	})
}

func (s *suite) testThreeLimiters() {
	const current, old = core.RateLimitFields, core.XRateLimit
	mixtures := [][3]core.Headers{
		{0, 0, 0},
		{current | old, current | old, current | old},
		{current, old, current | core.XRateLimitUnix},
		{old, core.NoHeaders, current},
		{core.XRateLimitUnix, old, core.XRateLimitUnix},
		{core.RateLimitDraft07, core.RateLimitDraft07, core.RateLimitDraft07},
		{core.RateLimitDraft06, core.RateLimitDraft06 | old, core.RateLimitDraft07},
		{core.RateLimitDraft07 | core.RateLimitDraft06, old, core.RateLimitDraft06},
		{core.RateLimitDraft07, core.RateLimitDraft06, current},
		{current, core.RateLimitDraft07 | core.XRateLimitUnix, core.RateLimitDraft06},
	}
	orders := [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	limits := [3]core.Limit{core.PerHour(3), core.PerDay(4), core.PerHour(6)}
	s.wantNext(10, func() (App, map[string]stack) {
		app, stacks := limited(), make(map[string]stack)
		for i, mixture := range mixtures {
			for _, order := range orders {
				path := fmt.Sprintf("/mixture-%d-%d%d%d", i, order[0], order[1], order[2])
				route := Route{Method: "GET", Path: path}
				for _, which := range order {
					policy := core.Policy{Name: fmt.Sprintf("%s %d", path[1:], which), Limit: limits[which], Headers: mixture[which]}
					route.Policies = append(route.Policies, policy)
					stacks[path] = append(stacks[path], &counted{Policy: policy})
				}
				app.Routes = append(app.Routes, route)
			}
		}
		return app, stacks
	})
}

func (s *suite) testExposed() {
	app := limited()
	for _, h := range dialects() {
		name := fmt.Sprintf("dialect-%d", h)
		app.Routes = append(app.Routes, Route{Method: "GET", Path: "/" + name, Policies: []core.Policy{
			{Name: name, Limit: core.PerHour(2), Headers: h},
		}})
	}
	srv := s.serve(app)
	p := srv.localhost()
	for _, h := range dialects() {
		for _, before := range [][]string{nil, {"ETag, X-Request-Id"}, {"ETag", "X-Request-Id, X-Trace"}, {"*"}} {
			var lines []string
			for _, names := range before {
				lines = append(lines, ExposeHeader+": "+names)
			}
			s.wantExposed(srv.get(p, fmt.Sprintf("/dialect-%d", h), lines...), before, h&core.ExposeHeaders != 0)
		}
	}
}

// wantExposed checks that the fields of an answer are exposed, and no others,
// behind those that were exposed before.
func (s *suite) wantExposed(r response, before []string, all bool) {
	s.Helper()
	got := r.header.Values("Access-Control-Expose-Headers")
	if !all {
		if !slices.Equal(got, before) {
			s.Errorf("exposed are %q, want %q as before", got, before)
		}
		return
	}
	names, ok := strings.CutPrefix(strings.Join(got, "\n"), strings.Join(before, ", "))
	if !ok || len(got) != 1 {
		s.Errorf("exposed are %q, want %q first, in one line", got, before)
	}
	exposed := map[string]bool{}
	for name := range strings.SplitSeq(strings.TrimPrefix(names, ", "), ", ") {
		exposed[http.CanonicalHeaderKey(name)] = true
	}
	want := map[string]bool{"Retry-After": true} // a refusal has it
	for name := range r.header {
		if strings.Contains(name, "Ratelimit") {
			want[name] = true
		}
	}
	if !maps.Equal(exposed, want) {
		s.Errorf("exposed are %q, and the fields are %v", got, slices.Sorted(maps.Keys(want)))
	}
}

func (s *suite) testTwiceTheSame() {
	for _, h := range []core.Headers{core.RateLimitFields | core.XRateLimit, core.RateLimitFields | core.ExposeHeaders} {
		policy := core.Policy{Name: "api", Limit: core.PerHour(4), Headers: h}
		srv := s.serve(limited(policy, core.Policy{Name: "other", Limit: core.PerHour(9)}, policy))
		p := srv.localhost()
		for i, want := range []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests} {
			// checkFields sees to it that no name is listed twice.
			r := srv.want(want, p, "/")
			if items, err := parseList(r.header.Get("Ratelimit-Policy")); err != nil || want == http.StatusOK && len(items) != 2 {
				s.Errorf("RateLimit-Policy is %q, %v; want both policies once", r.header.Get("Ratelimit-Policy"), err)
			}
			remaining := fmt.Sprintf(`"api";r=%d;`, max(0, 2-2*i))
			if got := r.header.Get("Ratelimit"); !strings.Contains(got, remaining) {
				s.Errorf("RateLimit is %q, want %s as the last of the two says", got, remaining)
			}
			if got := r.header.Get("Access-Control-Expose-Headers"); strings.Count(got, "Retry-After") > 1 {
				s.Errorf("exposed are %q, want each once", got)
			}
		}
	}
}

func (s *suite) testRedirects() {
	policy := core.Policy{Name: "api", Limit: core.PerHour(100), Headers: core.NotOnRedirects | core.RateLimitFields | core.XRateLimit}
	for _, count := range []core.Count{core.CountAll, core.CountFailures} {
		policy.Count = count
		srv := s.serve(limited(policy))
		p := srv.localhost()
		for how, want := range map[string]bool{"200": true, "302": false, "308": false, "404": true, "error 302": false, "error 404": true} {
			r := srv.do(p, "GET", "/", answer(how))
			for _, name := range []string{"Ratelimit", "Ratelimit-Policy", "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset"} {
				if got := r.header.Get(name) != ""; got != want {
					s.Errorf("Count %d, an answer of %s: %s is there: %v, want %v", count, how, name, got, want)
				}
			}
		}
	}
}
