// Package embedded gives the engine containerd's storage (content, images, snapshots, leases, garbage collection), in
// this process or from a containerd that runs elsewhere on this machine.
//
// It builds the stores from containerd's packages and leaves the plugin registry alone: nothing here is global, and any
// number of engines work in one process.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

// Config says where an engine's storage is.
type Config struct {
	// Root is the directory of the storage. One engine at a time may use it. It is made if missing.
	Root string
	// Namespace is containerd's word for a part that knows nothing of the others. Default: berth.
	Namespace string
	// Snapshotter is what ChooseSnapshotter takes: overlayfs, overlay2, native, or empty.
	Snapshotter string
	// Address is the socket of a containerd to use instead of an own one. It has to see our mounts and we its files.
	Address string
}

// Engine is storage in use. Its stores expect a context that came out of Context.
type Engine struct {
	namespace string
	driver    string
	version   string
	revision  string
	parallel  bool

	content     content.Store
	images      images.Store
	leases      leases.Manager
	snapshotter snapshots.Snapshotter
	applier     diff.Applier
	comparer    diff.Comparer
	together    func(ctx context.Context, fn func(context.Context) error) error // nil: one by one

	closers []func() error // in the order of the start
}

// DefaultNamespace is the namespace of an engine that names none.
const DefaultNamespace = "berth"

// Start opens the storage. It fails at once, with a Conflict, if another engine uses cfg.Root or the namespace. ctx
// only bounds the start.
func Start(ctx context.Context, cfg Config) (_ *Engine, err error) {
	e := &Engine{namespace: cfg.Namespace}
	if e.namespace == "" {
		e.namespace = DefaultNamespace
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close(ctx))
		}
	}()
	if cfg.Root, err = filepath.Abs(cfg.Root); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Root, 0o711); err != nil {
		return nil, fmt.Errorf("make the storage directory: %w", err)
	}
	unlock, killed, err := lockDir(cfg.Root)
	if err != nil {
		return nil, err
	}
	e.closers = append(e.closers, unlock)
	if e.driver, err = ChooseSnapshotter(ctx, cfg.Root, cfg.Snapshotter); err != nil {
		return nil, err
	}
	if cfg.Address != "" {
		return e, e.connect(ctx, cfg)
	}
	return e, e.open(ctx, cfg, killed)
}

// Context returns ctx for use with the stores of this engine.
func (e *Engine) Context(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, e.namespace)
}

// Driver is the name of the snapshotter.
func (e *Engine) Driver() string { return e.driver }

// Version is that of containerd, and the revision that it was built from, which may be empty.
func (e *Engine) Version() (version, revision string) { return e.version, e.revision }

// Parallel reports whether layers of one image may be unpacked side by side.
func (e *Engine) Parallel() bool { return e.parallel }

// Content is the store of blobs.
func (e *Engine) Content() content.Store { return e.content }

// Images is the store of names and what they name.
func (e *Engine) Images() images.Store { return e.images }

// Leases keeps things from being collected. A synchronous Delete returns when what became free is gone.
func (e *Engine) Leases() leases.Manager { return e.leases }

// Together calls fn, with a context for the stores in which all changes of leases, content and images are one write to the disk,
// and happen only if fn returns nil. Snapshots are not for it: others hold locks on them while they wait for such a write.
func (e *Engine) Together(ctx context.Context, fn func(context.Context) error) error {
	if e.together == nil {
		return fn(ctx)
	}
	return e.together(ctx, fn)
}

// Snapshotter is the store of file systems, that of Driver.
func (e *Engine) Snapshotter() snapshots.Snapshotter { return e.snapshotter }

// Applier unpacks blobs onto snapshots.
func (e *Engine) Applier() diff.Applier { return e.applier }

// Comparer packs into a blob how two file systems differ.
func (e *Engine) Comparer() diff.Comparer { return e.comparer }

// Close ends what Start began. No store may be in use any more.
func (e *Engine) Close(context.Context) error {
	var errs []error
	for i := len(e.closers) - 1; i >= 0; i-- {
		errs = append(errs, e.closers[i]())
	}
	e.closers = nil
	return errors.Join(errs...)
}
