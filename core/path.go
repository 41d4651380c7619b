package core

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A path is taken apart into its segments: "/a/b" into "a" and "b", and "/a/"
// into "a" and "".

func splitPath(path string) []string {
	return strings.Split(strings.TrimPrefix(path, "/"), "/")
}

func joinSegments(segments []string) string {
	return "/" + strings.Join(segments, "/")
}

// readings are the ways in which routers take a path apart: some remove escapes
// before they clean it, some after, some never clean it; and to some an escaped
// slash is one.
func readings(path string) [][]string {
	raw := splitPath(path)
	var all [][]string
	add := func(segments []string) {
		if !slices.ContainsFunc(all, func(other []string) bool { return slices.Equal(other, segments) }) {
			all = append(all, segments)
		}
	}
	for _, sent := range [][]string{raw, clean(raw)} {
		bySegment := make([]string, len(sent))
		for i, segment := range sent {
			bySegment[i] = unescape(segment)
		}
		whole := splitPath(joinSegments(bySegment))
		for _, segments := range [][]string{bySegment, whole} {
			add(segments)
			add(clean(segments))
		}
	}
	return all
}

// unescape removes the escapes that can be read, and leaves the others.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if code, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(code))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// clean removes empty segments and dot segments, and keeps a trailing slash.
func clean(segments []string) []string {
	cleaned := make([]string, 0, len(segments)+1)
	for _, segment := range segments {
		switch segment {
		case "", ".":
		case "..":
			cleaned = cleaned[:max(0, len(cleaned)-1)]
		default:
			cleaned = append(cleaned, segment)
		}
	}
	switch segments[len(segments)-1] {
	case "", ".", "..":
		cleaned = append(cleaned, "")
	}
	if len(cleaned) == 0 {
		cleaned = append(cleaned, "")
	}
	return cleaned
}

// fold lowers the ASCII letters, as routers that ignore case do.
func fold(segments []string) []string {
	folded := slices.Clone(segments)
	for i, segment := range folded {
		folded[i] = foldCase(segment)
	}
	return folded
}

func foldCase(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			lower := []byte(s)
			for ; i < len(s); i++ {
				if 'A' <= s[i] && s[i] <= 'Z' {
					lower[i] |= 0x20
				}
			}
			return string(lower)
		}
	}
	return s
}

// spell writes a path for a ServeMux that is to take its segments as they are,
// without and with escapes. An empty segment at the end is a trailing slash.
//
// ServeMux would clean away dot segments that are not escaped, and empty ones in
// any case, and takes an escaped slash for the end: these become a segment that
// no pattern has.
func spell(segments []string) (path, escaped string) {
	var p, e strings.Builder
	for i, segment := range segments {
		p.WriteByte('/')
		e.WriteByte('/')
		switch {
		case segment == "" && i < len(segments)-1, segment == "/":
			p.WriteByte(0)
			e.WriteString("%00")
		case segment == "." || segment == "..":
			p.WriteString(segment)
			e.WriteString(strings.ReplaceAll(segment, ".", "%2E"))
		default:
			p.WriteString(segment)
			e.WriteString(url.PathEscape(segment))
		}
	}
	return p.String(), e.String()
}
