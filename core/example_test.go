package core_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spillway-go/spillway/core"
)

// A Limiter answers for any key and any limit.
func ExampleLimiter_Allow() {
	limiter := core.New(core.NewMemory())
	for range 4 {
		result, err := limiter.Allow(context.Background(), "alice", core.PerHour(3))
		if err != nil {
			fmt.Println(err)
		}
		fmt.Println(result.Allowed, result.Remaining, result.RetryAfter.Round(time.Minute))
	}
	// Output:
	// true 2 0s
	// true 1 0s
	// true 0 0s
	// false 0 20m0s
}

// A request that counts ten times, under two limits at once: all or nothing.
func ExampleLimiter_AllowN() {
	limiter := core.New(core.NewMemory())
	ctx, limits := context.Background(), []core.Limit{core.PerHour(15), core.PerDay(1000)}

	result, _ := limiter.AllowN(ctx, "alice", 10, limits...)
	fmt.Println(result.Allowed, result.Limit, result.Remaining)
	result, _ = limiter.AllowN(ctx, "alice", 10, limits...)
	fmt.Println(result.Allowed, result.Limit, result.Remaining)
	result, _ = limiter.AllowN(ctx, "alice", 0, core.PerDay(1000)) // a peek
	fmt.Println(result.Allowed, result.Limit, result.Remaining)

	_, err := limiter.AllowN(ctx, "alice", 16, limits...)
	fmt.Println(errors.Is(err, core.ErrCostExceedsBurst), err)
	// Output:
	// true 15/h 5
	// false 15/h 5
	// true 1000/d 990
	// true core: cost exceeds the burst: 16 at once, and "15/h" never admits more than 15
}

// Wait spaces calls evenly, and does not wait where that is in vain.
func ExampleLimiter_Wait() {
	limiter := core.New(core.NewMemory())
	start := time.Now()
	for range 3 {
		if err := limiter.Wait(context.Background(), "mail", core.Every(20*time.Millisecond)); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(time.Since(start) >= 40*time.Millisecond)

	_ = limiter.Wait(context.Background(), "report", core.PerHour(1))
	soon, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := limiter.Wait(soon, "report", core.PerHour(1))
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output:
	// true
	// true
}

// After a mistake, or a payment, a client may start afresh.
func ExampleLimiter_Reset() {
	limiter := core.New(core.NewMemory())
	ctx, limit := context.Background(), core.PerDay(1)

	_, _ = limiter.Allow(ctx, "alice", limit)
	result, _ := limiter.Allow(ctx, "alice", limit)
	fmt.Println(result.Allowed)
	_ = limiter.Reset(ctx, "alice", limit)
	result, _ = limiter.Allow(ctx, "alice", limit)
	fmt.Println(result.Allowed)
	// Output:
	// false
	// true
}

// Ten a second, one after the other: a second call at once is told to wait.
func ExampleLeakyBucket() {
	bucket := core.NewLeakyBucket(core.NewMemory(), "geocoder", 10)
	for range 2 {
		if wait := bucket.Allow(context.Background()); wait > 0 {
			fmt.Println("wait", wait.Round(10*time.Millisecond))
			continue
		}
		fmt.Println("go")
	}
	// Output:
	// go
	// wait 100ms
}

func ExampleParseLimit() {
	for _, text := range []string{"100/m", "10/s burst 20", "5 per 2 seconds", "1000-H", "10/"} {
		limit, err := core.ParseLimit(text)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(limit.Rate, limit.Period, limit.Burst)
	}
	// Output:
	// 100 1m0s 0
	// 10 1s 20
	// 5 2s 0
	// 1000 1h0m0s 0
	// core: invalid limit "10/": want N/unit, like "10/s" or "100/m burst 20"
}

// A policy with a table: tight for the login, loose for what is static, nothing
// at all for the health check.
func ExamplePolicy_routes() {
	guard, err := core.NewGuard(core.New(core.NewMemory()), core.Policy{
		Name:  "site",
		Limit: core.PerMinute(100),
		Routes: []core.Route{
			{Pattern: "POST /login", Limit: core.PerMinute(5)},
			{Pattern: "/static/", Limit: core.PerSecond(50)},
			{Pattern: "GET /healthz"},
		},
	})
	if err != nil {
		fmt.Println(err)
	}
	for _, r := range []testRequest{
		{method: "GET", path: "/", remote: "192.0.2.1:4711"},
		{method: "POST", path: "/login", remote: "192.0.2.1:4711"},
		{method: "GET", path: "/static/logo.svg", remote: "192.0.2.1:4711"},
		{method: "GET", path: "/healthz", remote: "192.0.2.1:4711"},
	} {
		d := guard.Check(&r)
		fmt.Printf("%v %q %d\n", d.Allowed, d.Route, d.Remaining)
	}
	// Output:
	// true "" 99
	// true "POST /login" 4
	// true "/static/" 49
	// true "GET /healthz" 0
}

// One bucket for each user and address: a stolen name does not lock its owner out.
func ExampleJoin() {
	byUserAndIP := core.Join(core.ByUser("user"), core.ByIP)
	key, err := byUserAndIP(&testRequest{remote: "192.0.2.1:4711", values: map[any]any{"user": "alice"}})
	fmt.Println(key, err)
	// Output: 5 alice9 192.0.2.1 <nil>
}

// The user if there is one, else the API key, else (without saying so) the IP.
func ExampleFirstOf() {
	key := core.FirstOf(core.ByUser("user"), core.ByHeader("X-API-Key"))
	guard, err := core.NewGuard(core.New(core.NewMemory()), core.Policy{Limit: core.PerHour(1), Key: key})
	if err != nil {
		fmt.Println(err)
	}
	for _, user := range []any{"alice", "bob", "alice"} {
		d := guard.Check(&testRequest{path: "/", remote: "192.0.2.1:4711", values: map[any]any{"user": user}})
		fmt.Println(user, d.Allowed)
	}
	// Output:
	// alice true
	// bob true
	// alice false
}
