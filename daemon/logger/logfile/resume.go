package logfile

import (
	"context"
	"time"

	"github.com/berthd/berth/daemon/logger"
)

// Place is where a record ends in a log. It holds across rotations, also while nobody reads. The zero Place is the start
// of a log.
type Place struct {
	// File is the inode that the record's file was written with. Another file may get it once that one has gone, so the
	// record is known by its Time as well.
	File   uint64
	Offset int64
	Time   time.Time
	// Lost says that records before this one were dropped by rotation before they were read.
	Lost bool `json:"-"`
}

// resuming is what a reading that goes on from a Place has beyond others.
type resuming struct {
	from Place
	at   Place
	lost bool
	fn   func(*logger.Message, Place) error
}

// Resume calls fn for each message behind from, with the place behind it, and follows the log until ended is closed and
// everything is read. A nil message says that this is all for now. Resume ends with fn's first error, or with ctx's.
func (r *Reader) Resume(ctx context.Context, from Place, ended <-chan struct{},
	fn func(m *logger.Message, behind Place) error) error {
	s := &reading{
		Config: r.cfg, ctx: ctx, resume: &resuming{from: from, at: from, fn: fn},
		want: logger.ReadConfig{Tail: -1, Follow: true, Ended: ended, Stdout: true, Stderr: true},
	}
	s.fn = func(m *logger.Message) error {
		at := s.resume.at
		at.Lost, s.resume.lost = s.resume.lost, false
		return fn(m, at)
	}
	return s.run()
}

// resumed puts the files behind the place that the reading goes on from, oldest first. all is newest first.
func (s *reading) resumed(all []*file) ([]*file, error) {
	from := s.resume.from
	found := -1
	for i, f := range all {
		if f.ino != from.File {
			continue
		}
		ok, err := s.endsAt(f, from)
		if err != nil {
			closeAll(all)
			return nil, err
		}
		if ok {
			found = i
			break
		}
	}
	s.resume.lost = found < 0 && from != Place{}
	if found >= 0 {
		closeAll(all[found+1:])
		all = all[:found+1]
	}
	files := make([]*file, 0, len(all))
	for i := len(all) - 1; i >= 0; i-- {
		start := int64(0)
		if i == found {
			start = from.Offset
		}
		if err := all[i].place(s.Format, start); err != nil {
			closeAll(all)
			return nil, err
		}
		files = append(files, all[i])
	}
	return files, nil
}

// endsAt reports whether the record that p is behind is in f.
func (s *reading) endsAt(f *file, p Place) (bool, error) {
	if !f.gz {
		start, end, found, err := s.Format.Tail(f, min(p.Offset, f.info.Size()), 1)
		if err != nil || found == 0 || end != p.Offset {
			return false, err
		}
		if err := f.place(s.Format, start); err != nil {
			return false, err
		}
	} else if err := f.place(s.Format, 0); err != nil {
		return false, err
	}
	var m logger.Message
	for f.sc.off < p.Offset {
		if ok, err := f.sc.next(true, &m); err != nil || !ok {
			return false, err
		}
	}
	return f.sc.off == p.Offset && m.Timestamp.Equal(p.Time), nil
}
