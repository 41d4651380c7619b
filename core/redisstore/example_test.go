package redisstore_test

import (
	"context"
	"fmt"
	"log"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/core/redisstore"
)

// localRedis stands in for a real server, so that these examples run anywhere.
func localRedis() *miniredis.Miniredis {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	return server
}

func Example() {
	server := localRedis()
	defer server.Close()

	store, err := redisstore.Open("redis://" + server.Addr())
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	limiter := core.New(store)
	for range 3 {
		result, err := limiter.Allow(context.Background(), "alice", core.PerHour(2))
		fmt.Println(result.Allowed, result.Remaining, err)
	}
	// Output:
	// true 1 <nil>
	// true 0 <nil>
	// false 0 <nil>
}

func ExampleNew() {
	server := localRedis()
	defer server.Close()

	client := redis.NewClient(&redis.Options{
		Addr:                  server.Addr(),
		ContextTimeoutEnabled: true,
	})
	defer client.Close()

	store := redisstore.New(client, redisstore.WithPrefix("shop:limits"), redisstore.WithSecret([]byte("some 16 random bytes")))
	result, err := core.New(store).Allow(context.Background(), "alice", core.PerHour(100))
	fmt.Println(result.Allowed, result.Remaining, err)
	// Output: true 99 <nil>
}

func ExampleNewLeakyBucket() {
	server := localRedis()
	defer server.Close()

	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()

	// All processes together send one mail a minute.
	mail := redisstore.NewLeakyBucket(client, "mail", 1.0/60)
	if mail.Allow(context.Background()) == 0 {
		fmt.Println("sent")
	}
	if wait := mail.Allow(context.Background()); wait > 0 {
		fmt.Println("not now")
	}
	// Output:
	// sent
	// not now
}
