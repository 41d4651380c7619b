package core

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// ErrInvalidPolicy is wrapped by every error of [NewGuard].
var ErrInvalidPolicy = errors.New("invalid policy")

// A Policy says how requests are limited: which limit, whose bucket, and what
// the client is told. Every zero value is the safe default, so
//
//	core.Policy{Limit: core.PerMinute(100)}
//
// is a whole policy: 100 requests a minute for each client IP. A Policy is
// plain data; it is checked and made ready by [NewGuard], and changing it
// afterwards changes nothing.
type Policy struct {
	// Name is the name of the policy, in the buckets and in the headers: up to 64
	// printable ASCII characters. It defaults to the Limit's text, "100/m".
	//
	// Policies of the same Name on one Limiter share their buckets, and must
	// have the same limits; so the same policy may guard several routes. Name a
	// policy that may change: then a changed limit goes on with the buckets as
	// they are, instead of with fresh ones.
	Name string

	// Limit is the limit of every request that no route matches. The zero Limit
	// exempts them. A Policy in which nothing is limited is an error.
	Limit Limit

	// And are further limits that must hold together with Limit, as in 10 a
	// second and 1000 an hour: a request passes all of them or is counted under
	// none. Their Periods must differ.
	And []Limit

	// Key finds out whose bucket a request is poured into. Nil means the client's
	// IP, as found by ClientIP.
	Key KeyFunc

	// ClientIP says where the client's IP is found: that is the key if Key is nil,
	// and for a request that has no key. The zero value is the peer of the
	// connection; behind proxies, name them here.
	ClientIP ClientIP

	// Routes are limits for parts of the site. Where a route matches, its limits
	// hold in place of Limit and And, with buckets of its own.
	Routes []Route

	// Headers are the header fields that tell a client how it stands. Zero means
	// [RateLimitFields]. A refusal says Retry-After in any case.
	Headers Headers
}

// A Route is the limit of those requests of a [Policy] that match a pattern.
type Route struct {
	// Pattern is a pattern of [net/http.ServeMux], without a host:
	//
	//	/about             this path
	//	POST /login        this path, with this method
	//	/users/{id}        any one segment
	//	/static/           the path and everything below it
	//	/files/{path...}   the same
	//	/{$}               the root and nothing below it
	//
	// Of several that match, the most specific one decides, whatever their order,
	// and two of which neither is more specific are an error, as with ServeMux.
	//
	// A limit cannot be dodged by the spelling of a path: case, a trailing slash,
	// doubled slashes, dot segments and escapes are ignored, even where the
	// framework would not route such a request to the same handler.
	Pattern string

	// Limit is the limit of requests that match. The zero Limit exempts them.
	Limit Limit

	// And are further limits that must hold together with Limit.
	And []Limit

	// Key finds out whose bucket a request is poured into. Nil means the Policy's.
	Key KeyFunc
}

// A plan is a Policy made ready: a request has nothing left to check or parse.
type plan struct {
	name    string
	headers Headers
	ip      *ipFinder
	rest    *rule // for what no route matches
	routes  *routes
}

// A rule is what holds for the requests of one route.
type rule struct {
	pattern string // of the route, "" for the rest
	key     KeyFunc
	meters  []meter // none: exempt
	field   string  // value of the RateLimit-Policy field
}

func newPlan(p Policy) (*plan, error) {
	pl := &plan{name: p.Name, headers: p.Headers}
	if err := p.Headers.validate(); err != nil {
		return nil, err
	}
	if pl.name == "" {
		pl.name = p.defaultName()
	}
	if err := validateName(pl.name); err != nil {
		return nil, err
	}
	var err error
	if pl.ip, err = newIPFinder(p.ClientIP); err != nil {
		return nil, fmt.Errorf("ClientIP: %w", err)
	}
	if p.Key == nil {
		p.Key = pl.ip.key
	}
	if pl.rest, err = p.rule(pl.name, Route{Limit: p.Limit, And: p.And}); err != nil {
		return nil, err
	}
	limited := len(pl.rest.meters) > 0
	rules := make([]*rule, len(p.Routes))
	for i, route := range p.Routes {
		if rules[i], err = p.rule(pl.name, route); err != nil {
			return nil, fmt.Errorf("route %s: %w", excerpt(route.Pattern), err)
		}
		limited = limited || len(rules[i].meters) > 0
	}
	if !limited {
		return nil, errors.New("it limits nothing, want a Limit, like PerMinute(100), or a Route with one")
	}
	if pl.routes, err = newRoutes(rules, pl.rest); err != nil {
		return nil, err
	}
	return pl, nil
}

