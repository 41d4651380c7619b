// Package storetest tests whether something is a [core.Store]: it puts the whole
// contract to it, case by case, each with a sentence that says why it matters.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, storetest.Harness{
//			New:    func(t *testing.T) core.Store { return mystore.New() },
//			Bubble: true,
//		})
//	}
//
// It needs nothing but the standard library.
package storetest

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway-go/spillway/core"
)

// A Harness tells [Run] how to get stores and how time passes for them. Only New
// is required; the other fields may be zero.
type Harness struct {
	// New returns an empty store. It is called once for each case, and cleans up
	// with t.Cleanup. If the cases run in a bubble, it does too.
	New func(t *testing.T) core.Store

	// Bubble runs each case in a bubble of [testing/synctest], where time passes
	// only while everybody waits. It is for stores that live in this process and
	// go by time.Now.
	Bubble bool

	// Sleep lets time pass on the store's clock: always whole microseconds, never
	// less than 0. The default is time.Sleep. A store with a clock that is set by
	// hand sets it.
	Sleep func(time.Duration)

	// Slack is zero for a store whose clock stands still except during Sleep:
	// levels must be right to the last nanosecond then. For a store on a real
	// clock it is the longest that a case may take, a few seconds: levels may be
	// that much lower than expected, and cases that need an exact clock are left
	// out.
	Slack time.Duration

	// Seed repeats a run of the random cases. With 0 each run has another seed,
	// which is printed if a case fails.
	Seed uint64
}

// A testCase is one thing that a store must do.
type testCase struct {
	name  string
	why   string
	exact bool // needs a clock that stands still between the steps
	run   func(*subject)
}

// Run runs all cases, each as a subtest with a new store.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if h.New == nil {
		t.Fatal("storetest: Harness.New is nil; want a function that returns an empty store")
	}
	if h.Sleep == nil {
		h.Sleep = time.Sleep
	}
	if h.Seed == 0 {
		h.Seed = rand.Uint64()
	}
	for _, c := range cases {
		if c.exact && h.Slack > 0 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if h.Bubble {
				synctest.Test(t, func(t *testing.T) { h.run(t, c) })
			} else {
				h.run(t, c)
			}
		})
	}
}

func (h Harness) run(t *testing.T, c testCase) {
	defer func() {
		if t.Failed() {
			t.Logf("seed %d; why: %s", h.Seed, c.why)
		}
	}()
	c.run(&subject{
		T:       t,
		harness: h,
		store:   h.New(t),
		rand:    rand.New(rand.NewPCG(h.Seed, 0)),
	})
}

// A subject is the store under test in one case.
type subject struct {
	*testing.T
	harness Harness
	store   core.Store
	rand    *rand.Rand
	now     time.Duration // what has passed since the case began
}

func (s *subject) sleep(d time.Duration) {
	s.now += d
	s.harness.Sleep(d)
}

// pour calls Pour and fails the case on an error.
func (s *subject) pour(buckets ...core.Bucket) bool {
	s.Helper()
	poured, err := s.store.Pour(context.Background(), buckets)
	if err != nil {
		s.Fatalf("Pour%v: error %v, want none", buckets, err)
	}
	return poured
}

// expect calls Pour and compares the outcome. The Level of each bucket is what
// it should be after the call.
func (s *subject) expect(want bool, buckets ...core.Bucket) {
	s.Helper()
	got := append([]core.Bucket(nil), buckets...)
	poured, err := s.store.Pour(context.Background(), got)
	if err != nil {
		s.Fatalf("at %v: error %v, want none", s.now, err)
	}
	if poured != want {
		s.Errorf("at %v: poured = %v, want %v", s.now, poured, want)
	}
	for i, b := range buckets {
		if level := got[i].Level; level > b.Level || level < max(0, b.Level-s.harness.Slack) {
			s.Errorf("at %v: bucket %d, %v into a capacity of %v: level %v, want %v", s.now, i, b.Amount, b.Capacity, level, b.Level)
		}
	}
	if s.Failed() {
		s.FailNow()
	}
}

// bucket is that of one client under one scope.
func bucket(scope string, amount, capacity, level time.Duration) core.Bucket {
	return core.Bucket{Scope: scope, Key: "client", Amount: amount, Capacity: capacity, Level: level}
}

// A step is a row of a script: some time passes, then something is poured.
type step struct {
	after   time.Duration
	poured  bool
	buckets []core.Bucket
}

func (s *subject) play(steps []step) {
	s.Helper()
	for _, step := range steps {
		s.sleep(step.after)
		s.expect(step.poured, step.buckets...)
	}
}
