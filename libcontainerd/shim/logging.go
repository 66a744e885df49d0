package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/drivers"
)

// openLog opens the log that the bundle asks for.
func openLog(bundle string) (logger.Writer, error) {
	c := LogConfig{Driver: "none"}
	b, err := os.ReadFile(filepath.Join(bundle, LogConfigFile))
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read what to log: %w", err)
	}
	d, err := drivers.Get(c.Driver)
	if err != nil {
		return nil, err
	}
	w, err := d.OpenWriter(c.Info)
	if err != nil {
		return nil, fmt.Errorf("open the log (driver %s): %w", c.Driver, err)
	}
	return &lossyLog{w: w}, nil
}

// lossyLog never fails: a container must not wait for a full disk. It counts what could not be written and says so in the
// log when writing works again.
type lossyLog struct {
	mu    sync.Mutex
	w     logger.Writer
	lost  int
	cause error // why the first of them was lost
}

// Log implements logger.Writer.
func (l *lossyLog) Log(m *logger.Message) error {
	_, err := l.LogBatch([]logger.Message{*m})
	return err
}

// LogBatch implements logger.BatchWriter.
func (l *lossyLog) LogBatch(msgs []logger.Message) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.confess(); err != nil {
		l.lost += len(msgs)
		return len(msgs), nil
	}
	if n, err := l.write(msgs); err != nil {
		l.lost, l.cause = len(msgs)-n, err
	}
	return len(msgs), nil
}

func (l *lossyLog) write(msgs []logger.Message) (int, error) {
	if b, ok := l.w.(logger.BatchWriter); ok {
		return b.LogBatch(msgs)
	}
	for i := range msgs {
		if err := l.w.Log(&msgs[i]); err != nil {
			return i, err
		}
	}
	return len(msgs), nil
}

// confess writes how much was lost, if anything was.
func (l *lossyLog) confess() error {
	if l.lost == 0 {
		return nil
	}
	text := fmt.Sprintf("berth: %d lines of output could not be logged here: %v", l.lost, l.cause)
	err := l.w.Log(&logger.Message{Line: []byte(text), Source: logger.Stderr, Timestamp: time.Now()})
	if err == nil {
		l.lost, l.cause = 0, nil
	}
	return err
}

// Close implements logger.Writer.
func (l *lossyLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.confess()
	return l.w.Close()
}
