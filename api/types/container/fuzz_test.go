package container

import (
	"bytes"
	"testing"

	"github.com/moby/moby/api/pkg/stdcopy"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/internal/vary"
)

// FuzzFrames: whatever a container writes, clients take it apart again.
func FuzzFrames(f *testing.F) {
	for _, s := range vary.Strings(200, "a line\n", "", "\x01\x00\x00\x00\x00\x00\x00\x05frame", "\x00\xff\r\n") {
		f.Add([]byte(s), []byte("behind"))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var sent, out, errs bytes.Buffer
		for _, line := range [][]byte{a, b, a} {
			assert.NilError(t, WriteFrame(&sent, LogMessage{Line: line}, false))
			assert.NilError(t, WriteFrame(&sent, LogMessage{Line: line, Stderr: true}, false))
		}
		_, err := stdcopy.StdCopy(&out, &errs, &sent)
		assert.NilError(t, err)
		want := bytes.Join([][]byte{a, b, a}, nil)
		assert.Assert(t, bytes.Equal(out.Bytes(), want) && bytes.Equal(errs.Bytes(), want))
	})
}
