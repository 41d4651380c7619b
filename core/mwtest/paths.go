package mwtest

import (
	"net/http"
	"strings"

	"github.com/spillway-go/spillway/core"
)

// pathCases are about the ways to write a path.
var pathCases = []testCase{
	{
		"spellings of a path", "what a framework takes for the same route must not have a limit for each spelling.",
		(*suite).testSpellings,
	},
	{
		"spellings of a wildcard", "a limit on /users/{id} is one for all ids, however they are written.",
		(*suite).testWildcardSpellings,
	},
	{
		"spellings of an inner wildcard", "a limit on /users/{id}/posts is one for all ids, however they are written.",
		(*suite).testInnerWildcardSpellings,
	},
	{
		"spellings of a subtree", "a limit on /files/ holds for all that the framework routes there.",
		(*suite).testSubtreeSpellings,
	},
}

func (s *suite) testSpellings() {
	s.spellings("/login", "/login", `
		/LOGIN /Login /login/ /login// /login/// //login ///login //login// /./login /././login /login/.
		/login/./ /a/../login /a/b/../../login /../login /login/../login /login/x/.. /%6Cogin /%6cogin
		/%4Cogin /log%69n /%6c%6f%67%69%6e /login%2F /login%2f /%2Flogin /%2flogin /%2F%2Flogin /%2e/login
		/%2E/login /a/%2e%2e/login /a%2F..%2Flogin /a/..%2flogin /login/%2e /login/%2E%2e/login
		/login;a=b /login;/ /;/login /login? /login?a=b /login/?a=b /login?/ /login# /login#a /login. /login..
		/login%20 /login%00 /login%0a /login%3f /login%3Fa /login%23 /login%3b /%256cogin /login%252f /login%5c
		/\login \login /login\ /login%C0%AF /login%zz /%zzlogin /login% login ./login
		http://example.com/login http://example.com//login http://example.com/LOGIN/ http://other/login?a HTTP://example.com/login
		//example.com/login //example.com//login http:///login`)
}

func (s *suite) testWildcardSpellings() {
	s.spellings("/users/{id}", "/users/1", `
		/users/2 /users/%32 /USERS/3 /users/4/ /users//5 //users/6 /./users/7 /users/./8 /a/../users/9 /%75sers/10
		/users/a%20b /users/a%00b /users/;a /users/12;a=b
		/users/%C3%A9 /users/%C0 /users/%zz /users/13%zz /users/14?a=b /users/%2525 /users/a+b /users/15#a
		http://example.com/users/16 //example.com/users/17 /users/A /users/./../users/18
		/users/. /users/.. /users/%2e /users/%2E%2e /users/20// /users/ME`)
}

func (s *suite) testInnerWildcardSpellings() {
	s.spellings("/users/{id}/posts", "/users/1/posts", `
		/users/2/posts /users/2/posts/ /users/a%2Fb/posts /users/3%2Fposts /users%2F4/posts /users%2F5%2Fposts
		/Users/6/Posts /users/7//posts /users/8/./posts /users/9/x/../posts /users/%C3%A9/posts /users/10/%70osts
		/users/;/posts /users/%zz/posts /users/11/posts;a /users/12/posts?a /%2e/users/13/posts
		/users//posts /users/./posts /users/../posts /users/%2e%2e/posts /users/%2F/posts
		/users/^%2F7/posts /users/\%2F7/posts /users/|%2F7/posts /users/{%2F7/posts /users/"%2F7/posts /users/%5E%2F7/posts`)
}

func (s *suite) testSubtreeSpellings() {
	s.spellings("/files/{path...}", "/files/a", `
		/files/a/b /files//a /files/a//b //files/a /FILES/a /files/A /files/./a /files/a/. /files/a/.. /files/a/../b
		/%66iles/a /files%2Fa /files%2fa%2fb /files/%2e%2e/files/a /files/a%00 /files/%zz /files/a;b /files/a?b
		http://example.com/files/a /files/../files/a /files/b/../../files/c
		/files/../a /files/../../a /files/x/../../a /files/%2e%2e/a /files/%2E%2E%2fa /files/..%2fa /files%2f..%2fa /files/.. /files/../users/me`)
}

// spellings exhausts the limit of a route, and sees whether another way to write
// its path still reaches the handler.
func (s *suite) spellings(route, path, spellings string) {
	const limit = 3
	app := limited(core.Policy{
		Name:   "table",
		Limit:  core.PerHour(1_000_000),
		Routes: []core.Route{{Pattern: "POST " + route, Limit: core.PerHour(limit)}},
	})
	app.Routes = []Route{{Method: "POST", Path: route}}
	srv := s.serve(app)
	for range limit + 1 {
		srv.do(srv.localhost(), "POST", path)
	}
	if calls := srv.callsOf(route); calls != limit {
		s.Fatalf("POST %s reaches the handler %d times, want %d", path, calls, limit)
	}
	for _, spelling := range strings.Fields(spellings) {
		reached := srv.callsOf(route)
		// What the framework refuses to read, it may answer as it likes.
		r, err := srv.localhost().do("POST", spelling)
		if srv.callsOf(route) > reached {
			s.Errorf("POST %s is not limited as POST %s is, and reaches its handler: status %d, %v", spelling, route, r.status, err)
		}
		if err == nil && r.status >= http.StatusInternalServerError && r.status != http.StatusNotImplemented {
			s.Errorf("POST %s: status %d: %s", spelling, r.status, r.body)
		}
	}
}
