package mwtest

import (
	"fmt"
	"testing"
)

func TestParseList(t *testing.T) {
	for field, want := range map[string]string{
		`"a";q=1;w=60`:                   `[{a map[q:1 w:60]}]`,
		`"a";q=1, "b";q=2`:               `[{a map[q:1]} {b map[q:2]}]`,
		"\"a\"\t,  \"b\"; q=2":           `[{a map[]} {b map[q:2]}]`,
		`"a, \"b\" \\;";q=1`:             `[{a, "b" \; map[q:1]}]`,
		`100;w=60, -5`:                   `[{100 map[w:60]} {-5 map[]}]`,
		`"";r=999999999999999;x="y"`:     `[{ map[r:999999999999999 x:y]}]`,
		`"a";*a-b.c_1=1`:                 `[{a map[*a-b.c_1:1]}]`,
		``:                               ``,
		`a`:                              ``,
		`"a`:                             ``,
		`"a\b"`:                          ``,
		`"a\`:                            ``,
		"\"caf\xc3\xa9\"":                ``,
		"\"a\x00\"":                      ``,
		`"a",`:                           ``,
		`"a",,"b"`:                       ``,
		`,"a"`:                           ``,
		`"a" "b"`:                        ``,
		`"a" ;q=1`:                       ``,
		`"a";q= 1`:                       ``,
		`"a";q`:                          ``,
		`"a";Q=1`:                        ``,
		`"a";1=1`:                        ``,
		`"a";q=1;q=2`:                    ``,
		`"a";q=1.5`:                      ``,
		`"a";q=+1`:                       ``,
		`"a";q=-`:                        ``,
		`"a";q=1234567890123456`:         ``,
		`"a";q=tok`:                      ``,
		`limit=10, remaining=9, reset=1`: ``,
	} {
		items, err := parseList(field)
		if got := fmt.Sprint(items); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%s: %s, %v; want %s", field, got, err, want)
		}
	}
}

func TestParseDictionary(t *testing.T) {
	for field, want := range map[string]string{
		`limit=10, remaining=9, reset=1`: `map[limit:10 remaining:9 reset:1]`,
		`limit=10, limit=9`:              ``,
		`limit=10, "a";q=1`:              ``,
		`limit=10 remaining=9`:           ``,
		`limit`:                          ``,
	} {
		values, err := parseDictionary(field)
		if got := fmt.Sprint(values); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%s: %s, %v; want %s", field, got, err, want)
		}
	}
}
