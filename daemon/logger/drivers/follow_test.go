package drivers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/daemon/logger"
)

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
