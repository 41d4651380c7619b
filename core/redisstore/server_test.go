package redisstore

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/internal/redistest"
)

func TestAnUnknownScriptIsSentAgain(t *testing.T) {
	ctx := context.Background()
	server := redistest.Start(t)
	client := server.Client(t)
	store := New(client, patient)
	for i := range 10 {
		_, level := pour1(t, store, time.Hour, 100*time.Hour)
		if want := time.Duration(i+1) * time.Hour; level > want || level < want-time.Minute {
			t.Fatalf("level %v, want about %v: the call was lost or repeated", level, want)
		}
		if err := client.ScriptFlush(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
	server.Restart(t)
	if poured, level := pour1(t, store, time.Hour, 100*time.Hour); !poured || level != time.Hour {
		t.Errorf("after a restart: poured = %v, level %v, want true and 1h", poured, level)
	}
}

func TestOneCommandAndNoSecret(t *testing.T) {
	const canary = "canary-8d1f"
	server := redistest.Start(t)
	client := server.Client(t)
	store := New(client, patient)
	pour1(t, store, time.Second, time.Hour)

	lines := monitor(t, server)
	for i := range 5 {
		buckets := []core.Bucket{
			{Scope: "a", Key: canary + fmt.Sprint(i), Amount: time.Hour, Capacity: time.Hour},
			{Scope: "b", Key: canary + fmt.Sprint(i), Amount: time.Hour, Capacity: time.Hour},
		}
		if _, err := store.Pour(context.Background(), buckets); err != nil {
			t.Fatal(err)
		}
	}
	client.Echo(context.Background(), "the end")

	sent := 0
	for line := range lines {
		if strings.Contains(line, "the end") {
			break
		}
		if strings.Contains(line, canary) {
			t.Errorf("the key went out as it is: %s", line)
		}
		if !strings.Contains(line, " lua] ") {
			if sent++; !strings.Contains(line, `"evalsha"`) {
				t.Errorf("unexpected command: %s", line)
			}
		}
	}
	if sent != 5 {
		t.Errorf("%d commands for 5 calls, want one each", sent)
	}
}

// monitor returns what MONITOR says from now on.
func monitor(t *testing.T, server *redistest.Server) <-chan string {
	conn, err := net.Dial("unix", server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprint(conn, "MONITOR\r\n")
	scanner := bufio.NewScanner(conn)
	if !scanner.Scan() || scanner.Text() != "+OK" {
		t.Fatalf("MONITOR: %q, %v", scanner.Text(), scanner.Err())
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
	}()
	return lines
}

func TestLeastPrivilege(t *testing.T) {
	ctx := context.Background()
	server := redistest.Start(t)
	admin := server.Client(t)
	const enough = "~spillway:* +eval +evalsha +get +set +del +time"
	user := func(name, rules string) *Store {
		t.Helper()
		args := []any{"acl", "setuser", name, "on", ">password", "resetkeys"}
		for _, rule := range strings.Fields(rules) {
			args = append(args, rule)
		}
		if err := admin.Do(ctx, args...).Err(); err != nil {
			t.Fatal(err)
		}
		client := redis.NewClient(&redis.Options{Network: "unix", Addr: server.Addr, Username: name, Password: "password", DisableIdentity: true})
		t.Cleanup(func() { client.Close() })
		return New(client, patient)
	}

	store := user("enough", enough)
	if poured, _ := pour1(t, store, time.Hour, time.Hour); !poured {
		t.Error("refused, want a pour")
	}
	if poured, level := pour1(t, store, -time.Hour, time.Hour); !poured || level != 0 {
		t.Errorf("giving back: poured = %v, level %v, want true and 0", poured, level)
	}
	for name, rules := range map[string]string{
		"noget":   enough + " -get",
		"noset":   enough + " -set",
		"notime":  enough + " -time",
		"noeval":  enough + " -evalsha",
		"nokeys":  strings.Replace(enough, "~spillway:*", "~other:*", 1),
		"nothing": "",
	} {
		flush(t, admin)
		store := user(name, rules)
		for range 2 {
			buckets := []core.Bucket{{Scope: "s", Key: "client", Amount: time.Hour, Capacity: time.Hour}}
			poured, err := store.Pour(ctx, buckets)
			if poured || err == nil || !strings.HasPrefix(err.Error(), "redisstore: ") {
				t.Errorf("%s: poured = %v, error %v, want an error that begins with redisstore", name, poured, err)
			}
		}
	}
}

func TestClusterKeepsADecisionTogether(t *testing.T) {
	ctx := context.Background()
	ports := freePorts(t, 2)
	port, busPort := ports[0], ports[1]
	server := redistest.Start(t, "--bind", "127.0.0.1", "--port", port, "--cluster-enabled", "yes", "--cluster-port", busPort)
	if err := server.Client(t).Do(ctx, "cluster", "addslotsrange", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(server.Client(t).ClusterInfo(ctx).Val(), "cluster_state:ok"); {
		if time.Now().After(deadline) {
			t.Fatal("the cluster does not get ready")
		}
		time.Sleep(time.Millisecond)
	}
	// Any node is enough to find the others.
	store, err := Open("redis://127.0.0.1:"+port+"?addr=127.0.0.1:"+port, patient)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()

	buckets := []core.Bucket{
		{Scope: "a", Key: "client", Amount: time.Hour, Capacity: 2 * time.Hour},
		{Scope: "b/{x}", Key: "client", Amount: time.Hour, Capacity: 2 * time.Hour},
	}
	for _, want := range []bool{true, true, false} {
		if poured, err := store.Pour(ctx, buckets[:1]); poured != want || err != nil {
			t.Errorf("one bucket: poured = %v, error %v, want %v and none", poured, err, want)
		}
	}
	buckets[0].Scope = "c"
	buckets[1].Scope = "d"
	for _, want := range []bool{true, true, false} {
		if poured, err := store.Pour(ctx, buckets); poured != want || err != nil {
			t.Errorf("two buckets: poured = %v, error %v, want %v and none", poured, err, want)
		}
	}
	buckets[1].Key = "somebody else"
	if _, err := store.Pour(ctx, buckets); err == nil || !strings.Contains(err.Error(), "CROSSSLOT") {
		t.Errorf("two keys: error %v, want CROSSSLOT", err)
	}
}

// freePorts returns different ports that nobody listens on.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	ports := make([]string, n)
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close() // when all are found
		if _, ports[i], err = net.SplitHostPort(listener.Addr().String()); err != nil {
			t.Fatal(err)
		}
	}
	return ports
}

func TestTwoProcessesShareOneLimit(t *testing.T) {
	const (
		interval = time.Millisecond
		burst    = 3000 // so much that the bucket cannot run dry while the machine is busy
		room     = 50   // what is left of it at the start
		run      = 300 * time.Millisecond
	)
	server := redistest.Start(t)
	stores := []*Store{New(server.Client(t), patient), New(server.Client(t), patient)}
	beforeFirst := time.Now()
	pour1(t, stores[0], (burst-room)*interval, burst*interval)
	afterFirst := time.Now()

	var admitted atomic.Int64
	var wg sync.WaitGroup
	for _, store := range stores {
		for range 64 {
			wg.Go(func() {
				for time.Since(afterFirst) < run {
					buckets := []core.Bucket{{Scope: "s", Key: "client", Amount: interval, Capacity: burst * interval}}
					poured, err := store.Pour(context.Background(), buckets)
					if err != nil {
						t.Error(err)
						return
					}
					if poured {
						admitted.Add(1)
					}
				}
			})
		}
	}
	wg.Wait()
	beforeLast := time.Now()
	_, level := pour1(t, stores[1], 0, burst*interval)
	afterLast := time.Now()

	n := admitted.Load()
	if most := room + int64(afterLast.Sub(beforeFirst)/interval); n > most {
		t.Errorf("%d admitted, want at most %d", n, most)
	}
	// All that was poured has either drained or is still there.
	if least := room - burst + int64((beforeLast.Sub(afterFirst)+level)/interval) - 1; n < least {
		t.Errorf("%d admitted, want at least %d", n, least)
	}
}
