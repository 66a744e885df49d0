package drivers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	assert.Error(t, err, "logger: no log driver named 'x' is registered")
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

// A daemon or machine that dies in the middle leaves original and copy, or half a copy.
func TestCompressionGoesOnAfterACrash(t *testing.T) {
	each(t, small, func(t *testing.T, l *log) {
		plain := *l
		plain.info.Options = map[string]string{"max-size": "4k", "max-file": "60", "compress": "false"}
		plain.fill(1, 500)
		assert.NilError(t, os.WriteFile(l.info.Path+".1.gz", []byte("half"), 0o600))
		assert.NilError(t, os.WriteFile(l.info.Path+".gz.tmp", []byte("half"), 0o600))
		assert.NilError(t, os.Chtimes(l.info.Path+".1", at(7), at(7)))
		assert.DeepEqual(t, l.read(all()), lines(1, 500))
		w := l.writer()
		l.wantCompressed()
		assert.NilError(t, w.Close())
		assert.DeepEqual(t, l.read(all()), lines(1, 500))
		info, err := os.Stat(l.info.Path + ".1.gz")
		assert.NilError(t, err)
		assert.Assert(t, info.ModTime().Equal(at(7)), "the time by which Since skips files stays")
	})
}

func TestFollow(t *testing.T) {
	each(t, nil, func(t *testing.T, l *log) {
		f := l.follow(all()) // before there is a file
		w := l.writer()
		l.write(w, 1, 10)
		f.wantNext(t, 1, 10)
		cfg := all()
		cfg.Tail = 2
		late := l.follow(cfg)
		late.wantNext(t, 9, 10)
		l.write(w, 11, 400)
		f.wantNext(t, 11, 400)
		late.wantNext(t, 11, 400)
		for _, f := range []*follower{f, late} {
			close(f.ended)
			f.wantEnd(t)
		}
	})
}

