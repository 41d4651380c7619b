// Package mwtest is the conformance suite for adapters: the thin layers that
// bind a [core.Guard] to a web framework. The four that come with this module
// pass it, and whoever writes one for another framework can run it as well:
//
//	func TestAdapter(t *testing.T) {
//		mwtest.Run(t, mwtest.Adapter{Serve: serve, Key: mymw.Key(func(c *my.Context) (string, error) {
//			return c.Header(mwtest.KeyHeader), nil
//		})})
//	}
//
//	func serve(t testing.TB, l net.Listener, app mwtest.App) {
//		server := my.NewServer()
//		// what App describes
//		go server.Serve(l)
//		t.Cleanup(server.Close)
//	}
//
// The requests go over real connections, so that the peer's address, reused
// buffers and the bytes on the wire are those of a server at work. Each case
// says on failure why it matters.
//
// The clients come from 127.0.0.1, 127.0.0.2 and 127.0.0.3. Linux and Windows
// have all of them; on macOS the others must be added to the loopback interface
// first: ifconfig lo0 alias 127.0.0.2.
package mwtest

import (
	"errors"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/spillway-go/spillway/core"
)

// An Adapter is what [Run] needs to know of the adapter under test.
type Adapter struct {
	// Serve builds the server that app describes, starts it on l, returns without
	// waiting, and ends it in a Cleanup. It is called by several tests at once. If the
	// framework is an [http.Handler], [ServeHTTP] does all but the first part.
	Serve func(t testing.TB, l net.Listener, app App)

	// Key is the adapter's Key, with a function that reads the header [KeyHeader]
	// from the framework's own context.
	Key core.KeyFunc

	// ReturnsErrors says that the adapter's Refuse returns an error, as handlers do in
	// the framework, and leaves the answer to the application. Serve must then give the
	// application an error handler that answers with the error's status, and the text
	// [Handled] followed by its message. Otherwise Refuse answers with
	// [core.Decision.Body].
	ReturnsErrors bool
}

const (
	// KeyHeader is the header that the function in [Adapter] reads.
	KeyHeader = "X-Key"

	// UserHeader and ContextUserHeader stand for a login. In front of everything
	// else there must be a middleware that takes their values, if they are not
	// empty, for users it has authenticated: it leaves that of UserHeader under
	// [UserKey] in the framework's own store (or, for want of one, in the
	// request's context), and that of ContextUserHeader under [ContextUserKey] in
	// the request's context.
	UserHeader        = "X-User"
	ContextUserHeader = "X-Context-User"

	// UserKey is where UserHeader goes.
	UserKey = "user"

	// ExposeHeader stands for CORS. In front of everything else there must be a
	// middleware that adds each of its lines to the response as a line of
	// Access-Control-Expose-Headers.
	ExposeHeader = "X-Expose"

	// AnswerHeader tells a handler what to answer: see [Answer].
	AnswerHeader = "X-Answer"

	// Handled is how an answer of the application's own error handler begins: see
	// [Adapter].
	Handled = "the application says: "
)

// ContextUserKey is where [ContextUserHeader] goes.
type ContextUserKey struct{}

// Panic is what a handler panics with if it is told to. A middleware in front of
// everything else, or the server, must recover from it, and from nothing else
// without failing the test. [ServeHTTP] does so.
const Panic = "a handler panics as it was told to"

// Answer reads the value of an [AnswerHeader]. It returns the status that the
// handler is to answer with, which is 200 if the value is empty. If asError is
// true, a handler that can return errors must return the framework's own with that
// status instead. Or it panics with [Panic].
//
//	X-Answer: 401
//	X-Answer: error 401
//	X-Answer: panic
func Answer(value string) (status int, asError bool) {
	if value == "panic" {
		panic(Panic)
	}
	value, asError = strings.CutPrefix(value, "error ")
	if status, err := strconv.Atoi(value); err == nil {
		return status, asError
	}
	return http.StatusOK, false
}

// An App is a server to be built: the login and what else is in front, then the
// Policies, then the Routes, and a handler for all the rest. The handlers call
// Decided and Called, and answer to every method that the framework knows: with
// the text "ok", and with the status that [Answer] finds in the request's
// [AnswerHeader].
type App struct {
	// Limiter is for all the policies.
	Limiter *core.Limiter

	// Policies are applied in front of all routes, the first one outermost, with
	// the adapter's Limit, or with its Handler if there is a Refusal.
	Policies []core.Policy

	// Refusal, if it is not empty, is what a refuse function must answer that is
	// given to the adapter's Handler, with the status of the decision. It must
	// not do anything else, such as aborting.
	Refusal string

	// Routes are registered with the framework's router.
	Routes []Route

	// Called is to be called by each handler: with the Path of its Route, or with
	// "" by the handler for all the rest. It is safe for concurrent use.
	Called func(path string)

	// Decided is to be called by each handler with what the adapter's Decision
	// returns, in front of Called.
	Decided func(decision core.Decision, ok bool)
}

// A Route is a route of the framework's router.
type Route struct {
	Method string

	// Path is like a pattern of [http.ServeMux]. It may have one {name} in place of
	// a segment, and end in {name...}, which stands for all that is left.
	Path string

	// Policies are applied to this route only, in the manner of App.Policies.
	Policies []core.Policy
}

// Run runs all cases as subtests, most of them in parallel. Meanwhile it listens
// to [slog.Default], so tests that run at the same time must not set it.
func Run(t *testing.T, adapter Adapter) {
	t.Helper()
	listenToLog(t)
	// The core warns of a thing only once: when somebody else has brought it about,
	// there is nothing left to hear.
	for _, c := range canaryCases {
		t.Run(c.name, func(t *testing.T) { runCase(t, adapter, c) })
	}
	for _, cases := range [][]testCase{
		answerCases, fieldCases, bodyCases, policyCases, countCases,
		clientCases, identityCases, routeCases, pathCases, hostileCases, loadCases,
	} {
		runCases(t, adapter, cases)
	}
}

// RunPaths runs only the cases about the spelling of paths. Use it for each option
// of the framework that changes how a path finds its route.
func RunPaths(t *testing.T, adapter Adapter) {
	t.Helper()
	runCases(t, adapter, pathCases)
}

// A testCase is a property that an adapter must have, and why.
type testCase struct {
	name string
	why  string
	run  func(*suite)
}

func runCases(t *testing.T, adapter Adapter, cases []testCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			runCase(t, adapter, c)
		})
	}
}

func runCase(t *testing.T, adapter Adapter, c testCase) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("why it matters: " + c.why)
		}
	})
	c.run(&suite{T: t, adapter: adapter})
}

// ServeHTTP serves handler on l until the test ends, with a plain [http.Server].
// A panic in it fails the test, unless it is [Panic]: net/http would log it and go on.
func ServeHTTP(t testing.TB, l net.Listener, handler http.Handler) {
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				switch reason := recover(); reason {
				case nil:
					return
				case Panic:
				default:
					t.Errorf("%s %q: the server panics: %v", r.Method, r.RequestURI, reason)
				}
				panic(http.ErrAbortHandler)
			}()
			handler.ServeHTTP(w, r)
		}),
		ErrorLog: log.New(failOnPanic{t}, "", 0),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the server ended with: %v", err)
		}
	})
}

// failOnPanic fails a test when net/http logs a panic, and drops what else it logs.
type failOnPanic struct{ t testing.TB }

func (f failOnPanic) Write(line []byte) (int, error) {
	if strings.Contains(string(line), "panic") {
		f.t.Errorf("the server panics: %s", line)
	}
	return len(line), nil
}
