package core_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway-go/spillway/core"
)

const ms = time.Millisecond

// downStore is a store that cannot be asked.
type downStore struct{ err error }

func (s downStore) Pour(context.Context, []core.Bucket) (bool, error) { return false, s.err }

var errDown = errors.New("the store is down")

func TestAllowN(t *testing.T) {
	limit := core.PerSecond(10).WithBurst(5) // one each 100 ms, room for 500 ms
	type row struct {
		at        time.Duration
		n         int
		allowed   bool
		remaining int
		retry     time.Duration
		reset     time.Duration
		why       string
	}
	script := []row{
		{0, 0, true, 5, 0, 0, "a peek at a fresh key"},
		{0, 1, true, 4, 0, 100 * ms, "the first request"},
		{0, 4, true, 0, 0, 500 * ms, "the rest of the burst at once"},
		{0, 1, false, 0, 100 * ms, 500 * ms, "full"},
		{0, 5, false, 0, 500 * ms, 500 * ms, "five need an empty bucket"},
		{0, 0, true, 0, 0, 500 * ms, "a peek is never refused"},
		{99 * ms, 1, false, 0, 1 * ms, 401 * ms, "a millisecond too early"},
		{100 * ms, 1, true, 0, 0, 500 * ms, "exactly in time"},
		{350 * ms, 1, true, 1, 0, 350 * ms, "two and a half have drained, one is taken"},
		{350 * ms, 2, false, 1, 50 * ms, 350 * ms, "one remains and two were asked for"},
		{350 * ms, 1, true, 0, 0, 450 * ms, "a refusal has taken nothing"},
		{10 * time.Second, 0, true, 5, 0, 0, "drained long ago: never below empty"},
		{10 * time.Second, 5, true, 0, 0, 500 * ms, "a whole burst again, and no more"},
		{10 * time.Second, 1, false, 0, 100 * ms, 500 * ms, "full again"},
	}
	synctest.Test(t, func(t *testing.T) {
		limiter := core.New(core.NewMemory())
		start := time.Now()
		for _, r := range script {
			time.Sleep(r.at - time.Since(start))
			got, err := limiter.AllowN(t.Context(), "k", r.n, limit)
			want := core.Result{Allowed: r.allowed, Limit: limit, Remaining: r.remaining, RetryAfter: r.retry, ResetAfter: r.reset}
			if err != nil || got != want {
				t.Errorf("%s: %d at %v:\n got %+v, %v\nwant %+v", r.why, r.n, r.at, got, err, want)
			}
		}
	})
}

func TestAllowSeveralLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := core.New(core.NewMemory())
		second, minute := core.PerSecond(3), core.PerMinute(5)
		allow := func(want core.Result) {
			t.Helper()
			got, err := limiter.Allow(t.Context(), "k", second, minute)
			if err != nil || got != want {
				t.Errorf("got %+v, %v; want %+v", got, err, want)
			}
		}
		allow(core.Result{Allowed: true, Limit: second, Remaining: 2, ResetAfter: second.Period/3 + 1})
		allow(core.Result{Allowed: true, Limit: second, Remaining: 1, ResetAfter: 2 * (second.Period/3 + 1)})
		allow(core.Result{Allowed: true, Limit: second, Remaining: 0, ResetAfter: 3 * (second.Period/3 + 1)})
		for range 100 {
			allow(core.Result{Limit: second, RetryAfter: second.Period/3 + 1, ResetAfter: 3 * (second.Period/3 + 1)})
		}
		// What the second refused was not counted in the minute: 2 of its 5 are left.
		time.Sleep(time.Second + 3)
		drained := time.Second + 3
		allow(core.Result{Allowed: true, Limit: minute, Remaining: 1, ResetAfter: 4*12*time.Second - drained})
		allow(core.Result{Allowed: true, Limit: minute, Remaining: 0, ResetAfter: 5*12*time.Second - drained})
		allow(core.Result{Limit: minute, RetryAfter: 12*time.Second - drained, ResetAfter: 5*12*time.Second - drained})
		// And the other way round: the minute is in the way, the second is not charged.
		if got, err := limiter.AllowN(t.Context(), "k", 0, second); err != nil || got.Remaining != 1 {
			t.Errorf("the second's bucket: %+v, %v; want 1 remaining", got, err)
		}
	})
}

