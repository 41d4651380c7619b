// Package redistest runs a real Redis for a test: a server of its own, empty,
// without persistence, gone when the test is over.
package redistest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience is how long a server may take to start. It takes some 10 ms.
const patience = 10 * time.Second

// A Server is a running redis-server.
type Server struct {
	// Addr is the path of the unix socket that the server listens on.
	Addr string

	// URL is Addr as redis.ParseURL takes it.
	URL string

	binary string
	dir    string
	args   []string
	cmd    *exec.Cmd
	exited chan struct{}
}

// Start runs redis-server with args added to its own, like "--maxmemory", "1mb",
// and returns when it answers. It is stopped when the test ends.
//
// The test is skipped if there is no redis-server in PATH, and fails instead
// where the environment has CI=true: there it must not go unnoticed.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("redistest: this test needs a real Redis: %v; install it, as with apt-get install redis-server", err)
		}
		t.Skipf("redistest: NOT TESTED against a real Redis: %v", err)
	}
	// t.TempDir is of no use: it contains the name of the test, and the path of a
	// socket must be shorter than about 100 bytes.
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "redis.sock")
	s := &Server{Addr: socket, URL: "unix://" + socket, binary: binary, dir: dir, args: args}
	t.Cleanup(func() {
		s.Stop()
		os.RemoveAll(dir)
	})
	s.Restart(t)
	return s
}

// Restart stops the server, if it runs, and starts it anew at the same address,
// with nothing in it.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	var output bytes.Buffer
	s.cmd = exec.Command(s.binary, append([]string{
		"--port", "0", // only the socket: there is no port that another could take
		"--unixsocket", s.Addr,
		"--dir", s.dir,
		"--save", "",
		"--appendonly", "no",
		"--daemonize", "no",
	}, s.args...)...)
	s.cmd.Stdout, s.cmd.Stderr = &output, &output
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("redistest: %v", err)
	}
	exited := make(chan struct{})
	s.exited = exited
	go func(cmd *exec.Cmd) {
		cmd.Wait()
		close(exited)
	}(s.cmd)

	for started := time.Now(); ; {
		err := s.ping()
		if err == nil {
			return
		}
		select {
		case <-exited:
			t.Fatalf("redistest: redis-server %q ended at once:\n%s", s.args, &output)
		case <-time.After(time.Millisecond):
		}
		if time.Since(started) > patience {
			s.Stop()
			t.Fatalf("redistest: redis-server %q does not answer after %v: %v\n%s", s.args, patience, err, &output)
		}
	}
}

// Stop kills the server. To stop one that does not run does nothing.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	<-s.exited
	os.Remove(s.Addr)
	s.cmd = nil
}

// ping asks without a client: it must not matter whether a password is wanted.
func (s *Server) ping() error {
	conn, err := net.DialTimeout("unix", s.Addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 64))
	return err
}

// Client returns a client of the server with the defaults of go-redis. It is
// closed when the test ends.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: s.Addr})
	t.Cleanup(func() { client.Close() })
	return client
}
