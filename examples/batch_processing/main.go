// Command batch_processing works off jobs with several workers, and no faster
// than a leaky bucket lets them: 5 mails a second, say, because that is what the
// mail server takes. Nothing is refused here; each job waits for its turn.
//
//	go run ./examples/batch_processing
//	go run ./examples/batch_processing -jobs 100 -rate 20 -workers 8
//
// Started twice with one Redis, both keep to the rate together:
//
//	go run ./examples/batch_processing -redis redis://localhost:6379 &
//	go run ./examples/batch_processing -redis redis://localhost:6379 -addr 127.0.0.1:8081
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spillway-go/spillway/core"
	"github.com/spillway-go/spillway/core/redisstore"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to serve the progress on")
	redisURL := flag.String("redis", "", "URL of a Redis to keep the bucket in, like redis://localhost:6379 (default: in memory)")
	jobs := flag.Int("jobs", 20, "number of jobs")
	rate := flag.Float64("rate", 5, "jobs a second, of all workers together")
	workers := flag.Int("workers", 4, "number of workers")
	flag.Parse()
	if err := run(*addr, *redisURL, *jobs, *workers, *rate); err != nil {
		fmt.Fprintln(os.Stderr, "batch_processing:", err)
		os.Exit(1)
	}
}

func run(addr, redisURL string, jobs, workers int, rate float64) error {
	switch {
	case jobs < 1:
		return fmt.Errorf("-jobs %d: want at least 1", jobs)
	case workers < 1:
		return fmt.Errorf("-workers %d: want at least 1", workers)
	case !(rate >= 0.001 && rate <= 1e6):
		return fmt.Errorf("-rate %v: want jobs a second, between 0.001 and 1000000", rate)
	}
	var store core.Store = core.NewMemory()
	where := "in memory"
	if redisURL != "" {
		shared, err := redisstore.Open(redisURL)
		if err != nil {
			return err
		}
		defer shared.Close()
		store, where = shared, "in Redis"
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	b := &batch{
		bucket: core.NewLeakyBucket(store, "mail", rate),
		total:  jobs,
		start:  time.Now(),
	}
	server := &http.Server{Handler: b, ReadHeaderTimeout: 5 * time.Second}
	defer server.Close()
	go server.Serve(listener) // for the show: the batch goes on without

	fmt.Printf("%d jobs, %d workers, %v a second, the bucket is %s. Progress:\n\n  curl -s http://%s/progress\n\n",
		jobs, workers, rate, where, listener.Addr())
	err = b.work(ctx, workers)
	fmt.Printf("%d of %d jobs done in %v\n", b.count(), jobs, b.elapsed())
	return err
}

// A batch is a number of jobs and how far they are.
type batch struct {
	bucket *core.LeakyBucket
	total  int
	start  time.Time

	mu   sync.Mutex
	done int
}

// work does all jobs. It ends early if ctx does, which is no error, or if the
// bucket cannot be asked, which is one.
func (b *batch) work(ctx context.Context, workers int) error {
	working, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	queue := make(chan int)
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for job := range queue {
				if err := b.bucket.Wait(working); err != nil {
					fail(err)
					return
				}
				b.send(worker+1, job)
			}
		})
	}
	for job := 1; job <= b.total && working.Err() == nil; job++ {
		select {
		case queue <- job:
		case <-working.Done():
		}
	}
	close(queue)
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(working)
}

// send stands for the work. It takes its time, and the workers overlap; what the
// bucket keeps even is the pace at which they begin.
func (b *batch) send(worker, job int) {
	fmt.Printf("%8.3fs  job %*d by worker %d\n", b.elapsed().Seconds(), len(fmt.Sprint(b.total)), job, worker)
	time.Sleep(rand.N(200 * time.Millisecond))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done++
}

func (b *batch) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done
}

func (b *batch) elapsed() time.Duration { return time.Since(b.start).Round(time.Millisecond) }

// ServeHTTP serves the progress as JSON.
func (b *batch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/progress" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"jobs":    b.total,
		"done":    b.count(),
		"seconds": b.elapsed().Seconds(),
	})
}
