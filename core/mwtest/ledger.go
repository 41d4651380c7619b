package mwtest

import (
	"context"
	"strings"
	"sync"

	"github.com/spillway-go/spillway/core"
)

// A ledger is a store that keeps account of what was poured. Like a store on the
// network it does nothing for who has gone.
type ledger struct {
	*core.Memory
	returned chan string // the scopes of buckets to which something was given back

	mu  sync.Mutex
	key string // of the last call
}

func newLedger() *ledger {
	return &ledger{Memory: core.NewMemory(), returned: make(chan string, 1000)}
}

func (l *ledger) Pour(ctx context.Context, buckets []core.Bucket) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	l.mu.Lock()
	l.key = strings.Clone(buckets[0].Key)
	l.mu.Unlock()
	poured, err := l.Memory.Pour(ctx, buckets)
	for _, b := range buckets {
		if b.Amount < 0 {
			l.returned <- b.Scope
		}
	}
	return poured, err
}

// lastKey returns whose bucket was asked for last.
func (l *ledger) lastKey() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.key
}