func TestAllowRefusesWhatCannotBe(t *testing.T) {
	limiter := core.New(core.NewMemory())
	limit := core.PerSecond(10)
	for name, c := range map[string]struct {
		key    string
		n      int
		limits []core.Limit
		want   error
	}{
		"no key":           {"", 1, []core.Limit{limit}, core.ErrNoKey},
		"no limit":         {"k", 1, nil, core.ErrInvalidLimit},
		"zero limit":       {"k", 1, []core.Limit{{}}, core.ErrInvalidLimit},
		"one of two":       {"k", 1, []core.Limit{limit, core.PerMinute(0)}, core.ErrInvalidLimit},
		"same period":      {"k", 1, []core.Limit{limit, limit.WithBurst(3)}, core.ErrInvalidLimit},
		"negative cost":    {"k", -1, []core.Limit{limit}, core.ErrInvalidCost},
		"more than burst":  {"k", 11, []core.Limit{limit}, core.ErrCostExceedsBurst},
		"more than second": {"k", 5, []core.Limit{limit, core.PerHour(100).WithBurst(4)}, core.ErrCostExceedsBurst},
		"overflowing cost": {"k", 1 << 62, []core.Limit{limit}, core.ErrCostExceedsBurst},
	} {
		got, err := limiter.AllowN(t.Context(), c.key, c.n, c.limits...)
		if !errors.Is(err, c.want) || got != (core.Result{}) {
			t.Errorf("%s: %+v, %v; want %v", name, got, err, c.want)
		}
	}
	if got, err := limiter.AllowN(t.Context(), "k", 10, limit); err != nil || !got.Allowed {
		t.Errorf("after the errors: %+v, %v; want all of the burst", got, err)
	}
	if err := limiter.Reset(t.Context(), "", limit); !errors.Is(err, core.ErrNoKey) {
		t.Errorf("Reset without a key: %v", err)
	}
	if err := limiter.Reset(t.Context(), "k"); !errors.Is(err, core.ErrInvalidLimit) {
		t.Errorf("Reset without a limit: %v", err)
	}
}

func TestAllowWithStoreDown(t *testing.T) {
	limiter := core.New(downStore{errDown})
	if got, err := limiter.Allow(t.Context(), "k", core.PerSecond(1)); !errors.Is(err, errDown) || got != (core.Result{}) {
		t.Errorf("Allow: %+v, %v; want the store's error", got, err)
	}
	if err := limiter.Reset(t.Context(), "k", core.PerSecond(1)); !errors.Is(err, errDown) {
		t.Errorf("Reset: %v, want the store's error", err)
	}
	if err := limiter.Wait(t.Context(), "k", core.PerSecond(1)); !errors.Is(err, errDown) {
		t.Errorf("Wait: %v, want the store's error", err)
	}
}

func TestReset(t *testing.T) {
	limiter := core.New(core.NewMemory())
	hour, day := core.PerHour(3), core.PerDay(3)
	if _, err := limiter.AllowN(t.Context(), "k", 3, hour, day); err != nil {
		t.Fatal(err)
	}
	if err := limiter.Reset(t.Context(), "k", hour, day); err != nil {
		t.Fatal(err)
	}
	if got, err := limiter.AllowN(t.Context(), "k", 3, hour, day); err != nil || !got.Allowed {
		t.Errorf("after Reset: %+v, %v; want all of the burst", got, err)
	}
}

func TestChangedLimitKeepsItsDebt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := core.New(core.NewMemory())
		if _, err := limiter.AllowN(t.Context(), "k", 100, core.PerMinute(100)); err != nil {
			t.Fatal(err)
		}
		for name, limit := range map[string]core.Limit{"raised": core.PerMinute(200), "lowered": core.PerMinute(10)} {
			if got, err := limiter.AllowN(t.Context(), "k", 0, limit); err != nil || got.Remaining != 0 {
				t.Errorf("%s to %v: %+v, %v; want nothing remaining", name, limit, got, err)
			}
		}
	})
}

