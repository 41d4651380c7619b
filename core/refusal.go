package core

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The types of problems that draft-ietf-httpapi-ratelimit-headers-11 asks IANA
// to register.
const (
	problemQuota    = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	problemCapacity = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
)

// A problem is the body of a refusal for machines (RFC 9457).
type problem struct {
	Type     string   `json:"type"`
	Title    string   `json:"title"`
	Status   int      `json:"status"`
	Detail   string   `json:"detail"`
	Violated []string `json:"violated-policies,omitempty"`
}

// Body writes the body of a refusal in the form that the request's Accept header
// prefers: a problem in JSON (RFC 9457), which is also for those with no
// preference, plain text, or a small page of HTML. A response to HEAD has none.
//
// The problem lists the names of the violated limits as violated-policies, which
// are those of the RateLimit fields.
func (d *Decision) Body(accept string) (contentType, body string) {
	text, advice := http.StatusText(d.Status), d.advice()
	switch preferred(accept) {
	case typeHTML:
		return "text/html; charset=utf-8", fmt.Sprintf(
			"<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>%[1]d %[2]s</title>\n<h1>%[2]s</h1>\n<p>%[3]s</p>\n</html>\n",
			d.Status, html.EscapeString(text), html.EscapeString(advice))
	case typeText:
		return "text/plain; charset=utf-8", text + "\n" + advice + "\n"
	}
	p := problem{
		Type:     "about:blank", // which has the status' text for a title
		Title:    text,
		Status:   d.Status,
		Detail:   text + ". " + advice,
		Violated: d.violated(),
	}
	switch d.Status {
	case http.StatusTooManyRequests:
		p.Type, p.Title = problemQuota, "Request cannot be satisfied as assigned quota has been exceeded"
	case http.StatusServiceUnavailable:
		p.Type, p.Title = problemCapacity, "Request cannot be satisfied due to temporary server capacity constraints"
	}
	encoded, err := json.Marshal(p)
	if err != nil {
		return "text/plain; charset=utf-8", text + "\n"
	}
	return "application/problem+json", string(encoded) + "\n"
}

// advice is a sentence for the client.
func (d *Decision) advice() string {
	switch s := max(1, seconds(d.RetryAfter), d.retryAfter); {
	case d.Status == http.StatusForbidden:
		return "Requests from this address are not served."
	case d.Status == http.StatusRequestEntityTooLarge:
		return "The request counts more than its limit can ever admit."
	case s == 1:
		return "Please try again in 1 second."
	case s < int64(2*time.Minute/time.Second):
		return "Please try again in " + strconv.FormatInt(s, 10) + " seconds."
	default:
		return "Please try again in " + (time.Duration(s) * time.Second).String() + "."
	}
}

// The forms of a body, the first of several that are equally welcome being sent.
const (
	typeProblem = iota
	typeText
	typeHTML
)

// maxAccept is how much of an Accept header is read, in bytes.
const maxAccept = 1 << 10

// preferred returns the form that an Accept header gives the highest quality
// (RFC 9110, section 12.5.1).
func preferred(accept string) int {
	if len(accept) > maxAccept {
		accept = accept[:maxAccept]
	}
	var quality, precision [3]float64
	if strings.Trim(accept, " \t") == "" {
		return typeProblem
	}
	for element := range strings.SplitSeq(accept, ",") {
		mediaRange, parameters, _ := strings.Cut(element, ";")
		q, ok := qualityOf(parameters)
		if !ok {
			continue
		}
		for form, precise := range matches(strings.ToLower(strings.Trim(mediaRange, " \t"))) {
			if precise > 0 && (precise > precision[form] || precise == precision[form] && q > quality[form]) {
				quality[form], precision[form] = q, precise
			}
		}
	}
	best, most := typeText, 0.0 // for who accepts none of them
	for form, q := range quality {
		if q > most {
			best, most = form, q
		}
	}
	return best
}

// matches tells how precisely a media range names each form: 0 is not at all.
func matches(mediaRange string) (precise [3]float64) {
	switch mediaRange {
	case "*/*":
		return [3]float64{1, 1, 1}
	case "application/*":
		precise[typeProblem] = 2
	case "application/json":
		precise[typeProblem] = 3
	case "application/problem+json":
		precise[typeProblem] = 3
	case "text/*":
		precise[typeText], precise[typeHTML] = 2, 2
	case "text/plain":
		precise[typeText] = 3
	case "text/html":
		precise[typeHTML] = 3
	}
	return precise
}

// qualityOf reads the weight among the parameters of a media range, 1 if there
// is none.
func qualityOf(parameters string) (float64, bool) {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.Trim(parameter, " \t"), "=")
		if strings.EqualFold(name, "q") {
			q, err := strconv.ParseFloat(value, 64)
			return q, err == nil && q >= 0 && q <= 1
		}
	}
	return 1, true
}
