package fibermw_test

import (
	"fmt"
	"net/http/httptest"

	"github.com/gofiber/fiber/v2"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/fibermw"
)

// All requests of a client are limited to 100 a minute, and the login to 2.
func Example() {
	limiter := core.New(core.NewMemory())

	app := fiber.New()
	app.Use(fibermw.Limit(limiter, core.Policy{Limit: core.PerMinute(100)}))
	app.Post("/login", fibermw.Limit(limiter, core.Policy{Name: "login", Limit: core.PerMinute(2)}), func(c *fiber.Ctx) error {
		return c.SendString("welcome")
	})

	for range 3 {
		response, err := app.Test(httptest.NewRequest("POST", "/login", nil))
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(response.StatusCode, response.Header.Get("RateLimit"))
	}

	// Output:
	// 200 "100/m";r=99;t=60, "login";r=1;t=30
	// 200 "100/m";r=98;t=59, "login";r=0;t=30
	// 429 "login";r=0;t=30
}
