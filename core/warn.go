package core

import (
	"log/slog"
	"sync/atomic"
)

// A warning says that the package is held wrong. Each is logged once in a
// process, through [slog.Default], with a code that stays the same: what an
// attacker can bring about must not fill a log. No attribute holds anything that
// a client has sent.
type warning struct {
	code, text string
	said       atomic.Bool
}

var (
	warnForwarded = &warning{code: "SPILLWAY_PROXY_NOT_TRUSTED",
		text: "a request from a private address has a forwarded header and no proxy is trusted, so all clients behind the proxy may share one bucket: set Policy.ClientIP to the proxy's header and address"}
	warnCountedTwice = &warning{code: "SPILLWAY_COUNTED_TWICE",
		text: "a request was counted twice by the same policy: register its middleware once, or give the policies different names"}
	warnEmptyKey = &warning{code: "SPILLWAY_EMPTY_KEY",
		text: "a key function returned an empty key and no error, and the request is limited by its IP: return ErrNoKey where there is none"}
	warnWholeWorld = &warning{code: "SPILLWAY_TRUSTS_THE_WORLD",
		text: "a trusted prefix covers all addresses, so every client chooses its own: name the addresses of the proxies"}
	warnLimitFor = &warning{code: "SPILLWAY_LIMIT_FOR_FAILED",
		text: "LimitFor returned an error or a limit that cannot be enforced, and the policy's own limit holds"}
)

// once logs the warning if it has not been logged yet.
func (w *warning) once(policy string, attrs ...any) {
	if w.said.Load() || w.said.Swap(true) {
		return
	}
	if policy != "" {
		attrs = append(attrs, "policy", policy)
	}
	slog.Warn("spillway: "+w.text, append([]any{"code", w.code}, attrs...)...)
}
