package core_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/core/storetest"
)

func TestMemoryIsAStore(t *testing.T) {
	for name, newStore := range map[string]func(t *testing.T) core.Store{
		"default":    func(*testing.T) core.Store { return core.NewMemory() },
		"small":      func(*testing.T) core.Store { return core.NewMemory(core.MaxKeys(100)) },
		"been there": usedMemory,
		"full":       fullMemory,
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, storetest.Harness{New: newStore, Bubble: true})
		})
	}
	t.Run("real time", func(t *testing.T) {
		storetest.Run(t, storetest.Harness{
			New:   func(*testing.T) core.Store { return core.NewMemory() },
			Slack: 30 * time.Second,
		})
	})
}

// usedMemory is full of buckets that have drained, which must give way without
// notice.
func usedMemory(t *testing.T) core.Store {
	m := core.NewMemory(core.MaxKeys(1000))
	fill(t, m, 1000, time.Microsecond)
	time.Sleep(time.Millisecond)
	return m
}

// fullMemory has no room but what it takes from others, which are nearer to
// empty than the buckets of any case.
func fullMemory(t *testing.T) core.Store {
	m := core.NewMemory(core.MaxKeys(1000))
	fill(t, m, 1000, time.Nanosecond)
	return m
}

func fill(t *testing.T, store core.Store, keys int, level time.Duration) {
	for i := range keys {
		b := core.Bucket{Scope: "fill", Key: strconv.Itoa(i), Amount: level, Capacity: level}
		if _, err := store.Pour(context.Background(), []core.Bucket{b}); err != nil {
			t.Fatal(err)
		}
	}
}
