package core

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
)

// routes finds the rule for a request. The matching is that of an
// [http.ServeMux] in which the patterns are registered, so that they mean the
// same in every framework.
type routes struct {
	rules     []*rule
	mux       *http.ServeMux
	byPattern map[string]*rule // as registered with mux
	rest      *rule
	views     sync.Pool // *muxRequest
}

// A muxRequest is as much of a request as the ServeMux looks at.
type muxRequest struct {
	http.Request
	url url.URL
}

func newRoutes(rules []*rule, rest *rule) (*routes, error) {
	rs := &routes{
		rules:     rules,
		mux:       http.NewServeMux(),
		byPattern: make(map[string]*rule),
		rest:      rest,
	}
	rs.views.New = func() any {
		v := new(muxRequest)
		v.URL = &v.url
		return v
	}
	for _, r := range rules {
		if err := rs.register(r); err != nil {
			return nil, err
		}
	}
	// Without a pattern that matches, ServeMux goes on to look for other methods.
	_ = rs.handle("/", rest)
	return rs, nil
}

func (rs *routes) register(r *rule) error {
	method, path := splitPattern(r.pattern)
	if path == "" || !strings.HasPrefix(path, "/") {
		if strings.Contains(path, "/") {
			return fmt.Errorf("route %s: a host can be forged by the client: leave it out, like \"/login\"", excerpt(r.pattern))
		}
		return fmt.Errorf("route %s: want a path, with a method or without, like \"POST /login\" or \"/static/\"", excerpt(r.pattern))
	}
	if method != "" && !isToken(method) {
		return fmt.Errorf("route %s: %s is not a method, want one like \"POST /login\"", excerpt(r.pattern), excerpt(method))
	}
	if clean := cleanPath(path); clean != path {
		return fmt.Errorf("route %s: no request has such a path once it is cleaned: want %s", excerpt(r.pattern), excerpt(clean))
	}
	if err := rs.handle(foldPattern(r.pattern), r); err != nil {
		return fmt.Errorf("route %s: %w", excerpt(r.pattern), err)
	}
	return nil
}

// registeredAt is how ServeMux's panic names the line of code that registered a pattern.
var registeredAt = regexp.MustCompile(` \(registered at [^)]*\)`)

// handle registers a pattern. What ServeMux says in a panic becomes an error.
func (rs *routes) handle(pattern string, r *rule) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			text := registeredAt.ReplaceAllString(fmt.Sprint(reason), "")
			err = fmt.Errorf("%s", strings.ReplaceAll(text, "\n", " "))
		}
	}()
	rs.mux.Handle(pattern, http.NotFoundHandler())
	rs.byPattern[pattern] = r
	return nil
}

// splitPattern takes "POST /login" apart.
func splitPattern(pattern string) (method, path string) {
	if i := strings.IndexAny(pattern, " \t"); i >= 0 {
		return pattern[:i], strings.TrimLeft(pattern[i:], " \t")
	}
	return "", pattern
}

// foldPattern writes a pattern in the spelling in which find looks paths up: in
// lower case and with no more escapes than needed, but for the method.
func foldPattern(pattern string) string {
	method, path := splitPattern(pattern)
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		segments[i] = foldCase(segment)
		if unescaped, err := url.PathUnescape(segment); err == nil && unescaped != segment && segment[0] != '{' {
			segments[i] = url.PathEscape(foldCase(unescaped))
		}
	}
	path = strings.Join(segments, "/")
	if method == "" {
		return path
	}
	return method + " " + path
}

// find returns the rule for a request.
//
// Some paths can be read in two ways: net/http routes "/a%2Fb" as one segment
// and gin as two; fiber routes "/a/" as "/a" and the others do not. Whichever
// reading the framework takes, the stricter of the two rules holds.
func (rs *routes) find(method, path string) *rule {
	if len(rs.rules) == 0 {
		return rs.rest
	}
	path = foldCase(cleanPath(path))
	if !strings.Contains(path, "%") {
		return rs.matchSlash(method, path, "")
	}
	plain, escaped, slash := unescapeSegments(path)
	bySegment := rs.matchSlash(method, plain, escaped)
	if whole := cleanPath(plain); slash || whole != plain {
		return stricter(bySegment, rs.matchSlash(method, whole, ""))
	}
	return bySegment
}

