package container

import (
	"encoding/binary"
	"io"
)

// WriteFrame writes output to a client: as it is when the container has a TTY, else behind a header of eight bytes, the
// stream (1 standard output, 2 standard error), three zeros and the length.
func WriteFrame(w io.Writer, m LogMessage, raw bool) error {
	b := m.Line
	if !raw {
		b = make([]byte, 8, 8+len(m.Line))
		b[0] = 1
		if m.Stderr {
			b[0] = 2
		}
		binary.BigEndian.PutUint32(b[4:], uint32(len(m.Line)))
		b = append(b, m.Line...)
	}
	_, err := w.Write(b)
	return err
}
