package container

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/errdefs"
)

func TestExecResultOutlivesTheDaemon(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenExecs(dir)
	assert.NilError(t, err)
	assert.NilError(t, s.Add(ExecConfig{ID: "e1", ContainerID: "c", Entrypoint: "sh", DetachKeys: []byte{}}))
	code := 5
	_, err = s.Change("e1", func(st *ExecState) error { st.Started, st.ExitCode, st.EndedAt = true, &code, time.Now(); return nil })
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "torn"), []byte("{"), 0o600))

	again, err := OpenExecs(dir)
	assert.NilError(t, err)
	x, err := again.Get("e1")
	assert.NilError(t, err)
	assert.Equal(t, *x.State.ExitCode, 5)
	assert.Assert(t, x.DetachKeys != nil, "no keys are an empty list, not null")
	_, err = again.Get("torn")
	assert.Error(t, err, "No such exec instance: torn")
	assert.Assert(t, errdefs.IsNotFound(err))
}

func TestChangeThatRefusesChangesNothing(t *testing.T) {
	s, err := OpenExecs(t.TempDir())
	assert.NilError(t, err)
	assert.NilError(t, s.Add(ExecConfig{ID: "e1"}))
	no := errors.New("no")
	_, err = s.Change("e1", func(st *ExecState) error { st.Running = true; return no })
	assert.Assert(t, errors.Is(err, no))
	x, err := s.Get("e1")
	assert.NilError(t, err)
	assert.Assert(t, !x.State.Running)
}

func TestCollectDropsWhatIsOld(t *testing.T) {
	s, err := OpenExecs(t.TempDir())
	assert.NilError(t, err)
	now := time.Now()
	code := 0
	for id, age := range map[string]time.Duration{"young": ExecRetention - time.Minute, "old": ExecRetention + time.Minute} {
		assert.NilError(t, s.Add(ExecConfig{ID: id, ContainerID: "c", Created: now.Add(-age)}))
		_, err := s.Change(id, func(st *ExecState) error {
			st.Started, st.ExitCode, st.EndedAt = true, &code, now.Add(-age)
			return nil
		})
		assert.NilError(t, err)
	}
	assert.NilError(t, s.Add(ExecConfig{ID: "waits", ContainerID: "c", Created: now.Add(-2 * ExecRetention)}))
	assert.NilError(t, s.Add(ExecConfig{ID: "orphan", ContainerID: "gone", Created: now.Add(-2 * ExecRetention)}))
	s.collect(now, func(id string) bool { return id == "gone" })
	for id, kept := range map[string]bool{"young": true, "old": false, "waits": true, "orphan": false} {
		_, err := s.Get(id)
		assert.Equal(t, err == nil, kept, id)
	}
}

func TestAwaitSeesChangesAndTheEnd(t *testing.T) {
	s, err := OpenExecs(t.TempDir())
	assert.NilError(t, err)
	for _, id := range []string{"starts", "never", "other"} {
		assert.NilError(t, s.Add(ExecConfig{ID: id, ContainerID: "c", Run: 1}))
	}
	await := func(id string) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := s.Await(t.Context(), id, func(st ExecState) bool { return st.Running })
			done <- err
		}()
		return done
	}
	starts, never := await("starts"), await("never")
	_, err = s.Change("starts", func(st *ExecState) error { st.Started, st.Running = true, true; return nil })
	assert.NilError(t, err)
	assert.NilError(t, <-starts)
	s.Abandon("c", 2)
	s.Abandon("d", 1)
	assert.Equal(t, len(s.All()), 3, "of other runs")
	s.Abandon("c", 1)
	assert.Error(t, <-never, "No such exec instance: never")
	_, err = s.Get("starts")
	assert.NilError(t, err)
}
