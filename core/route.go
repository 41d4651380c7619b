package core

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

// routes finds the rule for a request. The matching is that of an
// [http.ServeMux] in which the patterns are registered, so that they mean the
// same in every framework.
//
// A path can mean different things to different routers: "/Login" may be
// "/login" or not, "/a%2Fb" one segment or two, "/files/../x" within "/files/" or
// not, "/a/" the same as "/a". Nobody can tell from the path alone which handler
// it is going to reach. So every reading is looked up, and the strictest of the
// rules holds. Most paths have only one.
type routes struct {
	rules     []*rule
	rest      *rule
	strictest *rule    // of them all, for paths that are not worth the work
	asSent    *matcher // patterns as they are
	folded    *matcher // patterns in lower case
	sameCase  bool     // the two are alike
}

// Reading a path in every way must not be work for an attacker to order. Of one
// with a single reading only so much is looked at. One with several that is longer
// is under the strictest rule of the table, whatever it is; and so is one whose
// first slash is escaped.
const (
	maxPath     = 8 << 10 // bytes, of a path with one reading
	maxOddPath  = 2 << 10 // bytes, of a path with several
	maxSegments = 128     // of a path with several
)

func newRoutes(rules []*rule, rest *rule) (*routes, error) {
	rs := &routes{rules: rules, rest: rest, asSent: newMatcher(), folded: newMatcher(), sameCase: true}
	if len(rules) > 0 && !patternsWork() {
		return nil, errors.New("routes need the patterns that http.ServeMux has since Go 1.22, and GODEBUG=httpmuxgo121=1 switches them off")
	}
	for _, r := range rules {
		rs.strictest = stricter(rs.strictest, r)
		if err := rs.register(r); err != nil {
			return nil, fmt.Errorf("route %s: %w", excerpt(r.pattern), err)
		}
	}
	// Without a pattern that matches, ServeMux goes on to look for other methods.
	// If the table has one for everything, that is an error, and nothing is left for
	// the rest.
	if err := rs.asSent.handle("/", rest); err == nil {
		rs.strictest = stricter(rest, rs.strictest)
	}
	_ = rs.folded.handle("/", rest)
	return rs, nil
}

func (rs *routes) register(r *rule) error {
	method, path := splitPattern(r.pattern)
	switch {
	case strings.Contains(path, "/") && path[0] != '/':
		return errors.New("a host can be forged by the client: leave it out, like \"/login\"")
	case path == "" || path[0] != '/':
		return errors.New("want a path, with a method or without, like \"POST /login\" or \"/static/\"")
	case method != "" && !isToken(method):
		return fmt.Errorf("%s is not a method, want one like \"POST /login\"", excerpt(method))
	}
	if clean := joinSegments(clean(splitPath(path))); clean != path {
		return fmt.Errorf("no request has such a path once it is cleaned: want %s", excerpt(clean))
	}
	if err := rs.asSent.handle(r.pattern, r); err != nil {
		return err
	}
	folded := foldPattern(r.pattern)
	rs.sameCase = rs.sameCase && folded == r.pattern
	if err := rs.folded.handle(folded, r); err != nil {
		return fmt.Errorf("with case ignored, as some routers do: %w", err)
	}
	return nil
}

// patternsWork reports whether ServeMux knows methods and wildcards.
func patternsWork() bool {
	mux := http.NewServeMux()
	mux.Handle("GET /{any}", http.NotFoundHandler())
	_, pattern := mux.Handler(&http.Request{Method: "GET", URL: &url.URL{Path: "/path"}})
	return pattern != ""
}

// find returns the rule for a request.
func (rs *routes) find(method, path string) *rule {
	if len(rs.rules) == 0 {
		return rs.rest
	}
	if isPlain(path) {
		path = path[:min(len(path), maxPath)] // no pattern is as long, and no dots lead out again
		if rs.sameCase {
			return rs.asSent.match(method, path, "")
		}
	} else if strings.HasPrefix(path, "%") || len(path) > maxOddPath || strings.Count(path, "/") > maxSegments {
		return rs.strictest
	}
	var strictest *rule
	for _, segments := range readings(path) {
		strictest = stricter(strictest, rs.asSent.matchSegments(method, segments))
		strictest = stricter(strictest, rs.folded.matchSegments(method, fold(segments)))
	}
	return strictest
}

