package shim

import (
	"context"
	"testing"

	cgroup1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	eventsapi "github.com/containerd/containerd/api/events"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/typeurl/v2"
	"gotest.tools/v3/assert"
)

// cgroup answers for a container's cgroup.
type cgroup struct {
	taskapi.TTRPCTaskService
	kills uint64
}

func (c cgroup) Stats(context.Context, *taskapi.StatsRequest) (*taskapi.StatsResponse, error) {
	m, err := typeurl.MarshalAnyToProto(&cgroup1.Metrics{MemoryOomControl: &cgroup1.MemoryOomControl{OomKill: c.kills}})
	return &taskapi.StatsResponse{Stats: m}, err
}

// The kernel's notice may come after the exit: the cgroup tells earlier, and the notice does not count twice.
func TestOOMIsKnownBeforeTheNotice(t *testing.T) {
	for kills, want := range []int{0, 1} {
		s := &service{TTRPCTaskService: cgroup{kills: uint64(kills)}, history: newHistory()}
		s.lookForOOM(t.Context(), "c")
		past, next, _ := s.history.since(0)
		assert.Equal(t, len(past), want)

		assert.NilError(t, s.history.Publish(t.Context(), "", &eventsapi.TaskOOM{}))
		past, _, _ = s.history.since(0)
		assert.Equal(t, len(past), 1)
		assert.NilError(t, s.history.Publish(t.Context(), "", &eventsapi.TaskOOM{}))
		past, _, _ = s.history.since(next)
		assert.Equal(t, len(past), 2-want, "a later one does count")
	}
}

func TestHistoryIsBounded(t *testing.T) {
	h := newHistory()
	_, _, changed := h.since(0)
	for range 3 * keptEvents {
		assert.NilError(t, h.Publish(t.Context(), "", &eventsapi.TaskOOM{}))
	}
	<-changed
	past, next, _ := h.since(0)
	assert.Equal(t, len(past), keptEvents)
	past, _, _ = h.since(next)
	assert.Equal(t, len(past), 0)
}
