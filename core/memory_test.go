package core_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway-go/spillway/core"
)

// pour pours amount into the bucket of key, and returns whether it was poured
// and the level.
func pour(t testing.TB, store core.Store, key string, amount time.Duration) (bool, time.Duration) {
	t.Helper()
	buckets := []core.Bucket{{Scope: "test", Key: key, Amount: amount, Capacity: time.Hour}}
	poured, err := store.Pour(t.Context(), buckets)
	if err != nil {
		t.Fatal(err)
	}
	return poured, buckets[0].Level
}

func TestMemoryForgetsTheNearestToEmptyFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, maxKeys := range []int{1, 2, 10, 1000} {
			memory := core.NewMemory(core.MaxKeys(maxKeys))
			key := func(i int) string { return fmt.Sprint("key ", i) }
			order := rand.Perm(maxKeys)
			for _, i := range order {
				pour(t, memory, key(i), time.Duration(i+1)*time.Second)
			}
			// Half of them are poured into once more, which their places have yet to follow.
			for _, i := range order {
				if i%2 == 0 {
					pour(t, memory, key(i), 30*time.Minute)
				}
			}
			for i := range maxKeys {
				if _, level := pour(t, memory, key(i), 0); level == 0 {
					t.Fatalf("MaxKeys(%d): key %d is forgotten though all of them fit", maxKeys, i)
				}
			}
			if memory.Len() != maxKeys {
				t.Fatalf("MaxKeys(%d): Len is %d", maxKeys, memory.Len())
			}
			// One more key at a time: the odd ones are nearest to empty.
			for i := 1; i < maxKeys; i += 2 {
				pour(t, memory, fmt.Sprint("fresh ", i), 40*time.Minute)
				if memory.Len() != maxKeys {
					t.Fatalf("MaxKeys(%d): Len is %d after a fresh key", maxKeys, memory.Len())
				}
				if _, level := pour(t, memory, key(i), 0); level != 0 {
					t.Fatalf("MaxKeys(%d): key %d was the nearest to empty and is kept", maxKeys, i)
				}
				if i+2 < maxKeys {
					if _, level := pour(t, memory, key(i+2), 0); level == 0 {
						t.Fatalf("MaxKeys(%d): key %d is forgotten before its turn", maxKeys, i+2)
					}
				}
			}
			for i := 0; i < maxKeys && maxKeys > 1; i += 2 {
				if _, level := pour(t, memory, key(i), 0); level == 0 {
					t.Fatalf("MaxKeys(%d): key %d is forgotten before emptier ones", maxKeys, i)
				}
			}
		}
	})
}

func TestMemoryFloodDoesNotFreeTheThrottled(t *testing.T) {
	memory := core.NewMemory(core.MaxKeys(5000))
	limiter := core.New(memory)
	limit := core.PerHour(100)
	if _, err := limiter.AllowN(t.Context(), "attacker", 100, limit); err != nil {
		t.Fatal(err)
	}
	for i := range 100_000 {
		if _, err := limiter.Allow(t.Context(), fmt.Sprint("flood ", i), limit); err != nil {
			t.Fatal(err)
		}
		if memory.Len() > 5000 {
			t.Fatalf("%d keys, want at most 5000", memory.Len())
		}
	}
	if got, _ := limiter.Allow(t.Context(), "attacker", limit); got.Allowed {
		t.Error("100,000 fresh keys have freed a client that is being refused")
	}
}

func TestMemoryDropsWhatHasDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := core.NewMemory()
		for i := range 20_000 {
			pour(t, memory, fmt.Sprint(i), time.Second)
		}
		pour(t, memory, "lasting", time.Hour)
		time.Sleep(time.Second)
		// Nothing but a peek now and then, at a key that is not even there.
		for range 2000 {
			pour(t, memory, "other", 0)
			time.Sleep(time.Millisecond)
		}
		if got := memory.Len(); got != 1 {
			t.Errorf("%d buckets are kept, want the one that has not drained", got)
		}
		if _, level := pour(t, memory, "lasting", 0); level != time.Hour-3*time.Second {
			t.Errorf("the one that lasts is at %v", level)
		}
	})
}

