package core

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrInvalidLimit is wrapped by every error about a [Limit] that cannot be
// enforced or a text that is not a limit.
var ErrInvalidLimit = errors.New("invalid limit")

const (
	// minInterval keeps the rounding of an interval to whole nanoseconds below
	// one in a thousand.
	minInterval = time.Microsecond

	// maxCapacity leaves room to add a capacity to an instant in nanoseconds
	// (Memory) or microseconds in a double (Redis) without losing a digit.
	maxCapacity time.Duration = 1 << 62
)

// A Limit says how many requests are let through: Rate of them per Period in
// the long run, and at most Burst at once.
//
// Limit{Rate: 100, Period: time.Minute, Burst: 20}, for one, admits 20 requests
// in the same instant, then one each 600 ms.
//
// The zero Limit is no limit: a [Policy] and a [Route] take it as an
// exemption, everything else refuses it. A Limit is a plain value, comparable
// and safe to copy.
type Limit struct {
	// Rate is the number of requests per Period, at least 1.
	Rate int

	// Period is the time in which Rate requests are let through. It must be
	// positive, and so long that a request is due no more often than each
	// microsecond.
	Period time.Duration

	// Burst is the number of requests that may come at once after a pause. Zero
	// means Rate. With 1 requests are spaced evenly.
	Burst int
}

// PerSecond is the limit of n requests a second, up to n at once.
func PerSecond(n int) Limit { return Limit{Rate: n, Period: time.Second} }

// PerMinute is the limit of n requests a minute, up to n at once.
func PerMinute(n int) Limit { return Limit{Rate: n, Period: time.Minute} }

// PerHour is the limit of n requests an hour, up to n at once.
func PerHour(n int) Limit { return Limit{Rate: n, Period: time.Hour} }

// PerDay is the limit of n requests in 24 hours, up to n at once.
func PerDay(n int) Limit { return Limit{Rate: n, Period: 24 * time.Hour} }

// Every is the limit of one request each d: Every(200*time.Millisecond) lets
// five requests a second through and never two at once.
func Every(d time.Duration) Limit { return Limit{Rate: 1, Period: d} }

// WithBurst returns the limit with another Burst: PerMinute(100).WithBurst(20)
// lets 100 requests a minute through, but no more than 20 of them at once.
func (l Limit) WithBurst(burst int) Limit {
	l.Burst = burst
	return l
}

// Validate reports why the limit cannot be enforced, or nil if it can. The
// error wraps [ErrInvalidLimit]. The zero Limit is refused here.
//
// A limit is refused if Rate or Period is not positive, if Burst is negative,
// if it admits more than one request a microsecond (1,000,000 a second), or if
// a full bucket would take more than 146 years to drain.
func (l Limit) Validate() error {
	_, _, fault := l.measure()
	return invalidLimit(l.String(), fault)
}

// invalidLimit is the error about a limit and what is wrong with it, nil if
// nothing is.
func invalidLimit(limit, fault string) error {
	if fault == "" {
		return nil
	}
	return fmt.Errorf("core: %w %s: %s", ErrInvalidLimit, excerpt(limit), fault)
}

// measure returns what one request pours in, the emission interval, and what the
// bucket holds, or what is wrong with the limit. The interval is rounded up, so
// that rounding never admits more than the limit says.
func (l Limit) measure() (interval, capacity time.Duration, fault string) {
	switch {
	case l.Rate < 1:
		return 0, 0, fmt.Sprintf("Rate is %d, want at least 1, like %q", l.Rate, "10/s")
	case l.Period <= 0:
		return 0, 0, fmt.Sprintf("Period is %v, want a positive one, like %q", l.Period, "10/s")
	case l.Period > maxCapacity:
		return 0, 0, fmt.Sprintf("Period is %v, want up to 146 years, like %q", l.Period, "1000/d")
	case l.Burst < 0:
		return 0, 0, fmt.Sprintf("Burst is %d, want at least 1, or 0 for the rate, like %q", l.Burst, "10/s burst 20")
	}
	interval = l.Period / time.Duration(l.Rate)
	if interval < minInterval {
		return 0, 0, fmt.Sprintf("it admits more than one request a microsecond, want a slower one, like %q", "1000000/s")
	}
	if interval*time.Duration(l.Rate) != l.Period {
		interval++
	}
	hi, lo := bits.Mul64(uint64(interval), uint64(l.burst()))
	if hi != 0 || lo > uint64(maxCapacity) {
		return 0, 0, fmt.Sprintf("a burst of %d, one each %v, would take more than 146 years to drain; want a smaller burst or a shorter period, like %q",
			l.burst(), interval, "1000/d burst 100")
	}
	return interval, time.Duration(lo), ""
}

