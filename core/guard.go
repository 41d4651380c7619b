package core

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A Guard applies a [Policy] to requests: it chooses the route's limits, finds
// the client's key, asks the [Limiter], and says what to answer. It is the one
// place where that is decided, for all frameworks alike. It is safe for
// concurrent use.
type Guard struct {
	limiter *Limiter
	plan    atomic.Pointer[plan]
	swap    sync.Mutex // held while the plan is replaced, not while it is read
}

// NewGuard makes a policy ready on a Limiter. The error wraps
// [ErrInvalidPolicy], says which part of the policy cannot work, and what would.
// It does not touch the network. It panics if the limiter is nil.
func NewGuard(limiter *Limiter, policy Policy) (*Guard, error) {
	if limiter == nil {
		panic("core: NewGuard: the limiter is nil; create one with New(NewMemory())")
	}
	g := &Guard{limiter: limiter}
	if err := g.Swap(policy); err != nil {
		return nil, err
	}
	return g, nil
}

// Swap puts another policy in place while requests are served. Buckets stay as
// they are: under the same Name, unchanged limits go on with their levels, and a
// changed rate with its debt, if the Burst is the Rate. Another change of a limit
// or of MaxWait begins with empty buckets. Requests that are under way finish under the policy that they began
// with.
//
// An invalid policy is refused whole, with an error like that of [NewGuard], and
// the one before stays.
func (g *Guard) Swap(policy Policy) error {
	g.swap.Lock()
	defer g.swap.Unlock()
	next, err := newPlan(policy)
	if err == nil {
		err = g.limiter.names.register(next, g.plan.Load())
	}
	if err != nil {
		return fmt.Errorf("core: %w %s: %w", ErrInvalidPolicy, excerpt(policy.Name), err)
	}
	g.plan.Store(next)
	return nil
}

// retryWhenClosed is the Retry-After, in seconds, while the store cannot be
// asked: nobody knows how long that will be.
const retryWhenClosed = 5

// Check decides about one request, and counts it if it is allowed. With
// Policy.MaxWait it returns when the request may go on; otherwise it waits for
// nothing but the store. It never fails: if the store cannot be asked,
// Policy.OnOutage decides, and the Decision says why in Err.
func (g *Guard) Check(r Request) Decision {
	pl := g.plan.Load()
	rule := pl.routes.find(r.Method(), r.Path())
	d := Decision{Policy: pl.name, Route: rule.pattern, plan: pl, rule: rule}
	switch {
	case len(pl.deny) > 0 && pl.lists(pl.deny, r):
		d.refuse(http.StatusForbidden, 0)
		return d
	case len(rule.meters) == 0 || pl.skips(r):
		d.Allowed, d.Exempt = true, true
		return d
	}
	if pl.LimitFor != nil && rule == pl.rest {
		rule = pl.ruleFor(r)
		d.rule = rule
	}
	cost := pl.cost(r)
	for i := range rule.meters {
		if m := &rule.meters[i]; cost > m.burst {
			d.Err = fmt.Errorf("core: %w: %d at once, and %q never admits more than %d", ErrCostExceedsBurst, cost, m.limit, m.burst)
			d.violations |= 1 << i
		}
	}
	if d.violations != 0 {
		d.refuse(http.StatusRequestEntityTooLarge, 0)
		return d
	}
	key, fallback := pl.keyOf(rule, r)
	buckets := g.limiter.buckets(key, rule.meters, fallback)
	defer g.limiter.release(buckets)
	for i := range *buckets {
		(*buckets)[i].Amount = time.Duration(cost) * rule.meters[i].interval
	}
	// A client that has hung up is counted all the same: otherwise hanging up
	// would look like an outage, and open the door.
	ctx := context.WithoutCancel(r.Context())
	var asked time.Time
	if pl.Count != CountAll {
		asked = time.Now()
	}
	allowed, err := g.limiter.store.Pour(ctx, *buckets)
	if err != nil {
		d.degrade(err)
		return d
	}
	if allowed && pl.Count != CountAll {
		d.charge = newCharge(g.limiter, *buckets, asked)
	}
	if allowed && pl.MaxWait > 0 && cost > 0 && !pl.Shadow {
		d.wait(r.Context(), g.limiter, *buckets)
	}
	d.judge(allowed, *buckets)
	if fallback || rule.byIP {
		warnIfForwarded(pl, r)
	}
	return d
}

