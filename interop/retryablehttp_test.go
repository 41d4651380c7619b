package interop

import (
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/nethttp"
)

// A client that retries by Retry-After loses no request of a burst.
func TestRetryableHTTP(t *testing.T) {
	const (
		requests = 60
		rate     = 20
		burst    = 5
	)
	for _, c := range []struct {
		name    string
		maxWait time.Duration
		retries int // that the client is good for
		refused int // at least, of the burst
	}{
		// All that are refused are told a second, and compete when they come back.
		{"refused until there is room", 0, 30, requests - burst},
		// 5 at once and 40 in the next 2 seconds. The others have room a second later,
		// so the 4 retries of the client's defaults are more than enough.
		{"held for a while", 2 * time.Second, 4, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			log := &retryLog{due: map[string]time.Time{}}
			limit := nethttp.Limit(core.New(core.NewMemory()), core.Policy{
				Limit:   core.PerSecond(rate).WithBurst(burst),
				MaxWait: c.maxWait,
			})
			url := listen(t, log.around(limit(http.HandlerFunc(log.admit))))

			client := retryablehttp.NewClient()
			client.Logger = nil
			client.RetryMax = c.retries
			// Without Retry-After it would be back at once, and lose its requests.
			client.RetryWaitMin, client.RetryWaitMax = time.Millisecond, time.Millisecond
			defer client.HTTPClient.CloseIdleConnections()

			began := time.Now()
			var wg sync.WaitGroup
			for i := range requests {
				wg.Go(func() {
					response, err := client.Get(url + "/" + strconv.Itoa(i))
					if err != nil {
						t.Errorf("request %d is lost: %v", i, err)
						return
					}
					defer response.Body.Close()
					if response.StatusCode != http.StatusOK {
						t.Errorf("request %d is lost: status %d", i, response.StatusCode)
					}
				})
			}
			wg.Wait()
			took := time.Since(began)

			if log.admitted != requests {
				t.Errorf("%d admitted, want each of %d once", log.admitted, requests)
			}
			if log.refused < c.refused {
				t.Errorf("%d refused, want at least %d", log.refused, c.refused)
			}
			if log.early > 0 {
				t.Errorf("%d came back before the time that Retry-After had told them", log.early)
			}
			if least := time.Second / rate * (requests - burst); took < least {
				t.Errorf("it took %v, and the limit wants at least %v", took, least)
			}
			t.Logf("%d requests in %v, %d times refused", requests, took.Round(time.Millisecond), log.refused)
		})
	}
}

// A retryLog is what the server sees of its clients. Each path is one request.
type retryLog struct {
	mu                       sync.Mutex
	due                      map[string]time.Time // when the refused ones may come back
	admitted, refused, early int
}

func (l *retryLog) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived := time.Now()
		next.ServeHTTP(w, r)
		l.mu.Lock()
		defer l.mu.Unlock()
		if arrived.Before(l.due[r.URL.Path]) {
			l.early++
		}
		if seconds, err := strconv.Atoi(w.Header().Get("Retry-After")); err == nil {
			l.due[r.URL.Path] = arrived.Add(time.Duration(seconds) * time.Second)
			l.refused++
		}
	})
}

func (l *retryLog) admit(http.ResponseWriter, *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.admitted++
}
