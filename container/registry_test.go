package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/daemon/events"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/ids"
)

func open(t *testing.T, dir string) (*Registry, *events.Ring) {
	t.Helper()
	ring := events.NewRing(1024)
	r, err := Open(dir, ring)
	assert.NilError(t, err)
	return r, ring
}

func intent(id, name string) Intent {
	return Intent{
		ID: id, Name: "/" + name, Created: time.Now().UTC(), Desired: Stopped,
		Config:     &containertypes.Config{Image: "busybox", Labels: map[string]string{"tier": "web"}},
		HostConfig: &containertypes.HostConfig{},
	}
}

func add(t *testing.T, r *Registry, id, name string) *Container {
	t.Helper()
	assert.NilError(t, r.Reserve("/"+name, id))
	c, err := r.Add(intent(id, name), Event{Action: "create"})
	assert.NilError(t, err)
	return c
}

func TestGetFindsByIDNameAndPrefix(t *testing.T) {
	r, _ := open(t, t.TempDir())
	a := strings.Repeat("a", 64)
	b := "ab" + strings.Repeat("c", 62)
	add(t, r, a, "one")
	add(t, r, b, "aa")
	for ref, want := range map[string]string{
		a: a, "one": a, "/one": a, "aaa": a, "ab": b,
		"aa": b, // a name goes before a prefix
	} {
		c, err := r.Get(ref)
		assert.NilError(t, err, ref)
		assert.Equal(t, c.ID, want, ref)
	}
	_, err := r.Get("a")
	assert.Error(t, err, "multiple IDs found with provided prefix: a")
	assert.Assert(t, errdefs.IsInvalidParameter(err))
	_, err = r.Get("nothing")
	assert.Error(t, err, "No such container: nothing")
	assert.Assert(t, errdefs.IsNotFound(err))
	_, err = r.Get("")
	assert.Assert(t, errdefs.IsInvalidParameter(err))
}

func TestNameHasOneOwner(t *testing.T) {
	r, _ := open(t, t.TempDir())
	c := add(t, r, ids.New(), "web")
	err := r.Reserve("/web", ids.New())
	assert.Assert(t, errdefs.IsConflict(err))
	assert.ErrorContains(t, err, `The container name "/web" is already in use by container "`+c.ID)

	other := ids.New()
	assert.NilError(t, r.Reserve("/spare", other))
	_, err = r.Get("spare")
	assert.Assert(t, errdefs.IsNotFound(err), "a reserved name is not yet a container's")
	r.Unreserve("/spare", other)
	assert.NilError(t, r.Reserve("/spare", c.ID))
	_, err = c.Update(func(in *Intent) error { in.Name = "/spare"; return nil })
	assert.NilError(t, err)
	r.Unreserve("/spare", c.ID) // too late: it is the container's name
	got, err := r.Get("spare")
	assert.NilError(t, err)
	assert.Equal(t, got, c)
	assert.NilError(t, r.Reserve("/web", other), "the old name is free")
}

func TestUpdateIsOnDiskBeforeItIsSeen(t *testing.T) {
	dir := t.TempDir()
	r, _ := open(t, dir)
	c := add(t, r, ids.New(), "web")
	before := c.Snapshot()

	assert.NilError(t, os.Chmod(r.Dir(c.ID), 0)) // root writes all the same; so take the directory away as well
	assert.NilError(t, os.Rename(r.Dir(c.ID), filepath.Join(dir, "away")))
	_, err := c.Update(func(in *Intent) error { in.Desired = Running; return nil })
	assert.ErrorContains(t, err, "write the record of container "+c.ID)
	assert.Equal(t, c.Snapshot(), before, "an intent that is not on disk is not seen")

	assert.NilError(t, os.Rename(filepath.Join(dir, "away"), r.Dir(c.ID)))
	_, err = c.Update(func(in *Intent) error { in.Desired = Running; return nil })
	assert.NilError(t, err)
	assert.Equal(t, before.Desired, Stopped, "a record that somebody holds does not change")

	again, _ := open(t, dir)
	found, err := again.Get("web")
	assert.NilError(t, err)
	assert.Equal(t, found.Snapshot().Desired, Running)
}