// burst is Burst with its default applied.
func (l Limit) burst() int {
	if l.Burst == 0 {
		return l.Rate
	}
	return l.Burst
}

// String is the limit's text: "100/m", "10/s burst 20", "5/2s", "1/1500ms".
// [ParseLimit] turns it back into the same Limit, if the limit is valid.
func (l Limit) String() string {
	s := strconv.Itoa(l.Rate) + "/" + periodText(l.Period)
	if l.Burst != 0 {
		s += " burst " + strconv.Itoa(l.Burst)
	}
	return s
}

// MarshalText is [Limit.String] for encoders such as encoding/json. An invalid
// limit, the zero Limit among them, is an error: it has no text to be read back.
func (l Limit) MarshalText() ([]byte, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	return []byte(l.String()), nil
}

// UnmarshalText is [ParseLimit] for decoders such as encoding/json, YAML and
// environment libraries, and flag.TextVar. On an error the limit is unchanged.
func (l *Limit) UnmarshalText(text []byte) error {
	parsed, err := ParseLimit(string(text))
	if err != nil {
		return err
	}
	*l = parsed
	return nil
}

type unit struct {
	length time.Duration
	names  []string // the first one is what String prints
}

// units runs from the longest to the shortest.
var units = []unit{
	{24 * time.Hour, []string{"d", "day", "days"}},
	{time.Hour, []string{"h", "hr", "hour", "hours"}},
	{time.Minute, []string{"m", "min", "minute", "minutes"}},
	{time.Second, []string{"s", "sec", "second", "seconds"}},
	{time.Millisecond, []string{"ms"}},
	{time.Microsecond, []string{"us"}},
	{time.Nanosecond, []string{"ns"}},
}

// periodText writes a period in the longest unit that divides it: "m", "2m",
// "90s".
func periodText(d time.Duration) string {
	switch d { // which spares the divisions for nearly all limits
	case time.Second:
		return "s"
	case time.Minute:
		return "m"
	case time.Hour:
		return "h"
	case 24 * time.Hour:
		return "d"
	case 0:
		return "0s"
	}
	for _, u := range units {
		if d == u.length {
			return u.names[0]
		}
		if d%u.length == 0 {
			return strconv.FormatInt(int64(d/u.length), 10) + u.names[0]
		}
	}
	panic("core: a period that nanoseconds do not divide")
}

// ParseLimit reads a limit from its text:
//
//	100/m              100 a minute
//	10/s burst 20      10 a second, up to 20 at once
//	5/2s               5 each two seconds
//	10 per minute      the same as 10/m
//	1000/day           units may be written out
//	1000-H             the form of github.com/ulule/limiter: S, M, H or D
//
// Units are ns, us, ms, s (sec, second, seconds), m (min, minute, minutes),
// h (hr, hour, hours) and d (day, days: 24 hours), in either case. Spaces around the
// parts are ignored. Numbers are plain decimal digits: no sign, no fraction, no
// exponent.
//
// The error wraps [ErrInvalidLimit] and names the text, the part that is wrong
// and an example. A text that is read without error is a valid limit: none of
// them means "unlimited".
func ParseLimit(text string) (Limit, error) {
	p := limitParser{text: text, rest: strings.Trim(text, " ")}
	limit, err := p.limit()
	if err != nil {
		return Limit{}, err
	}
	if _, _, fault := limit.measure(); fault != "" {
		return Limit{}, invalidLimit(text, fault)
	}
	return limit, nil
}

