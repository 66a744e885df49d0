package oracle

import (
	"encoding/json"
	"regexp"
	"sort"
	"strings"
)

// normaliser replaces what differs from run to run by placeholders.
type normaliser struct {
	names [][2]string // placeholder, text; longest text first
}

func newNormaliser(roots map[string]string) *normaliser {
	n := &normaliser{}
	for k, v := range roots {
		n.name(k, v)
	}
	return n
}

// name has text shown as <placeholder> from now on, and a 64-digit id's first 12 digits as <placeholder short>.
func (n *normaliser) name(placeholder, text string) {
	if len(text) < 8 {
		return
	}
	n.names = append(n.names, [2]string{"<" + placeholder + ">", text})
	if reLong.MatchString(text) && len(text) == 64 {
		n.names = append(n.names, [2]string{"<" + placeholder + " short>", text[:12]})
	}
	sort.SliceStable(n.names, func(i, j int) bool { return len(n.names[i][1]) > len(n.names[j][1]) })
}

var (
	reDigest = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	reLong   = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	reTime   = regexp.MustCompile(`\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)
	reMAC    = regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`)
	reIP     = regexp.MustCompile(`\b(10|172|192)\.\d+\.\d+\.\d+\b`)
	reAgo    = regexp.MustCompile(`\b(\d+ (seconds?|minutes?|hours?|days?)( ago)?|` +
		`Less than a second( ago)?|About an? (minute|hour)( ago)?)`)
	reShort = regexp.MustCompile(`^[0-9a-f]{12}$`)
	reNetns = regexp.MustCompile(`netns/[0-9a-f]{12}\b`)
)

func (n *normaliser) str(s string) string {
	for _, r := range n.names {
		s = strings.ReplaceAll(s, r[1], r[0])
	}
	s = reDigest.ReplaceAllString(s, "<digest>")
	s = reLong.ReplaceAllString(s, "<id>")
	s = reTime.ReplaceAllString(s, "<time>")
	s = reNetns.ReplaceAllString(s, "netns/<short id>")
	s = reMAC.ReplaceAllString(s, "<mac>")
	s = reIP.ReplaceAllString(s, "<ip>")
	if reShort.MatchString(s) {
		s = "<short id>"
	}
	if strings.HasPrefix(s, "Up ") || strings.HasPrefix(s, "Exited ") {
		s = reAgo.ReplaceAllString(s, "<duration>")
	}
	return s
}

// value normalises what stands under a key.
func (n *normaliser) value(key string, v any) any {
	switch x := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(x))
		for k, y := range x {
			m[n.str(k)] = n.value(k, y)
		}
		return m
	case []any:
		l := make([]any, len(x))
		for i := range x {
			l[i] = n.value(key, x[i])
		}
		switch key {
		case "Mounts", "Ports", "Links", "Ulimits", "ExecIDs", "Binds": // no order is promised
			sort.SliceStable(l, func(i, j int) bool { return text(l[i]) < text(l[j]) })
		}
		return l
	case string:
		if key == "HostPort" && len(x) == 5 && x >= "32768" {
			return "<port>"
		}
		return n.str(x)
	case json.Number:
		f, _ := x.Float64()
		return number(key, f)
	case float64:
		return number(key, x)
	}
	return v
}

func number(key string, f float64) any {
	switch key {
	case "Pid":
		if f > 0 {
			return "<pid>"
		}
	case "Created", "SizeRootFs", "SizeRw", "Size", "size":
		if f > 0 {
			return "<number>"
		}
	case "PublicPort":
		if f >= 32768 {
			return "<port>"
		}
	}
	return f
}

// text is v as JSON, with < and > as they are: placeholders are written with them.
func text(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimSuffix(b.String(), "\n")
}
