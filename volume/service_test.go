package volume_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/moby/sys/mountinfo"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/api/types/filters"
	volumetypes "github.com/berthd/berth/api/types/volume"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/volume"
)

// engine is what the service asks, and where it keeps things.
type engine struct {
	*volume.Service
	dir string

	mu     sync.Mutex
	refs   map[string][]string // which containers refer to which volume
	events []string
}

func open(t *testing.T) *engine {
	t.Helper()
	e := &engine{dir: t.TempDir(), refs: map[string][]string{}}
	e.reopen(t)
	return e
}

// reopen is what the next engine finds after this one has died.
func (e *engine) reopen(t *testing.T) {
	t.Helper()
	var err error
	e.Service, err = volume.New(volume.Options{
		Root: e.path("volumes"), Records: e.path("records"), Run: e.path("run"),
		Uses: func() map[string][]string {
			e.mu.Lock()
			defer e.mu.Unlock()
			uses := map[string][]string{}
			for name, ids := range e.refs {
				uses[name] = slices.Clone(ids)
			}
			return uses
		},
		Publish: func(action, name string, _ map[string]string) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.events = append(e.events, action+" "+name)
		},
	})
	assert.NilError(t, err)
	e.Sweep(t.Context())
}

func (e *engine) path(parts ...string) string {
	return filepath.Join(append([]string{e.dir}, parts...)...)
}

func (e *engine) refer(name string, ids ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refs[name] = ids
}

func (e *engine) names(t *testing.T) []string {
	t.Helper()
	list, err := e.List(t.Context(), nil)
	assert.NilError(t, err)
	names := []string{}
	for _, v := range list {
		names = append(names, v.Name)
	}
	return names
}

func (e *engine) create(t *testing.T, name string) {
	t.Helper()
	_, err := e.Create(t.Context(), volumetypes.CreateRequest{Name: name})
	assert.NilError(t, err)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	assert.NilError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	assert.NilError(t, os.WriteFile(path, []byte(text), 0o600))
}

// Every state that a create, a copy or a removal can be cut in is brought to an end by the next engine.
func TestWhatWasCut(t *testing.T) {
	e := open(t)
	e.create(t, "kept")
	write(t, e.path("volumes/kept/_data/f"), "data")
	write(t, e.path("volumes/kept/_copy/half"), "")                      // a copy that was not done
	write(t, e.path("records/.tmp-1"), "{")                              // a record that was not done
	assert.NilError(t, os.MkdirAll(e.path("volumes/made/_data"), 0o755)) // a create without its record
	assert.NilError(t, os.MkdirAll(e.path("volumes/begun"), 0o755))
	e.create(t, "going")
	assert.NilError(t, os.Rename(e.path("volumes/going"), e.path("volumes/.removed-going"))) // a removal with its record
	write(t, e.path("volumes/.removed-gone/_data/f"), "data")                                // and without
	e.create(t, "again")
	write(t, e.path("volumes/.removed-again/_data/f"), "data") // a removal, and a new volume of that name
	e.create(t, "lost")
	assert.NilError(t, os.RemoveAll(e.path("volumes/lost")))
	e.create(t, "damaged")
	write(t, e.path("records/damaged.json"), "{")
	write(t, e.path("volumes/moved/_data/f"), "data") // somebody put it there
	write(t, e.path("volumes/odd name/_data/f"), "data")
	write(t, e.path("volumes/odd/else"), "data")
	e.reopen(t)

	assert.DeepEqual(t, e.names(t), []string{"again", "damaged", "kept", "lost", "moved"})
	for _, name := range []string{"kept", "moved"} {
		b, err := os.ReadFile(e.path("volumes", name, "_data/f"))
		assert.NilError(t, err)
		assert.Equal(t, string(b), "data")
	}
	for path, there := range map[string]bool{
		"volumes/kept/_copy": false, "volumes/made": false, "volumes/begun": false, "volumes/.removed-going": false,
		"volumes/.removed-gone": false, "volumes/.removed-again": false, "records/.tmp-1": false,
		"records/going.json": false, "volumes/odd/else": true, "volumes/odd name": true,
	} {
		_, err := os.Stat(e.path(path))
		assert.Equal(t, err == nil, there, path)
	}
	for name, want := range map[string]string{
		"lost":    "the directory of this volume is gone",
		"damaged": "the record of this volume is damaged: unexpected end of JSON input",
	} {
		v, err := e.Inspect(t.Context(), name)
		assert.NilError(t, err)
		assert.Equal(t, v.Status["Error"], want)
		_, err = e.Mount(t.Context(), volume.Use{Volume: name, Container: "c"})
		assert.Assert(t, err != nil, name)
	}
	for _, name := range e.names(t) {
		assert.NilError(t, e.Remove(t.Context(), name, false))
	}
	e.reopen(t)
	assert.DeepEqual(t, e.names(t), []string{})
}

