package stats

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	containertypes "github.com/berthd/berth/api/types/container"
)

func TestManyWatchersShareOneMeasurement(t *testing.T) {
	var s Sampler
	var measured atomic.Uint64
	measure := func() containertypes.StatsResponse {
		return containertypes.StatsResponse{NumProcs: uint32(measured.Add(1))}
	}
	begin := time.Now()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			w := s.Watch("c", measure)
			defer w.Leave()
			var last uint32
			for range 3 {
				m, err := w.Next(t.Context())
				assert.Check(t, err)
				assert.Check(t, m.NumProcs > last, "the same measurement twice")
				last = m.NumProcs
			}
		})
	}
	wg.Wait()
	atMost := uint64(time.Since(begin)/period) + 1
	assert.Assert(t, measured.Load() >= 3 && measured.Load() <= atMost, "%d measurements, at most %d", measured.Load(), atMost)
	assert.Assert(t, cmp.Len(s.feeds, 0), "nobody watches any more")
}

func TestWatcherLeavesWhenItsContextEnds(t *testing.T) {
	var s Sampler
	w := s.Watch("c", func() containertypes.StatsResponse { return containertypes.StatsResponse{} })
	defer w.Leave()
	_, err := w.Next(t.Context())
	assert.NilError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = w.Next(ctx)
	assert.ErrorIs(t, err, context.Canceled)
}
