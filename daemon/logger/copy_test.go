package logger

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"

	"gotest.tools/v3/assert"
)

// memory is a Writer that keeps what it gets, and fails as long as err is set.
type memory struct {
	mu    sync.Mutex
	msgs  []Message
	err   error
	added chan struct{}
}

func (w *memory) Log(m *Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	kept := *m
	kept.Line = bytes.Clone(m.Line)
	w.msgs = append(w.msgs, kept)
	if w.added != nil {
		w.added <- struct{}{}
	}
	return nil
}

func (w *memory) Close() error { return nil }

// text is what was logged, with | behind each message and ~ for the missing newline of a piece.
func (w *memory) text() string {
	var b strings.Builder
	for _, m := range w.msgs {
		b.Write(m.Line)
		if m.Partial {
			b.WriteByte('~')
		}
		b.WriteByte('|')
	}
	return b.String()
}

func TestCopyCutsLines(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, tc := range []struct{ doc, in, want string }{
		{"nothing", "", ""},
		{"lines", "a\nb\n", "a|b|"},
		{"empty lines", "\n\n", "||"},
		{"carriage return stays", "a\r\n", "a\r|"},
		{"no newline at the end", "a\nb", "a|b~|"},
		{"the longest line", x(MaxLine) + "\n", x(MaxLine) + "|"},
		{"one byte more", x(MaxLine+1) + "\n", x(MaxLine) + "~|x|"},
		{"a very long line", x(5*MaxLine+7) + "\nnext\n", strings.Repeat(x(MaxLine)+"~|", 5) + x(7) + "|next|"},
		{"the longest line without newline", x(MaxLine), x(MaxLine) + "~|"},
		{"a character on the edge", x(MaxLine-1) + "é\n", x(MaxLine-1) + "~|é|"},
		{"four bytes on the edge", x(MaxLine-3) + "🦀\n", x(MaxLine-3) + "~|🦀|"},
		{"a whole character at the edge", x(MaxLine-2) + "é!\n", x(MaxLine-2) + "é~|!|"},
		{"no character on the edge", x(MaxLine-1) + "\xff\xff\n", x(MaxLine-1) + "\xff~|\xff|"},
		{"many lines", strings.Repeat("y\n", 3*batchSize+1), strings.Repeat("y|", 3*batchSize+1)},
	} {
		for name, src := range map[string]io.Reader{
			"at once":       strings.NewReader(tc.in),
			"bytewise":      iotest.OneByteReader(strings.NewReader(tc.in)),
			"EOF with data": iotest.DataErrReader(strings.NewReader(tc.in)),
		} {
			t.Run(tc.doc+"/"+name, func(t *testing.T) {
				w := &memory{}
				var teed bytes.Buffer
				assert.NilError(t, Copy(w, src, Stderr, func(r Read) { teed.Write(r.Bytes) }))
				assert.Assert(t, w.text() == tc.want, "%.200q", w.text())
				assert.Assert(t, teed.String() == tc.in, "the tee gets the bytes as they are")
				for i, m := range w.msgs {
					assert.Equal(t, m.Source, Stderr)
					assert.Assert(t, i == 0 || m.Timestamp.After(w.msgs[i-1].Timestamp), "times grow")
				}
			})
		}
	}
}

func TestCopyLogsBeforeItWaits(t *testing.T) {
	r, w := io.Pipe()
	mem := &memory{added: make(chan struct{}, 10)}
	done := make(chan error)
	go func() { done <- Copy(mem, r, Stdout, nil) }()
	_, err := io.WriteString(w, "now\nunfinished")
	assert.NilError(t, err)
	<-mem.added // the source says nothing more; this would wait for ever
	assert.NilError(t, w.CloseWithError(&fs.PathError{Op: "read", Path: "/dev/ptmx", Err: syscall.EIO}))
	assert.NilError(t, <-done, "a console that was closed is an end like any other")
	assert.Equal(t, mem.text(), "now|unfinished~|")
}

func TestCopyReturnsTheErrorOfTheSource(t *testing.T) {
	broken := errors.New("broken")
	w := &memory{}
	err := Copy(w, io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)), Stdout, nil)
	assert.ErrorIs(t, err, broken)
	assert.Equal(t, w.text(), "a|b~|")
}

func TestCopyCountsWhatItCannotLog(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "/var/lib/x", Err: syscall.ENOSPC}
	w := &memory{}
	var teed int
	step := 0
	err := Copy(w, reads("a\n", "b\nc\n", "d\n", "e\nf\n", "g\n"), Stdout, func(r Read) {
		teed += len(r.Bytes)
		step++
		w.err = nil
		if step == 1 || step == 2 {
			w.err = full
		}
	})
	assert.NilError(t, err)
	assert.Equal(t, w.text(), "a|berth: 3 lines were not logged: no space left on device|e|f|g|")
	assert.Equal(t, teed, len("a\nb\nc\nd\ne\nf\ng\n"), "attached clients miss nothing")
}

func TestCopySaysWhatWasLostForGood(t *testing.T) {
	w := &memory{err: syscall.ENOSPC}
	err := Copy(w, strings.NewReader("a\nb\n"), Stdout, nil)
	assert.ErrorIs(t, err, syscall.ENOSPC)
	assert.ErrorContains(t, err, "2 lines of stdout were not logged")

	w = &memory{err: syscall.ENOSPC}
	err = Copy(w, strings.NewReader("a\nb\n"), Stdout, func(Read) { w.err = nil })
	assert.NilError(t, err)
	assert.Equal(t, w.text(), "berth: 2 lines were not logged: no space left on device|")
}

// reads is a Reader that gives one part at a time.
func reads(parts ...string) io.Reader {
	var rs []io.Reader
	for _, p := range parts {
		rs = append(rs, strings.NewReader(p))
	}
	return io.MultiReader(rs...)
}