func TestAnonymousVolumesBelongToTheirContainer(t *testing.T) {
	e := open(t)
	ctx := t.Context()
	acquire := func(container string) string {
		v, created, err := e.Acquire(ctx, volumetypes.CreateRequest{}, container)
		assert.NilError(t, err)
		assert.Assert(t, created)
		return v.Name
	}
	never, alive, left, shared := acquire("never"), acquire("alive"), acquire("left"), acquire("never")
	assert.NilError(t, e.Disown(ctx, "left")) // as removing a container without its volumes does
	e.reopen(t)
	e.refer(alive, "alive")
	e.refer(shared, "other")
	orphans := e.Orphans(func(id string) bool { return id == "alive" || id == "other" })
	assert.DeepEqual(t, orphans, map[string]string{never: "never", shared: "never"})
	for name, owner := range orphans {
		assert.NilError(t, e.Discard(ctx, name, owner))
	}
	names := []string{alive, left, shared}
	slices.Sort(names)
	assert.DeepEqual(t, e.names(t), names)

	e.refer(shared)
	e.reopen(t)
	// What another container used belongs to nobody since.
	assert.DeepEqual(t, e.Orphans(func(id string) bool { return id == "alive" }), map[string]string{})
	assert.NilError(t, e.Discard(ctx, alive, "alive"))
	assert.NilError(t, e.Discard(ctx, alive, "alive"), "again")
	resp, err := e.Prune(ctx, filters.Args{})
	assert.NilError(t, err)
	assert.Equal(t, len(resp.VolumesDeleted), 2)
}

// A volume is in use from before its container has a record until after that has gone.
func TestInUse(t *testing.T) {
	e := open(t)
	ctx := t.Context()
	_, created, err := e.Acquire(ctx, volumetypes.CreateRequest{Name: "vol"}, "c1")
	assert.NilError(t, err)
	assert.Assert(t, created)
	refuse := func(by string) {
		t.Helper()
		err := e.Remove(ctx, "vol", true)
		assert.Assert(t, errdefs.IsConflict(err))
		assert.Error(t, err, "remove vol: volume is in use - ["+by+"]")
		_, err = e.Prune(ctx, filters.Args{"all": {"true"}})
		assert.NilError(t, err)
		assert.DeepEqual(t, e.names(t), []string{"vol"})
	}
	refuse("c1")
	e.refer("vol", "c1", "c2")
	assert.NilError(t, e.Release(ctx, "c1"))
	refuse("c1, c2")
	_, err = e.Mount(ctx, volume.Use{Volume: "vol", Container: "c3"})
	assert.NilError(t, err)
	refuse("c1, c2, c3")
	e.refer("vol")
	refuse("c3")
	assert.NilError(t, e.Release(ctx, "c3"))
	assert.NilError(t, e.Release(ctx, "c3"), "again")
	assert.NilError(t, e.Remove(ctx, "vol", false))
	err = e.Hold(ctx, "vol", "c4")
	assert.Assert(t, errdefs.IsNotFound(err), "%v", err)
	assert.DeepEqual(t, e.events, []string{
		"create vol", "prune ", "prune ", "mount vol", "prune ", "prune ", "unmount vol", "destroy vol",
	})
}

