package feed

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/local"
)

// receiver is a remote driver whose receiver is in this process. What it took and did not keep is lost when it breaks.
type receiver struct {
	logger.Driver

	mu     sync.Mutex
	got    []string // kept for good
	broken bool
	limit  int // breaks again and again, after so many messages; 0: never
}

var errBroken = errors.New("the receiver is broken")

func (*receiver) Name() string { return "test" }

func (r *receiver) Connect(context.Context, logger.Info) (logger.Sink, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken {
		return nil, errBroken
	}
	return &sink{r: r}, nil
}

func (r *receiver) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.got...)
}

func (r *receiver) set(broken bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = broken
}

type sink struct {
	r    *receiver
	open []string
	n    int
}

func (s *sink) Log(m *logger.Message) error {
	s.open = append(s.open, string(m.Line))
	return nil
}

func (s *sink) Settle(context.Context) error {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if s.n += len(s.open); s.r.broken || s.r.limit > 0 && s.n > s.r.limit {
		// a part of it may have got through
		s.r.got = append(s.r.got, s.open[:len(s.open)/2]...)
		return errBroken
	}
	s.r.got = append(s.r.got, s.open...)
	s.open = nil
	return nil
}

func (s *sink) Close() error { return nil }

// container is a container whose log is fed.
type container struct {
	t     *testing.T
	feeds *Feeds
	job   Job
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu    sync.Mutex
	ended chan struct{}
}

func newContainer(t *testing.T, r *receiver, opts map[string]string) *container {
	dir := t.TempDir()
	c := &container{t: t}
	info := logger.Info{Path: filepath.Join(dir, "log", "c.log"), Options: opts}
	c.job = Job{
		Driver: r, Cache: info, Place: filepath.Join(dir, "place"),
		Ended: func(context.Context) <-chan struct{} {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.ended
		},
	}
	c.boot()
	t.Cleanup(func() { c.kill() })
	return c
}

// boot begins with new Feeds, as a daemon that starts.
func (c *container) boot() {
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.feeds = New(ctx, func(fn func()) bool { c.wg.Go(fn); return true })
}

// kill ends the Feeds.
func (c *container) kill() {
	c.stop()
	c.wg.Wait()
}

// start begins a run and returns what ends it.
func (c *container) start() (logger.Writer, func()) {
	w, err := local.Driver{}.OpenWriter(c.job.Cache)
	assert.NilError(c.t, err)
	ended := make(chan struct{})
	c.mu.Lock()
	c.ended = ended
	c.mu.Unlock()
	c.feeds.Send("c", c.job)
	return w, func() {
		assert.NilError(c.t, w.Close())
		close(ended)
		c.feeds.Send("c", c.job)
	}
}

func (c *container) write(w logger.Writer, from, to int) {
	for i := from; i <= to; i++ {
		m := &logger.Message{Line: fmt.Append(nil, i), Source: logger.Stdout, Timestamp: time.Unix(1_700_000_000, int64(i))}
		assert.NilError(c.t, w.Log(m))
	}
}

// want waits until the receiver has 1..n in order, some of them perhaps several times.
func (c *container) want(r *receiver, n int) {
	c.t.Helper()
	poll.WaitOn(c.t, func(poll.LogT) poll.Result {
		got := r.lines()
		next := 1
		for _, line := range got {
			var i int
			if _, err := fmt.Sscan(line, &i); err != nil || i > next {
				return poll.Error(fmt.Errorf("%q comes where at most %d is due", line, next))
			}
			if i == next {
				next++
			}
		}
		if next <= n {
			return poll.Continue("%d of %d", next-1, n)
		}
		return poll.Success()
	}, poll.WithTimeout(30*time.Second), poll.WithDelay(5*time.Millisecond))
}

func TestEverythingIsSentOnce(t *testing.T) {
	r := &receiver{}
	c := newContainer(t, r, nil)
	w, end := c.start()
	c.write(w, 1, 10)
	c.want(r, 10)
	c.write(w, 11, 5000)
	end()
	c.want(r, 5000)
	w, end = c.start()
	c.write(w, 5001, 5010)
	end()
	c.want(r, 5010)
	c.wg.Wait()
	assert.Equal(t, len(r.lines()), 5010)
	assert.Equal(t, len(c.feeds.byID), 0)
}

func TestReceiverThatComesLate(t *testing.T) {
	r := &receiver{broken: true}
	c := newContainer(t, r, nil)
	w, end := c.start()
	c.write(w, 1, 3000)
	end()
	w, end = c.start()
	c.write(w, 3001, 3010)
	assert.Equal(t, len(r.lines()), 0)
	r.set(false)
	c.want(r, 3010)
	c.write(w, 3011, 3020)
	end()
	c.want(r, 3020)
}

func TestReceiverThatBreaksAgainAndAgain(t *testing.T) {
	r := &receiver{limit: 1500}
	c := newContainer(t, r, nil)
	w, end := c.start()
	c.write(w, 1, 6000)
	end()
	c.want(r, 6000)
	c.wg.Wait()
}

// A daemon that died goes on where it was, also when the files have rotated and were compressed meanwhile.
func TestDaemonThatDied(t *testing.T) {
	r := &receiver{}
	c := newContainer(t, r, map[string]string{"max-size": "8k", "max-file": "100"})
	w, end := c.start()
	c.write(w, 1, 100)
	c.want(r, 100)
	c.kill()
	before := len(r.lines())
	c.write(w, 101, 3000)
	c.boot()
	c.feeds.Send("c", c.job)
	c.want(r, 3000)
	assert.Equal(t, len(r.lines())-before, 2900, "none is sent twice that the receiver had for sure")
	end()
	c.wg.Wait()
}

// What was dropped before it could be sent is told of.
func TestDroppedMessages(t *testing.T) {
	r := &receiver{}
	c := newContainer(t, r, map[string]string{"max-size": "8k", "max-file": "2", "compress": "false"})
	w, end := c.start()
	c.write(w, 1, 100)
	c.want(r, 100)
	c.kill()
	c.write(w, 101, 3000)
	c.boot()
	c.feeds.Send("c", c.job)
	end()
	c.wg.Wait()
	got := r.lines()
	assert.Equal(t, got[len(got)-1], "3000")
	assert.Assert(t, strings.HasPrefix(got[100], "berth: messages may be missing here"), "%q", got[100])
}

func TestFinish(t *testing.T) {
	r := &receiver{broken: true}
	c := newContainer(t, r, nil)
	w, end := c.start()
	c.write(w, 1, 10)
	end()
	begin := time.Now()
	c.feeds.Finish(t.Context(), "c")
	assert.Assert(t, time.Since(begin) < lastWait/2, "a receiver that is broken is not waited for")
	assert.Equal(t, len(r.lines()), 0)

	r.set(false)
	_, end = c.start()
	end()
	c.feeds.Finish(t.Context(), "c")
	assert.Equal(t, len(r.lines()), 10)
	c.feeds.Finish(t.Context(), "c")
}
