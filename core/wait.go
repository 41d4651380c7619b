package core

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Wait returns nil when it is the caller's turn: it shapes where [Limiter.Allow]
// meters. Those who wait at one Limiter for the same key and limits stand in line
// and leave in the order in which they came; Limiters that share a store, in this
// process or another, compete for the turns. A limit with a Burst of 1 spaces them evenly.
//
// If ctx ends before, its error is returned at once and nothing has been taken.
// If ctx has a deadline and the turn cannot come before it, an error that wraps
// [context.DeadlineExceeded] is returned without waiting for it. A ctx that has
// already ended never gets a turn.
//
// Other errors are those of [Limiter.AllowN]. An error of the store means that
// the limit could not be asked: whether to go on is the caller's decision.
//
// Nothing is reserved in advance, so a process that dies while it waits leaves
// no debt behind, and Allow and Wait may be mixed on one key.
func (l *Limiter) Wait(ctx context.Context, key string, limits ...Limit) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("core: Wait: %w", err)
	}
	var few [4]meter
	meters, err := l.meters(few[:0], limits)
	if err != nil {
		return err
	}
	if key == "" {
		return fmt.Errorf("core: %w: the key is empty", ErrNoKey)
	}
	return l.wait(ctx, key, meters)
}

func (l *Limiter) wait(ctx context.Context, key string, meters []meter) error {
	w, ahead := l.lines.join(lineID(key, meters))
	defer w.leave()
	if ahead > 0 {
		if err := l.canWait(ctx, key, meters, w, ahead); err != nil {
			return err
		}
	}
	select {
	case <-w.turn:
	case <-ctx.Done():
		return fmt.Errorf("core: Wait: %w", ctx.Err())
	}
	for {
		w.ask(true)
		result, err := l.allow(ctx, key, 1, meters)
		switch ended := ctx.Err(); {
		case ended != nil:
			if err == nil && result.Allowed {
				l.giveBack(ctx, key, meters)
			}
			return fmt.Errorf("core: Wait: %w", ended)
		case err != nil:
			return err
		case result.Allowed:
			return nil
		}
		w.ask(false)
		if err := sleep(ctx, result.RetryAfter); err != nil {
			return err
		}
	}
}

// canWait returns an error if whoever has so many ahead of him in line cannot
// get his turn before the deadline.
func (l *Limiter) canWait(ctx context.Context, key string, meters []meter, w *waiter, ahead int) error {
	if _, ok := ctx.Deadline(); !ok {
		return nil
	}
	buckets := l.buckets(key, meters, false)
	defer l.release(buckets)
	if err := l.pour(ctx, *buckets); err != nil {
		return err
	}
	ahead = min(ahead, w.ahead()) // who has been charged meanwhile is in the levels
	var turn time.Duration
	for i := range meters {
		m := &meters[i]
		all := maxCapacity
		if n := time.Duration(ahead + 1); n <= maxCapacity/m.interval {
			all = n * m.interval
		}
		turn = max(turn, m.retryAfter((*buckets)[i].Level, all))
	}
	return before(ctx, turn)
}

// giveBack returns one request to each bucket. It is called for a caller who is
// gone already, so the end of ctx does not count.
func (l *Limiter) giveBack(ctx context.Context, key string, meters []meter) {
	buckets := l.buckets(key, meters, false)
	defer l.release(buckets)
	for i := range *buckets {
		(*buckets)[i].Amount = -meters[i].interval
	}
	_ = l.pour(context.WithoutCancel(ctx), *buckets) // if the store is down, so be it: a request too few
}

// before returns an error if ctx ends before, or just when, d has passed.
func before(ctx context.Context, d time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return fmt.Errorf("core: Wait: the turn comes in %v, too late: %w", d, context.DeadlineExceeded)
	}
	return nil
}

// sleep lets d pass. It returns an error at once if ctx ends or would end
// meanwhile.
func sleep(ctx context.Context, d time.Duration) error {
	if err := before(ctx, d); err != nil {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("core: Wait: %w", ctx.Err())
	}
}

// lines holds those who wait, one line for each key and set of limits. The zero
// value is ready for use.
type lines struct {
	mu   sync.Mutex
	byID map[string]*line
}

// A line is as long as there are callers in it, and forgotten with the last one.
type line struct {
	id     string
	places []*waiter // the head first
	asking bool      // the head asks the store, and may have been charged already
}

// A waiter is a caller's place in a line.
type waiter struct {
	lines *lines
	line  *line
	turn  chan struct{} // closed when the caller is the head
}

// lineID is the number of buckets, their scopes, which have no space, and the key.
func lineID(key string, meters []meter) string {
	id := strconv.Itoa(len(meters))
	for i := range meters {
		id += " " + meters[i].scope
	}
	return id + " " + key
}

// join enters a line at its end, and returns how many are ahead and not charged
// for sure.
func (l *lines) join(id string) (w *waiter, ahead int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID == nil {
		l.byID = make(map[string]*line)
	}
	ln := l.byID[id]
	if ln == nil {
		ln = &line{id: id}
		l.byID[id] = ln
	}
	w = &waiter{lines: l, line: ln, turn: make(chan struct{})}
	ln.places = append(ln.places, w)
	if len(ln.places) == 1 {
		close(w.turn)
	}
	return w, w.position()
}

// ahead is how many are ahead and not charged for sure.
func (w *waiter) ahead() int {
	w.lines.mu.Lock()
	defer w.lines.mu.Unlock()
	return w.position()
}

func (w *waiter) position() int {
	ahead := slices.Index(w.line.places, w)
	if ahead > 0 && w.line.asking {
		ahead--
	}
	return ahead
}

// ask says whether the store is being asked for the head.
func (w *waiter) ask(asking bool) {
	w.lines.mu.Lock()
	defer w.lines.mu.Unlock()
	w.line.asking = asking
}

// leave lets the next one have his turn if this was the head.
func (w *waiter) leave() {
	w.lines.mu.Lock()
	defer w.lines.mu.Unlock()
	ln := w.line
	i := slices.Index(ln.places, w)
	ln.places = slices.Delete(ln.places, i, i+1)
	switch {
	case len(ln.places) == 0:
		delete(w.lines.byID, ln.id)
	case i == 0:
		ln.asking = false
		close(ln.places[0].turn)
	}
}
