// Command config_file is a server whose limits are in a file, and follow it when
// it changes: without a restart, and without a fresh start for anybody.
//
//	go run ./examples/config_file
//	go run ./examples/config_file -config examples/config_file/policy.json
package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/core/redisstore"
	"github.com/spillway-go/spillway/nethttp"
)

//go:embed policy.json
var builtIn []byte

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	redisURL := flag.String("redis", "", "URL of a Redis to keep the buckets in, like redis://localhost:6379 (default: in memory)")
	config := flag.String("config", "", "file with the policy, looked at once a second (default: a copy of policy.json)")
	flag.Parse()
	if err := run(*addr, *redisURL, *config); err != nil {
		fmt.Fprintln(os.Stderr, "config_file:", err)
		os.Exit(1)
	}
}

func run(addr, redisURL, config string) error {
	var store core.Store = core.NewMemory()
	if redisURL != "" {
		shared, err := redisstore.Open(redisURL)
		if err != nil {
			return err
		}
		defer shared.Close()
		store = shared
	}
	text, err := read(config)
	if err != nil {
		return err
	}
	policy, err := parse(text)
	if err != nil {
		return err
	}
	guard, err := core.NewGuard(core.New(store), policy)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf(hints, listener.Addr())

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go follow(ctx, guard, config, text)
	server := &http.Server{Handler: nethttp.Handler(guard, nil)(api()), ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func read(config string) ([]byte, error) {
	if config == "" {
		return builtIn, nil
	}
	return os.ReadFile(config)
}

// parse refuses fields that it does not know: a misspelt one would be a limit
// that nobody enforces.
func parse(text []byte) (policy core.Policy, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(&policy)
	return policy, err
}

// follow puts the policy of the file in place whenever it changes. What cannot
// work is logged and changes nothing.
func follow(ctx context.Context, guard *core.Guard, config string, before []byte) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		text, err := read(config)
		if err != nil || bytes.Equal(text, before) {
			continue // an editor may be about to put it back
		}
		before = text
		policy, err := parse(text)
		if err == nil {
			err = guard.Swap(policy)
		}
		if err != nil {
			slog.Error("the policy before stays", "file", config, "error", err)
			continue
		}
		slog.Info("the policy has changed", "file", config)
	}
}

func api() http.Handler {
	mux := http.NewServeMux()
	for pattern, text := range map[string]string{"GET /{$}": "hello", "POST /login": "welcome", "GET /healthz": "ok"} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text+"\n") })
	}
	return mux
}

const hints = `config_file listens on http://%[1]s. See a 429 with Retry-After:

  for i in 1 2 3 4 5; do curl -si http://%[1]s/; done
  for i in 1 2 3 4 5 6; do curl -si -X POST http://%[1]s/login; done

With -config, change a limit in the file, and try again.
`
