package core_test

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/spillway-go/spillway/core"
)

// table makes a policy of patterns, each with a limit of its own.
func table(patterns ...string) core.Policy {
	policy := core.Policy{Name: "table", Limit: core.PerHour(1000)}
	for i, pattern := range patterns {
		policy.Routes = append(policy.Routes, core.Route{Pattern: pattern, Limit: core.PerMinute(i + 1)})
	}
	return policy
}

func TestRoutes(t *testing.T) {
	guard := newGuard(t, table(
		"/about", "POST /login", "GET /login", "/users/{id}", "/users/me", "/users/{id}/posts/{post}",
		"/static/", "GET /static/private/", "/files/{path...}", "/{$}", "DELETE /any/{x...}", "/Admin/{Page}", "/café", "/a%2Fb/c", "/with%20space", "/%45SC/%7Bx}", "/wild/{ID}/{id}",
	))
	for request, want := range map[string]string{
		"GET /about":                   "/about",
		"POST /about":                  "/about",
		"POST /login":                  "POST /login",
		"GET /login":                   "GET /login",
		"HEAD /login":                  "GET /login",
		"PUT /login":                   "",
		"GET /users/7":                 "/users/{id}",
		"GET /users/me":                "/users/me",
		"GET /users/":                  "",
		"GET /users/7/posts":           "",
		"GET /users/7/posts/8":         "/users/{id}/posts/{post}",
		"GET /static":                  "/static/",
		"GET /static/":                 "/static/",
		"GET /static/a/b":              "/static/",
		"GET /static/private/x":        "GET /static/private/",
		"POST /static/private/x":       "/static/",
		"GET /files/a/b/c":             "/files/{path...}",
		"GET /":                        "/{$}",
		"GET /other":                   "",
		"DELETE /any/other":            "DELETE /any/{x...}",
		"DELETE /about":                "/about",
		"GET /admin/users":             "/Admin/{Page}",
		"GET /caf%C3%A9":               "/café",
		"GET /café":                    "/café",
		"GET /a%2Fb/c":                 "/a%2Fb/c",
		"GET /with%20space":            "/with%20space",
		"GET /esc/{x}":                 "/%45SC/%7Bx}",
		"GET /ESC/%7bX%7d":             "/%45SC/%7Bx}",
		"OPTIONS *":                    "",
		"GET ":                         "/{$}",
		"CONNECT /static":              "/static/",
		"CONNECT /about":               "/about",
		"CONNECT example.com:443":      "",
		"BREW /about":                  "/about",
		"get /login":                   "",
		"GET /users/%00":               "/users/{id}",
		"GET /users/%ff":               "/users/{id}",
		"GET /users/%zz":               "/users/{id}",
		"GET /users/%":                 "/users/{id}",
		"GET /users/7?x":               "/users/{id}",
		"GET /users/7;x=1":             "/users/{id}",
		"GET http://example.com/about": "",
	} {
		method, path, _ := strings.Cut(request, " ")
		r := get(path)
		r.method = method
		if got := guard.Check(r); got.Route != want {
			t.Errorf("%s: route %q, want %q", request, got.Route, want)
		}
	}
}

func TestSpellingsOfAPathShareItsLimit(t *testing.T) {
	guard := newGuard(t, core.Policy{
		Limit:  core.PerHour(1000),
		Routes: []core.Route{{Pattern: "POST /api/login", Limit: core.PerHour(1)}},
	})
	allowed := 0
	for _, path := range []string{
		"/api/login", "/api/login/", "/API/LOGIN", "/Api/Login/", "//api/login", "/api//login", "/api/login//", "/./api/login",
		"/api/./login", "/api/login/.", "/api/x/../login", "/../api/login", "/api/login/x/..", "/%61pi/login", "/api/%6Cogin", "/api/%6cogin",
		"/api/%4Cogin", "/api%2Flogin", "/api%2flogin/", "/%2e/api/login", "/api/%2E%2e/api/login", "/api/x/%2e%2e/login", "/api%2F%2Flogin",
		"/api%2F.%2Flogin", "api/login", "/api/login/%2e", "/%41%50%49/%6C%6f%67%69%6e", "///////api///////login///////",
	} {
		r := get(path)
		r.method = "POST"
		d := guard.Check(r)
		if d.Route != "POST /api/login" {
			t.Errorf("%s dodges the route: %q", path, d.Route)
		}
		if d.Allowed {
			allowed++
		}
	}
	if allowed != 1 {
		t.Errorf("%d requests allowed, want 1", allowed)
	}
}

