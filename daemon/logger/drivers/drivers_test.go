package drivers

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/errdefs"
)

func TestGet(t *testing.T) {
	for _, name := range Names() {
		d, err := Get(name)
		assert.NilError(t, err)
		assert.Equal(t, d.Name(), name)
	}
	_, err := Get("x")
	assert.Error(t, err, "logger: no log driver named 'x' is registered: use one of journald, json-file, local, none, syslog")
	assert.Assert(t, errdefs.IsInvalidParameter(err))
}

func TestNone(t *testing.T) {
	d, err := Get("none")
	assert.NilError(t, err)
	w, err := d.OpenWriter(logger.Info{})
	assert.NilError(t, err)
	assert.NilError(t, logger.Copy(w, strings.NewReader("a\nb"), logger.Stdout, nil))
	assert.NilError(t, w.Close())
	_, err = d.OpenReader(logger.Info{})
	assert.Error(t, err, "configured logging driver does not support reading")
	assert.Assert(t, errdefs.IsNotImplemented(err))
}

func TestMessagesComeBack(t *testing.T) {
	texts := []string{
		"", "plain", "\r", "tab\tand \"quotes\" and \\", "\x00\x01\x1b[31mred\x7f", "<html>&\u2028\u2029", "é 漢字 🦀",
		`\u0041`, "12345678\"12345678", "\u00be\x01", strings.Repeat("long ", 3000), "{\"log\":\"x\\n\"}",
	}
	each(t, nil, func(t *testing.T, l *log) {
		w := l.writer()
		var want []logger.Message
		for i, text := range texts {
			for _, partial := range []bool{false, true} {
				m := message(len(want))
				m.Line, m.Partial = []byte(text), partial
				m.Timestamp = m.Timestamp.Add(time.Duration(i) * 10_000_001)
				assert.NilError(t, w.Log(m))
				want = append(want, *m)
			}
		}
		var got []logger.Message
		assert.NilError(t, l.try(t.Context(), all(), func(m *logger.Message) error {
			kept := *m
			kept.Line = append([]byte{}, m.Line...)
			got = append(got, kept)
			return nil
		}))
		assert.DeepEqual(t, got, want)
	})
}

func TestNothingWrittenYet(t *testing.T) {
	each(t, nil, func(t *testing.T, l *log) {
		assert.Equal(t, len(l.read(all())), 0)
		cfg := all()
		cfg.Tail = 5
		assert.Equal(t, len(l.read(cfg)), 0)
	})
}

func TestRunsShareALog(t *testing.T) {
	each(t, nil, func(t *testing.T, l *log) {
		l.fill(1, 3)
		l.fill(4, 6)
		assert.DeepEqual(t, l.read(all()), lines(1, 6))
	})
}

var small = map[string]string{"max-size": "4k", "max-file": "60", "compress": "true"}

// wantCompressed waits until all rotated files are compressed.
func (l *log) wantCompressed() {
	l.t.Helper()
	poll.WaitOn(l.t, func(poll.LogT) poll.Result {
		var other []string
		for _, f := range l.files() {
			if f != "" && !strings.HasSuffix(f, ".gz") {
				other = append(other, f)
			}
		}
		if len(other) == 0 {
			return poll.Success()
		}
		return poll.Continue("not compressed: %v", other)
	}, poll.WithTimeout(30*time.Second), poll.WithDelay(5*time.Millisecond))
}

func TestTailSinceUntil(t *testing.T) {
	each(t, small, func(t *testing.T, l *log) {
		const n = 1000
		w := l.writer()
		l.write(w, 1, n-100)
		l.wantCompressed()
		l.write(w, n-99, n) // some files may be compressed by now, others not
		assert.Assert(t, len(l.files()) > 4, "%v", l.files())
		assert.DeepEqual(t, l.read(all()), lines(1, n))
		for _, tail := range []int{0, 1, 2, 7, 50, 99, 100, 101, 150, 999, 1000, 1001, 1 << 40} {
			cfg := all()
			cfg.Tail = tail
			assert.DeepEqual(t, l.read(cfg), lines(max(1, n+1-tail), n))
		}
		cfg := all()
		cfg.Since, cfg.Until = at(17), at(250)
		assert.DeepEqual(t, l.read(cfg), lines(17, 250))
		cfg.Tail = n - 240
		assert.DeepEqual(t, l.read(cfg), lines(241, 250))
	})
}

