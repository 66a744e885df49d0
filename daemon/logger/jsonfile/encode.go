package jsonfile

import (
	"encoding/binary"
	"time"
	"unicode/utf8"

	"github.com/berthd/berth/daemon/logger"
)

// format is logfile.Format for lines like {"log":"text\n","stream":"stdout","attrs":{"k":"v"},"time":"2006-…Z"}. The
// attrs are there only if there are any.
type format struct {
	attrs []byte // as JSON
	// sec and date are the second that was formatted last, and its text up to the dot.
	sec  int64
	date []byte
}

// Append appends a line. It does without encoding/json and its reflection: the logs of all containers go through here.
func (f *format) Append(buf []byte, m *logger.Message) []byte {
	buf = append(buf, `{"log":"`...)
	buf = appendText(buf, m.Line)
	if !m.Partial {
		buf = append(buf, `\n`...)
	}
	buf = append(buf, `","stream":"`...)
	buf = append(buf, m.Source...)
	if len(f.attrs) > 0 {
		buf = append(buf, `","attrs":`...)
		buf = append(buf, f.attrs...)
		buf = append(buf, `,"time":"`...)
	} else {
		buf = append(buf, `","time":"`...)
	}
	buf = f.appendTime(buf, m.Timestamp)
	return append(buf, "\"}\n"...)
}

// appendTime appends t as time.RFC3339Nano in UTC.
func (f *format) appendTime(buf []byte, t time.Time) []byte {
	if sec := t.Unix(); sec != f.sec || f.date == nil {
		f.sec = sec
		f.date = t.UTC().AppendFormat(f.date[:0], "2006-01-02T15:04:05")
	}
	buf = append(buf, f.date...)
	if ns := t.Nanosecond(); ns > 0 {
		digits := [10]byte{0: '.'}
		for i := 9; i > 0; i-- {
			digits[i] = byte('0' + ns%10)
			ns /= 10
		}
		n := len(digits)
		for digits[n-1] == '0' {
			n--
		}
		buf = append(buf, digits[:n]...)
	}
	return append(buf, 'Z')
}

const hex = "0123456789abcdef"

// appendText appends s as the inside of a JSON string. What is not UTF-8 becomes U+FFFD, byte by byte, as
// encoding/json has it.
func appendText(buf, s []byte) []byte {
	for {
		n := plain(s)
		buf = append(buf, s[:n]...)
		if n == len(s) {
			return buf
		}
		s = s[n:]
		switch c := s[0]; {
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(s)
			if r == utf8.RuneError && size == 1 {
				buf = append(buf, `\ufffd`...)
			} else {
				buf = append(buf, s[:size]...)
			}
			s = s[size:]
			continue
		case c == '"' || c == '\\':
			buf = append(buf, '\\', c)
		case c == '\n':
			buf = append(buf, `\n`...)
		case c == '\r':
			buf = append(buf, `\r`...)
		case c == '\t':
			buf = append(buf, `\t`...)
		default:
			buf = append(buf, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		s = s[1:]
	}
}

// plain returns how many bytes at the start of s are printable ASCII other than quote and backslash: those stand for
// themselves in JSON. It looks at eight bytes at a time; in the tests of single bytes below, bit 7 of a byte of the
// result says that it, or one before it, fits.
func plain(s []byte) int {
	const (
		ones = 0x0101010101010101
		high = 0x8080808080808080
	)
	i := 0
	for ; i+8 <= len(s); i += 8 {
		x := binary.LittleEndian.Uint64(s[i:])
		quote, slash := x^(ones*'"'), x^(ones*'\\')
		control := (x - ones*' ') &^ x
		if (x|control|(quote-ones)&^quote|(slash-ones)&^slash)&high != 0 {
			break
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			break
		}
	}
	return i
}
