// Package decompress reads streams that may be compressed.
package decompress

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is how much memory the sender of a zstd stream may make us take, in bytes. zstd --long=27 needs as much.
const maxWindow = 128 << 20

// Reader returns the plain bytes of r, which may be compressed with gzip, bzip2 or zstd. Every error is about r.
func Reader(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	head, err := b.Peek(10)
	if err != nil && len(head) == 0 {
		if err == io.EOF {
			return io.NopCloser(b), nil
		}
		return nil, err
	}
	switch compression.DetectCompression(head) {
	case compression.Gzip:
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("read the gzip stream: %w", err)
		}
		return z, nil
	case compression.Zstd:
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, fmt.Errorf("read the zstd stream: %w", err)
		}
		return z.IOReadCloser(), nil
	}
	switch {
	case string(head[:min(3, len(head))]) == "BZh":
		return io.NopCloser(bzip2.NewReader(b)), nil
	case string(head[:min(6, len(head))]) == "\xfd7zXZ\x00":
		return nil, errors.New("the archive is compressed with xz; use gzip, bzip2, zstd or none")
	}
	return io.NopCloser(b), nil
}