// Limits of one period and different bursts have buckets of their own. In one
// they would see different capacities, and what is above the smaller one would
// be cut off again and again.
func TestDifferentBurstsDoNotShareABucket(t *testing.T) {
	limiter := core.New(core.NewMemory())
	large, small := core.PerHour(1000), core.PerHour(10).WithBurst(1)
	admitted := 0
	for range 5000 {
		for _, limit := range []core.Limit{large, small} {
			if got, err := limiter.Allow(t.Context(), "k", limit); err == nil && got.Allowed {
				admitted++
			}
		}
	}
	if admitted != 1001 {
		t.Errorf("%d admitted, want 1001", admitted)
	}
}

// Nor do limits whose capacities differ by rounding.
func TestFastLimitsDoNotShareABucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := core.New(core.NewMemory())
		admitted := 0
		for range 20 {
			for {
				got, err := limiter.Allow(t.Context(), "k", core.PerSecond(33_000))
				if err != nil || !got.Allowed {
					break
				}
				admitted++
			}
			for range 20 {
				_, _ = limiter.Allow(t.Context(), "k", core.PerSecond(10))
			}
		}
		if admitted != 33_000 {
			t.Errorf("%d admitted in one instant, want 33000", admitted)
		}
	})
}

// For random limits: in no interval of time is more admitted than the limit says
// in exact arithmetic, at most one in a thousand fewer, and who waits exactly
// RetryAfter is admitted.
func TestLimitsAreExact(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	limits := []core.Limit{
		core.PerSecond(700_000), core.PerSecond(999_999), core.PerSecond(1_000_000), core.PerSecond(3),
		core.PerDay(7), core.Every(365 * 24 * time.Hour), core.PerDay(86_399),
	}
	for range 200 {
		period := time.Duration(1+random.Int64N(1000)) * []time.Duration{time.Millisecond, time.Second, time.Minute, time.Hour}[random.IntN(4)]
		rate := 1 + random.IntN(int(min(int64(period/time.Microsecond), 1_000_000)))
		limits = append(limits, core.Limit{Rate: rate, Period: period, Burst: 1 + random.IntN(50)})
	}
	for _, limit := range limits {
		synctest.Test(t, func(t *testing.T) {
			limiter := core.New(core.NewMemory())
			var admitted []time.Time
			// A bubble's clock ends after 292 years.
			interval := time.Duration(int64(limit.Period) / int64(limit.Rate))
			tries := int(min(1000, 50*365*24*time.Hour/interval))
			for len(admitted) < min(tries, 300) {
				got, err := limiter.Allow(t.Context(), "k", limit)
				if err != nil {
					t.Fatal(err)
				}
				if got.Allowed {
					admitted = append(admitted, time.Now())
					if random.IntN(4) == 0 {
						time.Sleep(time.Duration(random.Int64N(int64(interval) + 1)))
					}
					continue
				}
				time.Sleep(got.RetryAfter - 1)
				if got, _ := limiter.Allow(t.Context(), "k", limit); got.Allowed {
					t.Fatalf("%v: admitted a nanosecond before RetryAfter", limit)
				}
				time.Sleep(time.Nanosecond)
				got, err = limiter.Allow(t.Context(), "k", limit)
				if err != nil || !got.Allowed {
					t.Fatalf("%v: refused after exactly RetryAfter: %+v, %v", limit, got, err)
				}
				admitted = append(admitted, time.Now())
			}
			burst := limit.Burst
			if burst == 0 {
				burst = limit.Rate
			}
			for i := range admitted {
				for j := i + burst; j < len(admitted); j += 1 + random.IntN(30) {
					d := admitted[j].Sub(admitted[i])
					// j-i+1 <= burst + d*rate/period, in exact arithmetic
					bound := new(big.Rat).SetFrac(
						new(big.Int).Mul(big.NewInt(int64(d)), big.NewInt(int64(limit.Rate))), big.NewInt(int64(limit.Period)))
					bound.Add(bound, new(big.Rat).SetInt64(int64(burst)))
					if bound.Cmp(new(big.Rat).SetInt64(int64(j-i+1))) < 0 {
						t.Fatalf("%v: %d admitted in %v", limit, j-i+1, d)
					}
				}
			}

			// A client that never pauses gets at least 999 of 1000.
			if _, err := limiter.AllowN(t.Context(), "full", burst, limit); err != nil {
				t.Fatal(err)
			}
			start, steady := time.Now(), tries
			for range steady {
				got, _ := limiter.Allow(t.Context(), "full", limit)
				if !got.Allowed {
					time.Sleep(got.RetryAfter)
					got, _ = limiter.Allow(t.Context(), "full", limit)
				}
				if !got.Allowed {
					t.Fatalf("%v: refused after exactly RetryAfter", limit)
				}
			}
			exact := float64(limit.Period) / float64(limit.Rate) * float64(steady)
			if took := float64(time.Since(start)); took < exact || took > exact*1.001 {
				t.Fatalf("%v: %d requests took %v of the exact time", limit, steady, took/exact)
			}
		})
	}
}

