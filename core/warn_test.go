package core

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// A fakeRequest is a request with one header.
type fakeRequest struct{ remote, name, value string }

func (r fakeRequest) Context() context.Context { return context.Background() }
func (r fakeRequest) Method() string           { return "GET" }
func (r fakeRequest) Path() string             { return "/" }
func (r fakeRequest) HTTPHeader() http.Header  { return http.Header{r.name: {r.value}} }
func (r fakeRequest) RemoteAddr() string       { return r.remote }
func (r fakeRequest) Value(any) any            { return nil }
func (r fakeRequest) Header(name string) string {
	return strings.Join(r.HeaderLines(name), ", ")
}
func (r fakeRequest) HeaderLines(name string) []string {
	if name == r.name {
		return []string{r.value}
	}
	return nil
}

// captureLog returns what is logged until the test ends, with all warnings
// still to be said.
func captureLog(t *testing.T) *bytes.Buffer {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	warnings := []*warning{warnForwarded, warnCountedTwice, warnEmptyKey, warnWholeWorld, warnLimitFor}
	reset := func() {
		for _, w := range warnings {
			w.said.Store(false)
		}
	}
	reset()
	t.Cleanup(func() { slog.SetDefault(before); reset() })
	return &log
}

func TestWarnings(t *testing.T) {
	const canary = "canary-secret"
	newGuard := func(t *testing.T, policy Policy) *Guard {
		guard, err := NewGuard(New(NewMemory()), policy)
		if err != nil {
			t.Fatal(err)
		}
		return guard
	}
	behind := fakeRequest{"10.0.0.1:1", "X-Forwarded-For", canary}
	limit := PerHour(100)
	for code, provoke := range map[string]func(t *testing.T){
		"SPILLWAY_PROXY_NOT_TRUSTED": func(t *testing.T) { newGuard(t, Policy{Limit: limit}).Check(behind) },
		"SPILLWAY_COUNTED_TWICE": func(t *testing.T) {
			guard, h := newGuard(t, Policy{Limit: limit}), make(fakeHeader)
			for range 2 {
				d := guard.Check(fakeRequest{})
				d.SetHeaders(h)
			}
		},
		"SPILLWAY_EMPTY_KEY": func(t *testing.T) {
			newGuard(t, Policy{Limit: limit, Key: func(Request) (string, error) { return "", nil }}).Check(fakeRequest{})
		},
		"SPILLWAY_TRUSTS_THE_WORLD": func(t *testing.T) {
			newGuard(t, Policy{Limit: limit, ClientIP: ClientIP{
				Header: "X-Forwarded-For", Trusted: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, TrustTheWholeWorld: true,
			}})
		},
		"SPILLWAY_LIMIT_FOR_FAILED": func(t *testing.T) {
			newGuard(t, Policy{Limit: limit, LimitFor: func(Request) (Limit, error) { return Limit{}, errors.New(canary) }}).Check(fakeRequest{})
		},
	} {
		t.Run(code, func(t *testing.T) {
			log := captureLog(t)
			for range 3 {
				provoke(t)
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, "code="+code) {
				t.Errorf("logged %q, want one line with the code", got)
			}
			if strings.Contains(log.String(), canary) {
				t.Errorf("logged what a client has sent: %s", log)
			}
		})
	}
}

type fakeHeader map[string]string

func (h fakeHeader) Values(name string) []string { return []string{h[name]} }
func (h fakeHeader) Set(name, value string)      { h[name] = value }
func (h fakeHeader) Del(name string)             { delete(h, name) }

func TestNoWarningWithoutCause(t *testing.T) {
	log := captureLog(t)
	limiter := New(NewMemory())
	for _, policy := range []Policy{
		{Name: "a", Limit: PerHour(100)},
		{Name: "b", Limit: PerHour(100), Key: ByHeader("X-API-Key")},
		{Name: "c", Limit: PerHour(100), ClientIP: ClientIP{Header: "X-Forwarded-For", Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}},
	} {
		guard, err := NewGuard(limiter, policy)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []fakeRequest{
			{"203.0.113.1:1", "X-Forwarded-For", "forged from the open internet"},
			{"10.0.0.1:1", "X-API-Key", "k"},
			{"10.0.0.1:1", "", ""},
			{"@", "", ""},
		} {
			guard.Check(r)
		}
	}
	if log.Len() > 0 {
		t.Errorf("logged %s", log)
	}
}
