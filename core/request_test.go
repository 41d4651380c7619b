package core_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/spillway-go/spillway/core"
)

// testRequest is a request as an adapter would show it.
type testRequest struct {
	ctx    context.Context
	method string
	path   string
	remote string
	header http.Header
	values map[any]any
}

func (r *testRequest) Context() context.Context {
	if r.ctx == nil {
		return context.Background()
	}
	return r.ctx
}
func (r *testRequest) Method() string                   { return r.method }
func (r *testRequest) Path() string                     { return r.path }
func (r *testRequest) Header(name string) string        { return strings.Join(r.HeaderLines(name), ", ") }
func (r *testRequest) HeaderLines(name string) []string { return r.header.Values(name) }
func (r *testRequest) HTTPHeader() http.Header          { return r.header }
func (r *testRequest) RemoteAddr() string               { return r.remote }
func (r *testRequest) Value(key any) any                { return r.values[key] }

// get is a request from a client like any other.
func get(path string) *testRequest {
	return &testRequest{method: "GET", path: path, remote: "192.0.2.1:4711"}
}

func newGuard(t testing.TB, policy core.Policy) *core.Guard {
	t.Helper()
	guard, err := core.NewGuard(core.New(core.NewMemory()), policy)
	if err != nil {
		t.Fatal(err)
	}
	return guard
}

// headers are the fields that a decision sets.
func headers(d core.Decision) map[string]string {
	h := make(http.Header)
	d.SetHeaders(h)
	fields := make(map[string]string)
	for name, lines := range h {
		fields[name] = strings.Join(lines, "\n")
	}
	return fields
}
