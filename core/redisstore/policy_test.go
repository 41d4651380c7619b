package redisstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/internal/redistest"
	"github.com/spillway-go/spillway/nethttp"
)

// The tests in this file hold whole policies against a real Redis, some of them
// from several processes.

// TestMain also is the main of those other processes: this binary, started once
// more with a job in its environment.
func TestMain(m *testing.M) {
	redis.SetLogger(clientLog)
	if name := os.Getenv(jobVariable); name != "" {
		runJob(name)
		return
	}
	os.Exit(m.Run())
}

const (
	jobVariable  = "SPILLWAY_TEST_JOB"
	addrVariable = "SPILLWAY_TEST_REDIS"
)

// A job is what another process does with its store until stop is closed. It
// returns how many requests it got through.
type job func(store *Store, stop <-chan struct{}) int64

var jobs = map[string]job{
	"guess passwords": guessPasswords,
	"spend":           spend,
}

// runJob says that it is ready, starts with the first line of its input, is
// stopped by the end of it, and prints the result.
func runJob(name string) {
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: os.Getenv(addrVariable), PoolSize: 100})
	store := New(client, patient)
	fmt.Println("ready")
	input := bufio.NewReader(os.Stdin)
	if _, err := input.ReadString('\n'); err != nil {
		fmt.Fprintln(os.Stderr, "waiting for the start:", err)
		os.Exit(1)
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, input)
		close(stop)
	}()
	fmt.Println(jobs[name](store, stop))
}

// A process does a job.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr bytes.Buffer
}

// startProcess returns when the process is ready to begin.
func startProcess(t *testing.T, server *redistest.Server, job string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), jobVariable+"="+job, addrVariable+"="+server.Addr,
		"GORACE=atexit_sleep_ms=0") // or the race detector lets it linger for a second
	p.cmd.Stderr = &p.stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	p.wantLine(t, "ready")
	return p
}

func (p *process) begin(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(p.stdin, "go\n"); err != nil {
		t.Fatal(err)
	}
}

// result ends the job and returns what it got through.
func (p *process) result(t *testing.T) int64 {
	t.Helper()
	if err := p.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	line, _ := p.stdout.ReadString('\n')
	if err := p.cmd.Wait(); err != nil {
		t.Fatalf("the other process: %v\n%s", err, &p.stderr)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		t.Fatalf("the other process said %q, want a number\n%s", line, &p.stderr)
	}
	return n
}

func (p *process) wantLine(t *testing.T, want string) {
	t.Helper()
	if line, err := p.stdout.ReadString('\n'); strings.TrimSpace(line) != want {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		t.Fatalf("the other process said %q, %v, want %q\n%s", line, err, want, &p.stderr)
	}
}

// clientLog keeps what go-redis logs.
var clientLog = new(logBuffer)

