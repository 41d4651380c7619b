package mwtest

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// checkFields reports what no answer may say, whatever a case is about: it is
// asked about each answer that the suite sees.
func checkFields(r response) error {
	c := checker{response: r, quotas: make(map[string]int64)}
	for name, values := range r.header {
		if len(values) > 1 && (strings.Contains(name, "Ratelimit") || name == "Retry-After" || name == "Cache-Control") {
			c.wrong("%s in %d lines", name, len(values))
		}
	}
	c.retry()
	c.policy()
	c.rateLimit()
	c.older("Ratelimit-")
	c.older("X-Ratelimit-")
	return errors.Join(c.errs...)
}

type checker struct {
	response
	quotas     map[string]int64 // of the policies by name
	retryAfter int64
	errs       []error
}

func (c *checker) wrong(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// retry checks that who is told to come back is told when, and nobody else.
func (c *checker) retry() {
	text := c.header.Get("Retry-After")
	c.retryAfter = number(text)
	switch {
	case c.status == http.StatusTooManyRequests || c.status == http.StatusServiceUnavailable:
		if c.retryAfter < 1 {
			c.wrong("Retry-After is %q, want whole seconds", text)
		}
	case text != "":
		c.wrong("Retry-After with status %d", c.status)
	}
	if c.status == http.StatusTooManyRequests && c.header.Get("Cache-Control") != "no-store" {
		c.wrong("a refusal without Cache-Control: no-store (RFC 6585, section 4)")
	}
}

func (c *checker) policy() {
	field := c.header.Get("Ratelimit-Policy")
	if field == "" {
		return
	}
	items, err := parseList(field)
	if err != nil {
		c.wrong("RateLimit-Policy: %w", err)
		return
	}
	named := 0
	for _, i := range items {
		name, isName := i.value.(string)
		want := 1
		if isName {
			named++
			if _, twice := c.quotas[name]; twice {
				c.wrong("RateLimit-Policy has %q twice", name)
			}
			q, ok := i.parameters["q"].(int64)
			if c.quotas[name] = q; !ok || q < 0 {
				c.wrong("RateLimit-Policy: %q: q is %v", name, i.parameters["q"])
			}
			want = 2
		}
		w, has := i.parameters["w"]
		if seconds, ok := w.(int64); has && (!ok || seconds < 1) {
			c.wrong("RateLimit-Policy: %v: w is %v", i.value, w)
		}
		if !has {
			want--
		}
		if len(i.parameters) > want {
			c.wrong("RateLimit-Policy: %v has more parameters than it should: %v", i.value, i.parameters)
		}
	}
	if named != 0 && named != len(items) {
		c.wrong("RateLimit-Policy is of two dialects")
	}
	if named != 0 && c.header.Get("Ratelimit") == "" {
		c.wrong("RateLimit-Policy without RateLimit")
	}
}

func (c *checker) rateLimit() {
	field := c.header.Get("Ratelimit")
	switch {
	case field == "":
		return
	case !strings.HasPrefix(field, `"`):
		c.draft07(field)
		return
	}
	items, err := parseList(field)
	if err != nil {
		c.wrong("RateLimit: %w", err)
	}
	seen := make(map[any]bool)
	for _, i := range items {
		name, _ := i.value.(string)
		quota, known := c.quotas[name]
		if !known {
			c.wrong("RateLimit: %v is not in RateLimit-Policy", i.value)
		}
		if seen[i.value] {
			c.wrong("RateLimit has %q twice", i.value)
		}
		seen[i.value] = true
		r, hasR := i.parameters["r"].(int64)
		t, hasT := i.parameters["t"].(int64)
		if !hasR || r < 0 || r > quota {
			c.wrong("RateLimit: %q: r is %v of %d", name, i.parameters["r"], quota)
		}
		if !hasT || t < 0 || c.retryAfter > 0 && t > c.retryAfter {
			c.wrong("RateLimit: %q: t is %v, and Retry-After %d", name, i.parameters["t"], c.retryAfter)
		}
		if len(i.parameters) != 2 {
			c.wrong("RateLimit: %q: want r and t and nothing else", name)
		}
	}
}

func (c *checker) draft07(field string) {
	values, err := parseDictionary(field)
	if err != nil {
		c.wrong("RateLimit: %w", err)
	}
	limit, ok1 := values["limit"].(int64)
	remaining, ok2 := values["remaining"].(int64)
	reset, ok3 := values["reset"].(int64)
	if !ok1 || !ok2 || !ok3 || len(values) != 3 || limit < 0 || reset < 0 {
		c.wrong("RateLimit: %q: want limit, remaining and reset", field)
	}
	if remaining < 0 || remaining > limit {
		c.wrong("RateLimit: remaining is %d of %d", remaining, limit)
	}
}

// older checks the three fields with a single number.
func (c *checker) older(prefix string) {
	var numbers [3]int64
	present := false
	for i, name := range []string{"Limit", "Remaining", "Reset"} {
		text := c.header.Get(prefix + name)
		present = present || text != ""
		numbers[i] = number(text)
	}
	if !present {
		return
	}
	if numbers[0] < 0 || numbers[1] < 0 || numbers[2] < 0 {
		c.wrong("%s*: there is no number in one of the three", prefix)
	}
	if numbers[1] > numbers[0] {
		c.wrong("%s*: of %d remain %d", prefix, numbers[0], numbers[1])
	}
}

// number reads a whole number as HTTP writes it, and returns -1 for all else.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != text {
		return -1
	}
	return n
}
