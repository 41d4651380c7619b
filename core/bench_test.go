package core_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/spillway-go/spillway/core"
)

// The clock is read once a decision, which is about a third of its time.
func BenchmarkClock(b *testing.B) {
	start := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		_ = time.Since(start)
	}
}

func BenchmarkMemory(b *testing.B) {
	ctx := context.Background()
	for _, keys := range []int{1, 100_000} {
		names := make([]string, keys)
		for i := range names {
			names[i] = "203.0.113." + strconv.Itoa(i)
		}
		limiter := core.New(core.NewMemory())
		limit := core.PerSecond(1_000_000)
		for _, name := range names {
			_, _ = limiter.Allow(ctx, name, limit)
		}
		suffix := strconv.Itoa(keys) + "keys"
		b.Run("serial/"+suffix, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				_, _ = limiter.Allow(ctx, names[i], limit)
				if i++; i == keys {
					i = 0
				}
			}
		})
		b.Run("parallel/"+suffix, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				i := rand.IntN(keys)
				for pb.Next() {
					_, _ = limiter.Allow(ctx, names[i], limit)
					if i++; i == keys {
						i = 0
					}
				}
			})
		})
	}
	b.Run("refused", func(b *testing.B) {
		limiter := core.New(core.NewMemory())
		limit := core.PerDay(1)
		b.ReportAllocs()
		for b.Loop() {
			_, _ = limiter.Allow(ctx, "known", limit)
		}
	})
	b.Run("pour", func(b *testing.B) {
		memory := core.NewMemory()
		buckets := []core.Bucket{{Scope: "test:s", Key: "203.0.113.1", Amount: 1, Capacity: time.Hour}}
		b.ReportAllocs()
		for b.Loop() {
			_, _ = memory.Pour(ctx, buckets)
		}
	})
}

func BenchmarkGuard(b *testing.B) {
	r := testRequest{method: "GET", path: "/users/7", remote: "203.0.113.1:4711"}
	routes := []core.Route{
		{Pattern: "POST /login", Limit: core.PerMinute(5)},
		{Pattern: "/users/{id}", Limit: core.PerSecond(1_000_000)},
		{Pattern: "/healthz"},
	}
	for name, policy := range map[string]core.Policy{
		"limit":     {Limit: core.PerSecond(1_000_000)},
		"noheaders": {Limit: core.PerSecond(1_000_000), Headers: core.NoHeaders},
		"routes":    {Limit: core.PerMinute(100), Routes: routes},
		"exempt":    {Limit: core.PerMinute(100), Routes: append(routes, core.Route{Pattern: "/users/"}, core.Route{Pattern: "/users/7"})},
		"refused":   {Limit: core.PerDay(1)},
		"and":       {Limit: core.PerSecond(1_000_000), And: []core.Limit{core.PerHour(1_000_000_000)}},
	} {
		b.Run(name, func(b *testing.B) {
			guard, err := core.NewGuard(core.New(core.NewMemory()), policy)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			h := make(http.Header)
			for b.Loop() {
				clear(h)
				d := guard.Check(&r)
				d.SetHeaders(h)
			}
		})
	}
}
