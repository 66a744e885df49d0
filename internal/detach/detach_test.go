package detach

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"gotest.tools/v3/assert"
)

func TestReader(t *testing.T) {
	for _, tc := range []struct {
		doc, keys, in, want string
		detached            bool
	}{
		{doc: "no keys", in: "hello\x10world", want: "hello\x10world"},
		{doc: "keys at once", in: "hello\x10\x11lost", want: "hello", detached: true},
		{doc: "the first key twice", in: "\x10\x10\x11", want: "\x10", detached: true},
		{doc: "half of the keys at the end", in: "hello\x10", want: "hello\x10"},
		{doc: "the second key alone", in: "\x11\x10a\x11", want: "\x11\x10a\x11"},
		{doc: "one key", keys: "ctrl-a", in: "x\x01y", want: "x", detached: true},
		{doc: "letters", keys: "a,b,a,c", in: "-ababac", want: "-ab", detached: true},
		{doc: "nothing", in: "", want: ""},
	} {
		for name, src := range map[string]io.Reader{
			"at once": strings.NewReader(tc.in), "bytewise": iotest.OneByteReader(strings.NewReader(tc.in)),
			"EOF with data": iotest.DataErrReader(strings.NewReader(tc.in)),
		} {
			t.Run(tc.doc+"/"+name, func(t *testing.T) {
				keys, err := Keys(tc.keys)
				assert.NilError(t, err)
				// Byte by byte, so that what does not fit is kept.
				got, err := io.ReadAll(iotest.OneByteReader(NewReader(src, keys)))
				assert.Equal(t, string(got), tc.want)
				assert.Equal(t, errors.Is(err, ErrDetached), tc.detached, "%v", err)
			})
		}
	}
}

// What cannot be part of the keys is handed on at once: somebody waits for the echo.
func TestReaderHoldsNothingElseBack(t *testing.T) {
	r, w := io.Pipe()
	keys, err := Keys("")
	assert.NilError(t, err)
	d := NewReader(r, keys)
	buf := make([]byte, 10)
	for _, in := range []string{"a", "\x11", "b\x10c"} {
		go func() { _, _ = io.WriteString(w, in) }()
		n, err := d.Read(buf)
		assert.NilError(t, err)
		assert.Equal(t, string(buf[:n]), in)
	}
}

func TestBadKeys(t *testing.T) {
	_, err := Keys("ctrl-nope")
	assert.ErrorContains(t, err, "ctrl-nope")
}
