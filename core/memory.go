package core

import (
	"context"
	"fmt"
	"hash/maphash"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	defaultMaxKeys = 1 << 20

	// Keys are spread over shards, each behind a lock of its own. Their number is
	// a power of two and fits the bits of a word, which is how Pour names those it
	// locks. Each has room for so many keys that they fill up alike.
	maxShards = 64
	minShard  = 1024

	// Once per sweepEvery one caller looks through sweepBatch buckets of the
	// next shard, so that memory is given back even where nobody pours.
	sweepEvery = time.Millisecond
	sweepBatch = 64
)

// Memory is a [Store] in the memory of this process: the default, and all that
// a single server needs. Create it with [NewMemory].
//
// It is bounded by [MaxKeys]. It starts no goroutine and there is nothing to
// close: drained buckets, which are the same as buckets never seen, are dropped
// along the way while others are poured into. Only when it is full of buckets
// that are not drained does it forget one that matters, and then the one
// nearest to empty, so that a flood of fresh keys pushes itself out and not the
// client that is being refused. (Beyond 2048 keys, the one nearest to empty among
// those that share a lock.)
//
// Keys are not kept: a bucket is found by a 128-bit hash with a random seed,
// and takes some 100 bytes however long its key is. Nothing survives the
// process. The clock is monotonic: setting the wall clock changes nothing.
//
// Pour never returns an error, never waits for anything but a short lock, and
// allocates nothing for known keys, up to four at a time. A Memory is safe for concurrent use.
type Memory struct {
	seeds   [2]maphash.Seed
	start   time.Time
	maxKeys int64

	keys    atomic.Int64 // buckets in all shards
	sweepAt atomic.Int64 // when the next sweep is due, on the store's clock
	sweeps  atomic.Uint64

	shards []shard
}

var _ Store = (*Memory)(nil)

// A MemoryOption changes a default of [NewMemory].
type MemoryOption func(*Memory)

// MaxKeys bounds how many buckets a [Memory] keeps at a time, for all limits
// together. The default is 1,048,576, about 100 MB when full. It panics if n is
// less than 1.
func MaxKeys(n int) MemoryOption {
	if n < 1 {
		panic(fmt.Sprintf("core: MaxKeys(%d): want at least 1", n))
	}
	return func(m *Memory) { m.maxKeys = int64(n) }
}

