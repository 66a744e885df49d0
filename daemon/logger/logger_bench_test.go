package logger_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/drivers"
)

// BenchmarkWrite moves lines of 120 characters from a pipe to a file: as they are ("plain", with a plain io.Copy), and
// through the drivers. The MB/s are of what the container wrote, so they can be compared.
func BenchmarkWrite(b *testing.B) {
	b.Run("plain", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "plain"))
		assert.NilError(b, err)
		defer f.Close()
		feed(b, func(r io.Reader) error {
			_, err := io.Copy(f, r)
			return err
		})
	})
	for _, name := range []string{"json-file", "local"} {
		b.Run(name, func(b *testing.B) {
			d, err := drivers.Get(name)
			assert.NilError(b, err)
			w, err := d.OpenWriter(logger.Info{Path: filepath.Join(b.TempDir(), "log")})
			assert.NilError(b, err)
			defer w.Close()
			feed(b, func(r io.Reader) error { return logger.Copy(w, r, logger.Stdout, nil) })
		})
	}
}

func feed(b *testing.B, drain func(io.Reader) error) {
	line := append(bytes.Repeat([]byte("abcdefgh "), 14)[:119], '\n')
	chunk := bytes.Repeat(line, 512)
	r, w, err := os.Pipe()
	assert.NilError(b, err)
	defer r.Close()
	b.SetBytes(int64(len(chunk)))
	go func() {
		defer w.Close()
		for range b.N {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}()
	assert.NilError(b, drain(r))
}