type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Printf(_ context.Context, format string, v ...any) {
	line := fmt.Sprintf("redis: "+format+"\n", v...)
	_, _ = io.WriteString(os.Stderr, line)
	_, _ = l.Write([]byte(line))
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// serve sends a request to a handler, without a network in between.
func serve(handler http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// request is what a Guard sees of a client where HTTP would only take time.
type request struct {
	core.Request // nil: nothing else is asked for
	ctx          context.Context
	client       string
}

func (r request) Context() context.Context { return r.ctx }
func (r request) Method() string           { return "GET" }
func (r request) Path() string             { return "/" }

func byClient(r core.Request) (string, error) { return r.(request).client, nil }

func newGuard(t *testing.T, store *Store, policy core.Policy) *core.Guard {
	t.Helper()
	guard, err := core.NewGuard(core.New(store), policy)
	if err != nil {
		t.Fatal(err)
	}
	return guard
}

// driesAt is the state of the only bucket whose name matches pattern.
func driesAt(t *testing.T, client *redis.Client, pattern string) time.Time {
	t.Helper()
	keys, err := client.Keys(context.Background(), pattern).Result()
	if err != nil || len(keys) != 1 {
		t.Fatalf("the buckets %s are %q, error %v, want one", pattern, keys, err)
	}
	state, err := client.Get(context.Background(), keys[0]).Int64()
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(0, state)
}

// serverTime is the clock by which the buckets drain.
func serverTime(t *testing.T, client *redis.Client) time.Time {
	t.Helper()
	now, err := client.Time(context.Background()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// The login: 5 failures in 15 minutes for each account and address.

func newLogin(store *Store, checked *atomic.Int64) http.Handler {
	limit := nethttp.Limit(core.New(store), core.Policy{
		Name:  "login",
		Limit: core.Limit{Rate: 5, Period: 15 * time.Minute},
		Key:   core.Join(nethttp.Key(account), core.ByIP),
		Count: core.CountFailures,
	})
	return limit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		checked.Add(1)
		if r.FormValue("password") != "right" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
}

func account(r *http.Request) (string, error) { return r.FormValue("account"), nil }

func login(handler http.Handler, account, ip, password string) (status int) {
	r := httptest.NewRequest("POST", "/login?account="+account+"&password="+password, nil)
	r.RemoteAddr = ip + ":50000"
	return serve(handler, r).Code
}

const attacker, customer = "203.0.113.66", "198.51.100.7"

// guessPasswords tries 50 at once and returns how many of them were checked.
func guessPasswords(store *Store, _ <-chan struct{}) int64 {
	var checked atomic.Int64
	handler := newLogin(store, &checked)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if status := login(handler, "alice", attacker, "wrong"); status != http.StatusUnauthorized && status != http.StatusTooManyRequests {
				fmt.Fprintln(os.Stderr, "a wrong password: status", status)
				os.Exit(1)
			}
		})
	}
	wg.Wait()
	return checked.Load()
}

func TestLogin(t *testing.T) {
	server := redistest.Start(t)
	processes := []*process{startProcess(t, server, "guess passwords"), startProcess(t, server, "guess passwords")}
	for _, p := range processes {
		p.begin(t)
	}
	var guesses int64
	for _, p := range processes {
		guesses += p.result(t)
	}
	if guesses != 5 {
		t.Errorf("two processes checked %d of 100 wrong passwords, want 5", guesses)
	}

	var checked atomic.Int64
	handler := newLogin(New(server.Client(t), patient), &checked)
	for _, c := range []struct {
		what                  string
		account, ip, password string
		times, want           int
	}{
		{"the attacker goes on", "alice", attacker, "wrong", 10, 429},
		{"the attacker has found it, too late", "alice", attacker, "right", 10, 429},
		{"the same account from elsewhere", "alice", customer, "right", 100, 200},
		{"another account from the same address", "bob", attacker, "right", 100, 200},
		{"some mistakes", "bob", customer, "wrong", 4, 401},
		{"what is right is free", "bob", customer, "right", 100, 200},
		{"one more mistake", "bob", customer, "wrong", 1, 401},
		{"and that was the last", "bob", customer, "wrong", 10, 429},
	} {
		for range c.times {
			if got := login(handler, c.account, c.ip, c.password); got != c.want {
				t.Errorf("%s: status %d, want %d", c.what, got, c.want)
			}
		}
	}
}

// Limits that hold together.

func TestAndIsOneCommand(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	guard := newGuard(t, New(client, patient), core.Policy{
		Limit: core.PerHour(10),
		And:   []core.Limit{core.PerMinute(10), core.PerDay(10)},
		Key:   byClient,
	})
	guard.Check(request{ctx: t.Context(), client: "to make the script known"})

	const n = 30
	lines := monitor(t, server)
	for i := range n {
		if d := guard.Check(request{ctx: t.Context(), client: "alice"}); d.Allowed != (i < 10) || d.Err != nil {
			t.Errorf("request %d: allowed = %t, error %v", i, d.Allowed, d.Err)
		}
	}
	client.Echo(t.Context(), "the end")
	sent := 0
	for line := range lines {
		switch {
		case strings.Contains(line, "the end"):
			if sent != n {
				t.Errorf("%d commands for %d decisions", sent, n)
			}
			return
		case strings.Contains(line, " lua] "): // the script's own
		case strings.Contains(line, `"evalsha"`):
			sent++
		default:
			t.Errorf("unexpected command: %s", line)
		}
	}
	t.Error("MONITOR ended early")
}

// What the tight limit refuses must not be charged to the loose one.
func TestAndChargesOnlyWhatIsAdmitted(t *testing.T) {
	const (
		requests = 100_000
		callers  = 64
	)
	server := redistest.Start(t)
	client := server.Client(t)
	tight, loose := core.PerSecond(100).WithBurst(500), core.PerDay(10_000) // one each 8.64 s
	guard := newGuard(t, New(client, patient), core.Policy{Limit: tight, And: []core.Limit{loose}, Key: byClient})

	began := serverTime(t, client)
	guard.Check(request{ctx: t.Context(), client: "alice"})
	begun := serverTime(t, client)
	client.ConfigResetStat(t.Context())

	var admitted, asked atomic.Int64
	admitted.Add(1)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for asked.Add(1) <= requests {
				d := guard.Check(request{ctx: t.Context(), client: "alice"})
				if d.Err != nil {
					t.Error(d.Err)
					return
				}
				if d.Allowed {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	ended := serverTime(t, client)

	n := admitted.Load()
	if most := 500 + int64(ended.Sub(began)/(10*time.Millisecond)); n < 500 || n > most {
		t.Errorf("%d admitted in %v, want 500 to %d", n, ended.Sub(began), most)
	}
	// The loose bucket has never been empty since the first request, so without all
	// that was poured it ran dry when that one came.
	first := driesAt(t, client, "*:d:*").Add(-time.Duration(n) * 8640 * time.Millisecond)
	if first.Before(began) || first.After(begun) {
		off := float64(first.Sub(began)) / float64(8640*time.Millisecond)
		t.Errorf("the loose limit was charged for %+.2f requests more than the %d admitted", off, n)
	}
	stats := client.Info(t.Context(), "commandstats").Val()
	if want := fmt.Sprintf("cmdstat_evalsha:calls=%d,", requests); !strings.Contains(stats, want) {
		t.Errorf("want %s for %d decisions:\n%s", want, requests, stats)
	}
	t.Logf("%d of %d admitted in %v", n, requests, ended.Sub(began).Round(time.Millisecond))
}

// What a client has sent stays in the process.

func TestSecretsStayHere(t *testing.T) {
	const (
		apiKey = "sk-canary-5b1c9e"
		user   = "canary.user@example.com"
		ip     = "198.51.100.77"
	)
	type userKey struct{}
	keys := map[string]core.KeyFunc{
		"api":   core.ByHeader("X-API-Key"),
		"user":  core.ByUser(userKey{}),
		"ip":    core.ByIP,
		"all":   core.Join(core.ByHeader("X-API-Key"), core.ByUser(userKey{}), core.ByIP),
		"none":  func(core.Request) (string, error) { return "", core.ErrNoKey },
		"fails": func(core.Request) (string, error) { return "", errors.New("no such key " + apiKey) },
		"empty": func(core.Request) (string, error) { return "", nil },
	}

	var told logBuffer // all that anybody gets to see
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelDebug})))

	server := redistest.Start(t)
	client := server.Client(t)
	store, err := Open(server.URL, patient)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	limiter := core.New(store)

	var handlers []http.Handler
	for name, key := range keys {
		for _, onOutage := range []core.Outage{core.Open, core.Closed} {
			guard, err := core.NewGuard(limiter, core.Policy{
				Name:          fmt.Sprint(name, onOutage),
				Limit:         core.PerHour(2),
				And:           []core.Limit{core.PerDay(5)},
				Key:           key,
				Count:         core.CountSuccesses,
				OnOutage:      onOutage,
				Headers:       core.RateLimitFields | core.XRateLimit | core.ExposeHeaders,
				ShareDecision: true,
				// What is told of a limit that is not there.
				LimitFor: func(core.Request) (core.Limit, error) { return core.Limit{}, errors.New("no plan for " + user) },
			})
			if err != nil {
				t.Fatal(err)
			}
			tell := func(d core.Decision) { fmt.Fprintf(&told, "%v %+v\n", d.Err, d.Result) }
			handlers = append(handlers, nethttp.Handler(guard, func(w http.ResponseWriter, r *http.Request, d core.Decision) {
				tell(d)
				nethttp.Refuse(w, r, d)
			})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				d, _ := nethttp.Decision(r)
				tell(d)
			})))
		}
	}
	statuses := map[int]int{}
	errs := 0
	ask := func() {
		for _, handler := range handlers {
			for range 4 {
				r := httptest.NewRequest("GET", "/", nil)
				r = r.WithContext(context.WithValue(r.Context(), userKey{}, user))
				r.RemoteAddr = ip + ":50000"
				r.Header.Set("X-API-Key", apiKey)
				r.Header.Set("X-Forwarded-For", ip)
				w := serve(handler, r)
				statuses[w.Code]++
				fmt.Fprintf(&told, "%v %s\n", w.Header(), w.Body)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, costly := limiter.AllowN(ctx, apiKey, 10, core.PerHour(2))
		_, refused := limiter.Allow(ctx, user, core.PerHour(2))
		_, zone := limiter.Allow(ctx, ip, core.Limit{})
		for _, err := range []error{costly, refused, zone, limiter.Reset(ctx, apiKey, core.PerHour(2)), limiter.Wait(ctx, apiKey, core.PerHour(2))} {
			fmt.Fprintln(&told, err)
			if err != nil {
				errs++
			}
		}
	}

	lines := monitor(t, server)
	var wire sync.WaitGroup
	wire.Go(func() {
		for line := range lines {
			_, _ = io.WriteString(&told, line+"\n")
		}
	})
	ask()
	var names []string
	for scan := client.Scan(t.Context(), 0, "*", 0).Iterator(); scan.Next(t.Context()); {
		names = append(names, scan.Val())
	}
	for _, name := range names {
		fmt.Fprintf(&told, "%s %s %q\n", name, client.Get(t.Context(), name).Val(), client.Dump(t.Context(), name).Val())
	}
	fmt.Fprintln(&told, client.Info(t.Context(), "everything").Val(), client.SlowLogGet(t.Context(), -1).Val())

	server.Stop() // while requests come
	ask()
	wire.Wait()
	server.Restart(t)
	ask()

	if len(names) < 2*len(handlers) || statuses[200] == 0 || statuses[429] == 0 || statuses[503] == 0 || errs < 9 {
		t.Errorf("%d buckets, statuses %v, %d errors: too few to show anything", len(names), statuses, errs)
	}
	all := strings.ToLower(told.String() + clientLog.String())
	for what, canary := range map[string]string{"the API key": apiKey, "the user": user, "the address": ip} {
		for form, text := range map[string]string{
			"as it is":  canary,
			"in hex":    hex.EncodeToString([]byte(canary)),
			"in base64": strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(canary)), "="),
		} {
			if i := strings.Index(all, strings.ToLower(text)); i >= 0 {
				t.Errorf("%s got out %s: ...%q...", what, form, all[max(0, i-200):min(len(all), i+200)])
			}
		}
	}
}