// defaultName is the text of the first limit.
func (p *Policy) defaultName() string {
	limit := p.Limit
	for i := 0; limit == (Limit{}) && i < len(p.Routes); i++ {
		limit = p.Routes[i].Limit
	}
	return limit.String()
}

func (p *Policy) rule(name string, route Route) (*rule, error) {
	r := &rule{pattern: route.Pattern, key: route.Key}
	if r.key == nil {
		r.key = p.Key
	}
	if route.Limit == (Limit{}) {
		if len(route.And) > 0 {
			return nil, errors.New("And has limits and Limit has none, want the first of them in Limit")
		}
		return r, nil
	}
	limits := append([]Limit{route.Limit}, route.And...)
	for i, limit := range limits {
		if err := distinctPeriod(limit, limits[:i]); err != nil {
			return nil, err
		}
		scope := scopeText(name)
		if route.Pattern != "" {
			scope += ":" + scopeText(route.Pattern)
		}
		m, err := newMeter(limit, scope+":"+periodText(limit.Period))
		if err != nil {
			return nil, err
		}
		m.fallbackScope = m.scope + ":ip"
		m.describe(itemName(p.Name, route.Pattern, limit, len(limits) > 1))
		r.meters = append(r.meters, m)
	}
	r.field = policyField(r.meters)
	return r, nil
}

// itemName is the name of one limit in the RateLimit fields: the policy's name
// and the route's pattern where there are, the limit's text where it takes that
// to tell it from others.
func itemName(name, pattern string, limit Limit, several bool) string {
	var parts []string
	for _, part := range []string{name, pattern} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if several || parts == nil {
		parts = append(parts, limit.String())
	}
	return strings.Join(parts, " ")
}

const maxName = 64

func validateName(name string) error {
	if len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }) {
		return fmt.Errorf("Name %s: want up to %d printable ASCII characters, like \"login\"", excerpt(name), maxName)
	}
	return nil
}

// scopeText writes a name in the characters of a [Bucket]'s Scope. Others are
// escaped: a space would be unhandy, and a brace would tell a Redis Cluster which
// slot a key belongs to.
func scopeText(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if c := name[i]; isDigit(c) || isLetter(c) || strings.IndexByte("-._/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// names are the policies on a Limiter. The zero value is ready for use.
type names struct {
	mu     sync.Mutex
	byName map[string]named
}

type named struct {
	limits  []string
	unnamed bool
}

// register enters a policy, or says why its buckets would get mixed up with
// those of another one.
func (n *names) register(p Policy, pl *plan) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	this := named{limits: pl.limits(), unnamed: p.Name == ""}
	other, taken := n.byName[pl.name]
	switch {
	case !taken:
	case this.unnamed || other.unnamed:
		return fmt.Errorf("another policy on this Limiter is also called %q, and they would share their buckets: give this one a Name of its own, like \"login\"", pl.name)
	case !slices.Equal(this.limits, other.limits):
		return fmt.Errorf("another policy on this Limiter is also named %q, and has other limits: give this one another Name", pl.name)
	}
	if n.byName == nil {
		n.byName = make(map[string]named)
	}
	n.byName[pl.name] = this
	return nil
}

// limits lists the scopes and limits of a plan.
func (pl *plan) limits() []string {
	var limits []string
	for _, r := range append([]*rule{pl.rest}, pl.routes.rules...) {
		for i := range r.meters {
			limits = append(limits, r.meters[i].scope+" "+r.meters[i].limit.String())
		}
	}
	slices.Sort(limits)
	return limits
}
