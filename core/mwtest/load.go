package mwtest

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/spillway-go/spillway/core"
)

// loadCases are about many requests.
var loadCases = []testCase{
	{
		"concurrent requests", "at once or one by one, the burst is all that passes.",
		(*suite).testConcurrent,
	},
	{
		"one connection", "where memory is used again for the next request, one client's key must not turn into another's.",
		(*suite).testOneConnection,
	},
	{
		"keys during a call", "a key must stay what it is until the store has answered, whatever else the server does.",
		(*suite).testStableKeys,
	},
}

func (s *suite) testConcurrent() {
	srv := s.serve(limited(core.Policy{Limit: core.PerHour(100)}))
	var passed atomic.Int64
	srv.concurrently(64, func(_ int, p *peer) error {
		for range 10 {
			r, err := p.do("GET", "/")
			if err != nil {
				return err
			}
			if r.status == http.StatusOK {
				passed.Add(1)
			}
		}
		return nil
	})
	if passed.Load() != 100 || srv.callsOf("") != 100 {
		s.Errorf("%d of 640 concurrent requests pass and %d reach the handler, want 100", passed.Load(), srv.callsOf(""))
	}
}

// concurrently gives each of n clients a goroutine.
func (s *server) concurrently(n int, client func(i int, p *peer) error) {
	var wg sync.WaitGroup
	for i := range n {
		p := s.localhost()
		wg.Go(func() {
			if err := client(i, p); err != nil {
				s.Error(err)
			}
		})
	}
	wg.Wait()
}

var equallyLong = []string{"alice", "bobby", "carol"}

func (s *suite) testOneConnection() {
	for _, key := range []core.KeyFunc{core.ByHeader(KeyHeader), s.adapter.Key, core.FirstOf(core.ByUser("nobody"), s.adapter.Key)} {
		srv := s.serve(limited(core.Policy{Limit: core.PerHour(100), Key: key}))
		p := srv.localhost()
		passed := map[string]int{}
		for i := range 1000 {
			key := equallyLong[i%3]
			passed[key] += srv.passed(1, p, "/"+key, KeyHeader+": "+key)
		}
		for _, key := range equallyLong {
			if passed[key] != 100 {
				s.Errorf("%d requests of %s pass, want 100: %v", passed[key], key, passed)
			}
		}
	}
}

func (s *suite) testStableKeys() {
	store := &watchful{Memory: core.NewMemory()}
	srv := s.serve(App{
		Limiter:  core.New(store),
		Policies: []core.Policy{{Limit: core.PerHour(50), Key: core.ByHeader(KeyHeader)}},
	})
	var mu sync.Mutex
	passed := map[string]int{}
	srv.concurrently(8, func(client int, p *peer) error {
		for i := range 60 {
			key := equallyLong[(client+i)%3]
			r, err := p.do("GET", "/"+key, KeyHeader+": "+key)
			if err != nil {
				return err
			}
			if r.status == http.StatusOK {
				mu.Lock()
				passed[key]++
				mu.Unlock()
			}
		}
		return nil
	})
	for _, key := range equallyLong {
		if passed[key] != 50 {
			s.Errorf("%d requests of %s pass, want 50", passed[key], key)
		}
	}
	if changed := store.changed.Load(); changed != nil {
		s.Error(*changed)
	}
}

// watchful is a store that sees whether a key changes while it works.
type watchful struct {
	*core.Memory
	changed atomic.Pointer[string]
}

func (w *watchful) Pour(ctx context.Context, buckets []core.Bucket) (bool, error) {
	key := strings.Clone(buckets[0].Key)
	poured, err := w.Memory.Pour(ctx, buckets)
	for range 10 {
		runtime.Gosched()
	}
	if now := buckets[0].Key; now != key {
		changed := fmt.Sprintf("the key %q has become %q during the call", key, now)
		w.changed.Store(&changed)
	}
	return poured, err
}
