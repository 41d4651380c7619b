package examples_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestExamples runs every example as a user does: a program of its own, talked
// to over a socket.
func TestExamples(t *testing.T) {
	mains, err := filepath.Glob("*/main.go")
	if err != nil || len(mains) == 0 {
		t.Fatalf("found no examples: %v", err)
	}
	watchSources(t)
	bin := t.TempDir()
	for _, main := range mains {
		name := filepath.Dir(main)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := build(t, bin, name)
			t.Run("bad Redis URL", e.testBadRedis)
			t.Run("port taken", e.testPortTaken)
			t.Run("hints", e.testHints)
			switch name {
			case "gin", "echo", "fiber": // their own Run leaves Ctrl-C to the system
			default:
				t.Run("stops when told", e.testStops)
			}
			switch name {
			case "batch_processing":
				t.Run("keeps the pace", e.testPace)
				t.Run("progress", e.testProgress)
				return
			case "per_user_limiting":
				t.Run("plans", e.testPlans)
			case "http_api":
				t.Run("exempt", e.testExempt)
				t.Run("shared Redis", e.testSharedRedis)
			case "config_file":
				t.Run("follows its file", e.testFollows)
			}
			if name != "per_user_limiting" {
				t.Run("login", e.testLogin)
			}
			t.Run("retry", e.testRetry)
		})
	}
}

// testRetry asks until it is refused, waits as long as it is told, and is
// served.
func (e example) testRetry(t *testing.T) {
	t.Parallel()
	p := e.start(t)
	refusal := p.exhaust("GET", "/")
	time.Sleep(time.Duration(retryAfter(t, refusal)) * time.Second)
	if r := p.do("GET", "/"); r.StatusCode != http.StatusOK {
		t.Errorf("status after Retry-After = %d, want 200", r.StatusCode)
	}
}

func (e example) testLogin(t *testing.T) {
	t.Parallel()
	p := e.start(t)
	retryAfter(t, p.exhaust("POST", "/login"))
	if r := p.do("GET", "/"); r.StatusCode != http.StatusOK {
		t.Errorf("GET / after the logins were used up: status %d, want 200", r.StatusCode)
	}
}

func (e example) testExempt(t *testing.T) {
	t.Parallel()
	p := e.start(t)
	for range 150 { // more than any limit of the policy has room for
		if r := p.do("GET", "/healthz"); r.StatusCode != http.StatusOK {
			t.Fatalf("GET /healthz: status %d, want 200 always", r.StatusCode)
		}
	}
}

// testSharedRedis lets two processes use up one limit together.
func (e example) testSharedRedis(t *testing.T) {
	t.Parallel()
	url := startRedis(t)
	one, other := e.start(t, "-redis", url), e.start(t, "-redis", url)
	var codes []int
	for range 3 {
		codes = append(codes, one.do("POST", "/login").StatusCode, other.do("POST", "/login").StatusCode)
	}
	if got, want := fmt.Sprint(codes), "[200 200 200 200 200 429]"; got != want {
		t.Errorf("six logins at two processes under 5/m: %s, want %s", got, want)
	}
}

// testFollows changes the file under a server: a mistake changes nothing, and a
// higher limit goes on with what was used of the lower one.
func (e example) testFollows(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "policy.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"name": "site", "limit": "2/h"}`)
	p := e.start(t, "-config", config)
	limit := func() string { return p.do("GET", "/").Header.Get("Ratelimit-Policy") }
	p.exhaust("GET", "/")
	write(`{"name": "site", "limit": "0/h"}`)
	time.Sleep(1500 * time.Millisecond)
	if got, want := limit(), `"site";q=2;w=3600`; got != want {
		t.Errorf("with a mistake in the file: %s, want %s", got, want)
	}
	write(`{"name": "site", "limit": "9/h"}`)
	for deadline := time.Now().Add(10 * time.Second); limit() != `"site";q=9;w=3600`; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the limit in the file is 9/h, and after ten seconds it is still %s", limit())
		}
	}
	if r := p.do("GET", "/"); r.StatusCode != http.StatusTooManyRequests {
		t.Errorf("status %d after the change, want 429: a changed limit keeps its debt", r.StatusCode)
	}
}

