package image_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/image"
	"github.com/berthd/berth/internal/testimage"
	"github.com/berthd/berth/layer"
	"github.com/berthd/berth/libcontainerd/embedded"
)

// env is an image service on storage of its own.
type env struct {
	*image.Service
	t      testing.TB
	root   string
	engine *embedded.Engine
	// address is the socket of a containerd to use, if any.
	address string
	layers  *layer.Service

	mu         sync.Mutex
	uses       map[string][]image.Use
	events     []string
	registries image.Registries
}

func setup(t testing.TB) *env {
	t.Helper()
	e := &env{t: t, root: t.TempDir(), uses: map[string][]image.Use{}}
	e.start(embedded.Overlayfs)
	t.Cleanup(func() { assert.NilError(t, e.engine.Close(context.WithoutCancel(t.Context()))) })
	return e
}

func (e *env) start(driver string) {
	e.t.Helper()
	var err error
	cfg := embedded.Config{Root: filepath.Join(e.root, "containerd"), Snapshotter: driver, Address: e.address}
	e.engine, err = embedded.Start(e.t.Context(), cfg)
	assert.NilError(e.t, err)
	e.layers, err = layer.New(e.engine, e.root)
	assert.NilError(e.t, err)
	e.Service, err = image.New(e.t.Context(), image.Options{
		Engine: e.engine, Layers: e.layers,
		InUse: func(id string) []image.Use {
			e.mu.Lock()
			defer e.mu.Unlock()
			return e.uses[id]
		},
		Publish: func(action, id string, attrs map[string]string) {
			e.mu.Lock()
			defer e.mu.Unlock()
			byName := action == "pull" || action == "push" || action == "prune"
			if !byName && !strings.HasPrefix(id, "sha256:") {
				e.t.Errorf("event %s about %q", action, id)
			}
			name := attrs["name"]
			if name == id {
				name = "<id>"
			}
			e.events = append(e.events, action+" "+name)
		},
		Registries: func() image.Registries {
			e.mu.Lock()
			defer e.mu.Unlock()
			return e.registries
		},
	})
	assert.NilError(e.t, err)
}

// restart ends the engine and starts another on the same storage.
func (e *env) restart(driver string) {
	e.t.Helper()
	assert.NilError(e.t, e.engine.Close(e.t.Context()))
	e.start(driver)
}

// told returns the events since the last call.
func (e *env) told() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	events := e.events
	e.events = nil
	return events
}

func (e *env) use(id string, uses ...image.Use) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.uses[id] = uses
}

// load loads an archive and returns the lines that were told.
func (e *env) load(archive []byte) (lines []string, err error) {
	err = e.Load(e.t.Context(), bytes.NewReader(archive), nil, func(l string) { lines = append(lines, l) })
	return lines, err
}

func (e *env) mustLoad(archive []byte) []string {
	e.t.Helper()
	lines, err := e.load(archive)
	assert.NilError(e.t, err)
	return lines
}

// id returns the id of the image that ref names.
func (e *env) id(ref string) string {
	e.t.Helper()
	img, err := e.Resolve(e.t.Context(), ref)
	assert.NilError(e.t, err)
	return img.ID
}

func (e *env) collect() {
	e.t.Helper()
	ctx := e.engine.Context(e.t.Context())
	l, err := e.engine.Leases().Create(ctx, leases.WithRandomID())
	assert.NilError(e.t, err)
	assert.NilError(e.t, e.engine.Leases().Delete(ctx, l, leases.SynchronousDelete))
}

// stored lists all that is in the storage: blobs, unfinished blobs, snapshots, images, leases, and files of snapshots.
func (e *env) stored() []string {
	e.t.Helper()
	ctx := e.engine.Context(e.t.Context())
	var all []string
	assert.NilError(e.t, e.engine.Content().Walk(ctx, func(i content.Info) error {
		all = append(all, "blob "+i.Digest.String())
		return nil
	}))
	statuses, err := e.engine.Content().ListStatuses(ctx)
	assert.NilError(e.t, err)
	for _, s := range statuses {
		all = append(all, "ingest "+s.Ref)
	}
	assert.NilError(e.t, e.engine.Snapshotter().Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		all = append(all, "snapshot "+i.Name)
		return nil
	}))
	images, err := e.engine.Images().List(ctx)
	assert.NilError(e.t, err)
	for _, i := range images {
		all = append(all, "image "+i.Name)
	}
	held, err := e.engine.Leases().List(ctx)
	assert.NilError(e.t, err)
	for _, l := range held {
		all = append(all, "lease "+l.ID)
	}
	for _, pattern := range []string{
		"content.v1.content/blobs/sha256/*", "content.v1.content/ingest/*", "snapshotter.v1.*/snapshots/*",
	} {
		files, err := filepath.Glob(filepath.Join(e.root, "containerd", "io.containerd."+pattern))
		assert.NilError(e.t, err)
		for _, f := range files {
			all = append(all, "file "+strings.TrimPrefix(f, e.root))
		}
	}
	slices.Sort(all)
	return all
}

func busybox(t *testing.T, tags ...string) []byte {
	t.Helper()
	return testimage.DockerArchive(t, testimage.BusyboxImage(t, tags...))
}

// small is an image of a few bytes, different for each body.
func small(t testing.TB, body string, tags ...string) testimage.Image {
	t.Helper()
	return testimage.Image{Tags: tags, Layers: [][]byte{testimage.Layer(t, testimage.File{Name: "f", Body: body})}}
}

// readFile reads a file of a new container of the image.
func (e *env) readFile(ref, name string) string {
	e.t.Helper()
	ctx := e.layers.Leased(e.t.Context(), "reader")
	assert.NilError(e.t, e.layers.MakeLease(ctx))
	img, err := e.Resolve(ctx, ref)
	assert.NilError(e.t, err)
	defer func() {
		assert.NilError(e.t, e.layers.Release(ctx, "reader"))
		assert.NilError(e.t, e.layers.DropLease(ctx, "reader"))
	}()
	assert.NilError(e.t, e.layers.Create(ctx, "reader", img.ChainID))
	path, err := e.layers.Mount(ctx, "reader")
	assert.NilError(e.t, err)
	b, err := os.ReadFile(filepath.Join(path, name))
	assert.NilError(e.t, err)
	return string(b)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	assert.NilError(t, err)
	var all []string
	for _, f := range list {
		all = append(all, f.Name())
	}
	return all
}
