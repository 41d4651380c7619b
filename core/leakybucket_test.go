package core_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway-go/spillway/core"
)

func containsAll(s string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(s, part) {
			return false
		}
	}
	return true
}

func TestLeakyBucketAllow(t *testing.T) {
	for _, c := range []struct {
		rate     float64
		interval time.Duration
	}{
		{5, 200 * ms}, {1, time.Second}, {0.1, 10 * time.Second}, {3, 333333334}, {700_000, 1429}, {1_000_000, time.Microsecond},
		{1.0 / 86400, 24 * time.Hour}, {2.5, 400 * ms},
	} {
		synctest.Test(t, func(t *testing.T) {
			bucket := core.NewLeakyBucket(core.NewMemory(), "job", c.rate)
			allow := func(want time.Duration, why string) {
				t.Helper()
				if got := bucket.Allow(t.Context()); got != want {
					t.Errorf("rate %v: %s: told to wait %v, want %v", c.rate, why, got, want)
				}
			}
			allow(0, "the first call")
			for range 1000 {
				allow(c.interval, "a call at once, which takes nothing")
			}
			time.Sleep(c.interval / 4)
			allow(c.interval-c.interval/4, "a quarter later")
			time.Sleep(c.interval - c.interval/4 - 1)
			allow(1, "a nanosecond too early")
			time.Sleep(time.Nanosecond)
			allow(0, "in time")
			time.Sleep(100 * c.interval)
			allow(0, "after a long pause")
			allow(c.interval, "a pause saves nothing up")
		})
	}
}

func TestLeakyBucketWithBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := core.NewMemory()
		strict := core.NewLeakyBucket(store, "job", 5)
		burst := strict.WithBurst(3)
		for range 3 {
			if got := burst.Allow(t.Context()); got != 0 {
				t.Errorf("in the burst: told to wait %v", got)
			}
		}
		if got := burst.Allow(t.Context()); got != 200*ms {
			t.Errorf("after the burst: told to wait %v, want 200ms", got)
		}
		if got := core.NewLeakyBucket(store, "other", 5).Allow(t.Context()); got != 0 {
			t.Errorf("another key: told to wait %v", got)
		}
	})
}

func TestLeakyBucketWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := core.NewMemory()
		start := time.Now()
		var mu sync.Mutex
		var turns []time.Duration
		var group sync.WaitGroup
		for range 10 { // as separate processes would, with a bucket each
			group.Go(func() {
				bucket := core.NewLeakyBucket(store, "job", 5)
				for range 3 {
					if err := bucket.Wait(t.Context()); err != nil {
						t.Error(err)
					}
					mu.Lock()
					turns = append(turns, time.Since(start))
					mu.Unlock()
				}
			})
		}
		group.Wait()
		for i, turn := range turns {
			if want := time.Duration(i) * 200 * ms; turn != want {
				t.Errorf("turn %d came after %v, want %v", i, turn, want)
			}
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		time.Sleep(time.Minute)
		if err := core.NewLeakyBucket(store, "job", 5).Wait(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that has ended: %v, want Canceled though there is room", err)
		}
	})
}

func TestLeakyBucketWithStoreDown(t *testing.T) {
	bucket := core.NewLeakyBucket(downStore{errDown}, "job", 5)
	if got := bucket.Allow(t.Context()); got != 0 {
		t.Errorf("Allow: told to wait %v, want to go ahead", got)
	}
	if err := bucket.Wait(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("Wait: %v, want the store's error", err)
	}
}

// A context that has ended must not look like an outage, and open the bucket.
func TestLeakyBucketCountsWhoIsGone(t *testing.T) {
	memory := core.NewMemory()
	bucket := core.NewLeakyBucket(storeFunc(func(ctx context.Context, buckets []core.Bucket) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		return memory.Pour(ctx, buckets)
	}), "job", 0.001)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if first, second := bucket.Allow(gone), bucket.Allow(gone); first != 0 || second == 0 {
		t.Errorf("told to wait %v and %v, want to go ahead once", first, second)
	}
}

// A policy can have any name, and its clients any key.
func TestLeakyBucketIsNoPolicys(t *testing.T) {
	store := core.NewMemory()
	for _, name := range []string{"leaky", ":leaky"} {
		guard, err := core.NewGuard(core.New(store), core.Policy{Name: name, Limit: core.PerHour(1), Key: core.ByHeader("Job")})
		if err != nil {
			t.Fatal(err)
		}
		r := get("/")
		r.header = map[string][]string{"Job": {"geocoder"}}
		guard.Check(r)
	}
	if got := core.NewLeakyBucket(store, "geocoder", 1.0/3600).Allow(t.Context()); got != 0 {
		t.Errorf("told to wait %v because of a client with the job's name for a key", got)
	}
}

func TestLeakyBucketRefusesWhatCannotBe(t *testing.T) {
	store := core.NewMemory()
	for _, rate := range []float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1), 1_000_001, 1e-12, math.SmallestNonzeroFloat64, math.MaxFloat64} {
		wantPanic(t, "calls a second", func() { core.NewLeakyBucket(store, "job", rate) })
	}
	wantPanic(t, "key is empty", func() { core.NewLeakyBucket(store, "", 1) })
	wantPanic(t, "NewMemory", func() { core.NewLeakyBucket(nil, "job", 1) })
	wantPanic(t, "at least 1", func() { core.NewLeakyBucket(store, "job", 1).WithBurst(0) })
	wantPanic(t, "146 years", func() { core.NewLeakyBucket(store, "job", 1e-9).WithBurst(math.MaxInt) })
}