func TestPathThatReadsInTwoWays(t *testing.T) {
	// One segment to net/http and two to gin: the stricter limit holds.
	strict, loose := core.PerHour(1), core.PerHour(100)
	for _, c := range []struct {
		segment, whole core.Limit
		want           string
	}{{strict, loose, "/{id}"}, {loose, strict, "/a/b"}} {
		guard := newGuard(t, core.Policy{Routes: []core.Route{{Pattern: "/{id}", Limit: c.segment}, {Pattern: "/a/b", Limit: c.whole}}})
		if d := guard.Check(get("/a%2Fb")); d.Route != c.want {
			t.Errorf("route %q, want %q", d.Route, c.want)
		}
	}
	exempt := newGuard(t, core.Policy{Limit: strict, Routes: []core.Route{{Pattern: "/static/"}}})
	if d := exempt.Check(get("/static%2F..%2Flogin")); d.Route != "" {
		t.Errorf("an escaped slash makes a path exempt: %q", d.Route)
	}
	if d := exempt.Check(get("/static/..%2Flogin")); d.Route != "" {
		t.Errorf("escaped dots make a path exempt: %q", d.Route)
	}
}

func TestTrailingSlashWithBothPatterns(t *testing.T) {
	guard := newGuard(t, table("/a", "/a/", "/b", "/b/{$}", "/c/{x}", "/d/{y}/{$}", "/f/g/h"))
	for path, want := range map[string]string{
		"/a": "/a", "/a/": "/a/", "/a/x": "/a/", "/b": "/b", "/b/": "/b/{$}", "/b/x": "", "/c/x/": "/c/{x}", "/d/x/": "/d/{y}/{$}", "/d/x": "/d/{y}/{$}", "/f/g/h/": "/f/g/h", "/f/g/h/i": "",
	} {
		if d := guard.Check(get(path)); d.Route != want {
			t.Errorf("%s: route %q, want %q", path, d.Route, want)
		}
	}
}

func TestTrailingSlashTakesTheStricterRule(t *testing.T) {
	guard := newGuard(t, core.Policy{
		Limit: core.PerMinute(60),
		Routes: []core.Route{
			{Pattern: "/tight", Limit: core.PerMinute(5)},
			{Pattern: "/loose", Limit: core.PerMinute(500)},
			{Pattern: "/healthz"},
			{Pattern: "/files/", Limit: core.PerMinute(10)},
			{Pattern: "/files/{x}"},
		},
	})
	for path, want := range map[string]string{"/tight/": "/tight", "/loose/": "", "/healthz/": "", "/files/a/": "/files/", "/files/a": "/files/{x}"} {
		if d := guard.Check(get(path)); d.Route != want {
			t.Errorf("%s: route %q, want %q", path, d.Route, want)
		}
	}
}

func TestRoutesRefuseWhatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		patterns []string
		want     string
	}{
		"empty":             {[]string{""}, `want a path`},
		"no slash":          {[]string{"login"}, `want a path`},
		"method alone":      {[]string{"POST"}, `want a path`},
		"method and space":  {[]string{"POST "}, `want a path`},
		"a host":            {[]string{"example.com/login"}, `can be forged`},
		"method and host":   {[]string{"GET example.com/"}, `can be forged`},
		"odd method":        {[]string{"P(ST /login"}, `"P(ST"`},
		"twice":             {[]string{"/a", "/a"}, `conflicts`},
		"twice but case":    {[]string{"/a", "/A"}, `case ignored`},
		"names only differ": {[]string{"/a/{x}", "/a/{y}"}, `conflicts`},
		"ambiguous":         {[]string{"/a/{x}", "/{y}/b"}, `conflicts`},
		"open brace":        {[]string{"/a/{x"}, `"/a/{x"`},
		"in a segment":      {[]string{"/a/b{x}"}, `"/a/b{x}"`},
		"rest not last":     {[]string{"/a/{x...}/b"}, `"/a/{x...}/b"`},
		"end not last":      {[]string{"/a/{$}/b"}, `"/a/{$}/b"`},
		"name twice":        {[]string{"/{x}/{x}"}, `"/{x}/{x}"`},
		"unclean":           {[]string{"/a//b"}, `"/a//b"`},
		"dots":              {[]string{"/a/../b"}, `want "/b"`},
	} {
		_, err := core.NewGuard(core.New(core.NewMemory()), table(c.patterns...))
		if !errors.Is(err, core.ErrInvalidPolicy) || !containsAll(err.Error(), "core: ", c.want) {
			t.Errorf("%s: %v, want an error that says %s", name, err, c.want)
		} else if strings.Contains(err.Error(), ".go") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v speaks of our code", name, err)
		}
	}
}

// Where ServeMux routes a request to a pattern, so does a Guard. The other way
// round it need not be: odd spellings count as well.
func TestRoutesAgreeWithServeMux(t *testing.T) {
	patterns := []string{
		"/a", "/a/", "/a/b", "POST /a/b", "/a/{x}", "/a/{x}/c", "/{$}", "/b/{rest...}", "GET /b/c", "/d/{x}/{y}", "/d/e/{y}", "/e/{$}", "GET /f/", "PUT /x/x/",
	}
	mux := http.NewServeMux()
	for _, pattern := range patterns {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.Pattern)) })
	}
	guard := newGuard(t, table(patterns...))
	segments := []string{"a", "b", "c", "d", "e", "x", "", "%61", "b%2Fc", "é", "..", "."}
	for range 20_000 {
		path := ""
		for range rand.IntN(5) {
			path += "/" + segments[rand.IntN(len(segments))]
		}
		if path == "" {
			path = "/"
		}
		u, err := url.ParseRequestURI(path)
		if err != nil {
			t.Fatal(err)
		}
		method := []string{"GET", "POST", "PUT", "HEAD"}[rand.IntN(4)]
		recorder := httptest.NewRecorder()
		mux.ServeHTTP(recorder, &http.Request{Method: method, URL: u, Host: "example.com"})
		if recorder.Code != http.StatusOK {
			continue // a redirect or no such route: no handler has run
		}
		want := recorder.Body.String()
		r := get(u.EscapedPath())
		r.method = method
		// What can be read in two ways may be limited by the stricter reading.
		twoWays := strings.Contains(path, "%2F") || strings.HasSuffix(path, "/")
		if got := guard.Check(r).Route; got != want && !twoWays {
			t.Fatalf("%s %s: route %q, and ServeMux has %q", method, path, got, want)
		}
	}
}

func FuzzRoutes(f *testing.F) {
	for _, seed := range []string{"/api/login", "/%61pi//login/", "/api%2Flogin", "*", "", "/\xff", "/%zz", "/a/../..", "http://x/y"} {
		f.Add("POST", seed)
	}
	guard := newGuard(f, core.Policy{
		Limit:  core.PerHour(1000),
		Routes: []core.Route{{Pattern: "/api/login", Limit: core.PerHour(1)}, {Pattern: "/api/{x}/{y...}"}},
	})
	f.Fuzz(func(t *testing.T, method, path string) {
		r := get(path)
		r.method = method
		route := guard.Check(r).Route
		// Whatever decodes to the path of the login counts as it.
		if u, err := url.ParseRequestURI(path); err == nil && u.Host == "" && strings.EqualFold(strings.TrimSuffix(u.Path, "/"), "/api/login") && isASCII(u.Path) && route != "/api/login" {
			t.Fatalf("%q is route %q", path, route)
		}
	})
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > '~' })
}

