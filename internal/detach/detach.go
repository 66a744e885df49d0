// Package detach finds the keys with which somebody at a terminal leaves a container.
package detach

import (
	"bytes"
	"errors"
	"io"

	"github.com/moby/term"
)

// ErrDetached is what a Reader ends with when the keys were pressed.
var ErrDetached = errors.New("the detach keys were pressed")

// Default are ctrl-p ctrl-q.
var Default = []byte{16, 17}

// Keys reads a list of keys as users write it, "ctrl-p,ctrl-q" for instance. Empty means Default.
func Keys(list string) ([]byte, error) {
	if list == "" {
		return Default, nil
	}
	return term.ToBytes(list)
}

// Reader hands on what it reads up to the keys. The beginning of the keys is held back until it is clear how it goes on;
// if something else comes, or the end, it is input like any other.
type Reader struct {
	src  io.Reader
	keys []byte
	buf  []byte
	out  []byte // still to be handed on
	held []byte // the beginning of keys
	err  error  // follows out
}

// NewReader returns a Reader for keys, which are not empty.
func NewReader(src io.Reader, keys []byte) *Reader {
	return &Reader{src: src, keys: keys, buf: make([]byte, 32<<10)}
}

// Read implements io.Reader.
func (r *Reader) Read(b []byte) (int, error) {
	for len(r.out) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		n, err := r.src.Read(r.buf)
		r.take(r.buf[:n])
		if r.err == nil && err != nil {
			r.out, r.held, r.err = append(r.out, r.held...), nil, err
		}
	}
	n := copy(b, r.out)
	r.out = r.out[n:]
	return n, nil
}

func (r *Reader) take(in []byte) {
	r.out = r.out[:0]
	for _, c := range in {
		r.held = append(r.held, c)
		for !bytes.HasPrefix(r.keys, r.held) {
			r.out, r.held = append(r.out, r.held[0]), r.held[1:]
		}
		if len(r.held) == len(r.keys) {
			r.err = ErrDetached
			return
		}
	}
}
