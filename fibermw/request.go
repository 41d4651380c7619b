package fibermw

import (
	"context"
	"net"
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/utils"
)

// A request is a view of the framework's request for a guard.
type request struct{ c *fiber.Ctx }

func (r request) Context() context.Context  { return r.c.UserContext() }
func (r request) Method() string            { return r.c.Method() }
func (r request) Header(name string) string { return strings.Join(r.HeaderLines(name), ", ") }

// RemoteAddr is "@" on a unix socket, where a client may call itself what it likes.
func (r request) RemoteAddr() string {
	addr := r.c.Context().RemoteAddr()
	if _, unix := addr.(*net.UnixAddr); unix {
		return "@"
	}
	return addr.String()
}

// Path is not c.Path, which with UnescapePath has its escapes removed already.
// Without StrictRouting fiber's router looks at no trailing slash.
func (r request) Path() string {
	path := utils.UnsafeString(r.c.Request().URI().PathOriginal())
	if trimmed := strings.TrimRight(path, "/"); trimmed != "" && !r.c.App().Config().StrictRouting {
		return trimmed
	}
	return path
}

func (r request) HeaderLines(name string) []string {
	return lines(r.c.Request().Header.PeekAll(name))
}

func (r request) HTTPHeader() http.Header { return r.c.GetReqHeaders() }

func lines(values [][]byte) []string {
	lines := make([]string, len(values))
	for i, value := range values {
		lines[i] = utils.UnsafeString(value)
	}
	return lines
}

func (r request) Value(key any) any {
	if value := r.c.Locals(key); value != nil {
		return value
	}
	return r.c.UserContext().Value(key)
}