func TestMemoryTakesNewBeforeLiveWhereOthersHaveDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxKeys = 1000
		memory := core.NewMemory(core.MaxKeys(maxKeys))
		for i := range maxKeys / 2 {
			pour(t, memory, fmt.Sprint("short ", i), time.Second)
			pour(t, memory, fmt.Sprint("long ", i), time.Hour)
		}
		time.Sleep(time.Second)
		for i := range maxKeys / 2 {
			pour(t, memory, fmt.Sprint("new ", i), time.Minute)
		}
		for i := range maxKeys / 2 {
			if _, level := pour(t, memory, fmt.Sprint("long ", i), 0); level == 0 {
				t.Fatalf("long %d is forgotten, though half of the buckets had drained", i)
			}
			if _, level := pour(t, memory, fmt.Sprint("new ", i), 0); level == 0 {
				t.Fatalf("new %d is forgotten, though half of the buckets had drained", i)
			}
		}
	})
}

func TestMemoryGivesMemoryBack(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	synctest.Test(t, func(t *testing.T) {
		const keys = 200_000
		before := heap()
		memory := core.NewMemory()
		name := make([]byte, 0, 1024)
		for i := range keys {
			name = fmt.Appendf(name[:0], "%s %d", strings.Repeat("long", 200), i)
			pour(t, memory, string(name), time.Second)
		}
		full := heap() - before
		if full > keys*130 {
			t.Errorf("%d bytes a key, however long the key", full/keys)
		}
		time.Sleep(time.Second)
		for range keys {
			pour(t, memory, "other", 0)
			time.Sleep(time.Millisecond)
		}
		if left := int64(heap()) - int64(before); left > int64(full)/5 {
			t.Errorf("of %d bytes %d are left after all buckets have drained", full, left)
		}
		runtime.KeepAlive(memory)
	})
}

func TestMemoryIsBoundedUnderConcurrency(t *testing.T) {
	const maxKeys = 3000
	memory := core.NewMemory(core.MaxKeys(maxKeys))
	var group sync.WaitGroup
	for g := range 32 {
		group.Go(func() {
			for i := range 2000 {
				buckets := []core.Bucket{
					{Scope: "a", Key: fmt.Sprint(g, i), Amount: 1, Capacity: time.Hour},
					{Scope: "b", Key: fmt.Sprint(g, -i), Amount: time.Hour, Capacity: time.Hour},
				}
				if _, err := memory.Pour(context.Background(), buckets); err != nil {
					t.Error(err)
				}
				// Each caller may have counted one more than it is about to drop.
				if got := memory.Len(); got > maxKeys+32 {
					t.Errorf("%d keys, want at most %d", got, maxKeys)
					return
				}
			}
		})
	}
	group.Wait()
	if got := memory.Len(); got > maxKeys {
		t.Errorf("%d keys in the end, want at most %d", got, maxKeys)
	}
}

func TestMemoryMadeOutsideTheBubble(t *testing.T) {
	// The clock of a bubble starts in the year 2000, before the store was made.
	memory := core.NewMemory()
	pour(t, memory, "k", time.Hour)
	synctest.Test(t, func(t *testing.T) {
		if poured, level := pour(t, memory, "k", time.Minute); poured || level != time.Hour {
			t.Errorf("a level from the future: %v, %v; want it taken for the capacity", poured, level)
		}
		time.Sleep(time.Minute)
		if poured, level := pour(t, memory, "k", time.Minute); !poured || level != time.Hour {
			t.Errorf("a minute later: %v, %v; want it poured", poured, level)
		}
		if poured, level := pour(t, memory, "other", time.Minute); !poured || level != time.Minute {
			t.Errorf("a fresh key: %v, %v", poured, level)
		}
	})
}

func TestMemoryDoesNotAllocate(t *testing.T) {
	limiter := core.New(core.NewMemory())
	limits := []core.Limit{core.PerSecond(1_000_000), core.PerHour(1_000_000)}
	if got := testing.AllocsPerRun(1000, func() {
		_, _ = limiter.Allow(context.Background(), "known", limits...)
	}); got != 0 {
		t.Errorf("%v allocations for a decision on a known key, want none", got)
	}
}

func TestMaxKeysRefusesNone(t *testing.T) {
	wantPanic(t, "at least 1", func() { core.MaxKeys(0) })
}