func TestUpdateThatRefusesChangesNothing(t *testing.T) {
	r, _ := open(t, t.TempDir())
	c := add(t, r, ids.New(), "web")
	before := c.Snapshot()
	no := errors.New("no")
	_, err := c.Update(func(in *Intent) error { in.Desired = Gone; return no })
	assert.Assert(t, errors.Is(err, no))
	assert.Equal(t, c.Snapshot(), before)
}

func TestObserveIsShownAlthoughTheDiskFails(t *testing.T) {
	dir := t.TempDir()
	r, _ := open(t, dir)
	c := add(t, r, ids.New(), "web")
	assert.NilError(t, os.Rename(r.Dir(c.ID), filepath.Join(dir, "away")))
	_, ok := c.Observe(0, func(o *Observed) { o.State.ExitCode = 3 })
	assert.Assert(t, ok)
	assert.Equal(t, c.Snapshot().State.ExitCode, 3)

	assert.NilError(t, os.Rename(filepath.Join(dir, "away"), r.Dir(c.ID)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Flush(ctx) }()
	for {
		// What opens the directory takes temporary files away: only one may, while there are writes.
		stored, err := r.disk.read(c.ID)
		assert.NilError(t, err)
		if stored.Observed.State.ExitCode == 3 {
			break
		}
		assert.NilError(t, t.Context().Err())
	}
	cancel()
	<-done
}

func TestObserveOfAnotherRunIsDropped(t *testing.T) {
	r, _ := open(t, t.TempDir())
	c := add(t, r, ids.New(), "web")
	_, err := c.Update(func(in *Intent) error { in.Run = 7; return nil })
	assert.NilError(t, err)
	_, ok := c.Observe(6, func(o *Observed) { o.State.Running = true })
	assert.Assert(t, !ok)
	assert.Assert(t, !c.Snapshot().State.Running)
}

func TestEventsListAndInspectTellOneOrder(t *testing.T) {
	r, ring := open(t, t.TempDir())
	sub := ring.Subscribe(events.Options{})
	c := add(t, r, ids.New(), "web")
	_, err := c.Update(func(in *Intent) error { in.Run = 1; return nil })
	assert.NilError(t, err)
	rec, _ := c.Observe(1, func(o *Observed) { o.State.Running = true }, Event{Action: "start"})
	var last uint64
	for _, want := range []string{"create", "start"} {
		m, err := sub.Next(t.Context())
		assert.NilError(t, err)
		assert.Equal(t, string(m.Action), want)
		assert.Assert(t, m.Revision > last)
		assert.DeepEqual(t, m.Actor.Attributes, map[string]string{"name": "web", "image": "busybox", "tier": "web"})
		last = m.Revision
	}
	assert.Equal(t, rec.Revision, last, "the event carries the revision of the record that it tells of")
	list, revision := r.List()
	assert.Equal(t, list[0], rec)
	assert.Assert(t, revision >= rec.Revision)
}

func TestRevisionsGrowAcrossARestart(t *testing.T) {
	dir := t.TempDir()
	r, _ := open(t, dir)
	c := add(t, r, ids.New(), "web")
	r.mu.Lock()
	r.revision += 1 << 50 // as if the clock had been far ahead
	r.mu.Unlock()
	rec, err := c.Update(func(in *Intent) error { in.Run = 1; return nil })
	assert.NilError(t, err)
	again, _ := open(t, dir)
	assert.Assert(t, again.Revision() > rec.Revision)
}

func TestListIsNewestFirst(t *testing.T) {
	dir := t.TempDir()
	r, _ := open(t, dir)
	var want []string
	for i := range 5 {
		id := ids.New()
		add(t, r, id, fmt.Sprintf("c%d", i))
		want = append([]string{id}, want...)
	}
	again, _ := open(t, dir)
	for _, reg := range []*Registry{r, again} {
		recs, _ := reg.List()
		var got []string
		for _, rec := range recs {
			got = append(got, rec.ID)
		}
		assert.DeepEqual(t, got, want)
	}
}

func TestDamagedRecordIsListedAndRemovable(t *testing.T) {
	dir := t.TempDir()
	r, _ := open(t, dir)
	c := add(t, r, ids.New(), "web")
	assert.NilError(t, os.WriteFile(filepath.Join(r.Dir(c.ID), recordFile), []byte(`{"Format":1,"Int`), 0o600))
	left := filepath.Join(dir, ids.New())
	assert.NilError(t, os.Mkdir(left, 0o700))

	again, _ := open(t, dir)
	found, err := again.Get(c.ID)
	assert.NilError(t, err)
	rec := found.Snapshot()
	assert.Assert(t, rec.Damaged && rec.State.Dead)
	assert.Assert(t, is.Contains(rec.State.Error, "is damaged"))
	assert.NilError(t, again.Reserve("/web", ids.New()), "it does not block a name")
	_, err = os.Stat(left)
	assert.Assert(t, errors.Is(err, os.ErrNotExist), "a create that never got a record is gone")

	assert.NilError(t, again.Remove(found))
	_, err = again.Get(c.ID)
	assert.Assert(t, errdefs.IsNotFound(err))
	last, _ := open(t, dir)
	recs, _ := last.List()
	assert.Equal(t, len(recs), 0)
}

// Whatever a power cut leaves of a record, no container vanishes that counted, and none comes that did not.
func TestWhatAPowerCutLeaves(t *testing.T) {
	write := func(name, content string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			assert.NilError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
		}
	}
	lose := func(t *testing.T, dir string) { assert.NilError(t, os.Remove(filepath.Join(dir, recordFile))) }
	type steps = []func(*testing.T, string)
	for _, tc := range []struct {
		name  string
		left  steps
		there string // the container's name; empty: there is none
	}{
		{"the record", nil, "/web"},
		{"the record, and a part of the next", steps{write(".tmp-1", `{"Format":1,"Int`), write(".tmp-2", "")}, "/web"},
		{"a file without content", steps{write(recordFile, "")}, "/damaged-"},
		{"zeros", steps{write(recordFile, string(make([]byte, 4096)))}, "/damaged-"},
		{"a part", steps{write(recordFile, `{"Format":1,"Int`)}, "/damaged-"},
		{"the record of another container", steps{write(recordFile, `{"Format":1,"Intent":{"ID":"x"}}`)}, "/damaged-"},
		{"no record, but other files", steps{lose, write("hosts", "")}, "/damaged-"},
		{"no record, other files and a part of one", steps{lose, write("hosts", ""), write(".tmp-1", "{")}, "/damaged-"},
		{"a create before its record", steps{lose}, ""},
		{"a create at its record", steps{lose, write(".tmp-1", `{"Format":1,"Int`)}, ""},
		{"a removal before its end", steps{write("hosts", "")}, "/web"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			r, _ := open(t, dir)
			id := add(t, r, ids.New(), "web").ID
			for _, do := range tc.left {
				do(t, r.Dir(id))
			}
			again, _ := open(t, dir)
			recs, _ := again.List()
			if tc.there == "" {
				assert.Equal(t, len(recs), 0)
				_, err := os.Stat(r.Dir(id))
				assert.Assert(t, errors.Is(err, os.ErrNotExist))
				return
			}
			assert.Equal(t, len(recs), 1)
			rec := recs[0]
			assert.Assert(t, strings.HasPrefix(rec.Name, tc.there) && rec.Damaged == (tc.there != "/web"), "%s %s", rec.Name, rec.State.Error)
			parts, err := filepath.Glob(filepath.Join(r.Dir(id), ".tmp-*"))
			assert.Assert(t, err == nil && len(parts) == 0, "%v", parts)
			c, err := again.Get(id)
			assert.NilError(t, err)
			assert.NilError(t, again.Remove(c))
			last, _ := open(t, dir)
			recs, _ = last.List()
			assert.Equal(t, len(recs), 0)
		})
	}
}

