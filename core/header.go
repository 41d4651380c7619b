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
type Headers uint16

const (
	// RateLimitFields are the fields of draft-ietf-httpapi-ratelimit-headers-11 of
	// the IETF, for all the limits that hold:
	//
	//	RateLimit-Policy: "100/m";q=100;w=60     100 requests in 60 seconds
	//	RateLimit: "100/m";r=61;t=37             61 left for the next 37 seconds
	RateLimitFields Headers = 1 << iota

	// RateLimitDraft07 are those of the draft's version 07, about the tightest
	// limit:
	//
	//	RateLimit-Policy: 100;w=60
	//	RateLimit: limit=100, remaining=61, reset=24
	RateLimitDraft07

	// RateLimitDraft06 are those of its version 06, about the tightest limit:
	//
	//	RateLimit-Policy: 100;w=60
	//	RateLimit-Limit: 100
	//	RateLimit-Remaining: 61
	//	RateLimit-Reset: 24
	RateLimitDraft06

	// XRateLimit are the fields of old, about the tightest limit. Reset is in
	// seconds from now:
	//
	//	X-RateLimit-Limit: 100
	//	X-RateLimit-Remaining: 61
	//	X-RateLimit-Reset: 24
	XRateLimit

	// XRateLimitUnix are the same with Reset as a Unix time, as GitHub has it.
	XRateLimitUnix

	// ExposeHeaders adds the names of the fields to
	// Access-Control-Expose-Headers, without which a browser hides them from
	// scripts of another origin.
	ExposeHeaders

	// NotOnRedirects leaves all of them out of answers with a status of 3xx, where a
	// client might take them for those of the place that it is sent to, as the draft
	// warns. The middleware has to watch for the status then.
	NotOnRedirects

	// NoHeaders leaves all of them out.
	NoHeaders
)

// forms are the flags that stand for fields.
const forms = RateLimitFields | RateLimitDraft07 | RateLimitDraft06 | XRateLimit | XRateLimitUnix

func (h Headers) validate() error {
	// Different forms of one field.
	both := func(a, b Headers) bool { return h&a != 0 && h&b != 0 }
	switch {
	case h >= NoHeaders<<1:
		return fmt.Errorf("Headers %d: want a combination of the constants, like RateLimitFields|XRateLimit", h)
	case h&NoHeaders != 0 && h != NoHeaders:
		return errors.New("Headers: NoHeaders goes with no others")
	case both(XRateLimit, XRateLimitUnix):
		return errors.New("Headers: XRateLimit and XRateLimitUnix are the same fields, want one of them")
	case both(RateLimitFields, RateLimitDraft07|RateLimitDraft06):
		return errors.New("Headers: RateLimitFields and the older drafts have fields of the same name, want one of them")
	}
	return nil
}

func (h Headers) has(flag Headers) bool {
	if h&(forms|NoHeaders) == 0 {
		h |= RateLimitFields
	}
	return h&flag != 0
}

// The names of the fields are in the form in which net/http keeps them, since
// another spelling is converted anew for each response.
const (
	fieldPolicy       = "Ratelimit-Policy"
	fieldRateLimit    = "Ratelimit"
	fieldLimit        = "Ratelimit-Limit"
	fieldRemaining    = "Ratelimit-Remaining"
	fieldReset        = "Ratelimit-Reset"
	fieldXLimit       = "X-Ratelimit-Limit"
	fieldXRemaining   = "X-Ratelimit-Remaining"
	fieldXReset       = "X-Ratelimit-Reset"
	fieldRetryAfter   = "Retry-After"
	fieldCacheControl = "Cache-Control"
	fieldExpose       = "Access-Control-Expose-Headers"
)

// maxInteger is the largest integer of a structured field (RFC 9651, section 3.3.1).
const maxInteger = 999_999_999_999_999

// describe works out what the fields say of a limit before any request.
//
// The quota q and the window w are those of the limit, if it has them in whole
// seconds and its burst is no larger. Otherwise they describe the bucket: so
// much at once, and so many seconds until it is empty again. A window below a
// second cannot be said and is left out.
func (m *meter) describe(name string) {
	m.description = &description{name: name, item: quoteItem(name)}
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

// policyFields are the values of RateLimit-Policy for a rule: of the current
// draft, and of the older ones, in which limits have no names.
type policyFields struct{ current, older string }

func newPolicyFields(meters []meter) policyFields {
	var current, older []byte
	for i := range meters {
		m := &meters[i]
		if i > 0 {
			current, older = append(current, ", "...), append(older, ", "...)
		}
		current = append(append(current, m.item...), ";q="...)
		current = m.appendQuota(current)
		older = m.appendQuota(older)
	}
	return policyFields{string(current), string(older)}
}

func (m *meter) appendQuota(b []byte) []byte {
	b = strconv.AppendInt(b, min(int64(m.quota), maxInteger), 10)
	if m.window > 0 {
		b = append(b, ";w="...)
		b = strconv.AppendInt(b, min(m.window, maxInteger), 10)
	}
	return b
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

// rateLimitField is the value of RateLimit. On a refusal it lists only the
// violated limits: one that was not in the way might say a longer time than
// Retry-After.
func rateLimitField(meters []meter, buckets []Bucket, violations uint32, retryAfter int64) string {
	b := make([]byte, 0, 128)
	for i := range meters {
		if violations != 0 && violations&(1<<i) == 0 {
			continue
		}
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b = meters[i].appendRateLimit(b, buckets[i].Level, retryAfter)
	}
	return string(b)
}

// seconds rounds up: a client that comes back too early is refused again.
func seconds(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d%time.Second > 0 {
		s++
	}
	return s
}
