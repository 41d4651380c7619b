package redisstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/spillway-go/spillway/core"
)

// fakeServer answers every command but those of the handshake with one reply.
// With an empty one it does not answer.
type fakeServer struct {
	reply string
	calls atomic.Int64
}

func (f *fakeServer) dial() (net.Conn, error) {
	client, server := net.Pipe()
	go f.serve(server)
	return client, nil
}

func (f *fakeServer) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		command, err := readCommand(r)
		if err != nil {
			return
		}
		reply := f.reply
		switch {
		case command == "hello":
			reply = "-ERR unknown command\r\n"
		case command == "client":
			reply = "+OK\r\n"
		default:
			f.calls.Add(1)
			if reply == "" {
				io.Copy(io.Discard, conn)
				return
			}
		}
		if _, err := io.WriteString(conn, reply); err != nil {
			return
		}
	}
}

// readCommand reads an array of strings and returns the first one.
func readCommand(r *bufio.Reader) (string, error) {
	number := func() (int, error) {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number()
	if err != nil {
		return "", err
	}
	var first string
	for i := range n {
		size, err := number()
		if err != nil {
			return "", err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(r, text); err != nil {
			return "", err
		}
		if i == 0 {
			first = strings.ToLower(string(text[:size]))
		}
	}
	return first, nil
}

func TestUnexpectedReplies(t *testing.T) {
	for _, reply := range []string{
		"$-1\r\n", "*-1\r\n", "_\r\n", "+OK\r\n", ":1\r\n", ":0\r\n", "$2\r\nok\r\n", "$0\r\n\r\n", ",1.5\r\n", "#t\r\n", "%1\r\n:1\r\n:2\r\n",
		"*0\r\n", "*1\r\n:1\r\n", "*2\r\n:1\r\n:0\r\n", "*4\r\n:1\r\n:0\r\n:0\r\n:0\r\n", "*5\r\n:1\r\n:0\r\n:0\r\n:0\r\n:0\r\n",
		"*3\r\n$1\r\n1\r\n:0\r\n:0\r\n", "*3\r\n:1\r\n$1\r\n0\r\n:0\r\n", "*3\r\n:1\r\n:0\r\n,0\r\n",
		"*3\r\n:1\r\n$-1\r\n:0\r\n", "*3\r\n$-1\r\n:0\r\n:0\r\n", "*3\r\n:1\r\n:0\r\n_\r\n", "*3\r\n:1\r\n*0\r\n:0\r\n", "*3\r\n:1\r\n-ERR x\r\n:0\r\n",
		"*3\r\n:2\r\n:0\r\n:0\r\n", "*3\r\n:-1\r\n:0\r\n:0\r\n", "*3\r\n:1\r\n:-1\r\n:0\r\n", "*3\r\n:1\r\n:0\r\n:-1\r\n", "*3\r\n:1\r\n:0\r\n:1000\r\n",
		"*3\r\n:1\r\n:9223372036854775807\r\n:0\r\n", "*3\r\n:1\r\n:9223372036854775\r\n:807\r\n", "*3\r\n:1\r\n:3600000001\r\n:0\r\n",
		"*3\r\n:1\r\n:99999999999999999999\r\n:0\r\n", "*3\r\n:1\r\n:x\r\n:0\r\n",
		"-ERR no\r\n", "-NOPERM no\r\n", "-OOM no\r\n", "-LOADING no\r\n", "-READONLY no\r\n", "-NOSCRIPT no\r\n", "-MOVED 1 127.0.0.1:1\r\n", "-\r\n",
		"HTTP/1.1 400 Bad Request\r\n\r\n", "\r\n", "$1000000\r\n" + strings.Repeat("x", 1000000) + "\r\n", "*100000\r\n" + strings.Repeat(":1\r\n", 100000),
	} {
		t.Run(fmt.Sprintf("%.40q", reply), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &fakeServer{reply: reply}
				store := New(pipeClient(t, server.dial))
				buckets := []core.Bucket{{Scope: "s", Key: "client", Amount: time.Hour, Capacity: time.Hour}}
				poured, err := store.Pour(context.Background(), buckets)
				if poured || err == nil || !strings.HasPrefix(err.Error(), "redisstore: ") {
					t.Errorf("poured = %v, error %v, want an error that begins with redisstore", poured, err)
				}
				if len(fmt.Sprint(err)) > 500 {
					t.Errorf("an error of %d bytes", len(err.Error()))
				}
				want := int64(1)
				if strings.HasPrefix(reply, "-NOSCRIPT") {
					want = 2
				}
				if n := server.calls.Load(); n != want {
					t.Errorf("%d commands, want %d", n, want)
				}
			})
		})
	}
}

func TestDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		timeout, deadline, want time.Duration
	}{
		"timeout":  {50 * time.Millisecond, time.Hour, 50 * time.Millisecond},
		"deadline": {time.Second, 30 * time.Millisecond, 30 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &fakeServer{}
				store := New(pipeClient(t, server.dial), WithTimeout(c.timeout))
				ctx, cancel := context.WithTimeout(context.Background(), c.deadline)
				defer cancel()
				began := time.Now()
				poured, err := store.Pour(ctx, one())
				if poured || err == nil {
					t.Errorf("poured = %v, error %v, want an error", poured, err)
				}
				if took := time.Since(began); took != c.want {
					t.Errorf("it took %v, want %v", took, c.want)
				}
				if n := server.calls.Load(); n != 1 {
					t.Errorf("%d commands, want 1", n)
				}
			})
		})
	}
}

func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{}
		store := New(pipeClient(t, server.dial))
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := store.Pour(ctx, one())
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want one that wraps context.Canceled", err)
		}
		if n := server.calls.Load(); n != 0 {
			t.Errorf("%d commands, want none", n)
		}
	})
}

// A client that repeats by default must not: the script may have run.
func TestALostAnswerIsNotRepeated(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var calls atomic.Int64
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go hangUp(conn, &calls)
		}
	}()
	client := redis.NewClient(&redis.Options{Addr: listener.Addr().String(), MinRetryBackoff: -1, MaxRetryBackoff: -1})
	defer client.Close()

	if err := client.Get(context.Background(), "x").Err(); err == nil || calls.Load() < 2 {
		t.Fatalf("%d commands, error %v: this client does not repeat a GET, so the test shows nothing", calls.Load(), err)
	}
	calls.Store(0)
	if _, err := New(client, patient).Pour(context.Background(), one()); err == nil {
		t.Error("no error, want one")
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("the script was called %d times, want 1", n)
	}
}

// hangUp reads a command and closes the connection instead of answering.
func hangUp(conn net.Conn, calls *atomic.Int64) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		command, err := readCommand(r)
		if err != nil {
			return
		}
		if command != "hello" && command != "client" {
			calls.Add(1)
			return
		}
		io.WriteString(conn, "-ERR unknown command\r\n")
	}
}