func TestLongPaths(t *testing.T) {
	guard := newGuard(t, core.Policy{
		Limit:  core.PerHour(1000),
		Routes: []core.Route{{Pattern: "/strict", Limit: core.PerHour(1)}, {Pattern: "/files/"}, {Pattern: "/{x}", Limit: core.PerHour(10)}},
	})
	for name, c := range map[string]struct{ path, want string }{
		"long":                  {"/" + strings.Repeat("a", 8000), "/{x}"},
		"too long":              {"/" + strings.Repeat("a", 1<<20), "/{x}"},
		"odd and long":          {"/" + strings.Repeat("A", 3000), "/strict"},
		"slashes":               {strings.Repeat("/", 1<<20), "/strict"},
		"segments":              {"/files" + strings.Repeat("/a", 200), "/files/"},
		"no slash in front":     {"%2Ffiles/../x", "/strict"},
		"odd segments":          {"/files/" + strings.Repeat("/a", 200), "/strict"},
		"escaped slashes":       {strings.Repeat("/%2f", 1<<18), "/strict"},
		"dots":                  {strings.Repeat("/..", 1<<18), "/strict"},
		"dots, not too many":    {"/files" + strings.Repeat("/a/..", 20), "/{x}"},
		"escapes, not too many": {"/files" + strings.Repeat("%2fa%2f%2e%2e", 60), "/{x}"},
	} {
		if d := guard.Check(get(c.path)); d.Route != c.want {
			t.Errorf("%s: route %q, want %q", name, d.Route, c.want)
		}
	}
}

// Whichever way a router reads a path, it is not looser than the strictest rule
// on the way.
func TestEveryReadingOfAPathCounts(t *testing.T) {
	guard := newGuard(t, core.Policy{
		Limit: core.PerHour(1000),
		Routes: []core.Route{
			{Pattern: "/files/", Limit: core.PerHour(1)},
			{Pattern: "/users/{id}", Limit: core.PerHour(2)},
			{Pattern: "/users/me"},
			{Pattern: "/x/{b}/{c}", Limit: core.PerHour(3)},
			{Pattern: "/x/{b}/{c}/d", Limit: core.PerHour(2)},
		},
	})
	for path, want := range map[string]string{
		"/files/../a": "/files/", "/files/x/../../a": "/files/", "/files/..": "/files/", "/files/%2e%2e/a": "/files/",
		"/files/../users/me": "/files/", "/files%2f..%2fa": "/files/", "/files/..%2fa": "/files/", "/files//../..//a": "/files/",
		"/users/.": "/users/{id}", "/users/..": "/users/{id}", "/users/%2e": "/users/{id}", "/users/%2e%2e": "/users/{id}",
		"/users/ME": "/users/{id}", "/users/%4de": "/users/{id}", "/users/me/": "", "/users/me": "/users/me", "/users/m%65": "/users/me",
		"/x//c": "/x/{b}/{c}", "/x/./c": "/x/{b}/{c}", "/x/../c": "/x/{b}/{c}", "/x/%2e/c": "/x/{b}/{c}", "/x/%2F/c": "/x/{b}/{c}",
		"/x/b/c/d/%2e/..": "/x/{b}/{c}/d", "/x/b/c/d/%2e/../": "/x/{b}/{c}/d", "/x/b/c%2Fd%zz/..": "/x/{b}/{c}", "/%78%2Fb%2F%zz": "/x/{b}/{c}",
		"/x/b//d": "/x/{b}/{c}/d", "/x/b/c/d/": "/x/{b}/{c}/d", "/X/b/c/D": "/x/{b}/{c}/d",
	} {
		if d := guard.Check(get(path)); d.Route != want {
			t.Errorf("%s: route %q, want %q", path, d.Route, want)
		}
	}
}
