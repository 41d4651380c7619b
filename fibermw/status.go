package fibermw

import (
	"github.com/gofiber/fiber/v2"

	"github.com/spillway-go/spillway/core"
)

// settle calls the handlers behind and tells the decision the status of the
// answer, which is none after a panic. Only the app's error handler knows what it
// makes of an error, so it is called here, as fiber's logger does; middlewares in
// front find the status in the response then, and no error.
func settle(c *fiber.Ctx, decision core.Decision) error {
	status := 0
	defer func() { decision.Settle(c.UserContext(), status) }()
	if err := c.Next(); err != nil {
		if err = c.App().ErrorHandler(c, err); err != nil {
			_ = c.SendStatus(fiber.StatusInternalServerError)
		}
	}
	status = c.Response().StatusCode()
	decision.AmendHeaders(responseHeader{c}, status)
	return nil
}
