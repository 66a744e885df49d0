package logfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/errdefs"
)

// flushSize is how many bytes of records one write may have.
const flushSize = 128 * 1024

// Writer appends to a log. It is a logger.BatchWriter.
type Writer struct {
	cfg Config
	ctx context.Context // ends with Close
	end context.CancelFunc
	bg  sync.WaitGroup // the compressor

	// mu is held across writes of the log file: the two streams of a container take turns.
	mu      sync.Mutex
	f       *os.File
	size    int64
	torn    bool   // the file may end with half a record
	buf     []byte // records that are not written yet
	pending int    // how many
	closed  bool
	// compressing is the index of the file that is being compressed, 0 if none is. It moves with rotations.
	compressing int
	compressor  bool
}

// OpenWriter opens the log, making its directory if need be. It goes on behind the last whole record that is there.
func OpenWriter(cfg Config) (*Writer, error) {
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return nil, errdefs.System(fmt.Errorf("making the directory of the log: %w", err))
	}
	f, err := openFile(cfg.Path, 0)
	if err != nil {
		return nil, errdefs.System(err)
	}
	w := &Writer{cfg: cfg, f: f}
	w.ctx, w.end = context.WithCancel(context.Background())
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.mendLocked(); err != nil {
		f.Close()
		return nil, errdefs.System(fmt.Errorf("going on with the log: %w", err))
	}
	w.compressLocked()
	return w, nil
}

func openFile(path string, flags int) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|flags, 0o640)
}

// mendLocked cuts off half a record at the end of the file. Readers have not read it: they take whole ones only.
func (w *Writer) mendLocked() error {
	info, err := w.f.Stat()
	if err != nil {
		return err
	}
	_, end, _, err := w.cfg.Format.Tail(w.f, info.Size(), 0)
	if err != nil {
		return err
	}
	if end < info.Size() {
		if err := w.f.Truncate(end); err != nil {
			return err
		}
	}
	w.size, w.torn = end, false
	return nil
}

// Log writes one message.
func (w *Writer) Log(m *logger.Message) error {
	_, err := w.LogBatch([]logger.Message{*m})
	return err
}

// LogBatch writes messages, with as few writes as rotation allows.
func (w *Writer) LogBatch(msgs []logger.Message) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, errdefs.System(fmt.Errorf("%s: %w", w.cfg.Path, os.ErrClosed))
	}
	done := 0
	for i := range msgs {
		if len(w.buf) >= flushSize || w.fullLocked() {
			n, err := w.flushLocked()
			done += n
			if err != nil {
				return done, err
			}
		}
		if w.fullLocked() {
			if err := w.rotateLocked(); err != nil {
				return done, errdefs.System(fmt.Errorf("rotating the log: %w", err))
			}
		}
		start := len(w.buf)
		w.buf = w.cfg.Format.Append(w.buf, &msgs[i])
		if n := len(w.buf) - start; n > MaxRecord {
			w.buf = w.buf[:start]
			n, err := w.flushLocked()
			return done + n, errors.Join(err, errdefs.InvalidParameterf("a log record of %d bytes is too long", n))
		}
		w.pending++
	}
	n, err := w.flushLocked()
	return done + n, err
}

// fullLocked reports whether the next record belongs into a new file.
func (w *Writer) fullLocked() bool {
	return w.cfg.MaxSize > 0 && w.size+int64(len(w.buf)) >= w.cfg.MaxSize
}

// flushLocked writes what is pending and returns how many records got into the file; the others are gone.
func (w *Writer) flushLocked() (int, error) {
	if w.pending == 0 {
		return 0, nil
	}
	records, buf := w.pending, w.buf
	w.pending, w.buf = 0, w.buf[:0]
	if w.torn {
		if err := w.mendLocked(); err != nil {
			return 0, errdefs.System(err)
		}
	}
	n, err := w.f.Write(buf)
	w.size += int64(n)
	if err == nil {
		return records, nil
	}
	w.torn = true
	if err := w.mendLocked(); err != nil {
		w.torn = true
	}
	return w.countWhole(buf[:n]), errdefs.System(err)
}

// countWhole counts the records of b up to the first that is not all there.
func (w *Writer) countWhole(b []byte) int {
	var m logger.Message
	for count := 0; ; count++ {
		n, ok := w.cfg.Format.Next(b, false, &m)
		if !ok {
			return count
		}
		b = b[n:]
	}
}

// rotateLocked begins a new file. The new one is made first: if that fails, nothing has moved.
func (w *Writer) rotateLocked() error {
	fresh := w.cfg.Path + ".new"
	f, err := openFile(fresh, os.O_TRUNC)
	if err != nil {
		return err
	}
	if err := w.shiftLocked(); err != nil {
		f.Close()
		return errors.Join(err, os.Remove(fresh))
	}
	if err := os.Rename(fresh, w.cfg.Path); err != nil {
		f.Close()
		return err
	}
	w.f.Close()
	w.f, w.size, w.torn = f, 0, false
	w.compressLocked()
	return nil
}

// shiftLocked gives each file the next number and drops the last.
func (w *Writer) shiftLocked() error {
	last := w.cfg.MaxFiles - 1
	if last == 0 {
		return nil // the new file replaces the old one
	}
	for _, ext := range []string{"", ".gz"} {
		if err := ignoreMissing(os.Remove(w.cfg.name(last) + ext)); err != nil {
			return err
		}
	}
	for i := last - 1; i >= 0; i-- {
		if err := ignoreMissing(os.Rename(w.cfg.name(i), w.cfg.name(i+1))); err != nil {
			return err
		}
		if i == 0 {
			break
		}
		if err := ignoreMissing(os.Rename(w.cfg.name(i)+".gz", w.cfg.name(i+1)+".gz")); err != nil {
			return err
		}
	}
	if w.compressing > 0 {
		w.compressing++
	}
	return nil
}

func ignoreMissing(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// Close closes the log. A compression that goes on is given up; the next Writer begins it anew.
func (w *Writer) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	err := w.f.Close()
	w.end()
	w.mu.Unlock()
	w.bg.Wait()
	return err
}
