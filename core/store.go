package core

import (
	"context"
	"time"
)

// A Store keeps leaky buckets. A bucket's level is the time that it takes to
// drain empty on the store's own clock: it falls by one second a second and
// never below zero. A bucket nobody poured into is empty, and an empty bucket
// may be forgotten, a fuller one never early.
//
// A Store is deliberately dumb: what a level means for a client is worked out
// by [Limiter], once for all stores. [Memory] and redisstore.Store are the two
// that come with this module. To write another, run it through
// [github.com/spillway-go/spillway/core/storetest].
//
// Methods are safe for concurrent use.
type Store interface {
	// Pour adds each bucket's Amount to it, unless that would lift any of them
	// above its Capacity: then none is touched, and poured is false. It sets
	// every Level to what it is after the call. An Amount of zero reads; a
	// negative one gives back, never below empty. Test and addition are one
	// atomic step over all buckets, which are distinct.
	//
	// A level found above its Capacity is taken for the Capacity, and by a call
	// that pours into the bucket it is put right even if the call is refused:
	// after the clock was set back or a limit was tightened nobody waits longer
	// than the bucket takes to drain. State that cannot be read is an empty
	// bucket.
	//
	// An error means that the store does not know: nothing is said about poured
	// and Level, and the buckets may or may not have been poured into.
	Pour(ctx context.Context, buckets []Bucket) (poured bool, err error)
}

// A Bucket is one entry in a call of [Store.Pour]: which bucket, how much to
// pour, and the answer.
type Bucket struct {
	// Scope tells the buckets of one limit from those of another: the policy's
	// name, the route and the period. It is fixed, validated text in letters,
	// digits and -._/:%, free of anything a client sent.
	Scope string

	// Key says whose bucket it is: any bytes, perhaps a secret. It is valid only
	// during the call; a store that keeps it must copy it, and should hash it.
	// The buckets of one decision share it; a store that is spread over machines
	// may refuse a call in which Keys differ.
	Key string

	// Amount is what to pour. With 100 requests a minute, one request is 600 ms.
	Amount time.Duration

	// Capacity is the level that a pour may not pass, between 1 ns and 2^62 ns
	// (146 years). With 100 requests a minute and a burst of 20 it is 12 s.
	Capacity time.Duration

	// Level is set by Pour: the bucket's level after the call, to the
	// microsecond or finer.
	Level time.Duration
}