// A file that was not changed since the time that is asked for is not even opened: its content here would show.
func TestSinceSkipsOldFiles(t *testing.T) {
	each(t, small, func(t *testing.T, l *log) {
		w := l.writer()
		l.write(w, 1, 200)
		l.wantCompressed()
		for _, f := range l.files() {
			if f != "" {
				assert.NilError(t, os.Chtimes(l.info.Path+f, at(0), at(0)))
			}
		}
		cfg := all()
		cfg.Since = at(1)
		got := l.read(cfg)
		assert.Assert(t, len(got) < 100 && slices.Contains(got, "line 200"), "%v", got)
	})
}

func TestSources(t *testing.T) {
	each(t, nil, func(t *testing.T, l *log) {
		l.fill(1, 6)
		cfg := all()
		cfg.Stdout = false
		assert.DeepEqual(t, l.read(cfg), []string{"line 3", "line 6"})
		cfg.Stdout, cfg.Stderr = true, false
		assert.DeepEqual(t, l.read(cfg), []string{"line 1", "line 2", "line 4", "line 5"})
	})
}

func TestRotationKeepsTheNewest(t *testing.T) {
	for _, tc := range []struct {
		files string
		want  []string
	}{
		{"1", []string{""}},
		{"3", []string{"", ".1", ".2"}},
	} {
		t.Run(tc.files, func(t *testing.T) {
			opts := map[string]string{"max-size": "1k", "max-file": tc.files, "compress": "false"}
			each(t, opts, func(t *testing.T, l *log) {
				l.fill(1, 500)
				assert.DeepEqual(t, l.files(), tc.want)
				for _, f := range tc.want {
					info, err := os.Stat(l.info.Path + f)
					assert.NilError(t, err)
					assert.Assert(t, info.Size() < 1024+200, "%d", info.Size())
				}
				got := l.read(all())
				assert.Assert(t, len(got) > 0)
				assert.DeepEqual(t, got, lines(501-len(got), 500))
			})
		})
	}
}

func TestCompressionDropsTheOldest(t *testing.T) {
	each(t, map[string]string{"max-size": "1k", "max-file": "3", "compress": "true"}, func(t *testing.T, l *log) {
		w := l.writer()
		l.write(w, 1, 500)
		l.wantCompressed()
		assert.DeepEqual(t, l.files(), []string{"", ".1.gz", ".2.gz"})
		got := l.read(all())
		assert.DeepEqual(t, got, lines(501-len(got), 500))
	})
}

func TestTooLongARecord(t *testing.T) {
	each(t, nil, func(t *testing.T, l *log) {
		w := l.writer()
		l.write(w, 1, 1)
		m := message(0)
		m.Line = make([]byte, 1<<20)
		assert.ErrorContains(t, w.Log(m), "too long")
		l.write(w, 2, 2)
		assert.DeepEqual(t, l.read(all()), lines(1, 2))
		assert.NilError(t, w.Close())
		assert.ErrorIs(t, w.Log(message(3)), os.ErrClosed)
	})
}

// Both streams of a container share the writer.
func TestTwoStreams(t *testing.T) {
	each(t, small, func(t *testing.T, l *log) {
		w := l.writer()
		errs := make(chan error, 2)
		for _, source := range []string{logger.Stdout, logger.Stderr} {
			go func() {
				in := strings.NewReader(strings.Join(lines(1, 1000), "\n") + "\n")
				errs <- logger.Copy(w, in, source, nil)
			}()
		}
		assert.NilError(t, <-errs)
		assert.NilError(t, <-errs)
		for _, source := range []string{logger.Stdout, logger.Stderr} {
			cfg := all()
			cfg.Stdout, cfg.Stderr = source == logger.Stdout, source == logger.Stderr
			assert.DeepEqual(t, l.read(cfg), lines(1, 1000))
		}
	})
}
