package core_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway-go/spillway/core"
)

func TestOlderDrafts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := newGuard(t, core.Policy{
			Name: "api", Limit: core.PerSecond(10), And: []core.Limit{core.PerMinute(100)},
			Headers: core.RateLimitDraft06 | core.RateLimitDraft07 | core.XRateLimit,
		})
		want := map[string]string{
			"Ratelimit-Policy": "10;w=1, 100;w=60", "Ratelimit": "limit=10, remaining=9, reset=1",
			"Ratelimit-Limit": "10", "Ratelimit-Remaining": "9", "Ratelimit-Reset": "1",
			"X-Ratelimit-Limit": "10", "X-Ratelimit-Remaining": "9", "X-Ratelimit-Reset": "1",
		}
		// Both draft-06 and draft-07 have RateLimit-Policy, in the same form.
		if got := headers(guard.Check(get("/"))); !maps.Equal(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		for range 9 {
			guard.Check(get("/"))
		}
		want = map[string]string{
			"Ratelimit-Policy": "10;w=1, 100;w=60", "Ratelimit": "limit=10, remaining=0, reset=1",
			"Ratelimit-Limit": "10", "Ratelimit-Remaining": "0", "Ratelimit-Reset": "1",
			"X-Ratelimit-Limit": "10", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": "1",
			"Retry-After": "1", "Cache-Control": "no-store",
		}
		if got := headers(guard.Check(get("/"))); !maps.Equal(got, want) {
			t.Errorf("refused:\ngot  %v\nwant %v", got, want)
		}
	})
}

func TestExposeHeaders(t *testing.T) {
	for _, c := range []struct {
		headers core.Headers
		before  string
		want    string
	}{
		{core.ExposeHeaders, "", "RateLimit, RateLimit-Policy, Retry-After"},
		{core.ExposeHeaders | core.XRateLimit, "Etag", "Etag, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After"},
		{core.ExposeHeaders | core.RateLimitFields | core.XRateLimitUnix, "", "RateLimit, RateLimit-Policy, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After"},
		{core.ExposeHeaders, "RateLimit, RateLimit-Policy, Retry-After", "RateLimit, RateLimit-Policy, Retry-After"},
	} {
		guard := newGuard(t, core.Policy{Limit: core.PerHour(1), Headers: c.headers})
		h := make(http.Header)
		if c.before != "" {
			h.Set("Access-Control-Expose-Headers", c.before)
		}
		d := guard.Check(get("/"))
		d.SetHeaders(h)
		if got := h.Get("Access-Control-Expose-Headers"); got != c.want {
			t.Errorf("Headers %d on %q: %q, want %q", c.headers, c.before, got, c.want)
		}
	}
}

// Three limiters on one request, in all orders: the lists have all of those that
// were asked, in their order, and the single values are those of the tightest.
func TestStackedLimiters(t *testing.T) {
	limits := map[string]core.Limit{"a": core.PerHour(3), "b": core.PerMinute(5), "c": core.PerDay(4)}
	quota := map[string]string{"a": `"a";q=3;w=3600`, "b": `"b";q=5;w=60`, "c": `"c";q=4;w=86400`}
	first := map[string]string{"a": `"a";r=2;t=2400`, "b": `"b";r=4;t=48`, "c": `"c";r=3;t=64800`}
	for _, order := range []string{"abc", "acb", "bac", "bca", "cab", "cba"} {
		synctest.Test(t, func(t *testing.T) {
			limiter := core.New(core.NewMemory())
			var guards []*core.Guard
			for _, name := range order {
				guard, err := core.NewGuard(limiter, core.Policy{Name: string(name), Limit: limits[string(name)], Headers: core.RateLimitFields | core.XRateLimit})
				if err != nil {
					t.Fatal(err)
				}
				guards = append(guards, guard)
			}
			ask := func() (http.Header, string) {
				h := make(http.Header)
				for i, guard := range guards {
					d := guard.Check(get("/"))
					d.SetHeaders(h)
					if !d.Allowed {
						return h, order[:i+1]
					}
				}
				return h, order
			}
			list := func(items map[string]string, names string) string {
				var all []string
				for _, name := range names {
					all = append(all, items[string(name)])
				}
				return strings.Join(all, ", ")
			}
			h, asked := ask()
			want := http.Header{
				"Ratelimit-Policy": {list(quota, order)}, "Ratelimit": {list(first, order)},
				"X-Ratelimit-Limit": {"3"}, "X-Ratelimit-Remaining": {"2"}, "X-Ratelimit-Reset": {"1200"},
			}
			if asked != order || !equalHeaders(h, want) {
				t.Errorf("%s passes:\ngot  %v\nwant %v", order, h, want)
			}
			ask()
			ask()
			h, asked = ask() // a refuses
			want = http.Header{
				"Ratelimit-Policy": {list(quota, asked)}, "Ratelimit": {`"a";r=0;t=1200`},
				"X-Ratelimit-Limit": {"3"}, "X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {"1200"},
				"Retry-After": {"1200"}, "Cache-Control": {"no-store"},
			}
			if !strings.HasSuffix(asked, "a") || !equalHeaders(h, want) {
				t.Errorf("%s refused:\ngot  %v\nwant %v", order, h, want)
			}

			// Where a refusal does not end the request, the longest wait is told.
			h = make(http.Header)
			for range 10 {
				for _, guard := range guards {
					guard.Check(get("/"))
				}
			}
			for _, guard := range guards {
				d := guard.Check(get("/"))
				d.SetHeaders(h)
			}
			if got := h.Get("Retry-After"); got != "21600" {
				t.Errorf("%s all refuse: Retry-After %s, want that of c", order, got)
			}
			if got := h.Get("Ratelimit"); strings.Count(got, ";r=0;") != 3 {
				t.Errorf("%s all refuse: RateLimit %s, want all three", order, got)
			}
		})
	}
}