func (pl *plan) cost(r Request) int {
	if pl.Cost == nil {
		return 1
	}
	if cost := pl.Cost(r); cost >= 0 {
		return cost
	}
	return 1
}

// refuse turns a decision into a refusal, unless the policy is a shadow.
func (d *Decision) refuse(status int, retryAfter int64) {
	if d.plan.Shadow {
		d.Allowed, d.Shadowed = true, true
		return
	}
	d.Allowed, d.Status, d.retryAfter = false, status, retryAfter
}

// degrade decides without the store.
func (d *Decision) degrade(err error) {
	d.Degraded = true
	d.Err = fmt.Errorf("core: asking the store: %w", err)
	d.Allowed = true
	if d.plan.OnOutage == Closed {
		d.refuse(http.StatusServiceUnavailable, retryWhenClosed)
	}
}

// judge tells from the levels how the client stands.
func (d *Decision) judge(allowed bool, buckets []Bucket) {
	meters := d.rule.meters
	result, tightest := judge(allowed, meters, buckets)
	d.tightest = &meters[tightest]
	switch {
	case !allowed:
		for i := range meters {
			if meters[i].retryAfter(buckets[i].Level, buckets[i].Amount) > 0 {
				d.violations |= 1 << i
			}
		}
		d.Result = result
		d.refuse(http.StatusTooManyRequests, max(1, seconds(d.RetryAfter)))
	case d.Status != 0: // it was to wait and could not
		result.Allowed, result.RetryAfter = false, d.RetryAfter
		d.Result = result
	default:
		d.Result = result
	}
	if d.numbers = !d.plan.Shadow && d.plan.Headers != NoHeaders; d.numbers && (d.plan.Headers.has(RateLimitFields) || !d.Allowed) {
		d.rateLimit = rateLimitField(meters, buckets, d.violations, d.retryAfter)
	}
}

// wait holds a request that was let in above the capacity of its limits until it
// is its turn, and takes the time off the levels.
func (d *Decision) wait(ctx context.Context, limiter *Limiter, buckets []Bucket) {
	var wait time.Duration
	for i := range buckets {
		if above := buckets[i].Level - d.rule.meters[i].capacity; above > 0 {
			wait = max(wait, above)
			d.violations |= 1 << i
		}
	}
	if wait == 0 {
		return
	}
	held, err := limiter.held.join(buckets, wait, d.plan.MaxWaiting)
	if err == nil {
		err = sleep(ctx, wait)
	}
	if err != nil {
		d.charge = nil
		limiter.giveUp(ctx, held)
		d.Err, d.RetryAfter = err, wait
		d.refuse(http.StatusTooManyRequests, max(1, seconds(wait)))
		return
	}
	limiter.held.leave(held)
	d.violations, d.Waited = 0, wait
	for i := range buckets {
		buckets[i].Level = max(0, buckets[i].Level-wait)
	}
}

// lookedAt is how many requests are looked at for forwarded headers.
const lookedAt = 1000

// warnIfForwarded says so if the server seems to be behind a proxy that nobody
// has told us about. A forwarded header from the open internet says nothing.
func warnIfForwarded(pl *plan, r Request) {
	if pl.ip.header != "" || pl.ip.strategy != nil || warnForwarded.said.Load() || pl.looked.Load() >= lookedAt {
		return
	}
	pl.looked.Add(1)
	peer, ok := peerAddr(r.RemoteAddr())
	if ok && !peer.IsPrivate() && !peer.IsLoopback() {
		return
	}
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip"} {
		if len(r.HeaderLines(name)) > 0 {
			warnForwarded.once(pl.name, "header", name)
			return
		}
	}
}
