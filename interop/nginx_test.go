package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/nethttp"
)

// Both servers tell in a header what became of a request, with the words of
// nginx's $limit_req_status.
const (
	statusHeader = "Limit-Req-Status"
	passed       = "PASSED"
	delayed      = "DELAYED"
	rejected     = "REJECTED"
)

// A fate is what became of a request.
type fate struct {
	status string
	after  time.Duration // since the instant of its arrival in the trace, of a delayed one
}

func (f fate) String() string {
	if f.status == delayed {
		return fmt.Sprint(delayed, " ", f.after.Round(time.Millisecond))
	}
	return f.status
}

// The requests of an arrival are all sent at once, at an instant of the trace.
//
// Everything happens at 2 a second, and arrivals are half an interval off the
// instants at which room comes free. So a machine may be 250 ms late before
// anything changes.
type arrival struct {
	at   time.Duration
	n    int
	want []fate
}

const (
	interval = 500 * time.Millisecond

	// A delayed request may leave so much later than it should, and so much sooner:
	// nginx cuts off what is less than a millisecond, three times over.
	late, early = interval / 2, 3 * time.Millisecond
)

func fates(passes int, delays []time.Duration, rejects int) []fate {
	var all []fate
	for range passes {
		all = append(all, fate{status: passed})
	}
	for _, d := range delays {
		all = append(all, fate{delayed, d})
	}
	for range rejects {
		all = append(all, fate{status: rejected})
	}
	return all
}

func ms(all ...int) []time.Duration {
	var delays []time.Duration
	for _, n := range all {
		delays = append(delays, time.Duration(n)*time.Millisecond)
	}
	return delays
}

// comparisons are settings of nginx and what they are called here.
var comparisons = []struct {
	name   string // of the location in nginx
	nginx  string // the parameters of limit_req
	policy core.Policy
	trace  []arrival
}{
	{"alone", "", core.Policy{Limit: core.PerSecond(2).WithBurst(1)}, []arrival{
		{0, 3, fates(1, nil, 2)},
		{750 * time.Millisecond, 3, fates(1, nil, 2)},
		{1000 * time.Millisecond, 1, fates(0, nil, 1)},
		{2500 * time.Millisecond, 3, fates(1, nil, 2)},
	}},
	{"nodelay", "burst=4 nodelay", core.Policy{Limit: core.PerSecond(2).WithBurst(5)}, []arrival{
		{0, 8, fates(5, nil, 3)},
		{1250 * time.Millisecond, 8, fates(2, nil, 6)},
		{4500 * time.Millisecond, 8, fates(5, nil, 3)},
	}},
	{"queue", "burst=4", core.Policy{Limit: core.PerSecond(2).WithBurst(1), MaxWait: 4 * interval}, []arrival{
		{0, 8, fates(1, ms(500, 1000, 1500, 2000), 3)},
		{1250 * time.Millisecond, 8, fates(0, ms(1250, 1750), 6)},
		{5000 * time.Millisecond, 3, fates(1, ms(500, 1000), 0)},
	}},
	{"stages", "burst=4 delay=2", core.Policy{Limit: core.PerSecond(2).WithBurst(3), MaxWait: 2 * interval}, []arrival{
		{0, 8, fates(3, ms(500, 1000), 3)},
		{1250 * time.Millisecond, 8, fates(0, ms(250, 750), 6)},
		{5000 * time.Millisecond, 4, fates(3, ms(500), 0)},
	}},
	{"late-stage", "burst=4 delay=3", core.Policy{Limit: core.PerSecond(2).WithBurst(4), MaxWait: interval}, []arrival{
		{0, 8, fates(4, ms(500), 3)},
		{250 * time.Millisecond, 3, fates(0, nil, 3)},
		{750 * time.Millisecond, 3, fates(0, ms(250), 2)},
	}},
}

// nginx and a Policy do the same to the same requests.
func TestNginx(t *testing.T) {
	nginx := startNginx(t)
	for _, c := range comparisons {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			spillway := listen(t, limited(t, c.policy))
			steady(t, func(attempt string) (stalled bool, check func()) {
				query := "?key=" + c.name + attempt
				var theirs, ours [][]fate
				var theyStalled, weStalled bool
				var wg sync.WaitGroup
				wg.Go(func() { theirs, theyStalled = send(t, nginx.url+"/"+c.name+query, c.trace) })
				wg.Go(func() { ours, weStalled = send(t, spillway+"/"+query, c.trace) })
				wg.Wait()
				return theyStalled || weStalled, func() {
					for i, a := range c.trace {
						compare(t, "nginx", a, theirs[i])
						compare(t, "spillway", a, ours[i])
					}
				}
			})
		})
	}
}

