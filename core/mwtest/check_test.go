package mwtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// What checkFields does not see, no case sees.
func TestCheckFields(t *testing.T) {
	for lines, want := range map[string]string{
		"200": "",
		`200 Ratelimit-Policy: "a";q=2;w=60 | Ratelimit: "a";r=1;t=30`:                                             "",
		`200 Ratelimit-Policy: "a";q=2 | Ratelimit: "a";r=1;t=30`:                                                  "",
		`429 Ratelimit-Policy: "a";q=2;w=60 | Ratelimit: "a";r=0;t=30 | Retry-After: 30 | Cache-Control: no-store`: "",
		`200 Ratelimit-Policy: 2;w=60 | Ratelimit: limit=2, remaining=1, reset=30`:                                 "",
		`200 X-Ratelimit-Limit: 2 | X-Ratelimit-Remaining: 2 | X-Ratelimit-Reset: 0`:                               "",
		`200 Ratelimit-Policy: "a";q=2;w=60 | Ratelimit-Policy: "b";q=2;w=60`:                                      "2 lines",
		`200 Ratelimit-Policy: "a";w=60 | Ratelimit: "a";r=1;t=30`:                                                 "q is",
		`200 Ratelimit-Policy: "a";q=2;w=0 | Ratelimit: "a";r=1;t=30`:                                              "w is",
		`200 Ratelimit-Policy: "a";q=2;x=1 | Ratelimit: "a";r=1;t=30`:                                              "more parameters",
		`200 Ratelimit-Policy: "a";q=2, "a";q=2 | Ratelimit: "a";r=1;t=30`:                                         "twice",
		`200 Ratelimit-Policy: "a";q=2, 2;w=60 | Ratelimit: "a";r=1;t=30`:                                          "two dialects",
		`200 Ratelimit-Policy: "a";q=2 | Ratelimit: "a";r=1;t=30, "a";r=1;t=30`:                                    "twice",
		`200 Ratelimit-Policy: "a";q=2 | Ratelimit: "a";r=3;t=30`:                                                  "r is 3",
		`200 Ratelimit-Policy: "a";q=2 | Ratelimit: "b";r=1;t=30`:                                                  "not in RateLimit-Policy",
		`200 Ratelimit: "a";r=1;t=30`:                                                                              "not in RateLimit-Policy",
		`200 Ratelimit-Policy: "a";q=2`:                                                                            "without RateLimit",
		`200 Ratelimit-Policy: "a" ;q=2 | Ratelimit: "a";r=1;t=30`:                                                 "RateLimit-Policy",
		`200 Ratelimit-Policy: 2;w=60 | Ratelimit: limit=2, remaining=3, reset=30`:                                 "remaining is 3",
		`200 Ratelimit-Policy: 2;w=60 | Ratelimit: limit=2, remaining=1`:                                           "limit, remaining and reset",
		`200 X-Ratelimit-Limit: 2 | X-Ratelimit-Remaining: 3 | X-Ratelimit-Reset: 0`:                               "of 2 remain 3",
		`200 X-Ratelimit-Limit: 2 | X-Ratelimit-Remaining: -1 | X-Ratelimit-Reset: 0`:                              "no number",
		`200 X-Ratelimit-Limit: 2 | X-Ratelimit-Remaining: 1`:                                                      "no number",
		`200 Retry-After: 1`:                             "Retry-After",
		`403 Retry-After: 1`:                             "Retry-After",
		`413 Retry-After: 1`:                             "Retry-After",
		`429 Cache-Control: no-store`:                    "Retry-After",
		`429 Cache-Control: no-store | Retry-After: 0`:   "Retry-After",
		`429 Cache-Control: no-store | Retry-After: 1.5`: "Retry-After",
		`429 Retry-After: 1`:                             "no-store",
		`429 Ratelimit-Policy: "a";q=2 | Ratelimit: "a";r=0;t=31 | Retry-After: 30 | Cache-Control: no-store`: "t is 31",
	} {
		status, fields, _ := strings.Cut(lines, " ")
		r := response{header: make(http.Header)}
		if _, err := fmt.Sscan(status, &r.status); err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(fields, " | ") {
			if name, value, ok := strings.Cut(line, ": "); ok {
				r.header.Add(name, value)
			}
		}
		err := checkFields(r)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", lines, err, want)
		}
	}
}
