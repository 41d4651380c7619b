package core

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

var errWaitRoom = errors.New("core: as many requests as Policy.MaxWaiting are held already")

// heldRequests are those that wait for their turn at a Limiter under a
// Policy.MaxWait. Each has a place in its buckets already: the time at which it
// leaves is fixed. The zero value is ready for use.
type heldRequests struct {
	mu    sync.Mutex
	count int
	lines map[bucketID][]*held // of one bucket, the first to leave in front
}

type bucketID struct{ scope, key string }

// A held request stands in the line of each of its buckets.
type held struct {
	buckets []Bucket
	leaves  time.Time
	gone    bool // given up, but somebody behind is still there
}

func idOf(b *Bucket) bucketID { return bucketID{b.Scope, b.Key} }

// join enters a request that leaves after wait, and reports it if there are too
// many.
func (h *heldRequests) join(buckets []Bucket, wait time.Duration, most int) (*held, error) {
	r := &held{buckets: keepBuckets(buckets), leaves: time.Now().Add(wait)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lines == nil {
		h.lines = make(map[bucketID][]*held)
	}
	for i := range r.buckets {
		id := idOf(&r.buckets[i])
		line := h.lines[id]
		at := len(line) // answers of a store may overtake each other
		for at > 0 && line[at-1].leaves.After(r.leaves) {
			at--
		}
		h.lines[id] = slices.Insert(line, at, r)
	}
	if h.count++; h.count > most {
		return r, errWaitRoom
	}
	return r, nil
}

// waiting reports whether a request is held that has poured into a bucket.
func (h *heldRequests) waiting(b *Bucket) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.lines[idOf(b)]) > 0
}

// leave removes a request whose turn has come, and those in front of it that
// were given up: their time has passed.
func (h *heldRequests) leave(r *held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count--
	for i := range r.buckets {
		id := idOf(&r.buckets[i])
		line := h.lines[id]
		at := slices.Index(line, r)
		rest := line[:0]
		for j, other := range line {
			if j > at || j < at && !other.gone {
				rest = append(rest, other)
			}
		}
		clear(line[len(rest):])
		h.set(id, rest)
	}
}

// giveUp removes a request whose turn will not come, and turns its buckets into
// what can be given back: its own place, and those in front that were given up
// before, as soon as nobody is behind them. Who took over a place before would
// leave at the same time as one who has his already.
func (h *heldRequests) giveUp(r *held) []Bucket {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count--
	r.gone = true
	back := slices.Clone(r.buckets)
	for i := range back {
		id := idOf(&back[i])
		back[i].Amount = 0
		line := h.lines[id]
		for len(line) > 0 && line[len(line)-1].gone {
			last := line[len(line)-1]
			line = line[:len(line)-1]
			for j := range last.buckets {
				if idOf(&last.buckets[j]) == id {
					back[i].Amount -= last.buckets[j].Amount
				}
			}
		}
		h.set(id, line)
	}
	return back
}

func (h *heldRequests) set(id bucketID, line []*held) {
	if len(line) == 0 {
		delete(h.lines, id)
		return
	}
	h.lines[id] = line
}

// giveUp gives back the place of a request that was held. If the store is down, so
// be it: a place too few.
func (l *Limiter) giveUp(ctx context.Context, r *held) {
	back := l.held.giveUp(r)
	if slices.ContainsFunc(back, func(b Bucket) bool { return b.Amount != 0 }) {
		_ = l.pour(context.WithoutCancel(ctx), back)
	}
}
