package echomw

import (
	"github.com/labstack/echo/v4"

	"github.com/spillway-go/spillway/core"
)

// settle calls next and tells the decision the status of the answer, which is
// none after a panic. Only the app's error handler knows what it makes of an
// error, so it is called here, as echo's logger does.
func settle(next echo.HandlerFunc, c echo.Context, decision core.Decision) error {
	status := 0
	defer func() { decision.Settle(c.Request().Context(), status) }()
	c.Response().Before(func() { decision.AmendHeaders(c.Response().Header(), c.Response().Status) })
	if err := next(c); err != nil {
		c.Error(err)
	}
	status = c.Response().Status
	return nil
}
