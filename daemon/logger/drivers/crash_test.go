package drivers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/daemon/logger"
)

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
		go func() { copied <- logger.Copy(w, source, logger.Stdout, func(r logger.Read) { teed <- len(r.Bytes) }) }()
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