// steady makes a trial until it has gone without a stall of the machine, for
// what is sent too late is another trace; and then checks it. The last attempt
// counts in any case. Each of them has buckets of its own.
func steady(t *testing.T, trial func(attempt string) (stalled bool, check func())) {
	t.Helper()
	const attempts = 4
	for i := 1; ; i++ {
		stalled, check := trial(strconv.Itoa(i))
		if !stalled || i == attempts {
			check()
			return
		}
		t.Logf("attempt %d: the machine stalled", i)
	}
}

// compare holds the fates of an arrival against what is wanted. Its requests are
// alike, and which of them comes first is up to the kernel: so both are in order
// of departure.
func compare(t *testing.T, server string, a arrival, got []fate) {
	t.Helper()
	same := slices.EqualFunc(got, a.want, func(got, want fate) bool {
		return got.status == want.status &&
			(got.status != delayed || got.after >= want.after-early && got.after <= want.after+late)
	})
	if !same {
		t.Errorf("%s, arrival at %v:\n got %v\nwant %v", server, a.at, got, a.want)
	}
}

// send sends a trace and returns what became of it. Stalled means that it was not
// sent in time, or that what needs no time took some.
func send(t *testing.T, url string, trace []arrival) (all [][]fate, stalled bool) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	all = make([][]fate, len(trace))
	began := time.Now()
	var wg sync.WaitGroup
	for i, a := range trace {
		time.Sleep(time.Until(began.Add(a.at)))
		stalled = stalled || time.Since(began) > a.at+interval/5
		all[i] = make([]fate, a.n)
		for j := range a.n {
			wg.Go(func() {
				all[i][j].status, _ = get(t.Context(), t, client, url)
				all[i][j].after = time.Since(began) - a.at
			})
		}
	}
	wg.Wait()
	order := []string{passed, delayed, rejected}
	for _, fates := range all {
		slices.SortFunc(fates, func(a, b fate) int {
			if d := slices.Index(order, a.status) - slices.Index(order, b.status); d != 0 {
				return d
			}
			return int(a.after - b.after)
		})
		for _, f := range fates {
			stalled = stalled || f.status != delayed && f.after > interval/5
		}
	}
	return all, stalled
}

// get returns what became of one request, and "" if it was cut off.
func get(ctx context.Context, t *testing.T, client *http.Client, url string) (status string, header http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Error(err)
		return "", nil
	}
	response, err := client.Do(request)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		return "", nil
	}
	defer response.Body.Close()
	status = response.Header.Get(statusHeader)
	want := http.StatusOK
	if status == rejected {
		want = http.StatusTooManyRequests
	}
	if response.StatusCode != want {
		t.Errorf("%s: %q with status %d", url, status, response.StatusCode)
	}
	return status, response.Header
}

// levelHeader tells, with a refusal, how long the bucket takes to drain.
const levelHeader = "Level"

// limited is a server with a policy, whose key is in the query as nginx has it.
func limited(t *testing.T, policy core.Policy) http.Handler {
	t.Helper()
	policy.Key = nethttp.Key(func(r *http.Request) (string, error) {
		if key := r.URL.Query().Get("key"); key != "" {
			return key, nil
		}
		return "", core.ErrNoKey
	})
	policy.ShareDecision = true
	guard, err := core.NewGuard(core.New(core.NewMemory()), policy)
	if err != nil {
		t.Fatal(err)
	}
	return nethttp.Handler(guard, func(w http.ResponseWriter, r *http.Request, d core.Decision) {
		w.Header().Set(statusHeader, rejected)
		w.Header().Set(levelHeader, d.ResetAfter.String())
		nethttp.Refuse(w, r, d)
	})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := passed
		if d, _ := nethttp.Decision(r); d.Waited > 0 {
			status = delayed
		}
		w.Header().Set(statusHeader, status)
	}))
}

