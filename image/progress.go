package image

import (
	"context"
	"fmt"
	"sync"
	"time"

	imagetypes "github.com/berthd/berth/api/types/image"
)

// tellEvery is how often it is told at most how far a transfer is.
const tellEvery = 100 * time.Millisecond

// progress hands messages to a client, one at a time.
type progress struct {
	mu   sync.Mutex
	tell func(imagetypes.Message)
	told map[string]time.Time // by id: when it was last told how far it is
}

// say tells a status of id.
func (p *progress) say(id, status string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := imagetypes.Message{ID: id, Status: status}
	if id != "" && status != "" {
		m.Detail = &imagetypes.Progress{}
	}
	p.tell(m)
}

// step tells how far id is, unless that was told just now. A total that is not known is not positive.
func (p *progress) step(id, status string, current, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); current != total && now.Sub(p.told[id]) < tellEvery {
		return
	} else if p.told == nil {
		p.told = map[string]time.Time{id: now}
	} else {
		p.told[id] = now
	}
	d := &imagetypes.Progress{Current: current, Total: total}
	p.tell(imagetypes.Message{ID: id, Status: status, Detail: d, Bar: d.String()})
}

// pause waits before another attempt and tells so.
func (p *progress) pause(ctx context.Context, id string, d time.Duration) error {
	if id != "" {
		p.say(id, fmt.Sprintf("Retrying in %d seconds", int(d.Seconds())))
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
