package mwtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway-go/spillway/core"
)

// patience is how long to wait for a server before it counts as hanging.
const patience = 10 * time.Second

// A suite is one running case.
type suite struct {
	*testing.T
	adapter Adapter
}

// limited is an App with buckets of its own.
func limited(policies ...core.Policy) App {
	return App{Limiter: core.New(core.NewMemory()), Policies: policies}
}

// serve starts the server of an App.
func (s *suite) serve(app App) *server {
	s.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	return s.serveOn(l, app)
}

func (s *suite) serveOn(l net.Listener, app App) *server {
	srv := &server{suite: s, addr: l.Addr(), calls: make(map[string]int)}
	app.Called, app.Decided = srv.called, srv.decided
	s.adapter.Serve(s, l, app)
	return srv
}

// A server is a running server, and what its handlers have to tell.
type server struct {
	*suite
	addr net.Addr

	mu       sync.Mutex
	calls    map[string]int
	handling func()        // called by each handler
	decision core.Decision // that the last handler has found
	found    bool
}

func (s *server) called(path string) {
	s.mu.Lock()
	s.calls[path]++
	handling := s.handling
	s.mu.Unlock()
	if handling != nil {
		handling()
	}
}

// during has each handler call f before it answers.
func (s *server) during(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handling = f
}

func (s *server) decided(decision core.Decision, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decision, s.found = decision, ok
}

// lastDecision returns what the last handler has found.
func (s *server) lastDecision() (core.Decision, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.decision, s.found
}

// callsOf returns how often the handler of a route was called.
func (s *server) callsOf(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[path]
}

// peer is a client at an IP address.
func (s *server) peer(ip string) *peer {
	p := &peer{suite: s.suite, addr: s.addr}
	if ip != "" {
		p.local = &net.TCPAddr{IP: net.ParseIP(ip)}
	}
	s.Cleanup(p.close)
	return p
}

// localhost is a client at 127.0.0.1.
func (s *server) localhost() *peer { return s.peer("127.0.0.1") }

// A response is an answer as it was on the wire.
type response struct {
	status int
	header http.Header
	body   string
}

// get sends a GET request, and ends the test if that fails.
func (s *server) get(p *peer, target string, lines ...string) response {
	s.Helper()
	return s.do(p, "GET", target, lines...)
}

func (s *server) do(p *peer, method, target string, lines ...string) response {
	s.Helper()
	r, err := p.do(method, target, lines...)
	if err != nil {
		s.Fatalf("%s %s: %v", method, target, err)
	}
	return r
}

// want sends a GET request, and reports an answer with another status.
func (s *server) want(status int, p *peer, target string, lines ...string) response {
	s.Helper()
	r := s.get(p, target, lines...)
	if r.status != status {
		s.Errorf("GET %s %q: the status is %d, want %d", target, lines, r.status, status)
	}
	return r
}

// passed sends n GET requests with the same header lines, and returns how many
// passed.
func (s *server) passed(n int, p *peer, target string, lines ...string) int {
	s.Helper()
	passed := 0
	for range n {
		if s.get(p, target, lines...).status == http.StatusOK {
			passed++
		}
	}
	return passed
}

// A peer sends requests over one connection, byte by byte as it is told to: an
// http.Client would put right what the suite wants wrong. It reports the answers
// that no server may give. It is for one goroutine.
type peer struct {
	suite  *suite
	addr   net.Addr
	local  net.Addr
	conn   net.Conn
	reader *bufio.Reader
}

func (p *peer) close() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}

func (p *peer) dial() error {
	if p.conn != nil {
		return nil
	}
	dialer := net.Dialer{LocalAddr: p.local, Timeout: patience}
	conn, err := dialer.Dial(p.addr.Network(), p.addr.String())
	if err != nil {
		return err
	}
	p.conn, p.reader = conn, bufio.NewReader(conn)
	return nil
}

// do sends a request and reads the answer. The lines are further header lines.
func (p *peer) do(method, target string, lines ...string) (response, error) {
	return p.send(method, request(method, target, lines...))
}

// request writes the bytes of a request.
func request(method, target string, lines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: example.com\r\n", method, target)
	for _, line := range lines {
		b.WriteString(line + "\r\n")
	}
	if method == "POST" {
		b.WriteString("Content-Length: 0\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}

// send sends the bytes of a request and reads the answer.
func (p *peer) send(method, request string) (response, error) {
	if err := p.write(request); err != nil {
		return response{}, err
	}
	return p.receive(method)
}

// write sends bytes.
func (p *peer) write(bytes string) error {
	if err := p.dial(); err != nil {
		return err
	}
	_ = p.conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(p.conn, bytes); err != nil {
		p.close()
		return err
	}
	return nil
}

func (p *peer) receive(method string) (response, error) {
	r, err := http.ReadResponse(p.reader, &http.Request{Method: method})
	if err != nil {
		p.close()
		return response{}, err
	}
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil || r.Close {
		p.close()
	}
	answer := response{status: r.StatusCode, header: r.Header, body: string(body)}
	if wrong := checkFields(answer); wrong != nil {
		p.suite.Errorf("an answer with status %d and the header %v: %v", answer.status, answer.header, wrong)
	}
	return answer, err
}
