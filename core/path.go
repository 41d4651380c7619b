package core

import (
	"net/url"
	"slices"
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

// unescape removes the escapes from each segment, and reports whether one of
// them was of a slash. A segment that cannot be unescaped stays as it is.
func unescape(segments []string) (unescaped []string, slash bool) {
	for i, segment := range segments {
		if plain, err := url.PathUnescape(segment); err == nil {
			segments[i] = plain
			slash = slash || strings.Contains(plain, "/")
		}
	}
	return segments, slash
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
