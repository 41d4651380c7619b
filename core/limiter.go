package core

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

var (
	// ErrNoKey says that there is no key to limit by. A [KeyFunc] returns it
	// when a request does not carry one; a [Guard] then limits by the client's
	// IP. A [Limiter] returns it for the empty key.
	ErrNoKey = errors.New("no key")

	// ErrCostExceedsBurst says that a limit can never admit so many at once, no
	// matter how long one waits. It is not a refusal to be repeated later.
	ErrCostExceedsBurst = errors.New("cost exceeds the burst")

	// ErrInvalidCost says that a negative number of requests was asked for.
	ErrInvalidCost = errors.New("invalid cost")
)

// A Limiter asks a [Store] whether requests may pass. The limit is an argument
// of each call, so one Limiter serves any number of limits, policies and keys.
//
// It has three verbs, which differ in what they do when there is no room.
// [Limiter.Allow] says at once whether a request may pass; a server wants this
// one, mostly through a [Guard]. [Limiter.AllowN] is Allow for a request that
// counts more than once, or not at all. [Limiter.Wait] returns when it is the
// caller's turn; jobs and clients want this one.
//
// The bucket is that of the key, the limit's Period and, where Burst is not Rate,
// its capacity. So after a change from 100 to 200 a minute nobody starts afresh.
// Use different keys to keep purposes apart, as in "export:" + user. The buckets
// of a [Policy] are others, told apart by its name.
//
// A Limiter is safe for concurrent use, and there should be one for each Store.
type Limiter struct {
	store   Store
	names   names
	scopes  scopes
	lines   lines
	held    heldRequests
	scratch sync.Pool // *[]Bucket
}

// New returns a Limiter over a store. It does not touch the network. It panics
// if the store is nil.
func New(store Store) *Limiter {
	if store == nil {
		panic("core: New: the store is nil; for buckets in memory use New(NewMemory())")
	}
	l := &Limiter{store: store}
	l.scratch.New = func() any { return new([]Bucket) }
	return l
}

// A Result is what [Limiter.Allow] and [Limiter.AllowN] found out.
type Result struct {
	// Allowed says whether all the limits had room for the request. If not, it
	// was counted nowhere.
	Allowed bool

	// Limit is the tightest of the limits asked for, which the other fields are
	// about: on a refusal the one that takes longest to have room, otherwise the
	// one with the fewest Remaining.
	Limit Limit

	// Remaining is how many more requests would be admitted now. With a limit of
	// 10/s that has had 6 requests in this instant, it is 4. After a refusal
	// it need not be 0: 4 may be left where 5 were asked for.
	Remaining int

	// RetryAfter is how long to wait until the same call is admitted, if nobody
	// else asks meanwhile: exact, and zero if it was admitted. With a limit of
	// 10/s, the eleventh request in an instant is told 100 ms.
	RetryAfter time.Duration

	// ResetAfter is how long it takes until the limit is as if never used, with
	// Remaining at its Burst. With a limit of 10/s that has had 6 requests
	// in this instant, it is 600 ms.
	ResetAfter time.Duration
}

// Allow reports whether one request for key may pass under all the limits. If
// so it is counted under each of them, otherwise under none: test and count are
// one atomic step in the store. It is shorthand for AllowN with n = 1.
func (l *Limiter) Allow(ctx context.Context, key string, limits ...Limit) (Result, error) {
	return l.AllowN(ctx, key, 1, limits...)
}

// AllowN reports whether n requests for key may pass at once under all the
// limits. If so they are counted under each of them, otherwise under none. With
// n = 0 it peeks: nothing is counted, nothing is refused, and the Result tells
// how things stand.
//
// The error is, or wraps,
//
//   - [ErrNoKey] if key is empty,
//   - [ErrInvalidLimit] if a limit is invalid, if there is none, or if two of
//     them have the same Period and so would share a bucket,
//   - [ErrInvalidCost] if n is negative,
//   - [ErrCostExceedsBurst] if n is more than the Burst of a limit,
//   - what the store returned: nobody knows then whether the request may pass.
//
// Together with an error the Result is zero.
func (l *Limiter) AllowN(ctx context.Context, key string, n int, limits ...Limit) (Result, error) {
	var few [4]meter
	meters, err := l.meters(few[:0], limits)
	if err != nil {
		return Result{}, err
	}
	return l.allow(ctx, key, n, meters)
}

// Reset empties the buckets of key under the limits, as if it had never asked.
// The error is as that of [Limiter.AllowN].
func (l *Limiter) Reset(ctx context.Context, key string, limits ...Limit) error {
	var few [4]meter
	meters, err := l.meters(few[:0], limits)
	if err != nil {
		return err
	}
	if key == "" {
		return fmt.Errorf("core: %w: the key is empty", ErrNoKey)
	}
	buckets := l.buckets(key, meters, false)
	defer l.release(buckets)
	for i := range *buckets {
		(*buckets)[i].Amount = -meters[i].capacity
	}
	return l.pour(ctx, *buckets)
}

func (l *Limiter) allow(ctx context.Context, key string, n int, meters []meter) (Result, error) {
	if key == "" {
		return Result{}, fmt.Errorf("core: %w: the key is empty", ErrNoKey)
	}
	if n < 0 {
		return Result{}, fmt.Errorf("core: %w %d: want 0 to peek, or the number of requests", ErrInvalidCost, n)
	}
	for i := range meters {
		if m := &meters[i]; n > m.burst {
			return Result{}, fmt.Errorf("core: %w: %d at once, and %q never admits more than %d", ErrCostExceedsBurst, n, m.limit, m.burst)
		}
	}
	buckets := l.buckets(key, meters, false)
	defer l.release(buckets)
	for i := range *buckets {
		(*buckets)[i].Amount = time.Duration(n) * meters[i].interval
	}
	allowed, err := l.store.Pour(ctx, *buckets)
	if err != nil {
		return Result{}, fmt.Errorf("core: asking the store: %w", err)
	}
	tightest, _ := judge(allowed, meters, *buckets)
	return tightest, nil
}

// pour is a Pour that cannot be refused.
func (l *Limiter) pour(ctx context.Context, buckets []Bucket) error {
	if _, err := l.store.Pour(ctx, buckets); err != nil {
		return fmt.Errorf("core: asking the store: %w", err)
	}
	return nil
}

// buckets takes a list with an entry for each meter from the pool: a list on
// the stack would move to the heap with every call of an interface's method.
func (l *Limiter) buckets(key string, meters []meter, fallback bool) *[]Bucket {
	buckets := l.scratch.Get().(*[]Bucket)
	*buckets = (*buckets)[:0]
	for i := range meters {
		m := &meters[i]
		scope := m.scope
		if fallback {
			scope = m.fallbackScope
		}
		*buckets = append(*buckets, Bucket{Scope: scope, Key: key, Capacity: m.capacity + m.waitRoom})
	}
	return buckets
}

// release gives a list back, without the key: it may be a secret, and its bytes
// may be recycled.
func (l *Limiter) release(buckets *[]Bucket) {
	clear(*buckets)
	l.scratch.Put(buckets)
}
