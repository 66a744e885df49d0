package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/local"
	"github.com/berthd/berth/daemon/logger/logfile"
)

// settleEvery is after how many messages the receiver is asked whether it has them. It is asked whenever there are no
// more, too.
const settleEvery = 1000

// passing is one attempt to send everything.
type passing struct {
	ctx  context.Context
	job  Job
	sink logger.Sink // nil until there is something to send
	// behind is what was sent last, and open how many messages of those the receiver may not have yet.
	behind logfile.Place
	open   int
	sent   bool // the receiver got something
}

// pass sends what is there and what comes, until the run of the container has ended. It reports whether the receiver got
// anything.
func pass(ctx context.Context, job Job) (sent bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from, err := load(job.Place)
	if err != nil {
		return false, err
	}
	r, err := local.Open(job.Cache)
	if err != nil {
		return false, err
	}
	p := &passing{ctx: ctx, job: job}
	defer func() {
		if p.sink != nil {
			_ = p.sink.Close() // what has settled is there, and the rest is sent again
		}
	}()
	err = r.Resume(ctx, from, job.Ended(ctx), p.take)
	if err == nil {
		err = p.settle()
	}
	return p.sent, err
}

// take sends one message.
func (p *passing) take(m *logger.Message, behind logfile.Place) (err error) {
	if m == nil {
		return p.settle()
	}
	if p.sink == nil {
		if p.sink, err = p.job.Driver.Connect(p.ctx, p.job.Info); err != nil {
			return err
		}
	}
	if behind.Lost {
		if err := p.sink.Log(&logger.Message{
			Line:   []byte("berth: messages may be missing here: the receiver did not take them before the cache was full"),
			Source: logger.Stderr, Timestamp: m.Timestamp,
		}); err != nil {
			return err
		}
	}
	if err := p.sink.Log(m); err != nil {
		return err
	}
	p.behind = behind
	if p.open++; p.open >= settleEvery {
		return p.settle()
	}
	return nil
}

// settle waits until the receiver has what was sent, and saves that. Not synced: a power cut may cost the file, and the
// receiver gets messages twice then.
func (p *passing) settle() error {
	if p.open == 0 {
		return nil
	}
	if err := p.sink.Settle(p.ctx); err != nil {
		return err
	}
	p.open, p.sent = 0, true
	b, err := json.Marshal(p.behind)
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.job.Place+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(p.job.Place+".new", p.job.Place)
}

// load returns how far the receiver has got: not at all, if that is not known.
func load(path string) (p logfile.Place, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("find out how far the receiver of the log has got: %w", err)
	}
	if json.Unmarshal(b, &p) != nil {
		return logfile.Place{}, nil
	}
	return p, nil
}
