package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"unicode/utf16"
	"unicode/utf8"
)

// What is more than this is not a configuration, but a mistake.
const (
	maxFileSize = 1 << 20
	maxDepth    = 32
)

// readFile returns the content of the file, nil when the default file does not exist. It never waits: what is not an
// ordinary file is refused, except /dev/null.
func readFile(path string, explicit bool) ([]byte, error) {
	if path == "" || path == os.DevNull {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) && !explicit {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFileSize)
	}
	return data, nil
}

// decodeText brings the file to UTF-8 without byte order mark.
func decodeText(data []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(data, []byte{0xef, 0xbb, 0xbf}):
		return checkUTF8(data[3:], 3)
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}):
		return decodeUTF16(data, func(b []byte) uint16 { return uint16(b[0]) | uint16(b[1])<<8 })
	case bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		return decodeUTF16(data, func(b []byte) uint16 { return uint16(b[1]) | uint16(b[0])<<8 })
	}
	return checkUTF8(data, 0)
}

func checkUTF8(data []byte, offset int) ([]byte, error) {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return nil, badBytes(offset+i, "it is not UTF-8")
		}
		i += size
	}
	return data, nil
}

func decodeUTF16(data []byte, unit func([]byte) uint16) ([]byte, error) {
	if len(data)%2 != 0 {
		return nil, badBytes(len(data)-1, "half a character of UTF-16")
	}
	var out []byte
	for i := 2; i < len(data); i += 2 {
		r := rune(unit(data[i:]))
		if utf16.IsSurrogate(r) {
			if i+3 >= len(data) {
				return nil, badBytes(i, "half a character of UTF-16")
			}
			pair := utf16.DecodeRune(r, rune(unit(data[i+2:])))
			if pair == utf8.RuneError {
				return nil, badBytes(i, "half a character of UTF-16")
			}
			r, i = pair, i+2
		}
		out = utf8.AppendRune(out, r)
	}
	return out, nil
}

func badBytes(offset int, what string) error {
	return fmt.Errorf("failed to decode configuration JSON at offset %d: %s", offset, what)
}

// parse returns the file's top-level members. A blank file has none.
func parse(data []byte) (map[string]json.RawMessage, error) {
	data, err := decodeText(data)
	if err != nil || len(bytes.TrimSpace(data)) == 0 {
		return nil, err
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(data, &top); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("invalid JSON: %w (%s)", err, position(data, syntax.Offset))
		}
		top = nil
	}
	if top == nil {
		return nil, errors.New("invalid JSON: the file has to hold one object, {…}")
	}
	if err := walk(data); err != nil {
		return nil, fmt.Errorf("invalid JSON: %w", err)
	}
	return top, nil
}

// walk looks through valid JSON for what a decoder lets pass but nobody means: a name given twice, a NUL, or nesting
// without end.
func walk(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	type level struct {
		names map[string]bool // of an object
		value bool            // the next token is the value of a name
	}
	var open []level
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		delim, isDelim := tok.(json.Delim)
		if isDelim && (delim == '}' || delim == ']') {
			open = open[:len(open)-1]
			continue
		}
		text, isText := tok.(string)
		if isText && strings.ContainsRune(text, 0) {
			return fmt.Errorf("a NUL in a text (%s)", position(data, dec.InputOffset()))
		}
		if n := len(open) - 1; n >= 0 && open[n].names != nil {
			if isText && !open[n].value {
				if open[n].names[text] {
					return fmt.Errorf("%q is given twice (%s)", text, position(data, dec.InputOffset()))
				}
				open[n].names[text] = true
				open[n].value = true
				continue
			}
			open[n].value = false
		}
		if !isDelim {
			continue
		}
		if len(open) == maxDepth {
			return fmt.Errorf("more than %d levels (%s)", maxDepth, position(data, dec.InputOffset()))
		}
		var l level
		if delim == '{' {
			l.names = map[string]bool{}
		}
		open = append(open, l)
	}
}

// position says where in the file an offset is.
func position(data []byte, offset int64) string {
	before := data[:min(offset, int64(len(data)))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return fmt.Sprintf("line %d, column %d", line, column)
}