// testPlans sees that callers are told apart, and that who is not known is a
// stranger whatever he claims.
func (e example) testPlans(t *testing.T) {
	t.Parallel()
	p := e.start(t)
	bob := signIn("bob", "builder")
	p.exhaust("GET", "/", bob)
	for caller, as := range map[string]func(*http.Request){
		"ada":                      signIn("ada", "lovelace"),
		"an API key of bob's plan": apiKey("demo-key-free"),
		"an API key of ada's plan": apiKey("demo-key-pro"),
		"a stranger":               stranger,
	} {
		if r := p.do("GET", "/", as); r.StatusCode != http.StatusOK {
			t.Errorf("%s, after bob has used up his limit: status %d, want 200", caller, r.StatusCode)
		}
	}

	p = e.start(t)
	if r := p.do("GET", "/", signIn("ada", "byron")); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a wrong password: status %d, want 401", r.StatusCode)
	}
	if r := p.do("GET", "/", apiKey("made up")); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a made-up API key: status %d, want 401", r.StatusCode)
	}
	p.do("GET", "/")
	for caller, as := range map[string]func(*http.Request){
		"a wrong password":  signIn("ada", "byron"),
		"a new API key":     apiKey("made up as well"),
		"no word about who": stranger,
	} {
		if r := p.do("GET", "/", as); r.StatusCode != http.StatusTooManyRequests {
			t.Errorf("the fourth stranger, with %s: status %d, want 429", caller, r.StatusCode)
		}
	}
}

func (e example) testPace(t *testing.T) {
	t.Parallel()
	start := time.Now()
	p := e.start(t, "-jobs", "6", "-rate", "20", "-workers", "3")
	if err := p.wait(10 * time.Second); err != nil {
		t.Fatalf("%v\n%s", err, &p.stderr)
	}
	if elapsed := time.Since(start); elapsed < 5*time.Second/20 {
		t.Errorf("6 jobs at 20 a second took %v, want at least 250ms", elapsed)
	}
	if !strings.Contains(p.stdout.String(), "6 of 6 jobs done") {
		t.Errorf("not all jobs are done:\n%s", &p.stdout)
	}
}

func (e example) testProgress(t *testing.T) {
	t.Parallel()
	p := e.start(t, "-jobs", "100000", "-rate", "50")
	var progress struct{ Jobs, Done int }
	for deadline := time.Now().Add(10 * time.Second); progress.Done == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no job is done after 10 seconds")
		}
		if err := json.Unmarshal(p.do("GET", "/progress").body, &progress); err != nil {
			t.Fatal(err)
		}
	}
	if progress.Jobs != 100000 {
		t.Errorf("jobs = %d, want 100000", progress.Jobs)
	}
}

// testBadRedis sees that a URL which cannot be used is an error in one line, and
// that the line does not show the password, which would end up in a log.
func (e example) testBadRedis(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"redis://ada:hunter2@localhost:6379/not-a-number",
		"redis://:hunter2%zz@localhost:6379",
		"http://ada:hunter2@localhost",
		"ada:hunter2@localhost",
	} {
		p := e.run(t, "-addr", freeAddr(t), "-redis", url)
		p.wantFailure()
		if strings.Contains(p.stderr.String()+p.stdout.String(), "hunter2") {
			t.Errorf("-redis %s: the password is shown: %s", url, &p.stderr)
		}
	}
}

func (e example) testPortTaken(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	e.run(t, "-addr", listener.Addr().String()).wantFailure()
}

func (e example) testHints(t *testing.T) {
	t.Parallel()
	p := e.start(t)
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(p.stdout.String(), "curl "); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no curl line to copy:\n%s", &p.stdout)
		}
	}
}

func (e example) testStops(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no process can be sent a signal")
	}
	p := e.start(t)
	p.do("GET", "/") // whoever answers is ready to be told
	if err := p.process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(10 * time.Second); err != nil {
		t.Errorf("after Ctrl-C: %v\n%s", err, &p.stderr)
	}
}

func signIn(user, password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(user, password) }
}

func stranger(*http.Request) {}

func apiKey(key string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("X-API-Key", key) }
}

