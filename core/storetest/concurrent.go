package storetest

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/spillway-go/spillway/core"
)

const (
	callers = 64
	calls   = 10 // by each
)

// contend lets many call Pour at once and returns how many calls poured. The
// buckets of a call depend on who calls.
func (s *subject) contend(buckets func(caller int) []core.Bucket) int {
	var poured atomic.Int64
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for range calls {
				ok, err := s.store.Pour(context.Background(), buckets(caller))
				if err != nil {
					s.Errorf("error %v, want none", err)
					return
				}
				if ok {
					poured.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return int(poured.Load())
}

// An hour each is so much that what drains during the case does not matter.

func contended(s *subject) {
	const burst = callers * calls / 3
	got := s.contend(func(int) []core.Bucket { return one(1*hr, burst*hr, 0) })
	if got != burst {
		s.Errorf("%d of %d calls poured, want exactly the burst of %d", got, callers*calls, burst)
	}
	s.expect(false, one(1*hr, burst*hr, burst*hr)...)
}

func crossed(s *subject) {
	const burst = callers * calls / 4
	got := s.contend(func(caller int) []core.Bucket {
		a, b, c := bucket("a", 1*hr, 10*burst*hr, 0), bucket("b", 1*hr, burst*hr, 0), bucket("c", 1*hr, 20*burst*hr, 0)
		if caller%2 == 0 {
			return []core.Bucket{a, b, c}
		}
		return []core.Bucket{c, b, a}
	})
	if got != burst {
		s.Errorf("%d of %d calls poured, want exactly the burst of %d", got, callers*calls, burst)
	}
	for _, scope := range []string{"a", "b", "c"} {
		s.expect(true, bucket(scope, 0, 20*burst*hr, burst*hr))
	}
}