// limitParser walks over a text: rest is what is still to be read.
type limitParser struct{ text, rest string }

func (p *limitParser) limit() (Limit, error) {
	var l Limit
	var err error
	if l.Rate, err = p.number("rate"); err != nil {
		return l, err
	}
	switch word := p.word(); {
	case word == "" && p.accept("/"), word == "per":
		if l.Period, err = p.period(); err != nil {
			return l, err
		}
	case word == "" && p.accept("-"):
		if l.Period, err = p.unit("s", "m", "h", "d"); err != nil {
			return l, err
		}
		return l, p.end()
	default:
		return l, p.fail("want N/unit")
	}
	if p.rest == "" {
		return l, nil
	}
	if word := p.word(); word != "burst" {
		return l, p.failAt(word+p.rest, "want nothing or \"burst N\" after the period")
	}
	if l.Burst, err = p.number("burst"); err != nil {
		return l, err
	}
	return l, p.end()
}

// period reads "m", "2s" or "2 seconds".
func (p *limitParser) period() (time.Duration, error) {
	count := 1
	if p.startsWithDigit() {
		var err error
		if count, err = p.number("period"); err != nil {
			return 0, err
		}
	}
	length, err := p.unit()
	if err != nil {
		return 0, err
	}
	hi, lo := bits.Mul64(uint64(count), uint64(length))
	if hi != 0 || lo > uint64(maxCapacity) {
		return 0, p.fail("the period is longer than 146 years")
	}
	return time.Duration(lo), nil
}

// unit reads one of the unit names, or of those in only.
func (p *limitParser) unit(only ...string) (time.Duration, error) {
	word := p.word()
	if word == "" {
		return 0, p.fail("want N/unit")
	}
	for _, u := range units {
		for _, name := range u.names {
			if name == word && (only == nil || slices.Contains(only, name)) {
				return u.length, nil
			}
		}
	}
	return 0, p.failAt(word, "unknown unit, want s, m, h or d")
}

// number reads a positive decimal number.
func (p *limitParser) number(what string) (int, error) {
	digits := 0
	for digits < len(p.rest) && isDigit(p.rest[digits]) {
		digits++
	}
	if digits == 0 {
		if p.rest == "" {
			return 0, p.fail("the " + what + " is missing, want N/unit")
		}
		return 0, p.failAt(p.rest, "the "+what+" must be a whole positive number in plain digits")
	}
	text := p.rest[:digits]
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, p.failAt(text, "the "+what+" is too large")
	}
	if n == 0 {
		return 0, p.failAt(text, "the "+what+" must be at least 1")
	}
	p.skip(digits)
	return n, nil
}

// word reads letters, folded to lower case.
func (p *limitParser) word() string {
	letters := 0
	for letters < len(p.rest) && isLetter(p.rest[letters]) {
		letters++
	}
	word := strings.ToLower(p.rest[:letters])
	p.skip(letters)
	return word
}

func (p *limitParser) accept(s string) bool {
	if !strings.HasPrefix(p.rest, s) {
		return false
	}
	p.skip(len(s))
	return true
}

func (p *limitParser) end() error {
	if p.rest != "" {
		return p.failAt(p.rest, "unexpected text at the end")
	}
	return nil
}

func (p *limitParser) skip(n int) { p.rest = strings.TrimLeft(p.rest[n:], " ") }

func (p *limitParser) startsWithDigit() bool { return p.rest != "" && isDigit(p.rest[0]) }

func (p *limitParser) fail(reason string) error {
	return fmt.Errorf("core: %w %s: %s, like \"10/s\" or \"100/m burst 20\"", ErrInvalidLimit, excerpt(p.text), reason)
}

func (p *limitParser) failAt(part, reason string) error {
	return p.fail("at " + excerpt(part) + ": " + reason)
}

// excerpt quotes a text for an error, cut to a length that a log line bears.
func excerpt(s string) string {
	const most = 60
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "..."
	}
	return strconv.QuoteToASCII(s)
}

func isDigit(b byte) bool  { return '0' <= b && b <= '9' }
func isLetter(b byte) bool { b |= 0x20; return 'a' <= b && b <= 'z' }