// NewMemory returns an empty Memory.
func NewMemory(options ...MemoryOption) *Memory {
	m := &Memory{
		seeds:   [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		start:   time.Now(),
		maxKeys: defaultMaxKeys,
	}
	for _, option := range options {
		option(m)
	}
	shards := 1
	for shards < maxShards && int64(shards)*2*minShard <= m.maxKeys {
		shards *= 2
	}
	m.shards = make([]shard, shards)
	for i := range m.shards {
		m.shards[i].reset(0)
	}
	return m
}

// Len returns how many buckets are kept, drained ones that are not yet dropped
// among them.
func (m *Memory) Len() int { return int(m.keys.Load()) }

// Pour implements [Store]. It ignores ctx, since it waits for nothing.
func (m *Memory) Pour(_ context.Context, buckets []Bucket) (bool, error) {
	now := m.now()
	var few [4]place
	places := few[:0]
	var locked uint64 // one bit a shard
	for i := range buckets {
		p := m.place(&buckets[i])
		places = append(places, p)
		locked |= 1 << p.shard
	}
	m.lock(locked)
	poured := true
	for i := range buckets {
		b, p := &buckets[i], &places[i]
		if b.Level = m.level(p, now, b); b.Amount > b.Capacity-b.Level {
			poured = false
		}
	}
	if poured {
		m.pour(places, now, buckets)
	}
	m.unlock(locked)
	if now >= m.sweepAt.Load() {
		m.sweep(now)
	}
	return poured, nil
}

// now is the instant on the store's clock, in nanoseconds.
func (m *Memory) now() int64 { return int64(time.Since(m.start)) }

// An id stands for a bucket's scope and key. Two of them are equal by accident
// with a chance of one in 2^128, which nobody can improve without the seeds.
type id [2]uint64

// A place is where a bucket is, or is to be.
type place struct {
	shard  uint
	id     id
	bucket int // position in the shard, or absent
}

const absent = -1

func (m *Memory) place(b *Bucket) place {
	key := maphash.String(m.seeds[0], b.Key)
	scope := maphash.String(m.seeds[0], b.Scope)
	return place{
		shard: uint(key) & uint(len(m.shards)-1),
		id:    id{key ^ scope, maphash.String(m.seeds[1], b.Key) + bits.RotateLeft64(scope, 32)},
	}
}

// lock takes the locks of the shards in set in ascending order, so that two
// calls cannot wait for each other.
func (m *Memory) lock(set uint64) {
	for ; set != 0; set &= set - 1 {
		m.shards[bits.TrailingZeros64(set)].Lock()
	}
}

func (m *Memory) unlock(set uint64) {
	for ; set != 0; set &= set - 1 {
		m.shards[bits.TrailingZeros64(set)].Unlock()
	}
}

// level finds a bucket and returns its level. If that is more than can be, it is
// put right, unless the call only reads. The shard must be locked.
func (m *Memory) level(p *place, now int64, b *Bucket) time.Duration {
	s := &m.shards[p.shard]
	if p.bucket = s.find(p.id); p.bucket == absent {
		return 0
	}
	level := time.Duration(s.buckets[p.bucket].dry - now)
	if level > b.Capacity {
		level = b.Capacity
		if b.Amount != 0 {
			s.set(p.bucket, now+int64(level))
		}
	}
	return max(0, level)
}

// pour adds the amounts. The shards must be locked.
func (m *Memory) pour(places []place, now int64, buckets []Bucket) {
	added := false
	for i := range buckets {
		b, p := &buckets[i], &places[i]
		b.Level = max(0, b.Level+b.Amount)
		if p.bucket == absent {
			added = added || b.Level > 0
		} else if b.Amount != 0 {
			m.shards[p.shard].set(p.bucket, now+int64(b.Level))
		}
	}
	if !added {
		return
	}
	// Room for a new one may move others, so the places do not hold from here on.
	for i := range buckets {
		if p := &places[i]; p.bucket == absent && buckets[i].Level > 0 {
			m.add(p, now, buckets[i].Level)
		}
	}
}

// add makes room for a new bucket, and adds it.
func (m *Memory) add(p *place, now int64, level time.Duration) {
	s := &m.shards[p.shard]
	dropped := s.dropDrained(now, 2) // two for each new one, so that they cannot pile up
	if m.keys.Add(int64(1-dropped)) > m.maxKeys {
		m.dropNearest(s)
	}
	s.add(p.id, now+int64(level))
}

// dropNearest drops a bucket of s or, if there is none, of another shard that
// nobody is busy with. The shard must be locked.
func (m *Memory) dropNearest(s *shard) {
	if s.dropNearest() {
		m.keys.Add(-1)
		return
	}
	for i := range m.shards {
		if other := &m.shards[i]; other.TryLock() {
			dropped := other.dropNearest()
			other.Unlock()
			if dropped {
				m.keys.Add(-1)
				return
			}
		}
	}
}

// sweep drops drained buckets of one shard, each time of the next one. Of
// several callers one does it.
func (m *Memory) sweep(now int64) {
	at := m.sweepAt.Load()
	if now < at || !m.sweepAt.CompareAndSwap(at, now+int64(sweepEvery)) {
		return
	}
	s := &m.shards[m.sweeps.Add(1)%uint64(len(m.shards))]
	if !s.TryLock() {
		return
	}
	dropped := s.dropDrained(now, sweepBatch)
	s.Unlock()
	m.keys.Add(int64(-dropped))
}
