package mwtest

import (
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/spillway-go/spillway/core"
)

// canaryCases are about what must not come out again.
var canaryCases = []testCase{
	{
		"canary", "what a client sends may be a password: it must stand in no refusal, where caches and scripts see it, and in no log.",
		(*suite).testCanary,
	},
}

// canary is part of all the secrets. No answer has it, and neither has the log,
// which [listenToLog] watches.
const canary = "canary-4711"

func (s *suite) testCanary() {
	secrets := []string{
		"Authorization: Bearer " + canary, "X-API-Key: " + canary, "Cookie: session=" + canary, "X-Request-Id: " + canary,
		"Origin: https://" + canary + ".example", "Referer: https://example.com/" + canary, "User-Agent: " + canary,
		"X-Forwarded-For: " + canary, "Forwarded: for=" + canary, "X-Real-IP: " + canary, "X-Cost: " + canary,
	}
	failed := errors.New("no key in " + canary)
	for name, c := range map[string]struct {
		status int
		app    App
	}{
		"a key": {http.StatusTooManyRequests, limited(core.Policy{
			Limit: core.PerHour(1), And: []core.Limit{core.PerDay(9)}, Key: core.ByHeader("X-API-Key"), Headers: core.RateLimitFields | core.XRateLimit | core.ExposeHeaders,
		})},
		"a key of many": {http.StatusTooManyRequests, limited(core.Policy{
			Limit: core.PerHour(1), Key: core.Join(core.ByHeader("Authorization"), core.ByHeader("Cookie")), Headers: core.RateLimitDraft07 | core.RateLimitDraft06,
		})},
		"a route": {http.StatusTooManyRequests, limited(core.Policy{
			Limit: core.PerHour(1), Routes: []core.Route{{Pattern: "/reset/{token}", Limit: core.PerDay(1), Key: core.ByHeader("X-API-Key")}},
		})},
		"a key that fails": {http.StatusTooManyRequests, limited(core.Policy{
			Limit: core.PerHour(1), Key: func(core.Request) (string, error) { return canary, failed },
		})},
		"a plan that fails": {http.StatusTooManyRequests, limited(core.Policy{
			Limit: core.PerHour(1), LimitFor: func(core.Request) (core.Limit, error) { return core.Limit{}, failed },
		})},
		"no trust in the proxy": {http.StatusTooManyRequests, limited(core.Policy{Limit: core.PerHour(1)})},
		"no address":            {http.StatusTooManyRequests, limited(core.Policy{Limit: core.PerHour(1), ClientIP: behindProxy("X-Forwarded-For")})},
		"an empty key":          {http.StatusTooManyRequests, limited(core.Policy{Limit: core.PerHour(1), Key: func(core.Request) (string, error) { return "", nil }})},
		"twice the same":        {http.StatusTooManyRequests, limited(core.Policy{Name: "api", Limit: core.PerHour(2)}, core.Policy{Name: "api", Limit: core.PerHour(2)})},
		"a cost":                {http.StatusRequestEntityTooLarge, limited(core.Policy{Limit: core.PerHour(1), Cost: func(core.Request) int { return 2 }})},
		"a list":                {http.StatusForbidden, limited(core.Policy{Limit: core.PerHour(1), Deny: prefixes("127.0.0.0/8")})},
		"an outage":             {http.StatusServiceUnavailable, App{Limiter: core.New(outage{}), Policies: []core.Policy{{Limit: core.PerHour(1), OnOutage: core.Closed}}}},
	} {
		srv := s.serve(c.app)
		p := srv.localhost()
		target := "/reset/" + canary + "?token=" + canary
		srv.get(p, target, secrets...) // what passes is the handler's to answer
		for accept := range accepts {
			r := srv.want(c.status, p, target, append(acceptLines(accept+canary), secrets...)...)
			if strings.Contains(fmt.Sprint(r.header, r.body), canary) {
				s.Errorf("%s: a secret is in an answer: %v %s", name, r.header, r.body)
			}
		}
	}
}

// listenToLog watches what is logged with slog, and with log, until the test has
// ended with all its cases: the core warns of what is held wrong, and must not
// say what a client has sent.
func listenToLog(t *testing.T) {
	logger, writer, flags := slog.Default(), log.Writer(), log.Flags()
	listener := &listener{}
	slog.SetDefault(slog.New(slog.NewTextHandler(listener, &slog.HandlerOptions{Level: slog.LevelDebug})))
	slog.Debug("mwtest listens")
	t.Cleanup(func() {
		slog.SetDefault(logger)
		log.SetOutput(writer)
		log.SetFlags(flags)
		text := listener.text()
		if !strings.Contains(text, "mwtest listens") {
			t.Error("somebody else has taken over the log, so nobody knows what is in it")
		}
		if strings.Contains(text, canary) {
			t.Errorf("a secret is in the log:\n%s", text)
		}
	})
}

// A listener is a log.
type listener struct {
	mu  sync.Mutex
	log strings.Builder
}

func (l *listener) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(line)
}

func (l *listener) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.String()
}
