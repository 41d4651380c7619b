package mwtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spillway-go/spillway/core"
)

// bodyCases are about the text of a refusal.
var bodyCases = []testCase{
	{
		"bodies", "a program that is refused in a form it cannot read reports a fault of the server.",
		(*suite).testBodies,
	},
	{
		"bodies of other refusals", "403, 413 and 503 are no 429: what they say of coming back must be true.",
		(*suite).testOtherRefusals,
	},
}

// The forms of a body, by their Content-Type.
const (
	problemForm = "application/problem+json"
	textForm    = "text/plain; charset=utf-8"
	pageForm    = "text/html; charset=utf-8"
)

// accepts are values of Accept, and the form that they ask for. Each line of a
// value is a line of the header.
var accepts = map[string]string{
	"none":                                   problemForm,
	"":                                       problemForm,
	"*/*":                                    problemForm,
	"application/json":                       problemForm,
	"application/problem+json":               problemForm,
	"Application/JSON; charset=utf-8":        problemForm,
	"application/json, text/plain, */*":      problemForm,
	"text/html;q=0.3, application/json;q=.9": problemForm,
	"text/html\napplication/json;q=0.1":      pageForm,
	"text/html;q=0\napplication/json":        problemForm,
	"text/html":                              pageForm,
	"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8": pageForm,
	"text/html;q=0.9, text/plain;q=0.8, */*;q=0.1":                                          pageForm,
	"text/plain":              textForm,
	"text/*;q=0.1":            textForm,
	"application/json;q=0":    textForm,
	"text/plain, text/html;q": textForm,
	"image/png":               textForm,
	"\xff\xfe;=,;;q=q,/,*":    textForm,
}

func (s *suite) testBodies() {
	policy := core.Policy{Name: "api", Limit: core.PerHour(2), And: []core.Limit{core.PerDay(100)}}
	accepts := maps.Clone(accepts)
	if !s.adapter.ReturnsErrors { // who reads it; others may not take in so long a header
		accepts[strings.Repeat("text/html, ", 6<<10)] = pageForm
		accepts[strings.Repeat("x", 64<<10)] = textForm
	}
	srv := s.serve(limited(policy))
	p := srv.localhost()
	srv.passed(2, p, "/")
	for accept, form := range accepts {
		r := srv.want(http.StatusTooManyRequests, p, "/", acceptLines(accept)...)
		s.wantBody(fmt.Sprintf("Accept: %.80q", accept), r, form, "api 2/h")

		head := srv.do(p, "HEAD", "/", acceptLines(accept)...)
		if head.status != http.StatusTooManyRequests || head.body != "" {
			s.Errorf("HEAD with Accept: %.80q is answered %d %q, want 429 and nothing", accept, head.status, head.body)
		}
		if got, want := head.header.Get("Content-Type"), r.header.Get("Content-Type"); got != want {
			s.Errorf("HEAD with Accept: %.80q has Content-Type %q, and GET %q", accept, got, want)
		}
	}
}

func acceptLines(accept string) (lines []string) {
	if accept == "none" {
		return nil
	}
	for line := range strings.SplitSeq(accept, "\n") {
		lines = append(lines, "Accept: "+line)
	}
	return lines
}

// wantBody checks the body of a refusal: that it is of a form, well-formed, and
// says the same as the header.
func (s *suite) wantBody(what string, r response, form string, violated ...string) {
	s.Helper()
	name := http.StatusText(r.status)
	if s.adapter.ReturnsErrors {
		if r.body != Handled+name {
			s.Errorf("%s: the body is %q, want that of the application's error handler, %q", what, r.body, Handled+name)
		}
		return
	}
	if got := r.header.Get("Content-Type"); got != form {
		s.Errorf("%s: Content-Type is %q, want %q", what, got, form)
		return
	}
	if got := r.header.Get("Content-Length"); got != strconv.Itoa(len(r.body)) {
		s.Errorf("%s: Content-Length is %q, want %d", what, got, len(r.body))
	}
	if r.header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(r.body, name) {
		s.Errorf("%s: want nosniff and %q: %v %s", what, name, r.header, r.body)
	}
	switch {
	case form == pageForm:
		if !strings.HasPrefix(r.body, "<!doctype html>\n") || !strings.HasSuffix(r.body, "</html>\n") {
			s.Errorf("%s: the body is no page: %s", what, r.body)
		}
	case form == textForm:
		if strings.ContainsAny(r.body, "<>{}") {
			s.Errorf("%s: the body is no plain text: %s", what, r.body)
		}
	default:
		s.wantProblem(what, r, violated)
	}
}

// wantProblem checks a body as RFC 9457 describes it.
func (s *suite) wantProblem(what string, r response, violated []string) {
	s.Helper()
	var problem struct {
		Type, Title, Detail string
		Status              int
		Violated            []string `json:"violated-policies"`
	}
	decoder := json.NewDecoder(strings.NewReader(r.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&problem); err != nil || decoder.More() {
		s.Errorf("%s: the body is not one object of JSON as it should be: %v: %s", what, err, r.body)
		return
	}
	if problem.Status != r.status || problem.Type == "" || problem.Title == "" || problem.Detail == "" {
		s.Errorf("%s: the answer with status %d has the body %s", what, r.status, r.body)
	}
	if !slices.Equal(problem.Violated, violated) {
		s.Errorf("%s: the violated policies are %q, want %q", what, problem.Violated, violated)
	}
	if r.status != http.StatusTooManyRequests {
		return
	}
	var listed []string
	items, err := parseList(r.header.Get("Ratelimit"))
	for _, item := range items {
		listed = append(listed, fmt.Sprint(item.value))
	}
	if err != nil || !slices.Equal(listed, violated) {
		s.Errorf("%s: RateLimit is %q, want the violated policies %q", what, r.header.Get("Ratelimit"), violated)
	}
}

func (s *suite) testOtherRefusals() {
	for _, c := range []struct {
		status   int
		app      App
		fields   map[string]string
		violated []string
	}{
		{
			http.StatusForbidden,
			limited(core.Policy{Limit: core.PerHour(1), Deny: prefixes("127.0.0.0/8")}),
			map[string]string{"Cache-Control": "no-store"}, nil,
		},
		{
			http.StatusRequestEntityTooLarge,
			limited(core.Policy{Limit: core.PerHour(1), And: []core.Limit{core.PerDay(3)}, Cost: func(core.Request) int { return 2 }}),
			map[string]string{"Cache-Control": "no-store"}, []string{"1/h"},
		},
		{
			http.StatusServiceUnavailable,
			App{Limiter: core.New(outage{}), Policies: []core.Policy{{Limit: core.PerHour(1), OnOutage: core.Closed, Headers: core.RateLimitFields | core.XRateLimit}}},
			map[string]string{"Cache-Control": "no-store", "Retry-After": "5"}, nil,
		},
	} {
		srv := s.serve(c.app)
		p := srv.localhost()
		for accept, form := range accepts {
			r := srv.want(c.status, p, "/", acceptLines(accept)...)
			s.wantFields(r, c.fields)
			s.wantBody(fmt.Sprintf("status %d, Accept: %q", c.status, accept), r, form, c.violated...)
		}
		if head := srv.do(p, "HEAD", "/"); head.status != c.status || head.body != "" {
			s.Errorf("HEAD is answered %d %q, want %d and nothing", head.status, head.body, c.status)
		}
		if calls := srv.callsOf(""); calls != 0 {
			s.Errorf("status %d: the handler was called %d times, want 0", c.status, calls)
		}
	}
}
