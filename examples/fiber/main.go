// Command fiber is a server in fiber with a limit for all of it and another one
// for the login.
//
//	go run ./examples/fiber
//	go run ./examples/fiber -redis redis://localhost:6379/0
package main

import (
	"flag"
	"fmt"
	"log"

	"github.com/gofiber/fiber/v2"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/core/redisstore"
	"github.com/spillway-go/spillway/fibermw"
)

func main() {
	log.SetFlags(0)
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	redis := flag.String("redis", "", "URL of a Redis that keeps the buckets, like redis://localhost:6379/0; empty for memory")
	flag.Parse()
	if err := run(*addr, *redis); err != nil {
		log.Fatal(err)
	}
}

func run(addr, redis string) error {
	limiter := core.New(core.NewMemory())
	if redis != "" {
		store, err := redisstore.Open(redis)
		if err != nil {
			return err
		}
		defer store.Close()
		limiter = core.New(store)
	}

	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Use(fibermw.Limit(limiter, core.Policy{Name: "site", Limit: core.PerMinute(10)}))
	app.Get("/", func(c *fiber.Ctx) error { return c.SendString("hello\n") })
	app.Post("/login", fibermw.Limit(limiter, core.Policy{Name: "login", Limit: core.PerMinute(5)}), func(c *fiber.Ctx) error {
		return c.SendString("welcome\n")
	})

	fmt.Printf("10 requests a minute, 5 of them to the login:\n\n")
	fmt.Printf("\tfor i in $(seq 12); do curl -si http://%s/ | grep -E 'HTTP|Rate|Retry'; done\n", addr)
	fmt.Printf("\tfor i in $(seq 7); do curl -si -X POST http://%s/login | grep -E 'HTTP|Rate|Retry'; done\n\n", addr)
	return app.Listen(addr)
}
