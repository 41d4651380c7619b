package redisstore

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/spillway-go/spillway/internal/redistest"
)

func TestOpen(t *testing.T) {
	server := redistest.Start(t, "--requirepass", "a b/?#@%:c")
	store, err := Open(strings.Replace(server.URL, "unix://", "unix://:a%20b%2F%3F%23%40%25%3Ac@", 1)+"?db=3", patient)
	if err != nil {
		t.Fatal(err)
	}
	if poured, _ := pour1(t, store, time.Hour, time.Hour); !poured {
		t.Error("refused, want a pour")
	}
	if poured, _ := pour1(t, store, time.Hour, time.Hour); poured {
		t.Error("poured twice, want a refusal")
	}
	for range 2 {
		if err := store.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := store.Pour(context.Background(), one()); err == nil {
		t.Error("Pour after Close: no error, want one")
	}
}

func TestCloseLeavesTheClientOfTheCaller(t *testing.T) {
	client := redistest.Start(t).Client(t)
	store := New(client, patient)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := client.Ping(context.Background()).Err(); err != nil {
		t.Errorf("the client of the caller is closed: %v", err)
	}
}

func TestOpenSetsUpTheClient(t *testing.T) {
	open := func(url string) redis.UniversalClient {
		t.Helper()
		store, err := Open(url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		return store.client
	}
	const nobody = "redis://127.0.0.1:1/2"

	o := open(nobody).(*redis.Client).Options()
	// go-redis turns the -1 of "no retries" into 0.
	if o.MaxRetries != 0 || !o.ContextTimeoutEnabled || o.DialTimeout != dialTimeout || o.DialerRetries != 1 || o.ReadTimeout != ioTimeout ||
		o.WriteTimeout != ioTimeout || o.PoolTimeout != poolTimeout || !o.DisableIdentity || o.DB != 2 {
		t.Errorf("options %+v", o)
	}
	o = open(nobody + "?max_retries=2&dial_timeout=7s&read_timeout=8s&write_timeout=9s&pool_timeout=10s&min_idle_conns=3").(*redis.Client).Options()
	if o.MaxRetries != 2 || o.DialTimeout != 7*time.Second || o.ReadTimeout != 8*time.Second || o.WriteTimeout != 9*time.Second ||
		o.PoolTimeout != 10*time.Second || o.MinIdleConns != 3 {
		t.Errorf("what the URL says is lost: %+v", o)
	}
	c := open("redis://:secret@127.0.0.1:1?addr=127.0.0.1:2&dialer_retries=4").(*redis.ClusterClient).Options()
	if len(c.Addrs) != 2 || c.Password != "secret" || c.DialerRetries != 4 || !c.ContextTimeoutEnabled ||
		c.ClusterStateReloadInterval != clusterStateReloadInterval {
		t.Errorf("cluster options %+v", c)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		url, want string
		options   []Option
	}{
		{"", "scheme", nil},
		{"localhost:6379", "", nil},
		{"http://localhost:6379", "scheme", nil},
		{"redis://localhost:6379/one", "database", nil},
		{"redis://localhost:6379?pool=3", "unexpected option: pool", nil},
		{"redis://localhost?addr=nowhere", "addr", nil},
		{"unix://", "socket", nil},
		{"redis://localhost", `WithPrefix("a b")`, []Option{WithPrefix("a b")}},
		{"redis://localhost", "WithTimeout(-1s)", []Option{WithTimeout(-time.Second)}},
		{"redis://localhost", "WithSecret", []Option{WithSecret(nil)}},
	} {
		store, err := Open(c.url, c.options...)
		if store != nil || err == nil || !strings.HasPrefix(err.Error(), "redisstore: Open: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Open(%q): %v, error %v, want one about %q", c.url, store, err, c.want)
		}
	}
}

func TestOpenDoesNotShowThePassword(t *testing.T) {
	for _, password := range []string{
		"hunter2/hunter2", "hunter2?hunter2", "hunter2#hunter2", "hunter2@hunter2", "hunter2%hunter2", "hunter2:hunter2",
		"hunter2 hunter2", "hunter2\nhunter2", "12/hunter2", "12/34@hunter2", "12?hunter2=1", "hunter2", "[hunter2", "12/3?addr=hunter2",
	} {
		for _, form := range []string{
			"redis://:%s@127.0.0.1:1/x", "redis://user:%s@127.0.0.1:1", "rediss://:%s@127.0.0.1:99999999/0", "unix://:%s@/s?db=x",
			"http://:%s@127.0.0.1:1", "redis://:%s@127.0.0.1:1?nonsense=1", ":%s@127.0.0.1:1", "redis://:%s@127.0.0.1:1?addr=x", "%s",
		} {
			url := fmt.Sprintf(form, password)
			store, err := Open(url)
			if err == nil {
				store.Close()
			} else if strings.Contains(err.Error(), "hunter") && strings.Contains(url, "@") {
				t.Errorf("Open(%q): %v", url, err)
			}
		}
	}
}

func TestNewPanics(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	for want, f := range map[string]func(){
		"redisstore: New: the client is nil":       func() { New(nil) },
		`redisstore: New: WithPrefix(""): want`:    func() { New(client, WithPrefix("")) },
		`redisstore: New: WithPrefix("a{b"): want`: func() { New(client, WithPrefix("a{b")) },
		`redisstore: New: WithPrefix("é"): want`:   func() { New(client, WithPrefix("é")) },
		"redisstore: New: WithTimeout(0s): want":   func() { New(client, WithTimeout(0)) },
		"redisstore: New: WithSecret: the secret":  func() { New(client, WithSecret([]byte{})) },
	} {
		t.Run(want, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.HasPrefix(got, want) {
					t.Errorf("panic %q, want %q...", got, want)
				}
			}()
			f()
		})
	}
}

func TestKeys(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	secret := []byte("secret")
	withSecret := New(client, WithSecret(secret))
	secret[0] = 'X'
	for _, c := range []struct {
		store *Store
		want  string
	}{
		// The first 16 bytes of the SHA-256, and of the HMAC, of "client".
		{New(client), "spillway:s:{lI_mA_YdwDa1xZbcCf484w}"},
		{New(client, WithPrefix("my-app.v2:x_Y")), "my-app.v2:x_Y:s:{lI_mA_YdwDa1xZbcCf484w}"},
		{withSecret, "spillway:s:{0Mbkj6Z0LahtJTjP1-ARLg}"},
	} {
		if got := keyOf(c.store); got != c.want {
			t.Errorf("key %q, want %q", got, c.want)
		}
	}
}