// What waits for nobody is given back, also when who asked has gone.
func TestReleaseInAnyCase(t *testing.T) {
	e := open(t)
	e.create(t, "vol")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		_, err := e.Mount(t.Context(), volume.Use{Volume: "vol", Container: "c"})
		assert.NilError(t, err)
		assert.NilError(t, e.Release(gone, "c"))
	}
}

func mounted(t *testing.T, path string) int {
	t.Helper()
	all, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != path, false })
	assert.NilError(t, err)
	return len(all)
}

// Users come and go at once: the volume is mounted once while there is one, and not at all afterwards.
func TestMountedWhileUsed(t *testing.T) {
	e := open(t)
	ctx := t.Context()
	v, err := e.Create(ctx, volumetypes.CreateRequest{Name: "mem", DriverOpts: map[string]string{
		"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}})
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, e.Restore(nil)) }) // unmounts what a failed test has left
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() {
			c := fmt.Sprint("c", i)
			for range 50 {
				path, err := e.Mount(ctx, volume.Use{Volume: "mem", Container: c})
				if err == nil {
					err = os.WriteFile(filepath.Join(path, c), nil, 0o600)
				}
				if err == nil {
					_, err = os.Stat(filepath.Join(path, c))
				}
				if errs[i] = errors.Join(err, e.Release(ctx, c)); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	assert.NilError(t, errors.Join(errs...))
	assert.Equal(t, mounted(t, v.Mountpoint), 0)
	left, err := os.ReadDir(v.Mountpoint)
	assert.NilError(t, err)
	assert.Equal(t, len(left), 0, "something was written below the mount")

	// The next engine keeps what runs and unmounts the rest.
	_, err = e.Mount(ctx, volume.Use{Volume: "mem", Container: "runs"})
	assert.NilError(t, err)
	e.reopen(t)
	assert.NilError(t, e.Restore(map[string][]string{"runs": {"mem", "not there"}}))
	assert.Equal(t, mounted(t, v.Mountpoint), 1)
	assert.Assert(t, errdefs.IsConflict(e.Remove(ctx, "mem", false)))
	e.reopen(t)
	assert.NilError(t, e.Restore(nil))
	assert.Equal(t, mounted(t, v.Mountpoint), 0)
	assert.NilError(t, e.Remove(ctx, "mem", false))
}

// While a link is put in the way again and again, what is mounted is in the volume or nothing is.
func TestSubpathStaysInTheVolume(t *testing.T) {
	e := open(t)
	e.create(t, "vol")
	data, secret := e.path("volumes/vol/_data"), t.TempDir()
	write(t, filepath.Join(secret, "sub/secret"), "")
	write(t, filepath.Join(data, "real/sub/mine"), "")
	write(t, filepath.Join(data, "dir/sub/mine"), "")
	assert.NilError(t, os.Symlink(secret, filepath.Join(data, "link")))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		dir, link, aside := filepath.Join(data, "dir"), filepath.Join(data, "link"), filepath.Join(data, "aside")
		for ctx.Err() == nil {
			_ = os.Rename(dir, aside)
			_ = os.Rename(link, dir)
			_ = os.Rename(dir, link)
			_ = os.Rename(aside, dir)
		}
	})
	for range 300 {
		path, err := e.Mount(t.Context(), volume.Use{Volume: "vol", Container: "c", Subpath: "dir/sub"})
		if err == nil {
			_, err := os.Stat(filepath.Join(path, "mine"))
			assert.Check(t, err)
		}
		assert.NilError(t, e.Release(t.Context(), "c"))
	}
	cancel()
	wg.Wait()
	entries, err := os.ReadDir(e.path("run"))
	assert.NilError(t, err)
	assert.Equal(t, len(entries), 0)
}
