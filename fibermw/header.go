package fibermw

import "github.com/gofiber/fiber/v2"

// A responseHeader is the header of fiber's response for a decision.
type responseHeader struct{ c *fiber.Ctx }

func (h responseHeader) Values(name string) []string {
	return lines(h.c.Response().Header.PeekAll(name))
}

func (h responseHeader) Del(name string) { h.c.Response().Header.Del(name) }

// Set replaces all lines; fasthttp's own replaces the first and leaves the others.
func (h responseHeader) Set(name, value string) {
	h.Del(name)
	h.c.Set(name, value)
}
