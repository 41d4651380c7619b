package storetest

import (
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/spillway-go/spillway/core"
)

// A model is the contract of core.Store, written down with no regard to speed
// or to the size of numbers.
type model struct {
	now *big.Int
	dry map[string]*big.Int // by scope: the instant at which the bucket runs dry
}

func newModel() *model {
	return &model{now: new(big.Int), dry: make(map[string]*big.Int)}
}

func (m *model) sleep(d time.Duration) { m.now.Add(m.now, big.NewInt(int64(d))) }

// level is what a bucket holds, capacity apart.
func (m *model) level(scope string) *big.Int {
	level := new(big.Int)
	if dry := m.dry[scope]; dry != nil && dry.Cmp(m.now) > 0 {
		level.Sub(dry, m.now)
	}
	return level
}

func (m *model) set(scope string, level *big.Int) {
	m.dry[scope] = new(big.Int).Add(m.now, level)
}

func (m *model) pour(buckets []core.Bucket) bool {
	poured := true
	levels := make([]*big.Int, len(buckets))
	for i, b := range buckets {
		capacity := big.NewInt(int64(b.Capacity))
		levels[i] = m.level(b.Scope)
		if levels[i].Cmp(capacity) > 0 {
			levels[i] = capacity
			if b.Amount != 0 {
				m.set(b.Scope, capacity)
			}
		}
		sum := new(big.Int).Add(levels[i], big.NewInt(int64(b.Amount)))
		if sum.Cmp(capacity) > 0 {
			poured = false
		}
	}
	for i, b := range buckets {
		if poured && b.Amount != 0 {
			levels[i].Add(levels[i], big.NewInt(int64(b.Amount)))
			if levels[i].Sign() < 0 {
				levels[i].SetInt64(0)
			}
			m.set(b.Scope, levels[i])
		}
		buckets[i].Level = time.Duration(levels[i].Int64())
	}
	return poured
}

// agrees plays random steps and compares each with the model. The steps are made
// from the model alone, so one seed is the same steps for every store.
func agrees(s *subject) {
	m := newModel()
	var last []core.Bucket
	var history []string
	for range 2000 {
		gap := s.randomGap(last)
		s.sleep(gap)
		m.sleep(gap)

		want := s.randomBuckets(m)
		got := append([]core.Bucket(nil), want...)
		wantPoured := m.pour(want)
		gotPoured := s.pour(got...)
		history = append(history, fmt.Sprintf("after %v: poured = %v, %s", gap, wantPoured, describe(want)))

		bad := gotPoured != wantPoured
		for i := range want {
			bad = bad || got[i].Level != want[i].Level
		}
		if bad {
			recent := history[max(0, len(history)-6):]
			s.Fatalf("step %d: poured = %v, %s\nwant, by the model, in the last line:\n%s",
				len(history), gotPoured, describe(got), strings.Join(recent, "\n"))
		}
		last = want
	}
}

func describe(buckets []core.Bucket) string {
	var text strings.Builder
	for _, b := range buckets {
		fmt.Fprintf(&text, "[%s: %d ns of %d ns -> %d ns]", b.Scope, b.Amount, b.Capacity, b.Level)
	}
	return text.String()
}

// randomGap is a pause: often none, often just as long as the last call would
// have had to wait, sometimes hours.
func (s *subject) randomGap(last []core.Bucket) time.Duration {
	switch s.rand.IntN(8) {
	case 0, 1:
		return 0
	case 2:
		return 1 * us
	case 3:
		return time.Duration(s.rand.IntN(1000)) * us
	case 4:
		return time.Duration(s.rand.IntN(10_000_000)) * us
	case 5:
		return time.Duration(s.rand.IntN(100)) * hr
	default:
		var wait time.Duration
		for _, b := range last {
			if b.Capacity <= 1*hr && b.Amount <= b.Capacity {
				wait = max(wait, b.Level+b.Amount-b.Capacity)
			}
		}
		return wholeMicroseconds(wait)
	}
}

// wholeMicroseconds rounds up. A clock that ticks in microseconds lets nobody in
// between the ticks.
func wholeMicroseconds(d time.Duration) time.Duration { return (d + us - ns) / us * us }

// randomBuckets are one to three buckets with capacities and amounts from all
// over the range, and with a liking for those that just fit.
func (s *subject) randomBuckets(m *model) []core.Bucket {
	scopes := []string{"a", "b", "c", "d", "e"}
	usual := []time.Duration{1 * ns, 7 * 1429 * ns, 10 * sc, 1 * hr, maxCapacity}
	buckets := make([]core.Bucket, 0, 3)
	for _, i := range s.rand.Perm(len(scopes))[:1+s.rand.IntN(3)] {
		b := bucket(scopes[i], 0, usual[i], 0)
		switch s.rand.IntN(10) {
		case 0:
			b.Capacity = usual[s.rand.IntN(len(usual))]
		case 1:
			b.Capacity = 1 + time.Duration(s.rand.Int64N(int64(maxCapacity)))
		}
		level := min(b.Capacity, time.Duration(m.level(b.Scope).Int64()))
		switch s.rand.IntN(10) {
		case 0:
			b.Amount = 0
		case 1:
			b.Amount = -time.Duration(s.rand.Int64N(int64(b.Capacity)))
		case 2:
			b.Amount = -level
		case 3, 4:
			b.Amount = b.Capacity - level
		case 5:
			b.Amount = b.Capacity - level + 1*ns
		case 6:
			b.Amount = 1429 * ns
		default:
			b.Amount = time.Duration(s.rand.Int64N(int64(b.Capacity)))
		}
		buckets = append(buckets, b)
	}
	return buckets
}

// withinLimit puts a few limits under random load, by an impatient client and by
// one who waits as long as he was told to.
func withinLimit(s *subject) {
	for i, limit := range []struct {
		interval time.Duration
		burst    int
	}{
		{1 * sc, 1},
		{1 * sc, 10},
		{100 * ms, 3},
		{333333334 * ns, 3},
		{1429 * ns, 100},
		{8760 * hr, 2},
	} {
		amount := limit.interval
		capacity := amount * time.Duration(limit.burst)
		b := bucket(fmt.Sprint("s", i), amount, capacity, 0)
		ask := func() (bool, time.Duration) {
			buckets := []core.Bucket{b}
			if s.pour(buckets...) {
				return true, 0
			}
			return false, wholeMicroseconds(buckets[0].Level + amount - capacity)
		}

		var admitted []time.Duration
		for range 200 {
			s.sleep(wholeMicroseconds(time.Duration(s.rand.Int64N(int64(amount)))))
			ok, wait := ask()
			if !ok && s.rand.IntN(2) == 0 {
				s.sleep(wait - 1*us)
				if early, _ := ask(); early {
					s.Errorf("one each %v, burst %d: a client that waited 1µs less than %v was admitted", amount, limit.burst, wait)
				}
				s.sleep(1 * us)
				if ok, _ = ask(); !ok {
					s.Errorf("one each %v, burst %d: a client that waited exactly %v was refused", amount, limit.burst, wait)
				}
			}
			if ok {
				admitted = append(admitted, s.now)
			}
		}
		for from := range admitted {
			for to := from; to < len(admitted); to++ {
				d := admitted[to] - admitted[from]
				if n := to - from + 1; n > limit.burst+int(d/amount) {
					s.Fatalf("one each %v, burst %d: %d admitted in %v", amount, limit.burst, n, d)
				}
			}
		}
	}
}
