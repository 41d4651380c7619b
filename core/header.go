package core

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Headers chooses the header fields in which a client is told how it stands.
// Values can be combined: RateLimitFields | XRateLimit. The zero value means
// RateLimitFields.
type Headers uint8

const (
	// RateLimitFields are the fields of the IETF's draft-ietf-httpapi-ratelimit-headers-11:
	//
	//	RateLimit-Policy: "100/m";q=100;w=60     100 requests in 60 seconds
	//	RateLimit: "100/m";r=61;t=37             61 left for the next 37 seconds
	RateLimitFields Headers = 1 << iota

	// XRateLimit are the older fields, about the tightest limit. Reset is in
	// seconds from now:
	//
	//	X-RateLimit-Limit: 100
	//	X-RateLimit-Remaining: 61
	//	X-RateLimit-Reset: 24
	XRateLimit

	// XRateLimitUnix are the same with Reset as a Unix time, as GitHub has it.
	XRateLimitUnix

	// NoHeaders leaves all of them out.
	NoHeaders
)

func (h Headers) validate() error {
	switch {
	case h >= NoHeaders<<1:
		return fmt.Errorf("Headers %d: want a combination of the constants, like RateLimitFields|XRateLimit", h)
	case h&NoHeaders != 0 && h != NoHeaders:
		return errors.New("Headers: NoHeaders goes with no others")
	case h&XRateLimit != 0 && h&XRateLimitUnix != 0:
		return errors.New("Headers: XRateLimit and XRateLimitUnix are the same fields, want one of them")
	}
	return nil
}

func (h Headers) has(flag Headers) bool {
	if h == 0 {
		h = RateLimitFields
	}
	return h&flag != 0
}

// The names of the fields are in the form in which net/http keeps them, since
// another spelling is converted anew for each response.
const (
	fieldPolicy       = "Ratelimit-Policy"
	fieldRateLimit    = "Ratelimit"
	fieldXLimit       = "X-Ratelimit-Limit"
	fieldXRemaining   = "X-Ratelimit-Remaining"
	fieldXReset       = "X-Ratelimit-Reset"
	fieldRetryAfter   = "Retry-After"
	fieldCacheControl = "Cache-Control"
	maxFields         = 7
)

type field struct{ name, value string }

// maxInteger is the largest integer of a structured field (RFC 9651, section 3.3.1).
const maxInteger = 999_999_999_999_999

// describe works out what the fields say of a limit before any request.
//
// The quota q and the window w are those of the limit, if it has them in whole
// seconds and its burst is no larger. Otherwise they describe the bucket: so
// much at once, and so many seconds until it is empty again.
func (m *meter) describe(name string) {
	m.item = quoteItem(name)
	m.quota = max(m.limit.Rate, m.burst)
	window := m.limit.Period
	switch {
	case m.burst > m.limit.Rate:
		window = m.capacity
	case window < time.Second && time.Second%window == 0:
		m.quota = m.limit.Rate * int(time.Second/window)
		window = time.Second
	}
	if window >= time.Second {
		m.window = seconds(window)
	}
}

// quoteItem writes a name as a string of a structured field, which is ASCII
// (RFC 9651, section 3.3.3).
func quoteItem(name string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// policyField is the value of RateLimit-Policy.
func policyField(meters []meter) string {
	var b []byte
	for i := range meters {
		m := &meters[i]
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, m.item...)
		b = append(b, ";q="...)
		b = strconv.AppendInt(b, min(int64(m.quota), maxInteger), 10)
		if m.window > 0 {
			b = append(b, ";w="...)
			b = strconv.AppendInt(b, min(m.window, maxInteger), 10)
		}
	}
	return string(b)
}

// appendRateLimit appends a member of the RateLimit field: how many requests
// remain, and for how many seconds that is so.
//
// The draft calls t the effective window, and asks that r requests in t seconds
// be no more than the server wants to see. So with requests left it is the time
// that the sustained rate takes for them, and with none the time to the next.
func (m *meter) appendRateLimit(b []byte, level time.Duration, retryAfter int64) []byte {
	r := m.remaining(level)
	next := level - time.Duration(m.burst-r-1)*m.interval // when one more remains
	t := seconds(max(next, time.Duration(r)*m.interval))
	if retryAfter > 0 {
		t = min(t, retryAfter)
	}
	b = append(b, m.item...)
	b = append(b, ";r="...)
	b = strconv.AppendInt(b, min(int64(r), maxInteger), 10)
	b = append(b, ";t="...)
	return strconv.AppendInt(b, min(t, maxInteger), 10)
}

// seconds rounds up: a client that comes back too early is refused again.
func seconds(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d%time.Second > 0 {
		s++
	}
	return s
}