// watchSources looks at every source file of the module, so that go test does
// not take an earlier result for this one: it knows what a test looks at, but
// not what is built from it.
func watchSources(t *testing.T) {
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && (filepath.Ext(path) == ".go" || filepath.Ext(path) == ".lua") {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An example is a program, built.
type example struct{ binary string }

func build(t *testing.T, dir, name string) example {
	binary := filepath.Join(dir, name)
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", binary, "./"+name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return example{binary}
}

// A program is an example that runs, until the test ends at the latest.
type program struct {
	t              *testing.T
	addr           string
	process        *os.Process
	stdout, stderr output
	exited         chan struct{}
	err            error // once it has exited
}

func (e example) run(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{t: t, exited: make(chan struct{})}
	cmd := exec.Command(e.binary, args...)
	cmd.Stdout, cmd.Stderr = &p.stdout, &p.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.process = cmd.Process
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.process.Kill()
		<-p.exited
	})
	return p
}

// start runs an example and returns when it listens.
func (e example) start(t *testing.T, args ...string) *program {
	t.Helper()
	addr := freeAddr(t)
	p := e.run(t, append([]string{"-addr", addr}, args...)...)
	p.addr = addr
	awaitListener(t, addr, p.exited, &p.stderr)
	return p
}

// wait returns how the program has exited.
func (p *program) wait(patience time.Duration) error {
	select {
	case <-p.exited:
		return p.err
	case <-time.After(patience):
		return fmt.Errorf("it still runs after %v", patience)
	}
}

// wantFailure sees that the program exits with status 1 and one line that says why.
func (p *program) wantFailure() {
	p.t.Helper()
	err := p.wait(10 * time.Second)
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
		p.t.Errorf("exit: %v, want status 1", err)
	}
	if message := p.stderr.String(); strings.Count(message, "\n") != 1 {
		p.t.Errorf("want one line on stderr, got:\n%s", message)
	}
}

type response struct {
	*http.Response
	body []byte
}

var client = &http.Client{
	Timeout:   10 * time.Second,
	Transport: &http.Transport{DisableKeepAlives: true},
}

func (p *program) do(method, path string, as ...func(*http.Request)) response {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+p.addr+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, change := range as {
		change(request)
	}
	r, err := client.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return response{r, body}
}

// exhaust repeats a request, which must be served at first, until it is refused.
func (p *program) exhaust(method, path string, as ...func(*http.Request)) response {
	p.t.Helper()
	for i := range 50 {
		switch r := p.do(method, path, as...); {
		case r.StatusCode == http.StatusTooManyRequests && i > 0:
			return r
		case r.StatusCode != http.StatusOK:
			p.t.Fatalf("%s %s, request %d: status %d, want 200", method, path, i+1, r.StatusCode)
		}
	}
	p.t.Fatalf("%s %s: 50 requests at once, and none was refused", method, path)
	panic("unreachable")
}

// retryAfter returns for how many seconds a refusal tells to wait.
func retryAfter(t *testing.T, r response) int {
	t.Helper()
	for _, name := range []string{"RateLimit", "RateLimit-Policy"} {
		if r.Header.Get(name) == "" {
			t.Errorf("a refusal without the header %s", name)
		}
	}
	text := r.Header.Get("Retry-After")
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 1 || seconds > 15 {
		t.Fatalf("Retry-After: %q, want a whole number of seconds, from 1 to 15", text)
	}
	return seconds
}

// startRedis starts a Redis server for the test and returns its URL.
func startRedis(t *testing.T) string {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	addr := freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	redis := example{binary}.run(t, "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", t.TempDir())
	awaitListener(t, addr, redis.exited, &redis.stdout)
	return "redis://" + addr
}

func freeAddr(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// awaitListener returns when somebody listens on addr, and ends the test if the
// program that should has exited.
func awaitListener(t *testing.T, addr string, exited <-chan struct{}, log fmt.Stringer) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return
		}
		select {
		case <-exited:
			t.Fatalf("it exited:\n%s", log)
		default:
		}
	}
	t.Fatalf("nobody listens on %s after 10 seconds:\n%s", addr, log)
}

// output is what a program has written so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
