package drivers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/daemon/logger"
)

// log is one container's log under test.
type log struct {
	t    *testing.T
	d    logger.Driver
	info logger.Info
}

// each runs a test for every driver that keeps logs in files.
func each(t *testing.T, opts map[string]string, test func(t *testing.T, l *log)) {
	for _, name := range []string{"json-file", "local"} {
		t.Run(name, func(t *testing.T) {
			d, err := Get(name)
			assert.NilError(t, err)
			assert.NilError(t, d.Validate(opts))
			path := filepath.Join(t.TempDir(), "c.log")
			test(t, &log{t: t, d: d, info: logger.Info{Path: path, Options: opts}})
		})
	}
}

func (l *log) writer() logger.Writer {
	l.t.Helper()
	w, err := l.d.OpenWriter(l.info)
	assert.NilError(l.t, err)
	l.t.Cleanup(func() { w.Close() })
	return w
}

// message is the i-th message of a log: a second apart, every third one from stderr.
func message(i int) *logger.Message {
	m := &logger.Message{Line: []byte("line " + strconv.Itoa(i)), Source: logger.Stdout, Timestamp: at(i)}
	if i%3 == 0 {
		m.Source = logger.Stderr
	}
	return m
}

func at(i int) time.Time { return time.Unix(1_700_000_000+int64(i), 5000).UTC() }

// write writes the messages from..to.
func (l *log) write(w logger.Writer, from, to int) {
	l.t.Helper()
	for i := from; i <= to; i++ {
		assert.NilError(l.t, w.Log(message(i)))
	}
}

// fill writes the messages from..to in a run of their own.
func (l *log) fill(from, to int) {
	l.t.Helper()
	w := l.writer()
	l.write(w, from, to)
	assert.NilError(l.t, w.Close())
}

func all() logger.ReadConfig { return logger.ReadConfig{Tail: -1, Stdout: true, Stderr: true} }

// read returns the lines that cfg asks for.
func (l *log) read(cfg logger.ReadConfig) []string {
	l.t.Helper()
	var got []string
	assert.NilError(l.t, l.try(l.t.Context(), cfg, func(m *logger.Message) error {
		got = append(got, string(m.Line))
		return nil
	}))
	return got
}

func (l *log) try(ctx context.Context, cfg logger.ReadConfig, fn func(*logger.Message) error) error {
	r, err := l.d.OpenReader(l.info)
	assert.NilError(l.t, err)
	return r.Read(ctx, cfg, fn)
}

// follower is a Read that runs beside the test.
type follower struct {
	lines chan string
	done  chan error
	ended chan struct{}
	stop  context.CancelFunc
}

// follow starts a follower. Its lines have to be taken; it does not read ahead.
func (l *log) follow(cfg logger.ReadConfig) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{
		lines: make(chan string), done: make(chan error, 1), ended: make(chan struct{}), stop: cancel,
	}
	cfg.Follow = true
	cfg.Ended = f.ended
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		defer close(f.lines)
		f.done <- l.try(ctx, cfg, func(m *logger.Message) error {
			select {
			case f.lines <- string(m.Line):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	l.t.Cleanup(func() {
		cancel()
		<-exited
	})
	return f
}

// next takes one line.
func (f *follower) next(t *testing.T) string {
	t.Helper()
	select {
	case line, ok := <-f.lines:
		assert.Assert(t, ok, "the follower has ended")
		return line
	case <-time.After(30 * time.Second):
		t.Fatal("nothing comes")
		return ""
	}
}

// wantNext takes lines and compares them with the messages from..to.
func (f *follower) wantNext(t *testing.T, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		assert.Equal(t, f.next(t), "line "+strconv.Itoa(i))
	}
}

// wantEnd expects no more lines, and the end of the reading.
func (f *follower) wantEnd(t *testing.T) {
	t.Helper()
	select {
	case line, ok := <-f.lines:
		assert.Assert(t, !ok, "one more: %q", line)
		assert.NilError(t, <-f.done)
	case <-time.After(30 * time.Second):
		t.Fatal("the follower does not end")
	}
}

// lines are the texts of the messages from..to.
func lines(from, to int) []string {
	var want []string
	for i := from; i <= to; i++ {
		want = append(want, fmt.Sprintf("line %d", i))
	}
	return want
}

// number is the number of a message's text.
func number(t *testing.T, line string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimPrefix(line, "line "))
	assert.NilError(t, err)
	return n
}

// files returns the names of the log's files, without the common part.
func (l *log) files() []string {
	entries, err := os.ReadDir(filepath.Dir(l.info.Path))
	assert.NilError(l.t, err)
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimPrefix(e.Name(), filepath.Base(l.info.Path)))
	}
	slices.Sort(names)
	return names
}
