package nethttp

import (
	"bufio"
	"io"
	"net"
	"net/http"

	"github.com/spillway-go/spillway/core"
)

// settle calls next and tells the decision the status of the answer, which is
// none if it panics: then even an answer that has begun is not all there.
func settle(next http.Handler, w http.ResponseWriter, r *http.Request, decision core.Decision) {
	status := 0
	defer func() { decision.Settle(r.Context(), status) }()
	observed := &statusWriter{ResponseWriter: w, decision: &decision}
	next.ServeHTTP(observed, r)
	if status = observed.status; status == 0 {
		status = http.StatusOK
	}
}

// A statusWriter remembers the status. It has the methods that handlers look for
// in a ResponseWriter, and Unwrap for those that http.ResponseController knows.
type statusWriter struct {
	http.ResponseWriter
	decision *core.Decision
	status   int
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 || status == http.StatusSwitchingProtocols {
		w.status = status
		w.decision.AmendHeaders(w.Header(), status)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(b)
}

func (w *statusWriter) ReadFrom(r io.Reader) (int64, error) {
	w.begin()
	return io.Copy(w.ResponseWriter, r)
}

func (w *statusWriter) Flush() { _ = w.FlushError() }

func (w *statusWriter) FlushError() error {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *statusWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil && w.status == 0 {
		w.status = http.StatusSwitchingProtocols
	}
	return conn, buffer, err
}

func (w *statusWriter) begin() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
}