// matchSlash returns the rule for a path, and for the same path without its
// trailing slash unless the table has a pattern that ends there with one.
func (rs *routes) matchSlash(method, path, escaped string) *rule {
	r := rs.match(method, path, escaped)
	if len(path) == 1 || !strings.HasSuffix(path, "/") || r.endsWithSlash(path) {
		return r
	}
	return stricter(r, rs.match(method, path[:len(path)-1], strings.TrimSuffix(escaped, "/")))
}

// endsWithSlash reports whether the rule's pattern has the trailing slash of
// path, rather than one of a shorter path.
func (r *rule) endsWithSlash(path string) bool {
	pattern := r.pattern[:strings.LastIndexByte(r.pattern, '/')+1]
	if last := r.pattern[len(pattern):]; last != "" && last != "{$}" && !strings.HasSuffix(last, "...}") {
		return false
	}
	return strings.Count(pattern, "/") == strings.Count(path, "/")
}

// unescapeSegments removes all escapes from a path, and writes it with only
// those that it needs. It reports whether a slash was escaped.
func unescapeSegments(path string) (plain, escaped string, slash bool) {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if unescaped, err := url.PathUnescape(segment); err == nil {
			segments[i] = foldCase(unescaped)
			slash = slash || strings.Contains(unescaped, "/")
		}
	}
	plain = strings.Join(segments, "/")
	for i, segment := range segments {
		segments[i] = url.PathEscape(segment)
	}
	return plain, strings.Join(segments, "/"), slash
}

// match asks the ServeMux. escaped is the path with its escapes, if it has any.
func (rs *routes) match(method, path, escaped string) *rule {
	v := rs.views.Get().(*muxRequest)
	defer rs.views.Put(v)
	v.Method, v.url = method, url.URL{Path: path, RawPath: escaped}
	_, pattern := rs.mux.Handler(&v.Request)
	r, ok := rs.byPattern[pattern]
	if !ok && method == http.MethodConnect {
		// For CONNECT, ServeMux answers "/static" with the path of "/static/" and not its pattern.
		v.url = url.URL{Path: path + "/"}
		_, pattern = rs.mux.Handler(&v.Request)
		r, ok = rs.byPattern[pattern]
	}
	v.Method, v.url = "", url.URL{} // they may point into memory that is recycled
	if !ok {
		return rs.rest
	}
	return r
}

// stricter returns the rule that lets fewer requests through in the long run.
func stricter(a, b *rule) *rule {
	if b.slowest() > a.slowest() {
		return b
	}
	return a
}

// slowest is the longest emission interval of a rule, in nanoseconds.
func (r *rule) slowest() (longest int64) {
	for i := range r.meters {
		longest = max(longest, int64(r.meters[i].interval))
	}
	return longest
}

// cleanPath removes doubled slashes and dot segments, and keeps a trailing slash.
func cleanPath(path string) string {
	if strings.HasPrefix(path, "/") && !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return path
	}
	cleaned := make([]string, 1, 8)
	for _, segment := range strings.Split(path, "/") {
		switch segment {
		case "", ".":
		case "..":
			cleaned = cleaned[:max(1, len(cleaned)-1)]
		default:
			cleaned = append(cleaned, segment)
		}
	}
	clean := strings.Join(cleaned, "/")
	if last := path[strings.LastIndexByte(path, '/')+1:]; len(cleaned) == 1 || last == "" || last == "." || last == ".." {
		clean += "/"
	}
	return clean
}

// foldCase lowers ASCII letters, as routers that ignore case do.
func foldCase(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			folded := []byte(s)
			for ; i < len(s); i++ {
				if 'A' <= s[i] && s[i] <= 'Z' {
					folded[i] |= 0x20
				}
			}
			return string(folded)
		}
	}
	return s
}