// nginx keeps a rate in thousandths of a request a second, and cuts off the rest:
// 1r/m is 16 of them instead of 16 2/3. To see it in less than a minute, the level
// is read a few seconds after a request: nginx logs it with a refusal, as excess.
func TestNginxRoundsTheRate(t *testing.T) {
	const pause = 6 * time.Second
	nginx := startNginx(t)
	for _, c := range []struct {
		name         string
		limit        core.Limit
		theirs, ours float64 // requests a minute
	}{
		{"1-a-minute", core.PerMinute(1).WithBurst(1), 0.96, 1},
		{"3-a-minute", core.PerMinute(3).WithBurst(1), 3, 3}, // 50/1000 a second: nothing to cut off
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			spillway := listen(t, limited(t, core.Policy{Limit: c.limit}))
			steady(t, func(attempt string) (stalled bool, check func()) {
				query := "?key=" + c.name + attempt
				var theirs, ours span
				var theyStalled, weStalled bool
				var wg sync.WaitGroup
				wg.Go(func() {
					theirs, theyStalled = drain(t, nginx.url+"/"+c.name+query, pause, func(http.Header) (float64, float64) {
						level := nginx.excess(t, c.name)
						return level - 0.001, level // the rest of what has drained is cut off
					})
				})
				wg.Go(func() {
					ours, weStalled = drain(t, spillway+"/"+query, pause, func(header http.Header) (float64, float64) {
						level, err := time.ParseDuration(header.Get(levelHeader))
						if err != nil {
							t.Error(err)
						}
						requests := level.Minutes() * float64(c.limit.Rate)
						return requests, requests
					})
				})
				wg.Wait()
				return theyStalled || weStalled, func() {
					if !theirs.contains(c.theirs) || c.theirs != c.ours && theirs.contains(c.ours) {
						t.Errorf("nginx drains %v requests a minute, want %v", theirs, c.theirs)
					}
					if !ours.contains(c.ours) || c.theirs != c.ours && ours.contains(c.theirs) {
						t.Errorf("spillway drains %v requests a minute, want %v", ours, c.ours)
					}
				}
			})
		})
	}
}

// A span is what a measurement leaves open.
type span struct{ least, most float64 }

func (s span) contains(x float64) bool { return s.least <= x && x <= s.most }
func (s span) String() string          { return fmt.Sprintf("%.3f to %.3f", s.least, s.most) }

// drain sends a request, and one after a pause, which is refused, and returns how
// many requests have drained meanwhile, for each minute. The level tells between
// what and what the bucket was then, in requests.
func drain(t *testing.T, url string, pause time.Duration, level func(http.Header) (least, most float64)) (rate span, stalled bool) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	began := time.Now()
	if status, _ := get(t.Context(), t, client, url); status != passed {
		t.Errorf("the first request: %s", status)
	}
	begun := time.Now()
	time.Sleep(pause)
	ending := time.Now()
	status, header := get(t.Context(), t, client, url)
	ended := time.Now()
	if status != rejected {
		t.Errorf("the second request: %s", status)
	}
	least, most := level(header)
	const tick = time.Millisecond // of nginx's clock
	rate.least = (1 - most) / (ended.Sub(began) + tick).Minutes()
	rate.most = (1 - least) / (ending.Sub(begun) - tick).Minutes()
	return rate, ended.Sub(began) > pause+100*time.Millisecond
}

// What a client took that hangs up while it is held: nginx keeps it, here it is
// given back.
func TestNginxKeepsWhatTheGoneTook(t *testing.T) {
	nginx := startNginx(t)
	spillway := listen(t, limited(t, core.Policy{Limit: core.PerSecond(2).WithBurst(1), MaxWait: 4 * interval}))
	for _, c := range []struct{ server, url, want string }{
		{"nginx", nginx.url + "/queue", rejected},
		{"spillway", spillway, delayed},
	} {
		t.Run(c.server, func(t *testing.T) {
			t.Parallel()
			steady(t, func(attempt string) (stalled bool, check func()) {
				url := c.url + "?key=gone" + attempt
				client := &http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				ctx, hangUp := context.WithCancel(t.Context())
				began := time.Now()
				var wg sync.WaitGroup
				for range 5 { // one passes, four are held
					wg.Go(func() { get(ctx, t, client, url) })
				}
				time.Sleep(interval / 4)
				hangUp()
				wg.Wait()
				time.Sleep(time.Until(began.Add(interval / 2)))
				stalled = time.Since(began) > interval*3/4
				status, _ := get(t.Context(), t, client, url)
				return stalled, func() {
					if status != c.want {
						t.Errorf("after four that were held have gone: %s, want %s", status, c.want)
					}
				}
			})
		})
	}
}

