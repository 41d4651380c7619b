package core

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A plan is a Policy made ready: a request has nothing left to check or parse.
type plan struct {
	Policy
	name   string
	ip     *ipFinder
	exempt []netip.Prefix
	deny   []netip.Prefix
	rest   *rule // for what no route matches
	routes *routes

	byLimit sync.Map     // Limit -> *rule, of those that LimitFor has returned
	limits  atomic.Int64 // how many
	looked  atomic.Int64 // how many requests were looked at by warnIfForwarded
}

// A rule is what holds for the requests of one route.
type rule struct {
	pattern string // of the route, "" for the rest
	key     KeyFunc
	byIP    bool    // the key is the client's IP
	meters  []meter // none: exempt
	fields  policyFields
}

const (
	defaultMaxWaiting = 1000

	// maxAnd bounds how many limits hold together, and so the work for a request
	// and the bits of Decision.violations.
	maxAnd = 16
)

func newPlan(p Policy) (*plan, error) {
	pl := &plan{Policy: p, name: p.Name}
	pl.And = slices.Clone(p.And) // LimitFor's rules are made of it later on
	if pl.name == "" {
		pl.name = p.defaultName()
	}
	if pl.MaxWaiting == 0 {
		pl.MaxWaiting = defaultMaxWaiting
	}
	if err := pl.validate(); err != nil {
		return nil, err
	}
	var err error
	if pl.exempt, err = addressList("Exempt", p.Exempt); err != nil {
		return nil, err
	}
	if pl.deny, err = addressList("Deny", p.Deny); err != nil {
		return nil, err
	}
	if pl.ip, err = newIPFinder(p.ClientIP); err != nil {
		return nil, fmt.Errorf("ClientIP: %w", err)
	}
	if pl.rest, err = pl.newRule(Route{Limit: p.Limit, And: p.And}); err != nil {
		return nil, err
	}
	limited := len(pl.rest.meters) > 0
	if p.LimitFor != nil && !limited {
		return nil, errors.New("LimitFor without a Limit: want the one that holds when LimitFor has none, like PerMinute(100)")
	}
	rules := make([]*rule, len(p.Routes))
	for i, route := range p.Routes {
		if rules[i], err = pl.newRule(route); err != nil {
			return nil, fmt.Errorf("route %s: %w", excerpt(route.Pattern), err)
		}
		limited = limited || len(rules[i].meters) > 0
	}
	if !limited {
		return nil, errors.New("it limits nothing, want a Limit, like PerMinute(100), or a Route with one")
	}
	pl.routes, err = newRoutes(rules, pl.rest)
	return pl, err
}

func (pl *plan) validate() error {
	switch {
	case pl.Count > CountSuccesses:
		return fmt.Errorf("Count %d: want CountAll, CountFailures or CountSuccesses", pl.Count)
	case pl.OnOutage > Closed:
		return fmt.Errorf("OnOutage %d: want Open or Closed", pl.OnOutage)
	case pl.MaxWait < 0 || pl.MaxWait > maxCapacity/2:
		return fmt.Errorf("MaxWait %v: want how long to hold a request, like 2*time.Second, or 0", pl.MaxWait)
	case pl.MaxWaiting < 0:
		return fmt.Errorf("MaxWaiting %d: want how many requests may be held, or 0 for %d", pl.MaxWaiting, defaultMaxWaiting)
	}
	if err := pl.Headers.validate(); err != nil {
		return err
	}
	return validateName(pl.name)
}

// defaultName is the text of the first limit.
func (p *Policy) defaultName() string {
	limit := p.Limit
	for i := 0; limit == (Limit{}) && i < len(p.Routes); i++ {
		limit = p.Routes[i].Limit
	}
	return limit.String()
}

func (pl *plan) newRule(route Route) (*rule, error) {
	r := &rule{pattern: route.Pattern, key: route.Key}
	if r.key == nil {
		r.key = pl.Key
	}
	if r.key == nil {
		r.key, r.byIP = pl.ip.key, true
	}
	if route.Limit == (Limit{}) {
		if len(route.And) > 0 {
			return nil, errors.New("And has limits and Limit has none, want the first of them in Limit")
		}
		return r, nil
	}
	if len(route.And) > maxAnd {
		return nil, fmt.Errorf("And has %d limits, want at most %d", len(route.And), maxAnd)
	}
	limits := append([]Limit{route.Limit}, route.And...)
	for i, limit := range limits {
		if err := distinctPeriod(limit, limits[:i]); err != nil {
			return nil, err
		}
		var m meter
		if err := m.init(limit); err != nil {
			return nil, err
		}
		if pl.MaxWait > maxCapacity-m.capacity {
			return nil, fmt.Errorf("MaxWait %v and %q together take more than 146 years to drain", pl.MaxWait, limit)
		}
		m.waitRoom = pl.MaxWait
		m.scope = pl.scope(route.Pattern) + ":" + m.bucket()
		m.fallbackScope = m.scope + ":ip"
		m.describe(itemName(pl.Policy.Name, route.Pattern, limit, len(limits) > 1))
		r.meters = append(r.meters, m)
	}
	r.fields = newPolicyFields(r.meters)
	return r, nil
}

func (pl *plan) scope(pattern string) string {
	scope := scopeText(pl.name)
	if pattern != "" {
		scope += ":" + scopeText(pattern)
	}
	if pl.Shadow {
		scope += ":shadow"
	}
	return scope
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

// maxLimits bounds how many limits of LimitFor are kept ready. There are as many
// as plans, mostly; one that makes them up is served all the same.
const maxLimits = 1024

// ruleFor returns the rule with the caller's own limit, or the one without if
// there is none that can be enforced.
func (pl *plan) ruleFor(r Request) *rule {
	limit, err := pl.LimitFor(r)
	if err == nil && limit == pl.Limit {
		return pl.rest
	}
	if known, ok := pl.byLimit.Load(limit); ok && err == nil {
		return known.(*rule)
	}
	made, invalid := pl.newRule(Route{Limit: limit, And: pl.And})
	if err != nil || invalid != nil || len(made.meters) == 0 {
		warnLimitFor.once(pl.name)
		return pl.rest
	}
	if pl.limits.Add(1) <= maxLimits {
		pl.byLimit.Store(limit, made)
	}
	return made
}

// keyOf returns whose bucket a request is poured into, and whether that is the
// client's IP for want of a key.
func (pl *plan) keyOf(rule *rule, r Request) (key string, fallback bool) {
	key, err := rule.key(r)
	if err == nil && key != "" && len(key) <= maxKey {
		return key, false
	}
	if err == nil && key == "" {
		warnEmptyKey.once(pl.name)
	}
	key, err = pl.ip.key(r)
	if err != nil {
		return "no address", true // all such peers are one
	}
	return key, true
}

// skips reports whether a request is exempt whatever its route.
func (pl *plan) skips(r Request) bool {
	return pl.ExemptPreflight && isPreflight(r) || len(pl.exempt) > 0 && pl.lists(pl.exempt, r) || pl.Skip != nil && pl.Skip(r)
}

// lists reports whether the client's address is in a list. One that has none is
// in no list.
func (pl *plan) lists(list []netip.Prefix, r Request) bool {
	addr, ok := pl.ip.find(r)
	return ok && containsAddr(list, addr)
}

func isPreflight(r Request) bool {
	return r.Method() == "OPTIONS" && r.Header("Origin") != "" && r.Header("Access-Control-Request-Method") != ""
}
