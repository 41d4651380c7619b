package redisstore

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/internal/redistest"
)

func TestUnreadableStateIsAnEmptyBucket(t *testing.T) {
	ctx := context.Background()
	client := redistest.Start(t).Client(t)
	store := New(client, patient)
	key := keyOf(store)

	corrupt := map[string]func() error{
		"hash": func() error { return client.HSet(ctx, key, "a", 1).Err() },
		"list": func() error { return client.LPush(ctx, key, "a").Err() },
		"set":  func() error { return client.SAdd(ctx, key, "a").Err() },
		"zset": func() error { return client.ZAdd(ctx, key, redis.Z{Score: 1, Member: "a"}).Err() },
	}
	future := fmt.Sprint(time.Now().Add(time.Hour).UnixNano())
	for _, value := range []string{
		"", " ", "0", "1", "12", "999", "abc", "nan", "-nan", "inf", "-inf", "NaN", "true", "nil", "{}",
		"-1", "-" + future, "+" + future, " " + future, future + " ", future + "\n", future + "\x00", "\x00" + future,
		future + ".5", future[:12] + "." + future[12:], future[:10] + "," + future[10:],
		"1.7976931348623157e+308", "1e18", "0x7fffffffffffffff", "0x" + future, strings.Repeat("9", 400), "0" + future + "0",
		"9223372036854775808999", "\xff\xfe\xfd", "१२३४५६७८९०१२३४५६७८९",
	} {
		corrupt[fmt.Sprintf("%.30q", value)] = func() error { return client.Set(ctx, key, value, 0).Err() }
	}
	for name, set := range corrupt {
		t.Run(name, func(t *testing.T) {
			flush(t, client)
			if err := set(); err != nil {
				t.Fatal(err)
			}
			if poured, level := pour1(t, store, 0, time.Hour); !poured || level != 0 {
				t.Errorf("reading: poured = %v, level %v, want true and 0", poured, level)
			}
			if poured, level := pour1(t, store, 2*time.Hour, time.Hour); poured || level != 0 {
				t.Errorf("too much: poured = %v, level %v, want false and 0", poured, level)
			}
			if poured, level := pour1(t, store, time.Hour, time.Hour); !poured || level != time.Hour {
				t.Errorf("pouring: poured = %v, level %v, want true and 1h", poured, level)
			}
			if poured, _ := pour1(t, store, time.Minute, time.Hour); poured {
				t.Error("pouring into the full bucket: poured, want a refusal: the state was not overwritten")
			}
		})
	}
}

// When a clock is set back, what was written before lies far ahead.
func TestStateFromTheFutureHeals(t *testing.T) {
	clock := newScriptedClock(t)
	for _, ahead := range []time.Duration{time.Second, time.Hour, 10 * 365 * 24 * time.Hour, 200 * 365 * 24 * time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) {
			store := clock.newStore(t).(*Store)
			const capacity = 10 * time.Millisecond
			state := fmt.Sprint(clock.now.Add(ahead).UnixNano())
			if err := clock.client.Set(context.Background(), keyOf(store), state, 0).Err(); err != nil {
				t.Fatal(err)
			}
			if poured, level := pour1(t, store, 0, capacity); !poured || level != capacity {
				t.Errorf("reading: poured = %v, level %v, want true and %v", poured, level, capacity)
			}
			if poured, level := pour1(t, store, capacity, capacity); poured || level != capacity {
				t.Errorf("pouring: poured = %v, level %v, want false and %v", poured, level, capacity)
			}
			clock.sleep(capacity)
			if poured, _ := pour1(t, store, capacity, capacity); !poured {
				t.Errorf("still refused after %v, the time that a full bucket takes to drain", capacity)
			}
		})
	}
}