func TestFollowFromTheEnd(t *testing.T) {
	each(t, nil, func(t *testing.T, l *log) {
		w := l.writer()
		l.write(w, 1, 10)
		cfg := all()
		cfg.Tail = 0
		f := l.follow(cfg)
		// When it has begun cannot be seen from outside, so lines are written until one comes.
		for i := 11; ; i++ {
			l.write(w, i, i)
			select {
			case line := <-f.lines:
				first := number(t, line)
				assert.Assert(t, first > 10)
				f.wantNext(t, first+1, i)
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
}

func TestFollowThroughRotations(t *testing.T) {
	each(t, small, func(t *testing.T, l *log) {
		f := l.follow(all())
		const n = 2000
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.fill(1, n)
		}()
		f.wantNext(t, 1, n)
		<-done
		close(f.ended)
		f.wantEnd(t)
	})
}

// The follower stands still while its file moves on twice and is compressed under its hands.
func TestSlowFollowerFindsItsPlace(t *testing.T) {
	each(t, small, func(t *testing.T, l *log) {
		w := l.writer()
		l.write(w, 1, 5)
		f := l.follow(all())
		f.wantNext(t, 1, 3)
		l.write(w, 6, 600)
		l.wantCompressed()
		f.wantNext(t, 4, 600)
		close(f.ended)
		f.wantEnd(t)
	})
}

// What was dropped is gone, but the follower goes on with what there is, in order.
func TestOverrunFollowerGoesOn(t *testing.T) {
	each(t, map[string]string{"max-size": "1k", "max-file": "3"}, func(t *testing.T, l *log) {
		w := l.writer()
		l.write(w, 1, 5)
		f := l.follow(all())
		f.wantNext(t, 1, 3)
		l.write(w, 6, 2000)
		last := 3
		for last < 2000 {
			i := number(t, f.next(t))
			assert.Assert(t, i > last)
			last = i
		}
		close(f.ended)
		f.wantEnd(t)
	})
}

func TestFollowerEnds(t *testing.T) {
	each(t, nil, func(t *testing.T, l *log) {
		l.fill(1, 2)
		f := l.follow(all())
		f.wantNext(t, 1, 2)
		f.stop()
		assert.ErrorIs(t, <-f.done, context.Canceled)

		cfg := all()
		cfg.Until = time.Now().Add(100 * time.Millisecond)
		f = l.follow(cfg)
		f.wantNext(t, 1, 2)
		f.wantEnd(t)

		cfg.Until = at(1)
		f = l.follow(cfg)
		f.wantNext(t, 1, 1)
		f.wantEnd(t)

		stop := errors.New("stop")
		assert.Equal(t, l.try(t.Context(), all(), func(*logger.Message) error { return stop }), stop)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := l.try(ctx, all(), func(*logger.Message) error { return nil })
		assert.ErrorIs(t, err, context.Canceled)
	})
}

// Without a directory there is nothing to watch; the follower looks from time to time.
func TestFollowWithoutInotify(t *testing.T) {
	each(t, nil, func(t *testing.T, l *log) {
		l.info.Path = filepath.Join(filepath.Dir(l.info.Path), "later", "c.log")
		f := l.follow(all())
		l.fill(1, 3)
		f.wantNext(t, 1, 3)
		close(f.ended)
		f.wantEnd(t)
	})
}

// The file is emptied by hand, as many do when a disk is full.
func TestFollowAnEmptiedFile(t *testing.T) {
	each(t, nil, func(t *testing.T, l *log) {
		w := l.writer()
		f := l.follow(all())
		l.write(w, 1, 20)
		f.wantNext(t, 1, 20)
		assert.NilError(t, os.Truncate(l.info.Path, 0))
		l.write(w, 21, 25)
		f.wantNext(t, 21, 25)
		close(f.ended)
		f.wantEnd(t)
		assert.DeepEqual(t, l.read(all()), lines(21, 25))
	})
}

// Whatever a crash cut off, the next run begins cleanly and all else is read.
func TestTornEnd(t *testing.T) {
	each(t, nil, func(t *testing.T, l *log) {
		l.fill(1, 4)
		whole, err := os.ReadFile(l.info.Path)
		assert.NilError(t, err)
		l.fill(5, 5)
		more, err := os.ReadFile(l.info.Path)
		assert.NilError(t, err)
		for cut := len(whole) + 1; cut < len(more); cut++ {
			assert.NilError(t, os.WriteFile(l.info.Path, more[:cut], 0o600))
			assert.DeepEqual(t, l.read(all()), lines(1, 4))
			cfg := all()
			cfg.Tail = 2
			assert.DeepEqual(t, l.read(cfg), lines(3, 4))
			l.fill(5, 6)
			assert.DeepEqual(t, l.read(all()), lines(1, 6))
		}
		for _, junk := range []string{"\x00\x00\x00\x00", "{\"log\":\"", "\xbe\x01\x00\x00"} {
			assert.NilError(t, os.WriteFile(l.info.Path, append(slices.Clone(whole), junk...), 0o600))
			l.fill(5, 6)
			assert.DeepEqual(t, l.read(all()), lines(1, 6))
		}
	})
}

// A file system can lose a part in the middle in a power cut. The parts here are longer than a record may be.
func TestDamageInTheMiddle(t *testing.T) {
	for _, junk := range []string{
		"\x00", "\xbe\x01", "\xbe\x01\x00\x00\x10\x00", `{"log":"`, strings.Repeat("\x00", 3<<20),
		strings.Repeat("x", 3<<20), strings.Repeat("\xbe\x01\x00\x0f\x00\x00", 1<<18),
	} {
		t.Run(fmt.Sprintf("%.6q,%d", junk, len(junk)), func(t *testing.T) {
			each(t, nil, func(t *testing.T, l *log) {
				l.fill(1, 4)
				f, err := os.OpenFile(l.info.Path, os.O_WRONLY|os.O_APPEND, 0)
				assert.NilError(t, err)
				_, err = f.WriteString(junk + "\n")
				assert.NilError(t, err)
				assert.NilError(t, f.Close())
				next, err := os.ReadFile(l.info.Path)
				assert.NilError(t, err)
				assert.NilError(t, os.Remove(l.info.Path))
				l.fill(5, 8)
				good, err := os.ReadFile(l.info.Path)
				assert.NilError(t, err)
				assert.NilError(t, os.WriteFile(l.info.Path, append(next, good...), 0o600))
				assert.DeepEqual(t, l.read(all()), lines(1, 8))
				cfg := all()
				cfg.Tail = 3
				assert.DeepEqual(t, l.read(cfg), lines(6, 8))
				l.fill(9, 9)
				assert.DeepEqual(t, l.read(all()), lines(1, 9))
			})
		})
	}
}

// A real full disk: nothing is torn, followers see whole lines only, and the number of lost lines is told.
func TestFullDisk(t *testing.T) {
	each(t, nil, func(t *testing.T, l *log) {
		dir := filepath.Dir(l.info.Path)
		assert.NilError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"))
		t.Cleanup(func() { assert.NilError(t, unix.Unmount(dir, 0)) })
		ballast := filepath.Join(dir, "ballast")
		assert.NilError(t, os.WriteFile(ballast, make([]byte, 32*1024), 0o600))
		w := l.writer()
		f := l.follow(all())

		source, feed, err := os.Pipe()
		assert.NilError(t, err)
		defer source.Close()
		copied := make(chan error, 1)
		teed := make(chan int, 10_000)
		go func() { copied <- logger.Copy(w, source, logger.Stdout, func(b []byte) { teed <- len(b) }) }()
		say := func(from, to int) {
			text := strings.Join(lines(from, to), "\n") + "\n"
			_, err := feed.WriteString(text)
			assert.NilError(t, err)
			for n := 0; n < len(text); {
				n += <-teed
			}
		}
		say(1, 20)
		f.wantNext(t, 1, 20)
		go func() { // whoever follows reads what there is
			for range f.lines {
			}
		}()
		say(21, 5000)
		assert.NilError(t, os.Remove(ballast))
		say(5001, 5010)
		assert.NilError(t, feed.Close())
		assert.NilError(t, <-copied)

		got := l.read(all())
		at := slices.IndexFunc(got, func(s string) bool { return strings.HasPrefix(s, "berth: ") })
		assert.Assert(t, at > 20 && at < 5000, "%d", at)
		assert.DeepEqual(t, got[:at], lines(1, at))
		assert.Equal(t, got[at], fmt.Sprintf("berth: %d lines were not logged: no space left on device", 5000-at))
		assert.DeepEqual(t, got[at+1:], lines(5001, 5010))
		close(f.ended)
		assert.NilError(t, <-f.done)
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
