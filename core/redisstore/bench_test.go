package redisstore

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/internal/redistest"
)

// BenchmarkPour is to be compared with BenchmarkEmptyScript, the least that a
// script can cost through the same client.
func BenchmarkPour(b *testing.B) {
	for name, amount := range map[string]time.Duration{"admitted": 1, "refused": 2 * time.Hour} {
		b.Run(name, func(b *testing.B) {
			store := New(redistest.Start(b).Client(b), patient)
			bench(b, func(ctx context.Context) error {
				buckets := [1]core.Bucket{{Scope: "api/m", Key: "203.0.113.7", Amount: amount, Capacity: time.Hour}}
				_, err := store.Pour(ctx, buckets[:])
				return err
			})
		})
	}
}

func BenchmarkEmptyScript(b *testing.B) {
	client := redistest.Start(b).Client(b)
	script := redis.NewScript("return 1")
	sha := script.Hash()
	if err := script.Load(context.Background(), client).Err(); err != nil {
		b.Fatal(err)
	}
	bench(b, func(ctx context.Context) error { return client.EvalSha(ctx, sha, []string{"key"}).Err() })
}

func bench(b *testing.B, call func(context.Context) error) {
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := call(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("64 callers", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(32) // times 2 processors
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := call(context.Background()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
