package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/diff/walking"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/log"
	bolt "go.etcd.io/bbolt"
)

// snapshotterDir begins the name of a snapshotter's directory.
const snapshotterDir = "io.containerd.snapshotter.v1."

// boltWait is how long the database may be locked by somebody who did not take the lock of the directory first.
const boltWait = time.Second

// open builds the stores on cfg.Root. The directories have the names that containerd gives them, so that a containerd
// on the same root finds everything.
func (e *Engine) open(ctx context.Context, cfg Config) error {
	if err := dropTempMounts(cfg.Root); err != nil {
		return err
	}
	store, err := local.NewStore(filepath.Join(cfg.Root, "io.containerd.content.v1.content"))
	if err != nil {
		return fmt.Errorf("open the content store: %w", err)
	}
	sns, err := e.openSnapshotters(cfg.Root)
	if err != nil {
		return err
	}
	db, err := openDB(filepath.Join(cfg.Root, "io.containerd.metadata.v1.bolt"))
	if err != nil {
		return err
	}
	mdb := metadata.NewDB(db, store, sns)
	e.closers = append(e.closers, mdb.Close)
	if err := mdb.Init(ctx); err != nil {
		return fmt.Errorf("prepare containerd's database: %w", err)
	}
	if err := mdb.Update(func(tx *bolt.Tx) error {
		return metadata.NewNamespaceStore(tx).Create(ctx, e.namespace, nil)
	}); err != nil && !cerrdefs.IsAlreadyExists(err) {
		return fmt.Errorf("make the namespace: %w", err)
	}
	gc := startCollector(ctx, mdb)
	e.closers = append(e.closers, gc.Close)
	e.content = mdb.ContentStore()
	e.images = metadata.NewImageStore(mdb)
	e.leases = &leaseManager{Manager: metadata.NewLeaseManager(mdb), gc: gc}
	e.snapshotter = mdb.Snapshotter(e.driver)
	e.applier, e.comparer = apply.NewFileSystemApplier(e.content), walking.NewWalkingDiff(e.content)
	e.parallel = e.driver == Overlayfs
	return nil
}

// openSnapshotters opens that of the driver, and the other one if it was in use here before, so that what it still
// holds can be collected.
func (e *Engine) openSnapshotters(root string) (map[string]snapshots.Snapshotter, error) {
	open := map[string]func(dir string) (snapshots.Snapshotter, error){
		Overlayfs: func(dir string) (snapshots.Snapshotter, error) {
			return overlay.NewSnapshotter(dir, overlay.AsynchronousRemove)
		},
		Native: native.NewSnapshotter,
	}
	sns := map[string]snapshots.Snapshotter{}
	for name, fn := range open {
		dir := filepath.Join(root, snapshotterDir+name)
		if _, err := os.Stat(dir); err != nil && name != e.driver {
			continue
		}
		sn, err := fn(dir)
		if err != nil {
			return nil, fmt.Errorf("open the snapshotter %s: %w", name, err)
		}
		e.closers = append(e.closers, sn.Close)
		sns[name] = sn
	}
	return sns, nil
}

func openDB(dir string) (*bolt.DB, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make the database's directory: %w", err)
	}
	opts := *bolt.DefaultOptions
	opts.Timeout = boltWait
	// As containerd opens it: the list of free pages is worked out at the start instead of being written each time.
	opts.NoFreelistSync = true
	opts.NoStatistics = true
	db, err := bolt.Open(filepath.Join(dir, "meta.db"), 0o644, &opts)
	if err != nil {
		return nil, fmt.Errorf("open containerd's database in %s: %w", dir, err)
	}
	return db, nil
}

// leaseManager makes a synchronous Delete collect what became free.
type leaseManager struct {
	leases.Manager
	gc *collector
}

func (m *leaseManager) Delete(ctx context.Context, l leases.Lease, opts ...leases.DeleteOpt) error {
	var do leases.DeleteOptions
	for _, opt := range opts {
		if err := opt(ctx, &do); err != nil {
			return err
		}
	}
	if err := m.Manager.Delete(ctx, l); err != nil || !do.Synchronous {
		return err
	}
	return m.gc.collect(ctx)
}

// collector frees what nothing refers to any more, soon after something was deleted.
type collector struct {
	db   *metadata.DB
	busy chan struct{} // a slot that is taken while collecting, so that whoever waits sees the files gone too
	wake chan struct{}
	stop context.CancelFunc
	done chan struct{}
}

// collectDelay is the least time between a deletion and the collection, so that one collection serves many deletions.
const collectDelay = 100 * time.Millisecond

// A collection keeps writers out of the database while it marks. It may do so for at most 1/collectShare of the time.
const collectShare = 50

func startCollector(ctx context.Context, db *metadata.DB) *collector {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &collector{
		db: db, busy: make(chan struct{}, 1), wake: make(chan struct{}, 1), stop: stop, done: make(chan struct{}),
	}
	db.RegisterMutationCallback(func(dirty bool) {
		if dirty {
			c.ask()
		}
	})
	c.ask() // what the last engine left behind
	go c.run(ctx)
	return c
}

func (c *collector) ask() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *collector) collect(ctx context.Context) error {
	select {
	case c.busy <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.busy }()
	_, err := c.db.GarbageCollect(ctx)
	return err
}

func (c *collector) run(ctx context.Context) {
	defer close(c.done)
	delay := collectDelay
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		begin := time.Now()
		if err := c.collect(ctx); err != nil && !errors.Is(err, context.Canceled) {
			log.G(ctx).WithError(err).Warn("cannot free unused layers; the next removal tries again")
		}
		delay = max(collectDelay, collectShare*time.Since(begin))
	}
}

// Close ends the collecting; one that runs is waited for.
func (c *collector) Close() error {
	c.stop()
	<-c.done
	return nil
}
