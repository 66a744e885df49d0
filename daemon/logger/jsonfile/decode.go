package jsonfile

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/logfile"
)

// Next reads one line. Lines that are not what json-file writes are skipped.
func (f *format) Next(b []byte, atEOF bool, m *logger.Message) (int, bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		if atEOF || len(b) > logfile.MaxRecord {
			return len(b), false
		}
		return 0, false
	}
	return i + 1, i < logfile.MaxRecord && (decode(b[:i], m) || decodeAny(b[:i], m))
}

// decode reads a line that was written by Append without attributes, or by dockerd in the same way. It takes the
// bytes of the text in place. Where it returns false, b is unchanged.
func decode(b []byte, m *logger.Message) bool {
	text, rest, escaped, ok := cutText(b, `{"log":"`)
	if !ok {
		return false
	}
	source, rest, esc, ok := cutText(rest, `,"stream":"`)
	if !ok || esc {
		return false
	}
	at, rest, esc, ok := cutText(rest, `,"time":"`)
	if !ok || esc || string(rest) != "}" {
		return false
	}
	t, err := time.Parse(time.RFC3339Nano, string(at))
	if err != nil {
		return false
	}
	if escaped {
		text = unescape(text)
	}
	fill(m, text, source, t)
	return true
}

// fill sets all of m. A newline at the end of the text is what tells a whole line from a piece.
func fill(m *logger.Message, text, source []byte, t time.Time) {
	*m = logger.Message{Timestamp: t.UTC()}
	switch string(source) {
	case logger.Stdout:
		m.Source = logger.Stdout
	case logger.Stderr:
		m.Source = logger.Stderr
	default:
		m.Source = string(source)
	}
	var whole bool
	m.Line, whole = bytes.CutSuffix(text, []byte{'\n'})
	m.Partial = !whole
}

// cutText cuts a string off b, which has to begin with prefix. It knows what is common: valid UTF-8, and no
// characters that are written as two escapes.
func cutText(b []byte, prefix string) (text, rest []byte, escaped, ok bool) {
	if len(b) < len(prefix) || string(b[:len(prefix)]) != prefix {
		return nil, nil, false, false
	}
	b = b[len(prefix):]
	wide := false
	for i := 0; ; {
		i += plain(b[i:])
		if i == len(b) {
			return nil, nil, false, false
		}
		switch c := b[i]; {
		case c == '"':
			return b[:i], b[i+1:], escaped, !wide || utf8.Valid(b[:i])
		case c >= utf8.RuneSelf:
			wide = true
			i++
		case c == '\\':
			n := escapeLen(b[i:])
			if n == 0 {
				return nil, nil, false, false
			}
			escaped = true
			i += n
		default:
			return nil, nil, false, false
		}
	}
}

// escapeLen returns the length of the escape at the start of b, 0 if unescape does not know it.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if r, ok := parseHex(b); ok && utf8.ValidRune(r) {
			return 6
		}
	}
	return 0
}

func parseHex(b []byte) (rune, bool) {
	if len(b) < 6 {
		return 0, false
	}
	r, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(r), err == nil
}

// unescape replaces the escapes that escapeLen knows, in place: none gets longer.
func unescape(b []byte) []byte {
	out := b[:0]
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 {
			return append(out, b...)
		}
		out = append(out, b[:i]...)
		b = b[i:]
		n := 2
		switch c := b[1]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, _ := parseHex(b)
			out = utf8.AppendRune(out, r)
			n = 6
		default:
			out = append(out, c)
		}
		b = b[n:]
	}
}

// decodeAny reads any line that has a time.
func decodeAny(b []byte, m *logger.Message) bool {
	var line struct {
		Log    string            `json:"log"`
		Stream string            `json:"stream"`
		Attrs  map[string]string `json:"attrs"`
		Time   *time.Time        `json:"time"`
	}
	if err := json.Unmarshal(b, &line); err != nil || line.Time == nil {
		return false
	}
	fill(m, []byte(line.Log), []byte(line.Stream), *line.Time)
	m.Attrs = line.Attrs
	return true
}

// Tail finds the last n lines by going back from the end.
func (f *format) Tail(r io.ReaderAt, size int64, n int) (start, end int64, found int, err error) {
	const block = 64 * 1024
	buf := make([]byte, min(block, size))
	end = -1
	for at := size; at > 0; {
		b := buf[:min(block, at)]
		at -= int64(len(b))
		if _, err := r.ReadAt(b, at); err != nil && err != io.EOF {
			return 0, 0, 0, err
		}
		for {
			i := bytes.LastIndexByte(b, '\n')
			if i < 0 {
				break
			}
			b = b[:i]
			switch next := at + int64(i) + 1; {
			case end < 0:
				end = next
			default:
				found++ // the line that begins at next
				if found == n {
					return next, end, found, nil
				}
			}
			if n == 0 {
				return end, end, 0, nil
			}
		}
	}
	if end < 0 {
		return 0, 0, 0, nil
	}
	return 0, end, found + 1, nil // the first line begins behind no newline
}
