package examples

import (
	"context"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/gofiber/fiber/v2"
	"github.com/labstack/echo/v4"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/core/redisstore"
	"github.com/spillway-go/spillway/echomw"
	"github.com/spillway-go/spillway/fibermw"
	"github.com/spillway-go/spillway/ginmw"
	"github.com/spillway-go/spillway/nethttp"
)

// The code of README.md, here to be compiled.

func _(handler http.Handler, r *gin.Engine, e *echo.Echo, app *fiber.App) http.Handler {
	limiter := core.New(core.NewMemory()) // for several servers: core.New(redisstore.New(client))

	handler = nethttp.Limit(limiter, core.Policy{Limit: core.PerMinute(100)})(handler) // net/http, chi
	r.Use(ginmw.Limit(limiter, core.Policy{Limit: core.PerMinute(100)}))               // gin
	e.Use(echomw.Limit(limiter, core.Policy{Limit: core.PerMinute(100)}))              // echo v4
	app.Use(fibermw.Limit(limiter, core.Policy{Limit: core.PerMinute(100)}))           // fiber v2
	return handler
}

func _() core.Policy {
	policy := core.Policy{Limit: core.PerSecond(10), And: []core.Limit{core.PerHour(1000)}}
	return policy
}

func _(r *gin.Engine, limiter *core.Limiter, login gin.HandlerFunc) {
	r.POST("/login", ginmw.Limit(limiter, core.Policy{Name: "login", Limit: core.PerMinute(5)}), login)
}

func _() core.Policy {
	policy := core.Policy{
		Name:  "api",
		Limit: core.PerMinute(100), // whatever has no route below
		Routes: []core.Route{
			{Pattern: "POST /login", Limit: core.PerMinute(5)},
			{Pattern: "/users/{id}", Limit: core.PerSecond(10)},
			{Pattern: "GET /healthz"}, // no limit
		},
	}
	return policy
}

func _() core.Policy {
	policy := core.Policy{
		Limit: core.PerMinute(100),
		ClientIP: core.ClientIP{
			Header:  "X-Forwarded-For", // or "Forwarded", or one like "CF-Connecting-IP"
			Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		},
	}
	return policy
}

func _() error {
	store, err := redisstore.Open("redis://localhost:6379/0")
	if err != nil {
		return err
	}
	defer store.Close()
	limiter := core.New(store)
	_ = limiter
	return nil
}

func _(limiter *core.Limiter, policy core.Policy, handler http.Handler) error {
	guard, err := core.NewGuard(limiter, policy) // an error, where Limit panics
	if err != nil {
		return err
	}
	refuse := func(w http.ResponseWriter, r *http.Request, d core.Decision) {
		http.Error(w, "slow down", d.Status)
	}
	handler = nethttp.Handler(guard, refuse)(handler)
	_ = handler
	return nil
}

func _(ctx context.Context, store core.Store, jobs []func()) error {
	bucket := core.NewLeakyBucket(store, "geocoder", 5) // 5 a second, in all processes together
	for _, job := range jobs {
		if err := bucket.Wait(ctx); err != nil {
			return err
		}
		job()
	}
	return nil
}

// Each block of Go in README.md stands in this file, line by line, so it compiles.
func TestReadmeCompiles(t *testing.T) {
	here := lines(t, "readme_test.go")
	readme := lines(t, "../README.md")
	blocks := 0
	for i := 0; i < len(readme); i++ {
		if readme[i] != "```go" {
			continue
		}
		var block []string
		for i++; readme[i] != "```"; i++ {
			block = append(block, readme[i])
		}
		blocks++
		if text := strings.Join(block, "\n"); !strings.Contains(strings.Join(here, "\n"), "\n"+text+"\n") {
			t.Errorf("this block of README.md is not compiled:\n%s", text)
		}
	}
	if blocks < 8 {
		t.Errorf("%d blocks of Go found in README.md", blocks)
	}
}

// lines are those of a file, without indentation.
func lines(t *testing.T, name string) []string {
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(string(text), "\n")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}