// nginx does not limit requests whose key is empty.
func TestNginxDoesNotLimitWithoutAKey(t *testing.T) {
	nginx := startNginx(t)
	spillway := listen(t, limited(t, core.Policy{Limit: core.PerMinute(1)}))
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, c := range []struct{ server, url, want string }{
		{"nginx", nginx.url + "/1-a-minute", ""}, // not even looked at
		{"spillway", spillway, rejected},
	} {
		var status string
		for range 3 {
			status, _ = get(t.Context(), t, client, c.url)
		}
		if status != c.want {
			t.Errorf("%s: %q without a key, want %q", c.server, status, c.want)
		}
	}
}

// An nginxServer is a running nginx.
type nginxServer struct{ url, dir string }

// startNginx runs nginx with the locations that the tests ask for, on a port and
// in a folder of its own, until the test ends.
func startNginx(t *testing.T) nginxServer {
	t.Helper()
	binary := program(t, "nginx", "nginx-light")
	// Between finding a free port and taking it, another may take it.
	for attempt := 1; ; attempt++ {
		server, err := tryNginx(t, binary)
		if err == nil {
			return server
		}
		if attempt == 3 {
			t.Fatal(err)
		}
	}
}

func tryNginx(t *testing.T, binary string) (nginxServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nginxServer{}, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nginxServer{}, err
	}

	var locations bytes.Buffer
	location := func(name, zone, parameters string) {
		// What return answers with is never limited, so there has to be a file.
		fmt.Fprintf(&locations, "location = /%s { limit_req zone=%s %s; try_files /ok =404; }\n", name, zone, parameters)
	}
	for _, c := range comparisons {
		location(c.name, "2-a-second", c.nginx)
	}
	location("1-a-minute", "1-a-minute", "")
	location("3-a-minute", "3-a-minute", "")

	server := nginxServer{url: "http://" + address, dir: t.TempDir()}
	for name, content := range map[string]string{
		"ok": "ok",
		"nginx.conf": `
			daemon off;
			master_process off;
			pid nginx.pid;
			error_log error.log info;
			events {}
			http {
				access_log off;
				client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp; uwsgi_temp_path temp; scgi_temp_path temp;
				limit_req_zone $arg_key zone=2-a-second:1m rate=2r/s;
				limit_req_zone $arg_key zone=1-a-minute:1m rate=1r/m;
				limit_req_zone $arg_key zone=3-a-minute:1m rate=3r/m;
				limit_req_status 429;
				add_header ` + statusHeader + ` $limit_req_status always;
				server {
					listen ` + address + `;
					root ` + server.dir + `;
					` + locations.String() + `
				}
			}`,
	} {
		if err := os.WriteFile(filepath.Join(server.dir, name), []byte(content), 0o644); err != nil {
			return nginxServer{}, err
		}
	}
	var output bytes.Buffer
	cmd := exec.Command(binary, "-p", server.dir, "-c", "nginx.conf", "-e", "error.log")
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return nginxServer{}, err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		select {
		case <-exited:
			return nginxServer{}, fmt.Errorf("nginx ended at once:\n%s", &output)
		default:
		}
		if conn, err := net.Dial("tcp", address); err == nil {
			return server, conn.Close()
		}
	}
	return nginxServer{}, errors.New("nginx does not answer after 10 s")
}

var excessLine = regexp.MustCompile(`limiting requests, excess: ([0-9.]+) by zone "([^"]+)"`)

// excess is what nginx has logged with its last refusal in a zone: how many
// requests the bucket held.
func (s nginxServer) excess(t *testing.T, zone string) float64 {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(s.dir, "error.log"))
	if err != nil {
		t.Error(err)
	}
	excess := -1.0
	for _, line := range excessLine.FindAllSubmatch(log, -1) {
		if string(line[2]) == zone {
			if excess, err = strconv.ParseFloat(string(line[1]), 64); err != nil {
				t.Error(err)
			}
		}
	}
	if excess < 0 {
		t.Errorf("nginx has logged no refusal in zone %s:\n%s", zone, log)
	}
	return excess
}
