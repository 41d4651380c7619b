package core

import (
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"time"
)

// A Guard applies a [Policy] to requests: it chooses the route's limits, finds
// the client's key, asks the [Limiter], and says what to answer. It is the one
// place where that is decided, for all frameworks alike. It is safe for
// concurrent use.
type Guard struct {
	limiter *Limiter
	plan    *plan
}

// NewGuard makes a policy ready on a Limiter. The error wraps
// [ErrInvalidPolicy], says which part of the policy cannot work, and what would.
// It does not touch the network. It panics if the limiter is nil.
func NewGuard(limiter *Limiter, policy Policy) (*Guard, error) {
	if limiter == nil {
		panic("core: NewGuard: the limiter is nil; create one with New(NewMemory())")
	}
	plan, err := newPlan(policy)
	if err == nil {
		err = limiter.names.register(policy, plan)
	}
	if err != nil {
		return nil, fmt.Errorf("core: %w %s: %w", ErrInvalidPolicy, excerpt(policy.Name), err)
	}
	return &Guard{limiter: limiter, plan: plan}, nil
}

// A Decision is what a [Guard] has decided about a request.
type Decision struct {
	// Result says whether the request is Allowed and how the client stands under
	// the tightest of its limits. For an exempt request, and when the store could not be
	// asked, nothing but Allowed is set.
	Result

	// Policy is the name of the policy, given or by default.
	Policy string

	// Route is the pattern of the route that matched, or "" if none did.
	Route string

	// Status is the HTTP status for a refusal: 429, Too Many Requests (RFC 6585).
	// It is 0 if the request is allowed.
	Status int

	// Err says why the store could not be asked. The request is allowed then, and
	// counted nowhere: an outage of the store is not the client's fault.
	Err error

	fields [maxFields]field
	count  int
}

// Headers ranges over the names and values of the response's header fields, for
// a refusal and for a request that passes. A field of the same name that is
// there already is to be replaced. Nothing in them was written by a client.
func (d *Decision) Headers() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for _, f := range d.fields[:d.count] {
			if !yield(f.name, f.value) {
				return
			}
		}
	}
}

// Check decides about one request, and counts it if it is allowed. It never
// fails: if the store cannot be asked, the request is allowed and the Decision
// says why in Err.
func (g *Guard) Check(r Request) Decision {
	rule := g.plan.routes.find(r.Method(), r.Path())
	d := Decision{Policy: g.plan.name, Route: rule.pattern}
	if len(rule.meters) == 0 {
		d.Allowed = true
		return d
	}
	key, fallback := g.plan.keyOf(rule, r)
	buckets := g.limiter.buckets(key, rule.meters, fallback)
	defer g.limiter.release(buckets)
	for i := range *buckets {
		(*buckets)[i].Amount = rule.meters[i].interval
	}
	allowed, err := g.limiter.store.Pour(r.Context(), *buckets)
	if err != nil {
		d.Allowed = true
		d.Err = fmt.Errorf("core: asking the store: %w", err)
		return d
	}
	var tightest int
	d.Result, tightest = judge(allowed, rule.meters, *buckets)
	if !allowed {
		d.Status = http.StatusTooManyRequests
	}
	d.write(g.plan.headers, rule, *buckets, &rule.meters[tightest])
	return d
}

// keyOf returns whose bucket a request is poured into, and whether that is the
// client's IP for want of a key.
func (pl *plan) keyOf(rule *rule, r Request) (key string, fallback bool) {
	key, err := rule.key(r)
	if err == nil && key != "" && len(key) <= maxKey {
		return key, false
	}
	key, err = pl.ip.key(r)
	if err != nil {
		return "no address", true // all such peers are one
	}
	return key, true
}

// write puts the header fields into a decision.
func (d *Decision) write(headers Headers, rule *rule, buckets []Bucket, tightest *meter) {
	var retryAfter int64
	if !d.Allowed {
		retryAfter = max(1, seconds(d.RetryAfter))
	}
	if headers.has(RateLimitFields) {
		d.add(fieldPolicy, rule.field)
		d.add(fieldRateLimit, rateLimitField(rule.meters, buckets, retryAfter))
	}
	if headers.has(XRateLimit) || headers.has(XRateLimitUnix) {
		wait := d.ResetAfter
		if !d.Allowed {
			wait = d.RetryAfter
		}
		reset := seconds(wait)
		if headers.has(XRateLimitUnix) {
			reset = seconds(time.Duration(time.Now().UnixNano()) + wait)
		}
		d.add(fieldXLimit, strconv.Itoa(tightest.quota))
		d.add(fieldXRemaining, strconv.Itoa(d.Remaining))
		d.add(fieldXReset, strconv.FormatInt(reset, 10))
	}
	if !d.Allowed {
		d.add(fieldRetryAfter, strconv.FormatInt(retryAfter, 10))
		d.add(fieldCacheControl, "no-store")
	}
}

func (d *Decision) add(name, value string) {
	d.fields[d.count] = field{name, value}
	d.count++
}

// rateLimitField is the value of RateLimit. On a refusal it lists only the
// limits that were in the way: one that was not might say a longer time than
// Retry-After.
func rateLimitField(meters []meter, buckets []Bucket, retryAfter int64) string {
	b := make([]byte, 0, 128)
	for i := range meters {
		m, bucket := &meters[i], &buckets[i]
		if retryAfter > 0 && m.retryAfter(bucket.Level, bucket.Amount) == 0 {
			continue
		}
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b = m.appendRateLimit(b, bucket.Level, retryAfter)
	}
	return string(b)
}