func TestEveryKeyHasItsLevelForTTL(t *testing.T) {
	ctx := context.Background()
	client := redistest.Start(t).Client(t)
	store := New(client, patient)
	// The real clock ticks while a TTL is read, so the script tells it as well.
	tells := New(client, patient)
	tells.script = newScript(replaceOnce(t, pourLua, "redis.call('SET', KEYS[i], dry, 'PX', ttl)", "return ttl"))
	for _, amount := range []time.Duration{
		1, 999, time.Microsecond, time.Millisecond - 1, time.Millisecond, time.Millisecond + 1,
		1500 * time.Microsecond, time.Second, 365 * 24 * time.Hour, 1 << 62,
	} {
		flush(t, client)
		ttl, err := tells.run(ctx, tells.args([]core.Bucket{{Scope: "s", Key: "client", Amount: amount, Capacity: amount}}))
		if err != nil {
			t.Fatal(err)
		}
		want := (amount + time.Millisecond - 1).Truncate(time.Millisecond)
		if ttl != want.Milliseconds() {
			t.Errorf("a level of %v: TTL %v ms, want %d", amount, ttl, want.Milliseconds())
		}
		pour1(t, store, amount, amount)
		if got := client.PTTL(ctx, keyOf(store)).Val(); got > want || got == -1 || amount >= time.Hour && got < want-time.Minute {
			t.Errorf("a level of %v: the key has a TTL of %v, want %v", amount, got, want)
		}
	}
}

func TestARefusalThatHealsSetsTheTTL(t *testing.T) {
	ctx := context.Background()
	client := redistest.Start(t).Client(t)
	store := New(client, patient)
	pour1(t, store, time.Hour, time.Hour)
	pour1(t, store, time.Minute, time.Minute)
	if ttl := client.PTTL(ctx, keyOf(store)).Val(); ttl <= 0 || ttl > time.Minute {
		t.Errorf("TTL %v, want up to the new capacity of 1m", ttl)
	}
}

func TestARefusalWritesNothing(t *testing.T) {
	ctx := context.Background()
	client := redistest.Start(t).Client(t)
	store := New(client, patient)
	pour1(t, store, time.Hour, time.Hour)
	before := client.Get(ctx, keyOf(store)).Val()
	if err := client.ConfigResetStat(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	pour1(t, store, time.Minute, time.Hour)
	pour1(t, store, 0, time.Hour)
	if after := client.Get(ctx, keyOf(store)).Val(); after != before || before == "" {
		t.Errorf("state %q, want %q as before", after, before)
	}
	stats := client.Info(ctx, "commandstats").Val()
	for _, command := range []string{"cmdstat_set:", "cmdstat_del:"} {
		if strings.Contains(stats, command) {
			t.Errorf("a refusal and a read wrote something:\n%s", stats)
		}
	}
}

func TestNothingIsLeft(t *testing.T) {
	ctx := context.Background()
	client := redistest.Start(t).Client(t)
	store := New(client, patient)
	pour1(t, store, time.Hour, time.Hour)
	pour1(t, store, -time.Hour, time.Hour)
	if n := client.DBSize(ctx).Val(); n != 0 {
		t.Errorf("%d keys after everything was given back, want 0", n)
	}
	pour1(t, store, 5*time.Millisecond, time.Hour)
	for deadline := time.Now().Add(10 * time.Second); client.Exists(ctx, keyOf(store)).Val() != 0; {
		if time.Now().After(deadline) {
			t.Fatal("a bucket of 5ms is still there after 10s")
		}
	}
	if n := client.DBSize(ctx).Val(); n != 0 {
		t.Errorf("%d keys after everything has drained, want 0", n)
	}
}

func TestStateIsAnInteger(t *testing.T) {
	ctx := context.Background()
	client := redistest.Start(t).Client(t)
	store := New(client, patient)
	for _, amount := range []time.Duration{1, 1429, time.Hour, 1 << 62} {
		flush(t, client)
		pour1(t, store, amount, amount)
		if got := client.ObjectEncoding(ctx, keyOf(store)).Val(); amount >= time.Hour && got != "int" {
			t.Errorf("a level of %v is kept as %q, want int", amount, got)
		}
	}
}
