package mwtest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// An item is a member of a structured field (RFC 9651): its value and those of its
// parameters are strings or integers (int64). Other types, which the standard has
// as well, are errors here.
type item struct {
	value      any
	parameters map[string]any
}

// parseList reads a field that is a list (RFC 9651, section 4.2.1).
func parseList(field string) ([]item, error) {
	var items []item
	p := parser{field}
	err := p.members(func() error {
		i, err := p.item()
		items = append(items, i)
		return err
	})
	return items, err
}

// parseDictionary reads a field that is a dictionary (section 4.2.2).
func parseDictionary(field string) (map[string]any, error) {
	values := make(map[string]any)
	p := parser{field}
	err := p.members(func() error { return p.pair(values) })
	return values, err
}

// A parser holds what is left to read.
type parser struct{ rest string }

// members calls member for each member of a list or dictionary that is not empty.
func (p *parser) members(member func() error) error {
	for {
		if err := member(); err != nil {
			return fmt.Errorf("%w at %q", err, p.rest)
		}
		p.rest = strings.TrimLeft(p.rest, " \t")
		if p.rest == "" {
			return nil
		}
		if !p.cut(",") {
			return fmt.Errorf("no comma at %q", p.rest)
		}
		p.rest = strings.TrimLeft(p.rest, " \t")
	}
}

func (p *parser) cut(prefix string) bool {
	rest, ok := strings.CutPrefix(p.rest, prefix)
	p.rest = rest
	return ok
}

func (p *parser) item() (i item, err error) {
	if i.value, err = p.value(); err != nil {
		return i, err
	}
	i.parameters = make(map[string]any)
	for p.cut(";") {
		p.rest = strings.TrimLeft(p.rest, " ")
		if err = p.pair(i.parameters); err != nil {
			return i, err
		}
	}
	return i, nil
}

// pair reads key=value, and adds it to pairs.
func (p *parser) pair(pairs map[string]any) error {
	n := 0
	for n < len(p.rest) && (isLower(p.rest[n]) || n > 0 && (isDigit(p.rest[n]) || strings.IndexByte("_-.", p.rest[n]) >= 0)) {
		n++
	}
	key := p.rest[:n]
	p.rest = p.rest[n:]
	if key == "" || !p.cut("=") {
		return errors.New("no key and value")
	}
	if _, twice := pairs[key]; twice {
		return fmt.Errorf("%s twice", key)
	}
	value, err := p.value()
	pairs[key] = value
	return err
}

func (p *parser) value() (any, error) {
	if p.cut(`"`) {
		return p.text()
	}
	n := 0
	if strings.HasPrefix(p.rest, "-") {
		n = 1
	}
	for n < len(p.rest) && isDigit(p.rest[n]) {
		n++
	}
	digits := p.rest[:n]
	if len(strings.TrimPrefix(digits, "-")) > 15 {
		return nil, errors.New("more than 15 digits")
	}
	number, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return nil, errors.New("neither a string nor an integer")
	}
	p.rest = p.rest[n:]
	return number, nil
}

// text reads a string of which the first quote has been read.
func (p *parser) text() (string, error) {
	var b strings.Builder
	for p.rest != "" {
		c := p.rest[0]
		p.rest = p.rest[1:]
		switch {
		case c == '"':
			return b.String(), nil
		case c == '\\':
			if p.rest == "" || p.rest[0] != '"' && p.rest[0] != '\\' {
				return "", errors.New("an escape of what needs none")
			}
			c, p.rest = p.rest[0], p.rest[1:]
		case c < ' ' || c > '~':
			return "", errors.New("a character that is not printable ASCII")
		}
		b.WriteByte(c)
	}
	return "", errors.New("a string without an end")
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' || c == '*' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
