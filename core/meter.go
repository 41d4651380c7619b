package core

import (
	"fmt"
	"maps"
	"sync/atomic"
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
func (m *meter) init(limit Limit) error {
	var fault string
	m.limit, m.burst = limit, limit.burst()
	m.interval, m.capacity, fault = limit.measure()
	if fault != "" {
		return invalidLimit(limit.String(), fault)
	}
	return nil
}

// bucket is the text that tells the buckets of one key apart: the limit's period,
// and its capacity where that is another. So a changed rate goes on with the same
// bucket, and all who pour into a bucket agree on what it holds: otherwise those
// with the smaller view would cut off what is owed under the larger one.
func (m *meter) bucket() string {
	period, capacity := m.limit.Period, m.capacity
	if m.holdsPeriod() {
		capacity = period
	}
	if capacity += m.waitRoom; capacity == period {
		return periodText(period)
	}
	return periodText(period) + "-" + periodText(capacity)
}

// holdsPeriod reports whether the capacity is the period, but for a rounding that
// is less than a request.
func (m *meter) holdsPeriod() bool {
	return m.burst == m.limit.Rate && m.capacity-m.limit.Period < m.interval
}

// meters makes the limits of one call ready.
func (l *Limiter) meters(ready []meter, limits []Limit) ([]meter, error) {
	if len(limits) == 0 {
		return nil, fmt.Errorf("core: %w: none was given, want at least one, like PerSecond(10)", ErrInvalidLimit)
	}
	for i := range limits {
		if err := distinctPeriod(limits[i], limits[:i]); err != nil {
			return nil, err
		}
		ready = append(ready, meter{})
		m := &ready[i]
		if err := m.init(limits[i]); err != nil {
			return nil, err
		}
		m.scope = l.scopes.of(m)
	}
	return ready, nil
}

// scopes keeps the texts of buckets that would have to be put together for each
// call. The zero value is ready for use.
type scopes struct {
	texts atomic.Pointer[map[Limit]string] // replaced, never changed
}

// maxScopes bounds how many texts are kept. A program has fewer limits, mostly;
// one that makes them up is served all the same.
const maxScopes = 1024

func (s *scopes) of(m *meter) string {
	if m.holdsPeriod() {
		return periodText(m.limit.Period)
	}
	known := s.texts.Load()
	if known != nil {
		if text, ok := (*known)[m.limit]; ok {
			return text
		}
	}
	text := m.bucket()
	if known == nil || len(*known) < maxScopes {
		next := map[Limit]string{m.limit: text}
		if known != nil {
			maps.Copy(next, *known)
		}
		s.texts.CompareAndSwap(known, &next) // who loses the race tries again next time
	}
	return text
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
	return max(0, level-(m.capacity+m.waitRoom-amount))
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