func TestAllowConcurrently(t *testing.T) {
	limiter := core.New(core.NewMemory())
	hour, day := core.PerHour(100), core.PerDay(1000)
	var admitted atomic.Int64
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			for range 50 {
				if got, err := limiter.Allow(context.Background(), "k", hour, day); err == nil && got.Allowed {
					admitted.Add(1)
				}
			}
		})
	}
	group.Wait()
	if admitted.Load() != 100 {
		t.Errorf("%d admitted, want exactly 100", admitted.Load())
	}
	if got, _ := limiter.AllowN(t.Context(), "k", 0, day); got.Remaining != 900 {
		t.Errorf("%d of the day remain, want 900: the refused are not counted", got.Remaining)
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := core.New(core.NewMemory())
		limit := core.PerSecond(10).WithBurst(3)
		start := time.Now()
		for i := range 8 {
			if err := limiter.Wait(t.Context(), "k", limit); err != nil {
				t.Fatal(err)
			}
			want := max(0, time.Duration(i-2)*100*ms)
			if got := time.Since(start); got != want {
				t.Errorf("turn %d came after %v, want %v", i, got, want)
			}
		}
	})
}

func TestWaitKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := core.New(core.NewMemory())
		limit := core.Every(time.Second)
		start := time.Now()
		turns := make(chan string, 20)
		for i := range 20 {
			go func() {
				if err := limiter.Wait(t.Context(), "k", limit); err != nil {
					t.Error(err)
				}
				turns <- fmt.Sprintf("%d at %v", i, time.Since(start))
			}()
			synctest.Wait()
		}
		for i := range 20 {
			if got, want := <-turns, fmt.Sprintf("%d at %v", i, time.Duration(i)*time.Second); got != want {
				t.Errorf("turn %s, want %s", got, want)
			}
		}
	})
}

func TestWaitThatCannotEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := core.New(core.NewMemory())
		limit := core.Every(time.Second)
		start := time.Now()
		if err := limiter.Wait(t.Context(), "k", limit); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second-1)
		defer cancel()
		if err := limiter.Wait(short, "k", limit); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 0 {
			t.Errorf("a turn after the deadline: %v after %v, want DeadlineExceeded at once", err, time.Since(start))
		}

		// With one ahead in line, the turn comes after two seconds.
		first := make(chan error)
		go func() { first <- limiter.Wait(t.Context(), "k", limit) }()
		synctest.Wait()
		behind, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := limiter.Wait(behind, "k", limit); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 0 {
			t.Errorf("behind another: %v after %v, want DeadlineExceeded at once", err, time.Since(start))
		}
		enough, cancel := context.WithTimeout(t.Context(), 2*time.Second+1)
		defer cancel()
		second := make(chan error)
		go func() { second <- limiter.Wait(enough, "k", limit) }()
		if err := <-first; err != nil || time.Since(start) != time.Second {
			t.Errorf("the first in line: %v after %v", err, time.Since(start))
		}
		if err := <-second; err != nil || time.Since(start) != 2*time.Second {
			t.Errorf("the second in line: %v after %v, want its turn just before the deadline", err, time.Since(start))
		}
	})
}

// slow is a store that is a round trip away.
type slow struct {
	core.Store
	delay time.Duration
}

func (s slow) Pour(ctx context.Context, buckets []core.Bucket) (bool, error) {
	time.Sleep(s.delay / 2)
	poured, err := s.Store.Pour(ctx, buckets)
	time.Sleep(s.delay / 2)
	return poured, err
}

func TestWaitOnASlowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := core.New(slow{core.NewMemory(), 100 * ms})
		limit := core.Every(time.Second)
		var mu sync.Mutex
		var order []string
		var group sync.WaitGroup
		wait := func(name string, timeout time.Duration) {
			group.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				if err := limiter.Wait(ctx, "k", limit); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
			})
			time.Sleep(10 * ms)
		}
		wait("first", time.Hour)
		wait("second, who must ask whether it can be", 1500*ms)
		wait("third", time.Hour)
		group.Wait()
		if fmt.Sprint(order) != "[first second, who must ask whether it can be third]" {
			t.Errorf("the order is %v", order)
		}
	})
}

func TestWaitForALifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := core.New(core.NewMemory())
		limit := core.Every(100 * 365 * 24 * time.Hour)
		if err := limiter.Wait(t.Context(), "k", limit); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for range 3 {
			go func() { _ = limiter.Wait(ctx, "k", limit) }()
			synctest.Wait()
		}
		soon, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		start := time.Now()
		if err := limiter.Wait(soon, "k", limit); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 0 {
			t.Errorf("%v after %v, want DeadlineExceeded at once", err, time.Since(start))
		}
		cancel()
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := core.New(core.NewMemory())
		limit := core.Every(time.Second)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := limiter.Wait(gone, "k", limit); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that has ended: %v, want Canceled though there is room", err)
		}
		if err := limiter.Wait(t.Context(), "k", limit); err != nil {
			t.Fatal(err)
		}
		// A thousand join the line, and all of them leave after half a second.
		start := time.Now()
		leaving, leave := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range 1000 {
			group.Go(func() {
				if err := limiter.Wait(leaving, "k", limit); !errors.Is(err, context.Canceled) {
					t.Errorf("%v, want Canceled", err)
				}
			})
		}
		time.Sleep(500 * ms)
		leave()
		group.Wait()
		if time.Since(start) != 500*ms {
			t.Errorf("they were gone after %v, want at once", time.Since(start))
		}
		if err := limiter.Wait(t.Context(), "k", limit); err != nil || time.Since(start) != time.Second {
			t.Errorf("the next turn: %v after %v, want 1s as if nobody had waited", err, time.Since(start))
		}
	})
}

// cancelling is a store during whose call the caller's context ends.
type cancelling struct {
	core.Store
	cancel context.CancelFunc
}

func (s *cancelling) Pour(ctx context.Context, buckets []core.Bucket) (bool, error) {
	poured, err := s.Store.Pour(ctx, buckets)
	if s.cancel != nil {
		s.cancel()
		s.cancel = nil
	}
	return poured, err
}

func TestWaitGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		store := &cancelling{core.NewMemory(), cancel}
		limiter := core.New(store)
		second, minute := core.Every(time.Second), core.PerMinute(5)
		if err := limiter.Wait(ctx, "k", second, minute); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v, want Canceled: nobody is there to take the turn", err)
		}
		for _, limit := range []core.Limit{second, minute} {
			if got, _ := limiter.AllowN(t.Context(), "k", 0, limit); got.ResetAfter != 0 {
				t.Errorf("%v: %+v, want what was taken given back", limit, got)
			}
		}
	})
}

func TestWaitAndAllowShareTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := core.New(core.NewMemory())
		limit := core.Every(time.Second)
		start := time.Now()
		var admitted atomic.Int64
		var group sync.WaitGroup
		for range 5 {
			group.Go(func() {
				for limiter.Wait(t.Context(), "k", limit) == nil && time.Since(start) < time.Minute {
					admitted.Add(1)
				}
			})
			group.Go(func() {
				for time.Since(start) < time.Minute {
					if got, _ := limiter.Allow(t.Context(), "k", limit); got.Allowed {
						admitted.Add(1)
					}
					time.Sleep(77 * ms)
				}
			})
		}
		group.Wait()
		if got := admitted.Load(); got < 58 || got > 61 {
			t.Errorf("%d admitted in a minute at one a second", got)
		}
	})
}

func TestNewWithoutStore(t *testing.T) {
	wantPanic(t, "NewMemory", func() { core.New(nil) })
}

// wantPanic checks that f panics with a text that shows the way out.
func wantPanic(t *testing.T, text string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if got := fmt.Sprint(recover()); !containsAll(got, "core: ", text) {
			t.Errorf("panic: %s, want it to say %q", got, text)
		}
	}()
	f()
}
