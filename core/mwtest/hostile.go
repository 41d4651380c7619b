package mwtest

import (
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spillway-go/spillway/core"
)

// hostileCases are about requests that no browser sends.
var hostileCases = []testCase{
	{
		"hostile requests", "what is strange must neither pass unlimited nor bring the server down.",
		(*suite).testHostile,
	},
}

// hostileRequests are first lines and headers. Frameworks refuse most of them.
var hostileRequests = map[string]string{
	"a header of 64 KiB":              "GET / HTTP/1.1\r\nHost: h\r\nX-API-Key: " + strings.Repeat("k", 64<<10) + "\r\n\r\n",
	"a key of 9 KiB":                  "GET / HTTP/1.1\r\nHost: h\r\nX-API-Key: " + strings.Repeat("k", 9<<10) + "\r\n\r\n",
	"a path of 64 KiB":                "GET /" + strings.Repeat("a/", 32<<10) + " HTTP/1.1\r\nHost: h\r\n\r\n",
	"a path of escapes":               "GET /" + strings.Repeat("%2F", 1000) + " HTTP/1.1\r\nHost: h\r\n\r\n",
	"a path of dots":                  "GET /" + strings.Repeat("../", 1000) + " HTTP/1.1\r\nHost: h\r\n\r\n",
	"a thousand lines of one header":  "GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X-API-Key: k\r\n", 1000) + "\r\n",
	"a header of commas":              "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: " + strings.Repeat(",", 4<<10) + "\r\n\r\n",
	"NUL in the path":                 "GET /a\x00b HTTP/1.1\r\nHost: h\r\n\r\n",
	"NUL in a header":                 "GET / HTTP/1.1\r\nHost: h\r\nX-API-Key: a\x00b\r\n\r\n",
	"NUL in a header's name":          "GET / HTTP/1.1\r\nHost: h\r\nX-API\x00-Key: a\r\n\r\n",
	"a control character in the path": "GET /a\x7f\x01b HTTP/1.1\r\nHost: h\r\n\r\n",
	"UTF-8 in the path":               "GET /caf\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n",
	"broken UTF-8 in the path":        "GET /\xff\xfe HTTP/1.1\r\nHost: h\r\n\r\n",
	"broken UTF-8 in a header":        "GET / HTTP/1.1\r\nHost: h\r\nX-API-Key: \xff\xfe\r\n\r\n",
	"an invalid escape":               "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n",
	"half an escape":                  "GET /a%2 HTTP/1.1\r\nHost: h\r\n\r\n",
	"an escaped NUL":                  "GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n",
	"an escaped line break":           "GET /%0d%0aX-Evil:1 HTTP/1.1\r\nHost: h\r\n\r\n",
	"an empty Host":                   "GET / HTTP/1.1\r\nHost:\r\n\r\n",
	"no Host":                         "GET / HTTP/1.1\r\n\r\n",
	"two Hosts":                       "GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n",
	"a Host that is none":             "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
	"a Host with a space":             "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
	"a URL":                           "GET http://elsewhere/ HTTP/1.1\r\nHost: h\r\n\r\n",
	"a URL without a path":            "GET http://elsewhere HTTP/1.1\r\nHost: h\r\n\r\n",
	"a URL without a host":            "GET http:// HTTP/1.1\r\nHost: h\r\n\r\n",
	"a URL that is opaque":            "GET mailto:a@b HTTP/1.1\r\nHost: h\r\n\r\n",
	"a path without a slash":          "GET a HTTP/1.1\r\nHost: h\r\n\r\n",
	"only a query":                    "GET ?a HTTP/1.1\r\nHost: h\r\n\r\n",
	"two slashes":                     "GET // HTTP/1.1\r\nHost: h\r\n\r\n",
	"no path":                         "GET  HTTP/1.1\r\nHost: h\r\n\r\n",
	"OPTIONS *":                       "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET *":                           "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
	"CONNECT":                         "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n",
	"CONNECT with a path":             "CONNECT /a HTTP/1.1\r\nHost: h\r\n\r\n",
	"TRACE":                           "TRACE / HTTP/1.1\r\nHost: h\r\n\r\n",
	"a method in lower case":          "get / HTTP/1.1\r\nHost: h\r\n\r\n",
	"an unknown method":               "BREW /pot HTTP/1.1\r\nHost: h\r\n\r\n",
	"a method that is none":           "G@T / HTTP/1.1\r\nHost: h\r\n\r\n",
	"a method in quotes":              "\"GET\" / HTTP/1.1\r\nHost: h\r\n\r\n",
	"HTTP/1.0":                        "GET / HTTP/1.0\r\n\r\n",
	"HTTP/0.9":                        "GET /\r\n\r\n",
	"HTTP/2's preface":                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"an unknown protocol":             "GET / SPDY/3\r\nHost: h\r\n\r\n",
	"a folded header":                 "GET / HTTP/1.1\r\nHost: h\r\nX-API-Key: a\r\n b\r\n\r\n",
	"a space before the colon":        "GET / HTTP/1.1\r\nHost: h\r\nX-API-Key : a\r\n\r\n",
	"a header without a name":         "GET / HTTP/1.1\r\nHost: h\r\n: a\r\n\r\n",
	"bare line feeds":                 "GET / HTTP/1.1\nHost: h\n\n",
	"two lengths":                     "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
	"a negative length":               "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
	"a length and chunks":             "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"a broken chunk":                  "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	"an expectation":                  "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
	"an unknown expectation":          "GET / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n",
	"an upgrade":                      "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	"another method in a header":      "POST / HTTP/1.1\r\nHost: h\r\nX-HTTP-Method-Override: GET\r\nContent-Length: 0\r\n\r\n",
	"nothing":                         "\r\n\r\n",
	"garbage":                         "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}

func (s *suite) testHostile() {
	policies := map[string]core.Policy{
		"by IP": {Limit: core.PerHour(3)},
		"by header, with routes": {
			Limit: core.PerHour(3),
			Key:   core.ByHeader("X-API-Key"),
			// Everyone shares these buckets, so that they are exhausted for any key.
			Routes: []core.Route{
				{Pattern: "/", Limit: core.PerHour(3), Key: core.Everyone},
				{Pattern: "GET /{a}/{b}/", Limit: core.PerHour(3), Key: core.Everyone},
			},
		},
	}
	for name, policy := range policies {
		srv := s.serve(limited(policy))
		p := srv.localhost()
		srv.passed(4, p, "/")
		srv.passed(4, p, "/a/b/")
		for what, request := range hostileRequests {
			if what == "OPTIONS *" {
				continue // net/http answers it without asking any handler
			}
			before := srv.callsOf("")
			r := srv.sendHostile(request)
			if calls := srv.callsOf(""); calls != before {
				s.Errorf("%s: a request with %s passes although the limit is exhausted: status %d", name, what, r.status)
			}
			if r.status == http.StatusInternalServerError {
				s.Errorf("%s: a request with %s: status %d: %s", name, what, r.status, r.body)
			}
		}
		srv.sendHostile(hostileRequests["OPTIONS *"])
		srv.want(http.StatusTooManyRequests, p, "/")
	}
}

// sendHostile sends bytes on a connection of their own, says that there will be no
// more, and returns the answer if there is any.
func (s *server) sendHostile(request string) response {
	p := s.localhost()
	defer p.close()
	if err := p.dial(); err != nil {
		s.Fatal(err)
	}
	_ = p.conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(p.conn, request) // the server may have closed it already
	if half, ok := p.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	method, _, _ := strings.Cut(request, " ")
	r, _ := p.receive(method)
	return r
}
