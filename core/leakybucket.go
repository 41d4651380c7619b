package core

import (
	"context"
	"fmt"
	"math"
	"time"
)

// A LeakyBucket is one key under one limit: the whole of it for a job, a batch,
// or a client of somebody else's API. With a store that processes share, all of
// them together keep to the rate.
//
// It smooths strictly: one at a time, evenly spaced. Use
// [LeakyBucket.WithBurst] for more at once. It is safe for concurrent use.
type LeakyBucket struct {
	limiter *Limiter
	key     string
	meters  []meter // one
}

// NewLeakyBucket returns the bucket of key in store, which lets rate calls a
// second through: 5 is one each 200 ms, 0.1 is one each 10 s. With the same key,
// rate and burst in the same store it is the same bucket, in whatever process;
// another rate is another bucket.
//
// It does not touch the network. It panics if the store is nil, the key is
// empty, or the rate is not a number between 1 in 146 years and 1,000,000.
func NewLeakyBucket(store Store, key string, rate float64) *LeakyBucket {
	if key == "" {
		panic("core: NewLeakyBucket: the key is empty, want the name of what is limited, like \"mail\"")
	}
	interval := math.Ceil(float64(time.Second) / rate)
	if !(rate > 0 && rate <= float64(time.Second/minInterval) && interval < float64(maxCapacity)) {
		panic(fmt.Sprintf("core: NewLeakyBucket: rate %v: want calls a second, above 0 and up to 1000000, like 5 or 0.1", rate))
	}
	return newLeakyBucket(New(store), key, Every(time.Duration(interval)))
}

func newLeakyBucket(limiter *Limiter, key string, limit Limit) *LeakyBucket {
	b := &LeakyBucket{limiter: limiter, key: key, meters: make([]meter, 1)}
	m := &b.meters[0]
	if err := m.init(limit); err != nil {
		panic(err.Error())
	}
	m.scope = ":leaky:" + m.bucket() // no policy has an empty name
	return b
}

// WithBurst returns the bucket of the same key and rate that has room for burst
// calls at once instead of one. It panics if burst is less than 1.
func (b *LeakyBucket) WithBurst(burst int) *LeakyBucket {
	if burst < 1 {
		panic(fmt.Sprintf("core: LeakyBucket.WithBurst(%d): want at least 1", burst))
	}
	return newLeakyBucket(b.limiter, b.key, b.meters[0].limit.WithBurst(burst))
}

// Allow returns 0 if the caller may go ahead, and else how long to wait before
// asking again: exactly until there is room, if nobody else comes first. Who is
// told to wait has taken nothing.
//
// It is open when the store is down: 0, so that an outage of the store does not
// become an outage of the caller. Use [LeakyBucket.Wait] to see the error. The end
// of ctx changes nothing: the call is counted all the same.
func (b *LeakyBucket) Allow(ctx context.Context) time.Duration {
	// The end of ctx is not an outage, and must not look like one.
	result, err := b.limiter.allow(context.WithoutCancel(ctx), b.key, 1, b.meters)
	if err != nil {
		return 0
	}
	return result.RetryAfter
}

// Wait returns nil when it is the caller's turn, and an error otherwise: that of
// ctx at once when it ends or would end before the turn comes, or that of the
// store if it cannot be asked. It is [Limiter.Wait] for this bucket.
func (b *LeakyBucket) Wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("core: Wait: %w", err)
	}
	return b.limiter.wait(ctx, b.key, b.meters)
}