// isPlain reports whether a path has only one reading.
func isPlain(path string) bool {
	if path == "" || path[0] != '/' || len(path) > 1 && path[len(path)-1] == '/' {
		return false
	}
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '%', 'A' <= c && c <= 'Z':
			return false
		case c == '/' && i+1 < len(path) && (path[i+1] == '/' || path[i+1] == '.'):
			return false
		}
	}
	return true
}

// stricter returns the rule that lets fewer requests through in the long run.
// Either may be nil.
func stricter(a, b *rule) *rule {
	if a == nil || b != nil && b.slowest() > a.slowest() {
		return b
	}
	return a
}

// slowest is the longest emission interval of a rule, 0 if it is exempt.
func (r *rule) slowest() (longest time.Duration) {
	for i := range r.meters {
		longest = max(longest, r.meters[i].interval)
	}
	return longest
}

// A matcher is a ServeMux that tells which rule a request belongs to.
type matcher struct {
	mux       *http.ServeMux
	byPattern map[string]*rule
	requests  sync.Pool // *muxRequest
}

// A muxRequest is as much of a request as a ServeMux looks at.
type muxRequest struct {
	http.Request
	url url.URL
}

func newMatcher() *matcher {
	m := &matcher{mux: http.NewServeMux(), byPattern: make(map[string]*rule)}
	m.requests.New = func() any {
		r := new(muxRequest)
		r.URL = &r.url
		return r
	}
	return m
}

// registeredAt is how ServeMux's panic names the line of code that registered a
// pattern.
var registeredAt = regexp.MustCompile(` \(registered at [^)]*\)`)

// handle registers a pattern. What ServeMux says in a panic becomes an error.
func (m *matcher) handle(pattern string, r *rule) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			text := registeredAt.ReplaceAllString(fmt.Sprint(reason), "")
			err = errors.New(strings.Join(strings.Fields(text), " "))
		}
	}()
	m.mux.Handle(pattern, http.NotFoundHandler())
	m.byPattern[pattern] = r
	return nil
}

// match asks the ServeMux. escaped is the path with its escapes, if it has any.
func (m *matcher) match(method, path, escaped string) *rule {
	r := m.requests.Get().(*muxRequest)
	r.Method, r.url.Path, r.url.RawPath = method, path, escaped
	_, pattern := m.mux.Handler(&r.Request)
	found := m.byPattern[pattern]
	if found == nil && method == http.MethodConnect {
		// For CONNECT, ServeMux answers "/static" with the path of "/static/" and not
		// its pattern.
		r.url.Path += "/"
		if escaped != "" {
			r.url.RawPath += "/"
		}
		_, pattern = m.mux.Handler(&r.Request)
		found = m.byPattern[pattern]
	}
	r.Method, r.url.Path, r.url.RawPath = "", "", "" // they may point into memory that is recycled
	m.requests.Put(r)
	if found == nil {
		return m.byPattern["/"]
	}
	return found
}

// matchSegments asks for a path of which the segments are not to be changed any
// more, and for the same path without a trailing slash, unless the table has
// both patterns.
func (m *matcher) matchSegments(method string, segments []string) *rule {
	path, escaped := spell(segments)
	with := m.match(method, path, escaped)
	last := len(segments) - 1
	if last == 0 || segments[last] != "" {
		return with
	}
	path, escaped = spell(segments[:last])
	without := m.match(method, path, escaped)
	if _, path := splitPattern(without.pattern); with.endsWithSlash(path) {
		return with
	}
	return stricter(with, without)
}

// endsWithSlash reports whether the rule's pattern is path and a trailing slash.
func (r *rule) endsWithSlash(path string) bool {
	_, pattern := splitPattern(r.pattern)
	rest, ok := strings.CutPrefix(pattern, path+"/")
	return ok && path != "" && (rest == "" || rest == "{$}" || strings.HasSuffix(rest, "...}"))
}

// splitPattern takes "POST /login" apart.
func splitPattern(pattern string) (method, path string) {
	if i := strings.IndexAny(pattern, " \t"); i >= 0 {
		return pattern[:i], strings.TrimLeft(pattern[i:], " \t")
	}
	return "", pattern
}

// foldPattern writes a pattern in lower case, but for the method.
func foldPattern(pattern string) string {
	method, path := splitPattern(pattern)
	segments := splitPath(path)
	for i, segment := range segments {
		switch unescaped := unescape(segment); {
		case strings.HasPrefix(segment, "{"): // a wildcard
		case unescaped == segment:
			segments[i] = foldCase(segment)
		default:
			segments[i] = url.PathEscape(foldCase(unescaped))
		}
	}
	if path = joinSegments(segments); method == "" {
		return path
	}
	return method + " " + path
}
