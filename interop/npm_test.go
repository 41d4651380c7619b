package interop

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/nethttp"
)

// A client in JavaScript reads the fields with parsers from npm and waits as they
// say, not as Retry-After says.
//
// No parser there knows the fields of the current draft by name. But they are
// structured fields (RFC 9651), which structured-headers parses. What
// ratelimit-header-parser knows are the drafts up to 07, and X-RateLimit.
func TestNPM(t *testing.T) {
	client := installClient(t)
	for _, c := range []struct {
		name    string
		headers core.Headers
		fields  string // how the client reads them
	}{
		{"current draft", core.RateLimitFields, "current"},
		{"draft 07", core.RateLimitDraft07, "older"},
		{"draft 06", core.RateLimitDraft06, "older"},
		{"X-RateLimit", core.XRateLimit, "older"},
		{"X-RateLimit in Unix time", core.XRateLimitUnix, "unix"},
		{"all that go together", core.RateLimitFields | core.XRateLimit | core.ExposeHeaders, "current"},
	} {
		for _, manner := range []string{
			"polite", // one after the other, and when nothing is left it waits: never refused
			"eager",  // all at once, and those that are refused wait
		} {
			t.Run(c.name+", "+manner, func(t *testing.T) {
				t.Parallel()
				const requests, burst = 20, 5
				const name = `quoted "and" \ escaped`
				var admitted, refused atomic.Int64
				guard, err := core.NewGuard(core.New(core.NewMemory()), core.Policy{
					Name:    name,
					Limit:   core.PerSecond(10).WithBurst(burst),
					And:     []core.Limit{core.PerMinute(100)},
					Headers: c.headers,
				})
				if err != nil {
					t.Fatal(err)
				}
				url := listen(t, nethttp.Handler(guard, func(w http.ResponseWriter, r *http.Request, d core.Decision) {
					refused.Add(1)
					nethttp.Refuse(w, r, d)
				})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { admitted.Add(1) })))

				command := exec.Command(client.node, "client.js", url, c.fields, manner, strconv.Itoa(requests))
				command.Dir = client.dir
				command.Stderr = os.Stderr
				output, err := command.Output()
				if err != nil {
					t.Fatalf("the client: %v", err)
				}
				var said struct {
					OK, Refused int64
					Names       []string
				}
				if err := json.Unmarshal(output, &said); err != nil {
					t.Fatalf("the client said %q: %v", output, err)
				}

				if said.OK != requests || admitted.Load() != requests {
					t.Errorf("%d of %d requests were answered with 200, and %d admitted", said.OK, requests, admitted.Load())
				}
				if said.Refused != refused.Load() {
					t.Errorf("the client was refused %d times, the server refused %d times", said.Refused, refused.Load())
				}
				if manner == "polite" && said.Refused != 0 || manner == "eager" && said.Refused < requests-burst {
					t.Errorf("refused %d times", said.Refused)
				}
				want := []string{name + " 10/s burst 5", name + " 100/m"}
				if c.fields != "current" {
					want = nil
				}
				slices.Sort(said.Names)
				slices.Sort(want)
				if !slices.Equal(said.Names, want) {
					t.Errorf("the client has read the names %q, want %q", said.Names, want)
				}
				t.Logf("%d times refused", said.Refused)
			})
		}
	}
}

type npmClient struct{ node, dir string }

// installClient installs the client with what it depends on, in a folder of its
// own, so that nothing is left among the sources.
func installClient(t *testing.T) npmClient {
	t.Helper()
	node, npm := program(t, "node", "nodejs"), program(t, "npm", "npm")
	client := npmClient{node: node, dir: t.TempDir()}
	if err := os.CopyFS(client.dir, os.DirFS("testdata/client")); err != nil {
		t.Fatal(err)
	}
	install := exec.Command(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	install.Dir = client.dir
	if output, err := install.CombinedOutput(); err != nil {
		notTested(t, "npm ci: %v\n%s", err, output)
	}
	return client
}
