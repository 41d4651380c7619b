// Command echo is a server in echo with a limit for all of it and another one
// for the login.
//
//	go run ./examples/echo
//	go run ./examples/echo -redis redis://localhost:6379/0
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/core/redisstore"
	"github.com/spillway-go/spillway/echomw"
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

	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Use(echomw.Limit(limiter, core.Policy{Name: "site", Limit: core.PerMinute(10)}))
	e.GET("/", func(c echo.Context) error { return c.String(http.StatusOK, "hello\n") })
	e.POST("/login", func(c echo.Context) error {
		return c.String(http.StatusOK, "welcome\n")
	}, echomw.Limit(limiter, core.Policy{Name: "login", Limit: core.PerMinute(5)}))

	fmt.Printf("10 requests a minute, 5 of them to the login:\n\n")
	fmt.Printf("\tfor i in $(seq 12); do curl -si http://%s/ | grep -E 'HTTP|Rate|Retry'; done\n", addr)
	fmt.Printf("\tfor i in $(seq 7); do curl -si -X POST http://%s/login | grep -E 'HTTP|Rate|Retry'; done\n\n", addr)
	return e.Start(addr)
}
