package ginmw

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/spillway-go/spillway/core"
)

// settle calls the handlers behind and tells the decision the status of the
// answer, which is none if they panic.
func settle(c *gin.Context, decision core.Decision) {
	status := 0
	defer func() { decision.Settle(c.Request.Context(), status) }()
	if decision.AmendsHeaders() {
		c.Writer = amendingWriter{c.Writer, &decision}
	}
	c.Next()
	status = c.Writer.Status()
}

// An amendingWriter sees the status before it is sent.
type amendingWriter struct {
	gin.ResponseWriter
	decision *core.Decision
}

func (w amendingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w amendingWriter) WriteHeader(status int) {
	w.decision.AmendHeaders(w.Header(), status)
	w.ResponseWriter.WriteHeader(status)
}
