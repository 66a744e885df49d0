package logfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/errdefs"
)

// Reader reads a log. It is a logger.Reader.
type Reader struct{ cfg Config }

// NewReader returns a Reader. Nothing is opened before Read, and it is no error if there is no file yet.
func NewReader(cfg Config) *Reader { return &Reader{cfg} }

// Read hands out the messages that cfg asks for. A follower that is so slow that files were dropped before it came to
// them goes on with the oldest that is left.
func (r *Reader) Read(ctx context.Context, cfg logger.ReadConfig, fn func(*logger.Message) error) error {
	s := &reading{Config: r.cfg, want: cfg, ctx: ctx, fn: fn}
	err := s.run()
	if errors.Is(err, errOver) {
		return nil
	}
	return err
}

// errOver ends a reading at the first message behind Until.
var errOver = errors.New("the end of the time that was asked for")

// reading is one call of Read.
type reading struct {
	Config
	want logger.ReadConfig
	ctx  context.Context
	fn   func(*logger.Message) error
	m    logger.Message
	// resume is set in readings that go on from a Place.
	resume *resuming
}

func (s *reading) run() error {
	var w *watcher
	if s.want.Follow {
		w = watch(filepath.Dir(s.Path)) // before the first look, so that nothing slips through between
		defer w.Close()
	}
	files, err := s.begin()
	if err != nil {
		return errdefs.System(fmt.Errorf("opening the log: %w", err))
	}
	defer func() { closeAll(files) }()
	for len(files) > 0 {
		f := files[0]
		last := len(files) == 1
		if last && s.want.Follow {
			break
		}
		if err := s.drain(f, true); err != nil {
			return err
		}
		f.Close()
		files = files[1:]
	}
	if !s.want.Follow {
		return nil
	}
	var cur *file
	if len(files) > 0 {
		cur, files = files[0], nil
	}
	return s.follow(w, cur)
}

// begin opens the files that have something to show, oldest first, each with its scanner at the right place.
func (s *reading) begin() ([]*file, error) {
	all, err := s.openAll()
	if err != nil {
		return nil, err
	}
	if s.resume != nil {
		return s.resumed(all)
	}
	need := s.want.Tail
	for i, f := range all {
		var start int64
		done := i > 0 && !s.want.Since.IsZero() && f.info.ModTime().Before(s.want.Since)
		if s.want.Tail >= 0 {
			done = need == 0 && (i > 0 || !s.want.Follow)
		}
		if done {
			closeAll(all[i:])
			all = all[:i]
			break
		}
		if s.want.Tail >= 0 {
			var found int
			if start, found, err = f.tail(s.Format, need); err != nil {
				break
			}
			need -= found
		}
		if err = f.place(s.Format, start); err != nil {
			break
		}
		if !s.want.Follow && !f.gz {
			// A container that writes without end must not make a reading without end.
			f.sc.r = io.NewSectionReader(f, start, max(0, f.info.Size()-start))
		}
	}
	if err != nil {
		closeAll(all)
		return nil, err
	}
	slices.Reverse(all)
	return all, nil
}

// drain hands out what f has from its place on. With atEOF nothing more will be written to f.
func (s *reading) drain(f *file, atEOF bool) error {
	for {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		ok, err := f.sc.next(atEOF, &s.m)
		if err != nil {
			return errdefs.System(fmt.Errorf("reading the log: %w", err))
		}
		if !ok {
			return nil
		}
		if !s.want.Until.IsZero() && s.m.Timestamp.After(s.want.Until) {
			return errOver
		}
		if s.resume != nil {
			s.resume.at = Place{File: f.ino, Offset: f.sc.off, Time: s.m.Timestamp}
		}
		if s.want.Wants(&s.m) {
			if err := s.fn(&s.m); err != nil {
				return err
			}
		}
	}
}

// follow reads on from cur, nil if there is no file yet, through all rotations.
func (s *reading) follow(w *watcher, cur *file) error {
	defer func() {
		if cur != nil {
			cur.Close()
		}
	}()
	var timeout <-chan time.Time
	if !s.want.Until.IsZero() {
		t := time.NewTimer(time.Until(s.want.Until))
		defer t.Stop()
		timeout = t.C
	}
	for over := false; ; {
		// Asked before reading: what was written before the end is read before returning.
		over = over || isClosed(s.want.Ended)
		if cur != nil {
			if err := s.drain(cur, false); err != nil {
				return err
			}
		}
		next, err := s.after(cur)
		if err != nil {
			return errdefs.System(fmt.Errorf("following the log: %w", err))
		}
		switch {
		case next != nil:
			if cur != nil {
				// Between the end that was seen and the rotation more may have been written.
				if err = s.restart(cur); err == nil {
					err = s.drain(cur, true)
				}
				cur.Close()
			}
			cur = next
			if err != nil {
				return err
			}
			continue
		case over && cur == nil:
			return nil
		case over:
			if err := s.restart(cur); err != nil {
				return err
			}
			return s.drain(cur, true)
		}
		if s.resume != nil {
			if err := s.resume.fn(nil, s.resume.at); err != nil {
				return err
			}
		}
		select {
		case <-w.changed:
		case <-w.tick:
		case <-s.want.Ended:
		case <-timeout:
			over = true
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
		if cur != nil {
			if err := s.restart(cur); err != nil {
				return err
			}
		}
	}
}

// restart lets cur go on behind its last whole record, or at its start if somebody emptied it.
func (s *reading) restart(cur *file) error {
	info, err := cur.Stat()
	if err == nil && !cur.gz && info.Size() < cur.sc.off {
		cur.sc.off = 0
	}
	if err == nil {
		err = cur.sc.again()
	}
	if err != nil {
		return errdefs.System(fmt.Errorf("following the log: %w", err))
	}
	return nil
}

// after opens the file that follows cur: the next newer one, or the oldest if cur is nil or was dropped. It is nil if
// cur is the newest.
func (s *reading) after(cur *file) (*file, error) {
	if cur != nil {
		if info, err := os.Stat(s.Path); err == nil && os.SameFile(info, cur.info) {
			return nil, nil
		}
	}
	files, err := s.openAll()
	if err != nil {
		return nil, err
	}
	at := len(files)
	for i, f := range files {
		if cur != nil && cur.is(f) {
			at = i
			break
		}
	}
	if at == 0 {
		closeAll(files)
		return nil, nil
	}
	if cur != nil && at == len(files) && s.resume != nil {
		s.resume.lost = true
	}
	next := files[at-1]
	closeAll(files[:at-1])
	closeAll(files[at:])
	if err := next.place(s.Format, 0); err != nil {
		next.Close()
		return nil, err
	}
	return next, nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
