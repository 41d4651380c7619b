package core_test

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/spillway-go/spillway/core"
)

func TestParseLimit(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]core.Limit{
		"100/m":                  {Rate: 100, Period: time.Minute},
		"10/s burst 20":          {Rate: 10, Period: time.Second, Burst: 20},
		"10/s burst 1":           {Rate: 10, Period: time.Second, Burst: 1},
		"5/2s":                   {Rate: 5, Period: 2 * time.Second},
		"5/2 seconds":            {Rate: 5, Period: 2 * time.Second},
		"10 per minute":          {Rate: 10, Period: time.Minute},
		"10 per 5 minutes":       {Rate: 10, Period: 5 * time.Minute},
		"10per minute":           {Rate: 10, Period: time.Minute},
		"1000/day":               {Rate: 1000, Period: day},
		"1000-H":                 {Rate: 1000, Period: time.Hour},
		"5-s":                    {Rate: 5, Period: time.Second},
		"7-M":                    {Rate: 7, Period: time.Minute},
		"7-D":                    {Rate: 7, Period: day},
		"  10 / s   burst  20  ": {Rate: 10, Period: time.Second, Burst: 20},
		"10/S":                   {Rate: 10, Period: time.Second},
		"10/Hour BURST 3":        {Rate: 10, Period: time.Hour, Burst: 3},
		"10/100ms":               {Rate: 10, Period: 100 * time.Millisecond},
		"1/1us":                  {Rate: 1, Period: time.Microsecond},
		"3/1500000ns":            {Rate: 3, Period: 1500 * time.Microsecond},
		"1000000/s":              {Rate: 1_000_000, Period: time.Second},
		"1/365d":                 {Rate: 1, Period: 365 * day},
		"007/s":                  {Rate: 7, Period: time.Second},
	} {
		got, err := core.ParseLimit(text)
		if err != nil || got != want {
			t.Errorf("ParseLimit(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestParseLimitRefuses(t *testing.T) {
	long := "1/" + strings.Repeat("x", 10_000)
	for text, part := range map[string]string{
		"":                              `want N/unit`,
		" ":                             `want N/unit`,
		"10":                            `want N/unit`,
		"10/":                           `invalid limit "10/": want N/unit, like "10/s"`,
		"/s":                            `"/s"`,
		"s":                             `"s"`,
		"per minute":                    `rate`,
		"0/s":                           `"0"`,
		"00/s":                          `"00"`,
		"-1/s":                          `"-1/s"`,
		"+1/s":                          `"+1/s"`,
		"1.5/s":                         `want N/unit`,
		"1,5/s":                         `want N/unit`,
		"1e3/s":                         `want N/unit`,
		"0x10/s":                        `"0"`,
		"1_000/s":                       `want N/unit`,
		"10/0s":                         `"0"`,
		"10/-2s":                        `want N/unit`,
		"10/2.5s":                       `want N/unit`,
		"10/fortnight":                  `"fortnight"`,
		"10/w":                          `unknown unit`,
		"10/y":                          `unknown unit`,
		"10/sx":                         `"sx"`,
		"10/s x":                        `"x"`,
		"10/s 5":                        `"5"`,
		"10/s;5/m":                      `";5/m"`,
		"10/s burst":                    `burst is missing`,
		"10/s burst 0":                  `"0"`,
		"10/s burst -1":                 `"-1"`,
		"10/s burst 20 x":               `"x"`,
		"10/s burst 20 burst 30":        `"burst 30"`,
		"10-X":                          `unknown unit`,
		"10-us":                         `unknown unit`,
		"10-2H":                         `want N/unit`,
		"10-H burst 5":                  `"burst 5"`,
		"10//s":                         `want N/unit`,
		"10/s/s":                        `"/s"`,
		"10 perhaps":                    `want N/unit`,
		"10/\u0673s":                    `want N/unit`,
		"\u0661\u0660/s":                `"\u0661\u0660/s"`,
		"\uff11\uff10/s":                `\uff11`,
		"10/\u017f":                     `want N/unit`,
		"10/s\x00":                      `"\x00"`,
		"10/s\n":                        `"\n"`,
		"10\t/s":                        `want N/unit`,
		"unlimited":                     `"unlimited"`,
		"off":                           `"off"`,
		"inf/s":                         `"inf/s"`,
		"99999999999999999999/s":        `"99999999999999999999"`,
		"1/99999999999999999999d":       `"99999999999999999999"`,
		"1/9223372036854775807d":        `146 years`,
		"9223372036854775807/s":         `more than one request a microsecond`,
		"1000001/s":                     `more than one request a microsecond`,
		"2000000 per second":            `"2000000 per second": it admits`,
		"2/1us":                         `more than one request a microsecond`,
		"1/999ns":                       `more than one request a microsecond`,
		"1/s burst 9223372036854775807": `146 years`,
		"1/365d burst 147":              `146 years`,
		"1/60000d":                      `146 years`,
		long:                            `...`,
	} {
		got, err := core.ParseLimit(text)
		switch {
		case err == nil:
			t.Errorf("ParseLimit(%q) = %+v, want an error", text, got)
		case !errors.Is(err, core.ErrInvalidLimit):
			t.Errorf("ParseLimit(%q): %v does not wrap ErrInvalidLimit", text, err)
		case !strings.HasPrefix(err.Error(), "core: ") || !strings.Contains(err.Error(), part):
			t.Errorf("ParseLimit(%q): %v, want it to say %s", text, err, part)
		case !strings.Contains(err.Error(), `like "`):
			t.Errorf("ParseLimit(%q): %v, want an example", text, err)
		case len(err.Error()) > 400:
			t.Errorf("ParseLimit: an error of %d bytes", len(err.Error()))
		case got != core.Limit{}:
			t.Errorf("ParseLimit(%q) = %+v together with an error", text, got)
		}
	}
}

func TestLimitValidate(t *testing.T) {
	for name, limit := range map[string]core.Limit{
		"zero":               {},
		"no period":          {Rate: 10},
		"no rate":            {Period: time.Second},
		"negative rate":      {Rate: -10, Period: time.Second},
		"negative period":    {Rate: 10, Period: -time.Second},
		"negative burst":     core.PerSecond(10).WithBurst(-1),
		"zero interval":      core.Every(0),
		"smallest period":    {Rate: 1, Period: 1},
		"too fast":           core.PerSecond(1_000_001),
		"longest period":     {Rate: 1, Period: math.MaxInt64},
		"largest everything": {Rate: math.MaxInt, Period: math.MaxInt64, Burst: math.MaxInt},
		"no text to parse":   {Rate: 2, Period: 1<<62 + 2, Burst: 1},
		"wraps around":       {Rate: 1, Period: 1 << 40, Burst: 1 << 40},
		"smallest negatives": {Rate: math.MinInt, Period: math.MinInt64, Burst: math.MinInt},
	} {
		if err := limit.Validate(); !errors.Is(err, core.ErrInvalidLimit) {
			t.Errorf("%s: %+v is %v, want an error that wraps ErrInvalidLimit", name, limit, err)
		}
	}
	for _, limit := range []core.Limit{
		core.PerSecond(1), core.PerMinute(100), core.PerHour(7), core.PerDay(1),
		core.Every(365 * 24 * time.Hour), core.PerSecond(1_000_000), core.PerSecond(700_000),
		core.PerSecond(1).WithBurst(4_000_000_000), core.Every(1 << 62), core.Every(time.Microsecond),
	} {
		if err := limit.Validate(); err != nil {
			t.Errorf("%+v: %v", limit, err)
		}
	}
}

func TestLimitText(t *testing.T) {
	for want, limit := range map[string]core.Limit{
		"10/s":           core.PerSecond(10),
		"100/m":          core.PerMinute(100),
		"1000/h":         core.PerHour(1000),
		"5000/d":         core.PerDay(5000),
		"1/200ms":        core.Every(200 * time.Millisecond),
		"1/90s":          core.Every(90 * time.Second),
		"1/2m":           core.Every(2 * time.Minute),
		"1/1500us":       core.Every(1500 * time.Microsecond),
		"1/1000000001ns": core.Every(time.Second + 1),
		"10/s burst 20":  core.PerSecond(10).WithBurst(20),
		"10/s burst 10":  core.PerSecond(10).WithBurst(10),
	} {
		if got := limit.String(); got != want {
			t.Errorf("%+v is %q, want %q", limit, got, want)
		}
		if got, err := core.ParseLimit(want); err != nil || got != limit {
			t.Errorf("ParseLimit(%q) = %+v, %v; want %+v", want, got, err, limit)
		}
	}
}

func TestLimitInJSONAndFlags(t *testing.T) {
	type config struct {
		Login  core.Limit            `json:"login"`
		Routes map[string]core.Limit `json:"routes"`
	}
	const text = `{"login":"5/m","routes":{"POST /login":"10/s burst 20"}}`
	var c config
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	if back, err := json.Marshal(c); err != nil || string(back) != text {
		t.Errorf("%s came back as %s, %v", text, back, err)
	}
	if err := json.Unmarshal([]byte(`{"login":""}`), &c); !errors.Is(err, core.ErrInvalidLimit) {
		t.Errorf("an empty text in JSON: %v", err)
	}
	if c.Login != core.PerMinute(5) {
		t.Errorf("after an error the limit is %v, want it unchanged", c.Login)
	}
	if _, err := json.Marshal(config{}); !errors.Is(err, core.ErrInvalidLimit) {
		t.Errorf("the zero limit in JSON: %v, want an error: nothing could read it back", err)
	}

	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var limit core.Limit
	flags.TextVar(&limit, "limit", core.PerSecond(10), "")
	if err := flags.Parse([]string{"-limit", "5/2s"}); err != nil || limit.Rate != 5 {
		t.Errorf("as a flag: %v, %v", limit, err)
	}
	if err := flags.Parse([]string{"-limit", "5/x"}); err == nil {
		t.Error("a flag took 5/x")
	}
}

func FuzzParseLimit(f *testing.F) {
	for _, seed := range []string{"100/m", "10/s burst 20", "5/2s", "10 per minute", "1000-H", "", "0/s", "1e9/s", "10/µs"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		limit, err := core.ParseLimit(text)
		if err != nil {
			if limit != (core.Limit{}) || !errors.Is(err, core.ErrInvalidLimit) || len(err.Error()) > 700 {
				t.Fatalf("%q: %+v, %v", text, limit, err)
			}
			return
		}
		if err := limit.Validate(); err != nil {
			t.Fatalf("%q is read as an invalid limit: %v", text, err)
		}
		again, err := core.ParseLimit(limit.String())
		if err != nil || again != limit {
			t.Fatalf("%q: %q is read back as %+v, %v; want %+v", text, limit, again, err, limit)
		}
	})
}
