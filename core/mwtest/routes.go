package mwtest

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/spillway-go/spillway/core"
)

// routeCases are about which limit holds for which request.
var routeCases = []testCase{
	{
		"route table", "the same table means the same in every framework.",
		(*suite).testRouteTable,
	},
	{
		"route limits", "each route of a table has its own bucket, for each client.",
		(*suite).testRouteLimits,
	},
	{
		"single route", "a policy on one route leaves the others alone.",
		(*suite).testSingleRoute,
	},
}

func (s *suite) testRouteTable() {
	routes := func(patterns ...string) (routes []core.Route) {
		for _, pattern := range patterns {
			routes = append(routes, core.Route{Pattern: pattern, Limit: core.PerHour(1000)})
		}
		return routes
	}
	table := routes("/{$}", "POST /login", "/users/{id}", "GET /users/{id}/posts", "/users/self", "/static/", "/static/deep/{rest...}", "DELETE /items/")
	table = append(table, core.Route{Pattern: "/healthz"})
	srv := s.serve(limited(core.Policy{Name: "table", Limit: core.PerHour(1000), Routes: table}))
	p := srv.localhost()
	for _, c := range []struct{ request, pattern string }{
		{"GET /", "/{$}"},
		{"GET /?a=/login", "/{$}"},
		{"POST /login", "POST /login"},
		{"POST /login?next=/", "POST /login"},
		{"GET /login", ""},
		{"PUT /login", ""},
		{"POST /login/more", ""},
		{"GET /users/7", "/users/{id}"},
		{"PATCH /users/7", "/users/{id}"},
		{"GET /users/self", "/users/self"},
		{"GET /users/7/posts", "GET /users/{id}/posts"},
		{"HEAD /users/7/posts", "GET /users/{id}/posts"},
		{"POST /users/7/posts", ""},
		{"GET /static/", "/static/"},
		{"GET /static/a/b.css", "/static/"},
		{"GET /static/deep/er", "/static/deep/{rest...}"},
		{"DELETE /items/7", "DELETE /items/"},
		{"GET /items/7", ""},
		{"GET /elsewhere", ""},
		{"GET /healthz", "exempt"},
		{"POST /healthz", "exempt"},
	} {
		method, target, _ := strings.Cut(c.request, " ")
		r := srv.do(p, method, target)
		want := ""
		switch {
		case c.pattern == "":
			want = `"table";q=1000;w=3600`
		case c.pattern != "exempt":
			want = fmt.Sprintf("%q;q=1000;w=3600", "table "+c.pattern)
		}
		if got := r.header.Get("Ratelimit-Policy"); r.status != http.StatusOK || got != want {
			s.Errorf("%s: the status is %d and RateLimit-Policy %q, want 200 and %q", c.request, r.status, got, want)
		}
	}
}

func (s *suite) testRouteLimits() {
	srv := s.serve(limited(core.Policy{Name: "table", Limit: core.PerHour(4), Routes: []core.Route{
		{Pattern: "/users/{id}", Limit: core.PerHour(2)},
		{Pattern: "/keys", Limit: core.PerHour(3), Key: core.ByHeader("X-API-Key")},
		{Pattern: "/healthz"},
	}}))
	p := srv.localhost()
	check := func(what string, passed, want int) {
		if passed != want {
			s.Errorf("%s: %d requests pass, want %d", what, passed, want)
		}
	}
	check("a route, whatever its wildcard is", srv.passed(2, p, "/users/1")+srv.passed(2, p, "/users/2"), 2)
	check("a route with a key of its own", srv.passed(5, p, "/keys", "X-API-Key: a")+srv.passed(5, p, "/keys", "X-API-Key: b"), 6)
	check("the rest", srv.passed(3, p, "/a")+srv.passed(3, p, "/b"), 4)
	check("an exempt route", srv.passed(20, p, "/healthz"), 20)
	check("another client", srv.passed(4, srv.peer("127.0.0.2"), "/users/1"), 2)
}

func (s *suite) testSingleRoute() {
	app := limited()
	app.Routes = []Route{
		{Method: "GET", Path: "/limited", Policies: []core.Policy{{Name: "one", Limit: core.PerHour(2)}}},
		{Method: "GET", Path: "/free"},
	}
	srv := s.serve(app)
	p := srv.localhost()
	if passed := srv.passed(5, p, "/limited"); passed != 2 || srv.callsOf("/limited") != 2 {
		s.Errorf("%d requests to the limited route pass and %d reach its handler, want 2", passed, srv.callsOf("/limited"))
	}
	for _, path := range []string{"/free", "/rest"} {
		for range 5 {
			s.wantFields(srv.want(http.StatusOK, p, path), nil)
		}
	}
}
