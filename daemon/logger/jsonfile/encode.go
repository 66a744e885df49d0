package jsonfile

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/berthd/berth/daemon/logger"
)

// format is logfile.Format for lines like {"log":"text\n","stream":"stdout","attrs":{"k":"v"},"time":"2006-…Z"}. The
// attrs are there only if there are any.
type format struct {
	attrs []byte // as JSON
	// middle has, for the second that was formatted last and by source, what stands between text and fraction of a second.
	sec    int64
	middle map[string][]byte
	// nanos is the last fraction of a second, and digits its text.
	nanos  int
	digits [10]byte
}

// Append appends a line. It does without encoding/json and its reflection: the logs of all containers go through here.
func (f *format) Append(buf []byte, m *logger.Message) []byte {
	buf = append(buf, `{"log":"`...)
	buf = appendText(buf, m.Line)
	if !m.Partial {
		buf = append(buf, `\n`...)
	}
	if sec := m.Timestamp.Unix(); sec != f.sec || f.middle == nil {
		f.sec, f.middle = sec, map[string][]byte{}
	}
	middle := f.middle[m.Source]
	if middle == nil {
		middle = f.between(m)
		f.middle[m.Source] = middle
	}
	buf = append(buf, middle...)
	buf = f.appendFraction(buf, m.Timestamp.Nanosecond())
	return append(buf, "Z\"}\n"...)
}

func (f *format) between(m *logger.Message) []byte {
	b := append([]byte(`","stream":"`), m.Source...)
	if len(f.attrs) > 0 {
		b = append(b, `","attrs":`...)
		b = append(b, f.attrs...)
		b = append(b, `,"time":"`...)
	} else {
		b = append(b, `","time":"`...)
	}
	return m.Timestamp.UTC().AppendFormat(b, "2006-01-02T15:04:05")
}

// appendFraction appends nanoseconds as time.RFC3339Nano has them. Of lines that were read at once each is one later than
// the one before.
func (f *format) appendFraction(buf []byte, ns int) []byte {
	if ns == 0 {
		return buf
	}
	d := &f.digits
	if ns == f.nanos+1 && d[9] >= '0' && d[9] < '9' {
		d[9]++
	} else {
		d[0] = '.'
		for i, rest := 9, ns; i > 0; i-- {
			d[i] = byte('0' + rest%10)
			rest /= 10
		}
	}
	f.nanos = ns
	n := len(d)
	for d[n-1] == '0' {
		n--
	}
	return append(buf, d[:n]...)
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
// themselves in JSON. It looks at eight bytes at a time: bit 7 of a byte of the result says that it, or one before it, is
// something else. Without such a bit in x itself, each subtraction sets one only below its own byte's or for a borrow from
// a byte that has one.
func plain(s []byte) int {
	const (
		ones = 0x0101010101010101
		high = 0x8080808080808080
	)
	i := 0
	for ; i+8 <= len(s); i += 8 {
		x := binary.LittleEndian.Uint64(s[i:])
		quote, slash := x^(ones*'"'), x^(ones*'\\')
		if (x|(x-ones*' ')|(quote-ones)|(slash-ones))&high != 0 {
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
