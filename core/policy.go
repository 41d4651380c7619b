package core

import (
	"errors"
	"net/netip"
	"time"
)

// ErrInvalidPolicy is wrapped by every error of [NewGuard] and [Guard.Swap].
var ErrInvalidPolicy = errors.New("invalid policy")

// A Policy says how requests are limited: which limit, whose bucket, and what
// the client is told. Every zero value is the safe default, so
//
//	core.Policy{Limit: core.PerMinute(100)}
//
// is a whole policy: 100 requests a minute for each client IP. A Policy is
// plain data; it is checked and made ready by [NewGuard], and changing it
// afterwards changes nothing.
//
// Its functions are called for each request, by many at once. They see a
// [Request] only while they run.
type Policy struct {
	// Name is the name of the policy, in the buckets and in the headers: up to 64
	// printable ASCII characters. It defaults to the Limit's text, "100/m".
	//
	// Policies of the same Name on one Limiter share their buckets, and must
	// have the same limits; so the same policy may guard several routes. Name a
	// policy that may change: then a changed rate goes on with the buckets as they
	// are, instead of with fresh ones. A limit with a Burst of its own has fresh
	// buckets after any change, and so has one with another Period or MaxWait.
	Name string `json:",omitzero"`

	// Limit is the limit of every request that no route matches. The zero Limit
	// exempts them. A Policy in which nothing is limited is an error.
	Limit Limit `json:",omitzero"`

	// And are further limits that must hold together with Limit, as in 10 a
	// second and 1000 an hour: a request passes all of them or is counted under
	// none. Their Periods must differ.
	And []Limit `json:",omitzero"`

	// LimitFor returns the limit of a caller in place of Limit, as the plan of a
	// customer says. If it returns an error, or a limit that is zero or otherwise
	// invalid, Limit holds, which must be set. Limits of the same Period whose
	// Burst is their Rate share the caller's bucket: an upgrade keeps the debt.
	LimitFor func(Request) (Limit, error) `json:"-"`

	// Key finds out whose bucket a request is poured into. Nil means the client's
	// IP, as found by ClientIP.
	Key KeyFunc `json:"-"`

	// ClientIP says where the client's IP is found: that is the key if Key is nil,
	// the key of a request that has none, and what Exempt and Deny are about.
	// The zero value is the peer of the connection; behind proxies, name them here.
	ClientIP ClientIP `json:",omitzero"`

	// Routes are limits for parts of the site. Where a route matches, its limits
	// hold in place of Limit, LimitFor and And, with buckets of its own.
	Routes []Route `json:",omitzero"`

	// Cost is how many requests a request counts as: 1 if nil, 0 for one that is
	// free. A negative cost counts as 1. A cost above a limit's burst can never be
	// admitted, and is refused with 413, Content Too Large, and no Retry-After.
	Cost func(Request) int `json:"-"`

	// Skip exempts the requests for which it is true.
	Skip func(Request) bool `json:"-"`

	// Exempt and Deny are the addresses of clients that are not limited, and of
	// those that are refused with 403, Forbidden. Deny takes precedence, and holds
	// on exempt routes as well.
	Exempt, Deny []netip.Prefix `json:",omitzero"`

	// ExemptPreflight exempts CORS preflights: OPTIONS requests with an Origin and
	// an Access-Control-Request-Method. Other OPTIONS requests are limited.
	ExemptPreflight bool `json:",omitzero"`

	// Count says which requests count: all of them, if zero. The others are charged
	// while they are under way, and given back after the response, as far as the
	// charge has not drained by then. In echo and fiber the app's error handler is
	// called by the middleware then, since only it knows the status.
	Count Count `json:",omitzero"`

	// MaxWait is how long a request is held rather than refused: with it, requests
	// beyond the burst leave one by one, at the limit's pace, up to MaxWait later
	// (nginx calls this delay). Zero refuses them at once. If the client goes away
	// or its context would end meanwhile, what it took is given back.
	MaxWait time.Duration `json:",omitzero"`

	// MaxWaiting is how many requests may be held at a time at this Limiter; more
	// are refused. Zero means 1000.
	MaxWaiting int `json:",omitzero"`

	// Shadow decides and counts but refuses nothing: try a policy on real traffic
	// before it is enforced. Its buckets are its own, and it sends no headers;
	// [Decision.Shadowed] says what would have been refused.
	Shadow bool `json:",omitzero"`

	// OnOutage says what happens to requests while the store cannot be asked: they
	// pass, if zero.
	OnOutage Outage `json:",omitzero"`

	// Headers are the header fields that tell a client how it stands. Zero means
	// [RateLimitFields]. A refusal says Retry-After in any case.
	Headers Headers `json:",omitzero"`

	// ShareDecision leaves the [Decision] where the handlers behind find it, with
	// the adapter's function of that name. It takes some memory for each request.
	ShareDecision bool `json:",omitzero"`
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
	// framework would not route such a request to the same handler. Where a path
	// can be read in two ways, the stricter limit holds.
	Pattern string

	// Limit is the limit of requests that match. The zero Limit exempts them.
	Limit Limit `json:",omitzero"`

	// And are further limits that must hold together with Limit.
	And []Limit `json:",omitzero"`

	// Key finds out whose bucket a request is poured into. Nil means the Policy's.
	Key KeyFunc `json:"-"`
}

// Count says which requests count.
type Count uint8

const (
	// CountAll counts every request.
	CountAll Count = iota

	// CountFailures counts the requests that were answered with a status of 400
	// or above, or not at all: wrong passwords, but not right ones.
	CountFailures

	// CountSuccesses counts the others.
	CountSuccesses
)

// counts reports whether a request that was answered with status counts.
func (c Count) counts(status int) bool {
	failed := status < 100 || status >= 400
	return c == CountAll || failed == (c == CountFailures)
}

// Outage says what happens while the store cannot be asked.
type Outage uint8

const (
	// Open lets requests pass, uncounted: an outage of the store is not the
	// client's fault.
	Open Outage = iota

	// Closed refuses them with 503, Service Unavailable, and a Retry-After.
	Closed
)