// One budget for all processes.

const (
	spendBurst    = 5000 // so much that the bucket is not empty before all have begun
	spendInterval = 2 * time.Millisecond
)

var spendLimit = core.PerSecond(500).WithBurst(spendBurst)

// spend asks as fast as it can, 64 at a time, and counts what it gets.
func spend(store *Store, stop <-chan struct{}) int64 {
	limiter := core.New(store)
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				result, err := limiter.Allow(context.Background(), "budget", spendLimit)
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				if result.Allowed {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return admitted.Load()
}

// Two processes together get the burst and then the rate: not one request more at
// any instant, and not one less in the end. The burst is taken here, at an instant
// that the bucket's state then tells to the nanosecond.
func TestTwoProcessesSpendOneBudget(t *testing.T) {
	const run = 3 * time.Second
	server := redistest.Start(t)
	client := server.Client(t)
	processes := []*process{startProcess(t, server, "spend"), startProcess(t, server, "spend")}

	if result, err := core.New(New(client, patient)).AllowN(t.Context(), "budget", spendBurst, spendLimit); !result.Allowed || err != nil {
		t.Fatalf("the burst: %+v, %v", result, err)
	}
	full := driesAt(t, client, "*")
	for _, p := range processes {
		p.begin(t)
	}

	// sample reads state and clock at one instant: how many were admitted, and how
	// many the rate allows.
	key := client.Keys(t.Context(), "*").Val()[0]
	sample := func() (admitted, allowed int64, elapsed time.Duration) {
		var now *redis.TimeCmd
		var state *redis.StringCmd
		if _, err := client.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
			now, state = p.Time(t.Context()), p.Get(t.Context(), key)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		dry, err := state.Int64()
		if err != nil {
			t.Fatal(err)
		}
		poured := time.Unix(0, dry).Sub(full)
		if poured%spendInterval != 0 {
			t.Errorf("%v poured in %v, want whole requests: the bucket has been empty, or something was lost", poured, elapsed)
		}
		elapsed = now.Val().Sub(full.Add(-spendBurst * spendInterval))
		return int64(poured / spendInterval), int64(elapsed / spendInterval), elapsed
	}
	// A pause of all the callers shows as requests that are missing, until they go
	// on: the bucket has room for them. So at the end it is waited for.
	samples, late := 0, 0
	for {
		admitted, allowed, elapsed := sample()
		if admitted > allowed {
			t.Errorf("after %v: %d admitted, and the rate allows %d", elapsed, admitted, allowed)
		}
		samples++
		if admitted < allowed-1 {
			late++
		} else if elapsed > run {
			t.Logf("%d admitted in %v after the burst, the rate allows %d; %d of %d samples in between were late", admitted, elapsed, allowed, late, samples)
			break
		}
		if elapsed > run+10*time.Second {
			t.Errorf("after %v: %d admitted, want %d or one less", elapsed, admitted, allowed)
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	got := processes[0].result(t) + processes[1].result(t)
	if admitted, _, _ := sample(); got != admitted {
		t.Errorf("the processes got %d requests through, and were charged for %d", got, admitted)
	}
}

// Holding.

func TestHeldRequestsLeaveOneByOne(t *testing.T) {
	const (
		interval = 50 * time.Millisecond
		requests = 20
		// How late a request may leave on a busy machine. Early it may be by no more
		// than the clocks of two processes differ when they tick.
		late, early = 500 * time.Millisecond, time.Millisecond
	)
	server := redistest.Start(t)
	policy := core.Policy{Limit: core.Every(interval), MaxWait: requests * interval, Key: byClient}
	guards := []*core.Guard{newGuard(t, New(server.Client(t), patient), policy), newGuard(t, New(server.Client(t), patient), policy)}

	departures := make([]time.Duration, requests)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range departures {
		wg.Go(func() {
			d := guards[i%2].Check(request{ctx: t.Context(), client: "alice"})
			departures[i] = time.Since(began)
			if !d.Allowed || d.Err != nil || d.Waited > departures[i] {
				t.Errorf("request %d: allowed = %t after %v of waiting, error %v", i, d.Allowed, d.Waited, d.Err)
			}
		})
	}
	wg.Wait()
	slices.Sort(departures)
	for i, got := range departures {
		if turn := time.Duration(i) * interval; got < turn-early || got > turn+late {
			t.Errorf("departure %d after %v, want %v", i, got, turn)
		}
	}
}

func TestHoldingHasAnEnd(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	guard := newGuard(t, New(client, patient), core.Policy{Limit: core.PerHour(1), MaxWait: 30 * time.Minute, Key: byClient})
	ctx, hangUp := context.WithCancel(t.Context())
	if d := guard.Check(request{ctx: ctx, client: "alice"}); !d.Allowed || d.Waited != 0 {
		t.Errorf("the first: %+v", d)
	}
	d := guard.Check(request{ctx: ctx, client: "alice"})
	if wait := 30 * time.Minute; d.Status != 429 || d.RetryAfter > wait || d.RetryAfter < wait-time.Minute {
		t.Errorf("the second: status %d, retry after %v, want 429 and %v", d.Status, d.RetryAfter, wait)
	}

	// One that is held and goes away gives back what it took.
	flush(t, client)
	if err := guard.Swap(core.Policy{Limit: core.PerHour(1), MaxWait: 2 * time.Hour, Key: byClient}); err != nil {
		t.Fatal(err)
	}
	guard.Check(request{ctx: ctx, client: "alice"})
	before := driesAt(t, client, "*")
	done := make(chan core.Decision)
	go func() { done <- guard.Check(request{ctx: ctx, client: "alice"}) }()
	for deadline := time.Now().Add(10 * time.Second); driesAt(t, client, "*").Equal(before); {
		if time.Now().After(deadline) {
			t.Fatal("the held request was not charged")
		}
	}
	hangUp()
	if d := <-done; d.Allowed || !errors.Is(d.Err, context.Canceled) {
		t.Errorf("the one that hung up: allowed = %t, error %v", d.Allowed, d.Err)
	}
	if after := driesAt(t, client, "*"); !after.Equal(before) {
		t.Errorf("the bucket dries at %v, want %v as before", after, before)
	}
}

// A change of policy while requests come.

func TestSwapKeepsTheState(t *testing.T) {
	server := redistest.Start(t)
	policy := func(limit core.Limit, and ...core.Limit) core.Policy {
		return core.Policy{Name: "api", Limit: limit, And: and, Key: byClient}
	}
	guard := newGuard(t, New(server.Client(t), patient), policy(core.PerHour(100)))

	var admitted, refused atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch d := guard.Check(request{ctx: t.Context(), client: "alice"}); {
				case d.Err != nil:
					t.Error(d.Err)
					return
				case d.Allowed:
					admitted.Add(1)
				default:
					refused.Add(1)
				}
			}
		})
	}
	for _, c := range []struct {
		what string
		next core.Policy
		want int64 // admitted in total, afterwards
	}{
		{"at first", policy(core.PerHour(100)), 100},
		{"twice the rate: as long to drain, so as full", policy(core.PerHour(200)), 100},
		{"one more limit", policy(core.PerHour(200), core.PerDay(1000)), 100},
		{"and without it", policy(core.PerHour(100)), 100},
		{"another capacity is another bucket", policy(core.PerHour(100).WithBurst(150)), 250},
		{"the first one is full as before", policy(core.PerHour(10)), 250},
		{"and so is the second", policy(core.PerHour(100).WithBurst(150)), 250},
	} {
		if err := guard.Swap(c.next); err != nil {
			t.Error(err)
		}
		if err := guard.Swap(policy(core.Limit{})); !errors.Is(err, core.ErrInvalidPolicy) {
			t.Errorf("an empty policy: %v, want ErrInvalidPolicy", err)
		}
		for enough := refused.Load() + 200; refused.Load() < enough && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		if got := admitted.Load(); got != c.want {
			t.Errorf("%s: %d admitted in total, want %d", c.what, got, c.want)
		}
	}
	close(stop)
	wg.Wait()
}

