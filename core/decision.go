package core

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// A Decision is what a [Guard] has decided about a request. It may be copied and
// kept.
type Decision struct {
	// Result says whether the request is Allowed and how the client stands under
	// the tightest of its limits. For a request that is exempt, or denied by its
	// address, and while the store cannot be asked, nothing but Allowed is set.
	Result

	// Policy is the name of the policy, given or by default.
	Policy string

	// Route is the pattern of the route that matched, or "" if none did.
	Route string

	// Status is the HTTP status of a refusal, and 0 if the request is allowed:
	//
	//	429  Too Many Requests: the client is over its limit (RFC 6585)
	//	413  Content Too Large: the request costs more than its limit can ever admit
	//	403  Forbidden: the client's address is in Policy.Deny
	//	503  Service Unavailable: the store cannot be asked, and the policy is Closed
	Status int

	// Exempt says that the request is under no limit: because of its route, its
	// address, Policy.Skip, or as a preflight.
	Exempt bool

	// Shadowed says that the request is Allowed only because the policy is a
	// Shadow: RetryAfter is what it would have been told.
	Shadowed bool

	// Degraded says that the store could not be asked. What happened then is up to
	// Policy.OnOutage.
	Degraded bool

	// Err is why the store could not be asked, why a request that was held did not
	// get its turn, or [ErrCostExceedsBurst].
	Err error

	// Waited is how long the request was held because of Policy.MaxWait.
	Waited time.Duration

	plan       *plan
	rule       *rule
	tightest   *meter
	violations uint32 // one bit for each of the rule's meters
	numbers    bool   // there are any, and the client may know them
	rateLimit  string // the RateLimit field
	retryAfter int64  // in seconds, on a refusal that is worth repeating
	charge     *charge
}

// A charge is what a request has poured in, as long as it may have to be given
// back.
type charge struct {
	limiter *Limiter
	buckets []Bucket
	asked   time.Time
	settled atomic.Bool // for all copies of a decision
}

func newCharge(limiter *Limiter, buckets []Bucket, asked time.Time) *charge {
	return &charge{limiter: limiter, buckets: keepBuckets(buckets), asked: asked}
}

// keepBuckets copies buckets together with their keys, the bytes of which may be
// recycled.
func keepBuckets(buckets []Bucket) []Bucket {
	kept := slices.Clone(buckets)
	for i := range kept {
		kept[i].Key = strings.Clone(kept[i].Key)
	}
	return kept
}

// Shared says that an adapter is to leave the decision to the handlers, as
// Policy.ShareDecision asks for.
func (d *Decision) Shared() bool { return d.plan != nil && d.plan.ShareDecision }

// NeedsStatus says that the answer must be watched: Settle is to be called when
// it has been sent, and AmendHeaders before. It is false unless the policy counts
// only some of the requests, or leaves the fields out of some of the answers.
func (d *Decision) NeedsStatus() bool { return d.charge != nil || d.AmendsHeaders() }

// Settle gives back what a request was charged if, by the status of its answer,
// it does not count. A status of 0 stands for no answer at all, as after a
// panic. It does nothing the second time, nor where NeedsStatus is false.
//
// The end of ctx is ignored, since a client that goes away must not be able to
// choose what counts.
func (d *Decision) Settle(ctx context.Context, status int) {
	if d.charge == nil || d.charge.settled.Swap(true) || d.plan.Count.counts(status) {
		return
	}
	d.charge.giveBack(ctx)
}

// giveBack returns what is left of what was poured in, at least: as if it had
// lain in an empty bucket and drained from the first moment on. What has drained is
// not there to be given back, or else slow requests could be used to save up for
// later; and nothing is given back while requests are held behind, since who took
// the place would leave together with them. If the store is down, so be it: a
// request too few.
func (c *charge) giveBack(ctx context.Context) {
	drained := time.Since(c.asked)
	for i := range c.buckets {
		b := &c.buckets[i]
		if c.limiter.held.waiting(b) {
			return
		}
		b.Amount = -max(0, b.Amount-drained)
	}
	_ = c.limiter.pour(context.WithoutCancel(ctx), c.buckets)
}

// violated lists the names of the limits that were in the way.
func (d *Decision) violated() []string {
	if d.rule == nil {
		return nil
	}
	var names []string
	for i := range d.rule.meters {
		if d.violations&(1<<i) != 0 {
			names = append(names, d.rule.meters[i].name)
		}
	}
	return names
}
