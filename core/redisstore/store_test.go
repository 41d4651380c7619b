package redisstore

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/core/storetest"
	"github.com/spillway-go/spillway/internal/redistest"
)

// patient is for tests on a machine that is busy with other tests.
var patient = WithTimeout(20 * time.Second)

// The three stores below get the same seed, that is the very same steps, and
// each must agree with one model to the nanosecond. The seed is an arbitrary one;
// TestRandom has others.
const sameSeed = 1

func TestMemoryAgrees(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		New:    func(*testing.T) core.Store { return core.NewMemory() },
		Bubble: true,
		Seed:   sameSeed,
	})
}

func TestMiniredis(t *testing.T) {
	storetest.Run(t, storetest.Harness{New: newMiniredisStore, Bubble: true, Seed: sameSeed})
}

func TestRedis(t *testing.T) {
	clock := newScriptedClock(t)
	storetest.Run(t, storetest.Harness{New: clock.newStore, Sleep: clock.sleep, Seed: sameSeed})
}

func TestRandom(t *testing.T) {
	clock := newScriptedClock(t)
	storetest.Run(t, storetest.Harness{New: clock.newStore, Sleep: clock.sleep})
}

func TestRedisInRealTime(t *testing.T) {
	client := redistest.Start(t).Client(t)
	storetest.Run(t, storetest.Harness{
		New: func(t *testing.T) core.Store {
			flush(t, client)
			return New(client, patient)
		},
		Slack: 30 * time.Second,
	})
}

func TestRedisWithSecret(t *testing.T) {
	client := redistest.Start(t).Client(t)
	storetest.Run(t, storetest.Harness{
		New: func(t *testing.T) core.Store {
			flush(t, client)
			return New(client, patient, WithSecret([]byte("0123456789abcdef")), WithPrefix("my.app:limits_2-x"))
		},
		Slack: 30 * time.Second,
	})
}

func newMiniredisStore(t *testing.T) core.Store {
	server := miniredis.NewMiniRedis()
	server.ClockTTL(true)
	t.Cleanup(server.Close)
	return New(pipeClient(t, server.Dial), patient)
}

// pipeClient returns a client whose connections stay within a bubble.
func pipeClient(t *testing.T, dial func() (net.Conn, error)) *redis.Client {
	client := redis.NewClient(&redis.Options{
		Addr:                     "127.0.0.1:6379", // a name would be looked up, outside
		Dialer:                   func(context.Context, string, string) (net.Conn, error) { return dial() },
		PoolSize:                 100,
		MaxRetries:               -1,
		DialerRetries:            1,
		ContextTimeoutEnabled:    true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { client.Close() })
	return client
}

// A scriptedClock is a real Redis that runs the real script, but for two places:
// the time is what the test says it is, and no key expires while the test says
// that no time passes.
type scriptedClock struct {
	t      *testing.T
	client *redis.Client
	script script
	now    time.Time
}

func newScriptedClock(t *testing.T) *scriptedClock {
	source := replaceOnce(t, pourLua, "redis.call('TIME')", "redis.call('HMGET', 'clock', 's', 'us')")
	source = replaceOnce(t, source, "'PX', ttl", "'PX', ttl + 1000000000")
	return &scriptedClock{t: t, client: redistest.Start(t).Client(t), script: newScript(source)}
}

func replaceOnce(t *testing.T, text, old, new string) string {
	t.Helper()
	if n := strings.Count(text, old); n != 1 {
		t.Fatalf("%d times %q in the script, want 1", n, old)
	}
	return strings.Replace(text, old, new, 1)
}

func (c *scriptedClock) newStore(t *testing.T) core.Store {
	flush(t, c.client)
	c.set(time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC))
	store := New(c.client, patient)
	store.script = c.script
	return store
}

func (c *scriptedClock) sleep(d time.Duration) { c.set(c.now.Add(d)) }

func (c *scriptedClock) set(now time.Time) {
	c.now = now
	if err := c.client.HSet(context.Background(), "clock", "s", now.Unix(), "us", now.Nanosecond()/1000).Err(); err != nil {
		c.t.Fatal(err)
	}
}

func flush(t *testing.T, client *redis.Client) {
	t.Helper()
	if err := client.FlushAll(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
}

// one is a call that pours into the bucket of pour1.
func one() []core.Bucket {
	return []core.Bucket{{Scope: "s", Key: "client", Amount: 1, Capacity: 1}}
}

// pour1 calls Pour for one bucket and fails the test on an error.
func pour1(t *testing.T, store core.Store, amount, capacity time.Duration) (poured bool, level time.Duration) {
	t.Helper()
	buckets := []core.Bucket{{Scope: "s", Key: "client", Amount: amount, Capacity: capacity}}
	poured, err := store.Pour(context.Background(), buckets)
	if err != nil {
		t.Fatalf("Pour: error %v, want none", err)
	}
	return poured, buckets[0].Level
}

// keyOf is the name of the bucket of pour1.
func keyOf(store *Store) string {
	return store.args(one())[firstKey].(string)
}
