package interop

import (
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
)

// TestMain lets the parts of a test wait side by side, however few processors
// there are: waiting is most of what they do.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// program finds a program in PATH, or else skips the test.
func program(t *testing.T, name, install string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		notTested(t, "%v; install it, as with apt-get install %s", err, install)
	}
	return path
}

// notTested skips the test, and fails it instead where the environment has
// CI=true: there it must not go unnoticed.
func notTested(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf("NOT TESTED: "+format, args...)
}

// listen serves handler on a port of its own.
func listen(t *testing.T, handler http.Handler) (url string) {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}
