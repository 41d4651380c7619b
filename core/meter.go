package core

import (
	"fmt"
	"time"
)

// A meter is a limit made ready for use: what follows from a limit alone is
// worked out once, and a level is all that is needed to tell the rest.
type meter struct {
	limit    Limit
	interval time.Duration
	capacity time.Duration
	waitRoom time.Duration // above the capacity, for requests that wait their turn
	burst    int

	scope         string
	fallbackScope string // of those that are limited by IP for want of a key

	*description // for a Guard
}

// A description is what the header fields say of a limit.
type description struct {
	name   string
	item   string // the name as it stands in a RateLimit field
	quota  int    // the q of RateLimit-Policy, and X-RateLimit-Limit
	window int64  // its w, in seconds; 0 if it has none
}

// init makes a limit ready. The other fields are for a Guard to fill in.
func (m *meter) init(limit Limit, scope string) (err error) {
	m.limit, m.burst, m.scope = limit, limit.burst(), scope
	m.interval, m.capacity, err = limit.measure()
	return err
}

// appendMeters makes the limits of one call ready. Their scope is the period.
func appendMeters(meters []meter, limits []Limit) ([]meter, error) {
	if len(limits) == 0 {
		return nil, fmt.Errorf("core: %w: none was given, want at least one, like PerSecond(10)", ErrInvalidLimit)
	}
	for i := range limits {
		if err := distinctPeriod(limits[i], limits[:i]); err != nil {
			return nil, err
		}
		meters = append(meters, meter{})
		if err := meters[i].init(limits[i], periodText(limits[i].Period)); err != nil {
			return nil, err
		}
	}
	return meters, nil
}

// distinctPeriod refuses a limit that would share its bucket with one of others.
func distinctPeriod(limit Limit, others []Limit) error {
	for _, other := range others {
		if other.Period == limit.Period {
			return fmt.Errorf("core: %w %q: %q has the same period and would share its bucket; write one of them over another period, like \"600/m\" for \"10/s\"",
				ErrInvalidLimit, limit, other)
		}
	}
	return nil
}

// remaining is how many more requests a bucket at this level has room for.
func (m *meter) remaining(level time.Duration) int {
	return int(max(0, m.capacity-level) / m.interval)
}

// retryAfter is how long until a bucket at this level takes amount in.
func (m *meter) retryAfter(level, amount time.Duration) time.Duration {
	return max(0, level+amount-m.capacity-m.waitRoom)
}

// judge tells from the levels how things stand under the tightest of the meters,
// and which one that is.
func judge(allowed bool, meters []meter, buckets []Bucket) (Result, int) {
	var tightest Result
	which := -1
	for i := range meters {
		m, b := &meters[i], &buckets[i]
		r := Result{
			Allowed:    allowed,
			Limit:      m.limit,
			Remaining:  m.remaining(b.Level),
			ResetAfter: b.Level,
		}
		if !allowed {
			r.RetryAfter = m.retryAfter(b.Level, b.Amount)
		}
		if which < 0 || r.tighterThan(&tightest) {
			tightest, which = r, i
		}
	}
	return tightest, which
}

func (r *Result) tighterThan(other *Result) bool {
	if r.RetryAfter != other.RetryAfter {
		return r.RetryAfter > other.RetryAfter
	}
	return r.Remaining < other.Remaining
}