func TestRemoveFreesTheNameLast(t *testing.T) {
	r, _ := open(t, t.TempDir())
	c := add(t, r, ids.New(), "web")
	_, changed := c.Watch()
	assert.NilError(t, r.Remove(c, Event{Action: "destroy"}))
	<-changed
	assert.Assert(t, c.Snapshot().Removed)
	_, err := c.Update(func(*Intent) error { return nil })
	assert.Assert(t, errdefs.IsNotFound(err))
	_, ok := c.Observe(0, func(*Observed) {})
	assert.Assert(t, !ok)
	assert.NilError(t, r.Reserve("/web", ids.New()))
}

func TestAcquireIsExclusiveAndInterrupts(t *testing.T) {
	r, _ := open(t, t.TempDir())
	c := add(t, r, ids.New(), "web")
	opCtx, release, err := c.Acquire(t.Context(), t.Context())
	assert.NilError(t, err)
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, _, err = c.Acquire(short, t.Context())
	assert.Assert(t, errors.Is(err, context.DeadlineExceeded))
	why := errors.New("removed")
	c.Interrupt(why)
	<-opCtx.Done()
	assert.Equal(t, context.Cause(opCtx), why)
	release()
	_, release, err = c.Acquire(t.Context(), t.Context())
	assert.NilError(t, err)
	release()
	c.Interrupt(why) // nobody holds it
}