// Redis goes away while requests come, and comes back.

func TestOutage(t *testing.T) {
	for _, c := range []struct {
		name     string
		onOutage core.Outage
		want     int // the status meanwhile
	}{
		{"Open", core.Open, http.StatusOK},
		{"Closed", core.Closed, http.StatusServiceUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := redistest.Start(t)
			store, err := Open(server.URL, patient)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			var counted atomic.Int64 // admitted by Redis
			handler := nethttp.Limit(core.New(store), core.Policy{Limit: core.PerHour(5), OnOutage: c.onOutage, ShareDecision: true})(
				http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					if d, _ := nethttp.Decision(r); !d.Degraded {
						counted.Add(1)
					}
				}))

			const before, during, after, phases = 0, 1, 2, 3
			var phase, unexpected atomic.Int64
			var seen [phases]sync.Map // status -> *atomic.Int64, of requests that lie within the phase
			count := func(phase int64, status int) *atomic.Int64 {
				n, _ := seen[phase].LoadOrStore(status, new(atomic.Int64))
				return n.(*atomic.Int64)
			}
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						began := phase.Load()
						w := serve(handler, httptest.NewRequest("GET", "/", nil))
						switch w.Code {
						case http.StatusOK, http.StatusTooManyRequests, c.want:
						default:
							unexpected.Add(1)
						}
						if w.Code != http.StatusOK && w.Header().Get("Retry-After") == "" {
							t.Errorf("status %d without Retry-After", w.Code)
						}
						if began >= 0 && phase.Load() == began {
							count(began, w.Code).Add(1)
						}
						time.Sleep(100 * time.Microsecond)
					}
				})
			}
			until := func(phase int64, status int) {
				t.Helper()
				for deadline := time.Now().Add(20 * time.Second); count(phase, status).Load() < 300; time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Errorf("in phase %d there were %d of status %d, want 300", phase, count(phase, status).Load(), status)
						return
					}
				}
			}
			until(before, http.StatusTooManyRequests)
			phase.Store(-1) // neither
			server.Stop()
			phase.Store(during)
			until(during, c.want)
			phase.Store(-1)
			server.Restart(t)
			phase.Store(after)
			until(after, http.StatusTooManyRequests)
			close(stop)
			wg.Wait()

			if n := unexpected.Load(); n != 0 {
				t.Errorf("%d unexpected statuses", n)
			}
			seen[during].Range(func(status, n any) bool {
				if status != c.want {
					t.Errorf("%d of status %d during the outage, want %d only", n.(*atomic.Int64).Load(), status, c.want)
				}
				return true
			})
			// The new server begins with empty buckets.
			if n := counted.Load(); n != 10 {
				t.Errorf("Redis admitted %d, want 5 before and 5 after", n)
			}
		})
	}
}
