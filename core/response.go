package core

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A ResponseHeader is the header of a response under way. [net/http.Header] is
// one.
type ResponseHeader interface {
	// Values returns the lines of a field, none if there is none.
	Values(name string) []string

	// Set replaces all lines of a field by one.
	Set(name, value string)

	// Del removes a field.
	Del(name string)
}

// value returns the lines of a field as one (RFC 9110, section 5.3).
func value(h ResponseHeader, name string) string {
	return strings.Join(h.Values(name), ", ")
}

// SetHeaders sets the header fields that tell the client how it stands, for a
// refusal and for a request that passes. Nothing in them was written by a client.
//
// Where another limiter has set its fields already, the lists grow, the fields
// with a single value stay those of the tightest limit, and Retry-After that of
// the longest wait, in whatever order the limiters come.
func (d *Decision) SetHeaders(h ResponseHeader) {
	set := NoHeaders
	if d.numbers {
		set = d.plan.Headers
	}
	refusedBefore := false
	if d.retryAfter > 0 {
		before := retryAfterSeconds(value(h, fieldRetryAfter))
		refusedBefore = before > 0
		h.Set(fieldRetryAfter, strconv.FormatInt(max(before, d.retryAfter), 10))
	}
	if !d.Allowed {
		h.Set(fieldCacheControl, "no-store") // RFC 6585, section 4
	}
	policies, limits := currentDraft(value(h, fieldPolicy)), currentDraft(value(h, fieldRateLimit))
	if !d.Allowed && !refusedBefore {
		// That others let the request pass is no news for who is refused, and a longer
		// time there would contradict Retry-After.
		for _, name := range []string{fieldRateLimit, fieldLimit, fieldRemaining, fieldReset, fieldXLimit, fieldXRemaining, fieldXReset} {
			h.Del(name)
		}
		if !d.numbers {
			h.Del(fieldPolicy)
		}
	}
	if set.has(RateLimitFields) || d.numbers && !d.Allowed && limits != "" {
		if policies != "" && containsMembers(policies, d.rule.fields.current) {
			warnCountedTwice.once(d.Policy)
			limits = d.withoutOwn(limits)
		} else {
			setList(h, fieldPolicy, policies, d.rule.fields.current)
		}
		if !d.Allowed && !refusedBefore {
			limits = "" // one that lets the client pass might say a longer time
		}
		setList(h, fieldRateLimit, limits, d.rateLimit)
	}
	if policies := value(h, fieldPolicy); set.has(RateLimitDraft07|RateLimitDraft06) && currentDraft(policies) == "" &&
		!containsMembers(policies, d.rule.fields.older) { // draft 06 wants each quota once
		setList(h, fieldPolicy, policies, d.rule.fields.older)
	}
	if limits := value(h, fieldRateLimit); set.has(RateLimitDraft07) && currentDraft(limits) == "" {
		_, before, _ := strings.Cut(limits, "remaining=")
		before, _, _ = strings.Cut(before, ",")
		if d.tighterThan(before) {
			h.Set(fieldRateLimit, "limit="+d.limitText()+", remaining="+strconv.Itoa(d.Remaining)+", reset="+d.resetText(false))
		}
	}
	if set.has(RateLimitDraft06) {
		d.setSingle(h, fieldLimit, fieldRemaining, fieldReset, false)
	}
	if set.has(XRateLimit | XRateLimitUnix) {
		d.setSingle(h, fieldXLimit, fieldXRemaining, fieldXReset, set.has(XRateLimitUnix))
	}
	if d.plan != nil && d.plan.Headers.has(ExposeHeaders) {
		d.expose(h, set)
	}
}

// AmendsHeaders says that AmendHeaders must be called.
func (d *Decision) AmendsHeaders() bool {
	return d.numbers && d.plan.Headers.has(NotOnRedirects)
}

// AmendHeaders removes the fields of SetHeaders again if an answer with that
// status is not to have them. It is to be called before the answer is sent, where
// AmendsHeaders is true.
func (d *Decision) AmendHeaders(h ResponseHeader, status int) {
	if status < 300 || status > 399 || !d.AmendsHeaders() {
		return
	}
	for _, name := range []string{fieldPolicy, fieldRateLimit, fieldLimit, fieldRemaining, fieldReset, fieldXLimit, fieldXRemaining, fieldXReset} {
		h.Del(name)
	}
}

// currentDraft returns a field as it is if its members have names, as in the
// current draft. In one response the forms cannot be mixed: another limiter's
// older form gives way.
func currentDraft(field string) string {
	if strings.HasPrefix(field, `"`) {
		return field
	}
	return ""
}

// retryAfterSeconds reads a Retry-After that others have set: seconds, or a date.
func retryAfterSeconds(field string) int64 {
	if s, err := strconv.ParseInt(field, 10, 64); err == nil {
		return s
	}
	if date, err := http.ParseTime(field); err == nil {
		return seconds(time.Until(date))
	}
	return 0
}

// setList sets a field to a list, after what it holds already.
func setList(h ResponseHeader, name, before, list string) {
	if before != "" {
		list = before + ", " + list
	}
	h.Set(name, list)
}

// withoutOwn returns a RateLimit list without the members about the limits of
// this decision.
func (d *Decision) withoutOwn(list string) string {
	var others []string
	for more := list != ""; more; {
		var member string
		list, member, more = cutLast(list, len(list))
		member = strings.Trim(member, " ")
		if !slices.ContainsFunc(d.rule.meters, func(m meter) bool { return strings.HasPrefix(member, m.item+";") }) {
			others = append(others, member)
		}
	}
	slices.Reverse(others)
	return strings.Join(others, ", ")
}

// containsMembers reports whether a list begins or goes on with the members of
// another.
func containsMembers(list, members string) bool {
	return strings.HasPrefix(list+", ", members+", ") || strings.Contains(list+", ", ", "+members+", ")
}

// setSingle sets the three fields of the older forms, if no tighter limit has
// set them.
func (d *Decision) setSingle(h ResponseHeader, limit, remaining, reset string, unix bool) {
	if !d.tighterThan(value(h, remaining)) {
		return
	}
	h.Set(limit, d.limitText())
	h.Set(remaining, strconv.Itoa(d.Remaining))
	h.Set(reset, d.resetText(unix))
}

// tighterThan reports whether less remains than another limiter has said.
func (d *Decision) tighterThan(before string) bool {
	remaining, err := strconv.Atoi(before)
	return err != nil || d.Remaining < remaining || !d.Allowed
}

func (d *Decision) limitText() string { return strconv.Itoa(d.tightest.quota) }

func (d *Decision) resetText(unix bool) string {
	wait := d.ResetAfter
	if !d.Allowed {
		wait = d.RetryAfter
	}
	if unix {
		wait += time.Duration(time.Now().UnixNano())
	}
	return strconv.FormatInt(seconds(wait), 10)
}

// exposed are the names to expose for each of the forms.
var exposed = []struct {
	form  Headers
	names string
}{
	{RateLimitFields | RateLimitDraft07, "RateLimit, RateLimit-Policy"},
	{RateLimitDraft06, "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, RateLimit-Policy"},
	{XRateLimit | XRateLimitUnix, "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"},
}

func (d *Decision) expose(h ResponseHeader, set Headers) {
	names := ""
	for _, e := range exposed {
		if set.has(e.form) {
			names += e.names + ", "
		}
	}
	names += "Retry-After"
	if before := value(h, fieldExpose); !containsMembers(before, names) {
		setList(h, fieldExpose, before, names)
	}
}
