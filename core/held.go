package core

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

var errWaitRoom = errors.New("core: as many requests as Policy.MaxWaiting are held already")

// heldRequests are those that wait for their turn under a Policy.MaxWait. Each
// has a place in its bucket already: the time at which it leaves is fixed. The
// zero value is ready for use.
type heldRequests struct {
	mu    sync.Mutex
	count int
	lines map[bucketID][]*held // of one bucket, the first to leave in front
}

type bucketID struct{ scope, key string }

// A held request is one of a line.
type held struct {
	id      bucketID
	amounts []time.Duration // one for each bucket
	gone    bool            // given up, but somebody behind is still there
}

// join enters a request, unless there are too many.
func (h *heldRequests) join(buckets []Bucket, most int) (*held, error) {
	kept := keepBuckets(buckets[:1])
	r := &held{id: bucketID{kept[0].Scope, kept[0].Key}}
	for i := range buckets {
		r.amounts = append(r.amounts, buckets[i].Amount)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lines == nil {
		h.lines = make(map[bucketID][]*held)
	}
	h.lines[r.id] = append(h.lines[r.id], r)
	h.count++
	if h.count > most {
		return r, errWaitRoom
	}
	return r, nil
}

// leave removes a request whose turn has come, and those in front of it that
// were given up: their time has passed.
func (h *heldRequests) leave(r *held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count--
	line := h.lines[r.id]
	at := slices.Index(line, r)
	rest := line[:0]
	for i, other := range line {
		if i > at || i < at && !other.gone {
			rest = append(rest, other)
		}
	}
	clear(line[len(rest):])
	h.set(r.id, rest)
}

// giveUp removes a request whose turn will not come. Its place is given back as
// soon as nobody is behind it: who takes it over would otherwise leave at the
// same time as one who has his place already.
func (h *heldRequests) giveUp(ctx context.Context, limiter *Limiter, r *held, buckets []Bucket) {
	h.mu.Lock()
	h.count--
	r.gone = true
	line := h.lines[r.id]
	back := make([]time.Duration, len(buckets))
	for len(line) > 0 && line[len(line)-1].gone {
		last := line[len(line)-1]
		line = line[:len(line)-1]
		for i := range min(len(back), len(last.amounts)) {
			back[i] += last.amounts[i]
		}
	}
	h.set(r.id, line)
	h.mu.Unlock()
	if slices.Max(back) == 0 {
		return
	}
	given := keepBuckets(buckets)
	for i := range given {
		given[i].Amount = -back[i]
	}
	_ = limiter.pour(context.WithoutCancel(ctx), given) // if the store is down, a place too few
}

func (h *heldRequests) set(id bucketID, line []*held) {
	if len(line) == 0 {
		delete(h.lines, id)
		return
	}
	h.lines[id] = line
}
