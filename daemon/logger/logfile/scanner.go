package logfile

import (
	"io"

	"github.com/berthd/berth/daemon/logger"
)

const scanSize = 64 * 1024

// scanner reads records one after the other.
type scanner struct {
	r      io.Reader
	format Format
	off    int64 // how much of r was gone through: the offset of buf[lo]
	buf    []byte
	lo, hi int
	eof    bool
}

// next puts the next record into m; false means that r is at its end. With atEOF nothing will follow there, and half a
// record is skipped; without, it is kept for when more has come (see again).
func (s *scanner) next(atEOF bool, m *logger.Message) (bool, error) {
	for {
		if s.lo < s.hi {
			n, ok := s.format.Next(s.buf[s.lo:s.hi], s.eof && atEOF, m)
			s.lo += n
			s.off += int64(n)
			if ok {
				return true, nil
			}
			if n > 0 {
				continue
			}
		}
		if s.eof {
			return false, nil
		}
		if err := s.fill(); err != nil {
			return false, err
		}
	}
}

func (s *scanner) fill() error {
	if s.lo > 0 {
		s.hi = copy(s.buf, s.buf[s.lo:s.hi])
		s.lo = 0
	}
	if s.hi == len(s.buf) {
		grown := make([]byte, max(scanSize, 2*len(s.buf)))
		copy(grown, s.buf)
		s.buf = grown
	}
	n, err := s.r.Read(s.buf[s.hi:])
	s.hi += n
	if err == io.EOF {
		s.eof, err = true, nil
	}
	return err
}

// again lets the scanner go on where r ended before. What it holds of an unfinished record is read anew: a writer that
// failed in the middle of it may have taken it back.
func (s *scanner) again() error {
	s.lo, s.hi, s.eof = 0, 0, false
	if r, ok := s.r.(io.Seeker); ok {
		_, err := r.Seek(s.off, io.SeekStart)
		return err
	}
	return nil
}
