// Package redisstore keeps leaky buckets in Redis, so that any number of
// processes share them: one limit for a whole fleet.
//
//	store, err := redisstore.Open("redis://localhost:6379/0")
//	...
//	limiter := core.New(store)
//
// A program that already has a client of go-redis passes it to [New]. It may be
// a single one, for Sentinel, for Cluster or a Ring.
//
// # What it asks of Redis
//
// Redis 6.2 or newer, or Valkey, and this much of an ACL:
//
//	~spillway:* +eval +evalsha +get +set +del +time
//
// Besides, go-redis itself wants +select for a database other than 0, and
// +cluster|slots +command for Cluster.
//
// Each [Store.Pour] is one command, EVALSHA, in one round trip, for however many
// buckets. Only if the server does not know the script, as after a restart, the
// same call is made once more with the text of the script. Nothing else is ever
// repeated, not even by a client that is set to retry: a lost answer costs no
// client a second request. To Redis Cluster the buckets of one decision are in
// one slot, since they share a key.
//
// # What it keeps
//
// One string for each bucket that is not empty:
//
//	spillway:api/m:{_sUlZaoM8Y9X189bOscoUA}  ->  1795431600600000000
//	prefix   scope  hash of the key              instant at which it runs dry
//
// The key is hashed before it leaves the process, and cut to 128 bits, so it is
// short, whatever it was, and a secret in it stays one; see [WithSecret]. The
// value is in nanoseconds since the Unix epoch, an integer that Redis keeps
// without a string. Every key has a TTL, its level rounded up to a millisecond:
// what nobody uses is gone when the bucket is empty, and nothing needs to be
// cleaned up.
//
// The clock is that of the server, so the clocks of the processes do not matter.
// If it is set back, or a replica with a slower one takes over, no bucket is
// found fuller than its capacity. State that cannot be read, of whatever type,
// is an empty bucket, and overwritten.
//
// Keep the buckets where nothing is evicted: the policies noeviction and
// volatile-ttl are fine, but allkeys-lru and its like throw away buckets that
// are in use, and with each of them a client's debt.
//
// Replication is asynchronous. After a failover the last writes may be missing,
// and a client gets back, once, at most what it had poured in meanwhile. While no
// master is there, Pour returns an error; what to make of it is decided by those
// who call, not here.
package redisstore

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/spillway-go/spillway/core"
)

const (
	defaultPrefix  = "spillway"
	defaultTimeout = 100 * time.Millisecond
)

// Store is a [core.Store] in Redis. Create it with [New] or [Open]; the zero
// Store is not usable. It is safe for concurrent use, and one is enough for a
// process.
type Store struct {
	client  redis.UniversalClient
	close   func() error
	script  script
	prefix  string
	secret  []byte // nil for none
	timeout time.Duration
}

var _ core.Store = (*Store)(nil)

// New returns a Store over client, which stays the caller's to close. It does
// not touch the network, so it works while Redis is down. It panics if client is
// nil or an option is invalid.
//
// A client waits as it was told to, and the defaults of go-redis are patient:
// see [Open] for settings that suit a rate limiter, above all
// ContextTimeoutEnabled, without which a deadline does not end the wait for an
// answer.
func New(client redis.UniversalClient, options ...Option) *Store {
	if client == nil {
		panic("redisstore: New: the client is nil; want one of go-redis, like redis.NewClient, or a URL for Open")
	}
	s, err := newStore(options)
	if err != nil {
		panic("redisstore: New: " + err.Error())
	}
	s.client = client
	s.close = func() error { return nil }
	return s
}

func newStore(options []Option) (*Store, error) {
	s := &Store{script: pour, prefix: defaultPrefix, timeout: defaultTimeout}
	for _, option := range options {
		if err := option(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// NewLeakyBucket returns the bucket of key in Redis, which lets rate calls a
// second through, however many processes share it: the whole of it for a job or
// a batch. It is [core.NewLeakyBucket] over a [New] with its defaults, and panics
// when they do.
func NewLeakyBucket(client redis.UniversalClient, key string, rate float64) *core.LeakyBucket {
	return core.NewLeakyBucket(New(client), key, rate)
}

// Close closes the client if [Open] made it; one passed to [New] is left alone.
// Further calls change nothing and return the same. After that Pour returns an
// error.
func (s *Store) Close() error { return s.close() }

// Pour implements [core.Store] in one round trip. It returns after the time of
// [WithTimeout] at the latest, or at the deadline of ctx if that is sooner,
// provided that the client honours deadlines; the end of ctx for another reason
// is noticed before the command is sent, not while waiting for the answer.
//
// The error wraps that of go-redis. It may come after Redis has poured: when the
// answer was lost, nobody knows. On a cluster the Keys of one call must be the
// same, or else the server answers with an error.
func (s *Store) Pour(ctx context.Context, buckets []core.Bucket) (bool, error) {
	if len(buckets) == 0 {
		return true, nil
	}
	args := s.args(buckets)
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	reply, err := s.run(ctx, args)
	if err != nil {
		return false, fmt.Errorf("redisstore: %w", err)
	}
	poured, err := readReply(reply, buckets)
	if err != nil {
		return false, fmt.Errorf("redisstore: unexpected reply: %w", err)
	}
	return poured, nil
}