func equalHeaders(a, b http.Header) bool {
	return maps.EqualFunc(a, b, func(x, y []string) bool { return strings.Join(x, "\n") == strings.Join(y, "\n") })
}

func TestCountedTwiceIsListedOnce(t *testing.T) {
	guard := newGuard(t, core.Policy{Name: "api", Limit: core.PerHour(10)})
	other := newGuard(t, core.Policy{Name: `a, "b"`, Limit: core.PerHour(10)})
	h := make(http.Header)
	for _, g := range []*core.Guard{guard, other, guard} {
		d := g.Check(get("/"))
		d.SetHeaders(h)
	}
	if got, want := h.Get("Ratelimit-Policy"), `"api";q=10;w=3600, "a, \"b\"";q=10;w=3600`; got != want {
		t.Errorf("RateLimit-Policy is %s, want %s", got, want)
	}
	if got, want := h.Get("Ratelimit"), `"a, \"b\"";r=9;t=3240, "api";r=8;t=2880`; got != want {
		t.Errorf("RateLimit is %s, want %s", got, want)
	}
}

func TestHeadersOfOthersStay(t *testing.T) {
	guard := newGuard(t, core.Policy{Limit: core.PerHour(1), Headers: core.XRateLimit | core.RateLimitFields})
	h := http.Header{"X-Ratelimit-Remaining": {"not a number"}, "Retry-After": {"Wed, 21 Oct 2015 07:28:00 GMT"}, "Cache-Control": {"public"}, "Vary": {"Origin"}}
	guard.Check(get("/"))
	d := guard.Check(get("/"))
	d.SetHeaders(h)
	for name, want := range map[string]string{"X-Ratelimit-Remaining": "0", "Retry-After": "3600", "Cache-Control": "no-store", "Vary": "Origin"} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestLinesOfOthersAreJoined(t *testing.T) {
	guard := newGuard(t, core.Policy{Name: "api", Limit: core.PerHour(1), Headers: core.ExposeHeaders})
	h := http.Header{"Access-Control-Expose-Headers": {"X-A", "X-B"}, "Ratelimit-Policy": {`"a";q=1`, `"b";q=2`}}
	d := guard.Check(get("/"))
	d.SetHeaders(h)
	for name, want := range map[string]string{
		"Access-Control-Expose-Headers": "X-A, X-B, RateLimit, RateLimit-Policy, Retry-After",
		"Ratelimit-Policy":              `"a";q=1, "b";q=2, "api";q=1;w=3600`,
	} {
		if got := h.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestNotOnRedirects(t *testing.T) {
	all := core.XRateLimit | core.RateLimitDraft06 | core.RateLimitDraft07
	for _, c := range []struct {
		headers core.Headers
		status  int
		gone    bool
	}{
		{core.NotOnRedirects, 301, true}, {core.NotOnRedirects | all, 308, true}, {core.NotOnRedirects | core.RateLimitFields, 399, true},
		{core.NotOnRedirects, 200, false}, {core.NotOnRedirects, 299, false}, {core.NotOnRedirects, 400, false}, {0, 301, false}, {all, 302, false},
	} {
		guard := newGuard(t, core.Policy{Limit: core.PerHour(10), Headers: c.headers})
		h := http.Header{"Vary": {"Origin"}}
		d := guard.Check(get("/"))
		d.SetHeaders(h)
		before := len(h)
		if before < 3 {
			t.Fatalf("Headers %d: %v", c.headers, h)
		}
		if d.NeedsStatus() != (c.headers&core.NotOnRedirects != 0) {
			t.Errorf("Headers %d: NeedsStatus %v", c.headers, d.NeedsStatus())
		}
		d.AmendHeaders(h, c.status)
		if gone := len(h) == 1; gone != c.gone || !gone && len(h) != before {
			t.Errorf("Headers %d with %d: %v", c.headers, c.status, h)
		}
		d.Settle(t.Context(), c.status)
		if d := guard.Check(get("/")); d.Remaining != 8 {
			t.Errorf("Headers %d: %d remain, want the first request counted", c.headers, d.Remaining)
		}
	}
	d := core.Decision{Status: 429}
	d.AmendHeaders(http.Header{}, 301)
}

func TestRefusalInAnotherForm(t *testing.T) {
	day := newGuard(t, core.Policy{Name: "outer", Limit: core.PerDay(10)})
	minute := newGuard(t, core.Policy{Name: "inner", Limit: core.PerMinute(1), Headers: core.XRateLimit})
	var h http.Header
	for range 2 {
		h = make(http.Header)
		for _, guard := range []*core.Guard{day, minute} {
			d := guard.Check(get("/"))
			d.SetHeaders(h)
		}
	}
	if got, want := h.Get("Ratelimit"), `"inner";r=0;t=60`; got != want || h.Get("Retry-After") != "60" {
		t.Errorf("RateLimit: %s with Retry-After: %s, want %s", got, h.Get("Retry-After"), want)
	}
}

func TestOlderQuotasStandOnce(t *testing.T) {
	guard := newGuard(t, core.Policy{Limit: core.PerHour(4), Headers: core.RateLimitDraft06})
	h := make(http.Header)
	for range 2 {
		d := guard.Check(get("/"))
		d.SetHeaders(h)
	}
	if got := h.Get("Ratelimit-Policy"); got != "4;w=3600" {
		t.Errorf("RateLimit-Policy: %s, want the quota once", got)
	}
}

// Of the forms that share a field the current one stays, in whatever order.
func TestMixedDialects(t *testing.T) {
	current := newGuard(t, core.Policy{Name: "new", Limit: core.PerHour(5)})
	older := newGuard(t, core.Policy{Name: "old", Limit: core.PerHour(9), Headers: core.RateLimitDraft07 | core.RateLimitDraft06})
	for _, guards := range [][]*core.Guard{{current, older}, {older, current}} {
		h := make(http.Header)
		for _, guard := range guards {
			d := guard.Check(get("/"))
			d.SetHeaders(h)
		}
		if got, want := h.Get("Ratelimit-Policy"), `"new";q=5;w=3600`; got != want {
			t.Errorf("RateLimit-Policy: %s, want %s", got, want)
		}
		if got := h.Get("Ratelimit"); !strings.HasPrefix(got, `"new";r=`) || strings.Contains(got, "limit=") {
			t.Errorf("RateLimit: %s, want that of the current form", got)
		}
		if got := h.Get("Ratelimit-Limit"); got != "9" {
			t.Errorf("RateLimit-Limit: %s, want 9", got)
		}
	}
}

func TestBodyWithoutAGuard(t *testing.T) {
	for status, want := range map[int]string{429: "quota-exceeded", 403: "about:blank", 413: "about:blank", 503: "temporary-reduced-capacity"} {
		d := core.Decision{Status: status} // as in a test of a refusal
		if _, body := d.Body(""); !strings.Contains(body, want) || !strings.Contains(body, http.StatusText(status)) {
			t.Errorf("%d: %s", status, body)
		} else if status < 429 && strings.Contains(body, "try again") {
			t.Errorf("%d: %s, want no advice to repeat what is in vain", status, body)
		}
	}
}

func TestBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := newGuard(t, core.Policy{Name: `<b>"api"`, Limit: core.PerMinute(2), And: []core.Limit{core.PerHour(2)}})
		guard.Check(get("/"))
		guard.Check(get("/"))
		time.Sleep(time.Minute)
		d := guard.Check(get("/"))
		const (
			problem = "application/problem+json"
			text    = "text/plain; charset=utf-8"
			page    = "text/html; charset=utf-8"
		)
		for accept, want := range map[string]string{
			"":                         problem,
			" ":                        problem,
			"*/*":                      problem,
			"application/json":         problem,
			"application/problem+json": problem,
			"application/*":            problem,
			"APPLICATION/JSON":         problem,
			"text/plain":               text,
			"text/*":                   text,
			"text/html":                page,
			"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8": page,
			"text/html;q=0.5, text/plain":             text,
			"text/plain;q=0.5, application/json;q=.6": problem,
			"application/json;q=0, */*":               text,
			"application/json;q=0.1, text/html;q=0.2": page,
			"text/html;level=1;q=0.7, text/plain":     text,
			"text/html ; q=1 , */* ; q=0.1":           page,
			"image/png":                               text,
			"*/*;q=0":                                 text,
			"text/html;q=nan, text/plain;q=0.1":       text,
			"text/html;q=2, text/plain;q=0.1":         text,
			"text/html;q=-1, text/plain;q=0.1":        text,
			"garbage":                                 text,
			";;;,,,":                                  text,
			strings.Repeat("text/html,", 10_000):      page,
			strings.Repeat("x", 1<<20):                text,
		} {
			contentType, body := d.Body(accept)
			if contentType != want {
				t.Errorf("Accept %.50q: %s, want %s", accept, contentType, want)
			}
			if !strings.Contains(body, "Too Many Requests") || strings.Contains(body, "<b>") {
				t.Errorf("Accept %.50q: %s", accept, body)
			}
		}
		_, body := d.Body("application/json")
		const want = `{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded",` +
			`"title":"Request cannot be satisfied as assigned quota has been exceeded","status":429,` +
			`"detail":"Too Many Requests. Please try again in 29m0s.","violated-policies":["\u003cb\u003e\"api\" 2/h"]}` + "\n"
		if body != want {
			t.Errorf("got  %swant %s", body, want)
		}
	})
}