// TestHammer lets everything happen at once; the race detector and the check of published records judge.
func TestHammer(t *testing.T) {
	r, ring := open(t, t.TempDir())
	c := add(t, r, ids.New(), "web")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 50 {
				_, _ = c.Update(func(in *Intent) error {
					in.MountPoints = map[string]*MountPoint{"/x": {Destination: "/x"}}
					in.RestartCount = n
					return nil
				})
				_, _ = c.Note(0, func(o *Observed) { o.ExecIDs = WithExec(o.ExecIDs, fmt.Sprint(i, n)) })
				_, _ = c.Observe(0, func(o *Observed) { o.ExecIDs = WithoutExec(o.ExecIDs, fmt.Sprint(i, n)) })
			}
		})
		wg.Go(func() {
			last := uint64(0)
			for range 200 {
				rec := c.Snapshot()
				assert.Check(t, rec.Revision >= last)
				last = rec.Revision
				r.List()
			}
		})
	}
	wg.Go(func() {
		sub := ring.Subscribe(events.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		for {
			if _, err := sub.Next(ctx); err != nil {
				return
			}
		}
	})
	wg.Wait()
	assert.Equal(t, len(c.Snapshot().ExecIDs), 0)
}

// TestMemoIsOfOneRecord: what was made of a record is not found with the next, whatever changed.
func TestMemoIsOfOneRecord(t *testing.T) {
	r, _ := open(t, t.TempDir())
	c := add(t, r, strings.Repeat("a", 64), "one")
	for what, change := range map[string]func(){
		"intent": func() {
			_, err := c.Update(func(in *Intent) error { in.RestartCount++; return nil })
			assert.NilError(t, err)
		},
		"name": func() {
			_, err := c.Update(func(in *Intent) error { in.Name = "/two"; return nil })
			assert.NilError(t, err)
		},
		"observed": func() { c.Observe(0, func(o *Observed) { o.State.ExitCode = 3 }) },
		"note":     func() { c.Note(0, func(o *Observed) { o.ExecIDs = []string{"x"} }) },
		"remove":   func() { assert.NilError(t, r.Remove(c)) },
	} {
		if c.Snapshot().Removed {
			c = add(t, r, strings.Repeat("a", 64), "one")
		}
		old := c.Snapshot()
		old.Memo.Listed.Store(what)
		old.Memo.Inspected.Store(what)
		change()
		assert.Assert(t, old.Memo.Listed.Load() == what && old.Memo.Inspected.Load() == what)
		now := c.Snapshot().Memo
		assert.Assert(t, now != nil && now.Listed.Load() == nil && now.Inspected.Load() == nil, what)
	}
}
