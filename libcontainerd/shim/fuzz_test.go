package shim

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/internal/vary"
)

// FuzzFeed gives the shim what may come over its attach socket: of whole frames of input every byte arrives, and of
// others none.
func FuzzFeed(f *testing.F) {
	frame := func(kind byte, payload string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload))), payload...)
	}
	for _, b := range vary.Bytes(2000,
		frame(FrameStdin, "some input"), append(frame(FrameStdin, "a"), frame(FrameStdin, "b")...), frame(FrameStdin, ""),
		append(frame(FrameCloseStdin, "x"), frame(FrameStdin, "late")...), frame(77, "unknown"), []byte{FrameStdin, 0xff, 0xff, 0xff, 0xff},
		[]byte{FrameStdin, 0, 0},
	) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return // the pipe would be full
		}
		r, w, err := os.Pipe()
		assert.NilError(t, err)
		defer r.Close()
		p := &process{out: newOutput(false), takesInput: true, stdin: w}
		_ = feed(p, Header{Stdin: true}, bufio.NewReader(bytes.NewReader(b))) // any end will do
		w.Close()
		var got bytes.Buffer
		_, err = got.ReadFrom(r)
		assert.NilError(t, err)
		assert.Assert(t, bytes.Equal(got.Bytes(), inputOf(b)), "%q of %q", got.Bytes(), b)
	})
}

// inputOf is what the frames in b carry to a process, up to where they are no frames.
func inputOf(b []byte) (input []byte) {
	open := true
	for len(b) >= 5 {
		n := binary.BigEndian.Uint32(b[1:])
		if n > MaxFrame {
			return input
		}
		part := b[5:min(len(b), 5+int(n))]
		if b[0] == FrameStdin && open {
			input = append(input, part...)
		}
		if len(part) < int(n) {
			return input
		}
		if b[0] == FrameCloseStdin {
			open = false
		}
		b = b[5+n:]
	}
	return input
}
