package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/diff/walking"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/containerd/v2/version"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
)

// snapshotterDir begins the name of a snapshotter's directory.
const snapshotterDir = "io.containerd.snapshotter.v1."

// asidePrefix begins the name of a snapshot's directory that is to be removed.
const asidePrefix = "left-"

// boltWait is how long the database may be locked by somebody who did not take the lock of the directory first.
const boltWait = time.Second

// open builds the stores on cfg.Root. The directories have the names that containerd gives them, so that a containerd
// on the same root finds everything. killed tells that the last engine on it did not end in order.
func (e *Engine) open(ctx context.Context, cfg Config, killed bool) error {
	if err := dropTempMounts(cfg.Root); err != nil {
		return err
	}
	contentDir := filepath.Join(cfg.Root, "io.containerd.content.v1.content")
	if err := dropBrokenIngests(contentDir); err != nil {
		return fmt.Errorf("look for what the last engine left in %s: %w", contentDir, err)
	}
	store, err := local.NewStore(contentDir)
	if err != nil {
		return fmt.Errorf("open the content store: %w", err)
	}
	sns, left, err := e.openSnapshotters(ctx, cfg.Root)
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
	var first func(context.Context) error
	if killed {
		first = func(ctx context.Context) error { return e.stir(ctx, mdb, sns) }
	}
	gc := startCollector(ctx, mdb, first, left)
	e.closers = append(e.closers, gc.Close)
	e.version, _, _ = strings.Cut(version.Version, "+")
	e.revision = "v" + e.version // the tag names it
	e.content = mdb.ContentStore()
	e.images = metadata.NewImageStore(mdb)
	e.leases = &leaseManager{Manager: metadata.NewLeaseManager(mdb), gc: gc}
	e.snapshotter = mdb.Snapshotter(e.driver)
	e.together = func(ctx context.Context, fn func(context.Context) error) error {
		return mdb.Update(func(tx *bolt.Tx) error { return fn(boltutil.WithTransaction(ctx, tx)) })
	}
	e.applier, e.comparer = apply.NewFileSystemApplier(e.content), walking.NewWalkingDiff(e.content)
	e.parallel = e.driver == Overlayfs
	return nil
}

// dropBrokenIngests removes blobs that were begun and have no name yet, and what a power cut has left of those that were
// ended, their data gone to its place already: the store never finds any of them again.
func dropBrokenIngests(dir string) error {
	all, err := filepath.Glob(filepath.Join(dir, "ingest", "*"))
	if err != nil {
		return err
	}
	for _, ingest := range all {
		_, nameless := os.Stat(filepath.Join(ingest, "ref"))
		_, empty := os.Stat(filepath.Join(ingest, "data"))
		if nameless == nil && empty == nil {
			continue
		}
		if err := os.RemoveAll(ingest); err != nil {
			return err
		}
	}
	return nil
}

// openSnapshotters opens that of the driver, and the other one if it was in use here before, so that what it still
// holds can be collected. What directories are left that none of them knows is returned.
func (e *Engine) openSnapshotters(ctx context.Context, root string) (
	sns map[string]snapshots.Snapshotter, left []string, _ error,
) {
	open := map[string]func(dir string) (snapshots.Snapshotter, error){
		Overlayfs: func(dir string) (snapshots.Snapshotter, error) {
			return overlay.NewSnapshotter(dir, overlay.AsynchronousRemove)
		},
		Native: native.NewSnapshotter,
	}
	sns = map[string]snapshots.Snapshotter{}
	for name, fn := range open {
		dir := filepath.Join(root, snapshotterDir+name)
		if _, err := os.Stat(dir); err == nil {
			dirs, err := setAside(ctx, dir)
			if err != nil {
				return nil, nil, fmt.Errorf("look for what the last engine left in %s: %w", dir, err)
			}
			left = append(left, dirs...)
		} else if name != e.driver {
			continue
		}
		sn, err := fn(dir)
		if err != nil {
			return nil, nil, fmt.Errorf("open the snapshotter %s: %w", name, err)
		}
		e.closers = append(e.closers, sn.Close)
		sns[name] = sn
	}
	return sns, left, nil
}

// setAside renames the directories of a snapshotter, which is not open, that its database does not know: a snapshot that
// is made next could want the name. It returns the new names; to remove them may take long.
func setAside(ctx context.Context, dir string) (left []string, err error) {
	ms, err := storage.NewMetaStore(filepath.Join(dir, "metadata.db"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ms.Close()) }()
	known := map[string]string{}
	err = ms.WithTransaction(ctx, false, func(ctx context.Context) (err error) {
		known, err = storage.IDMap(ctx)
		return err
	})
	if err != nil && !cerrdefs.IsNotFound(err) { // not found: none was ever made
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if known[e.Name()] != "" {
			continue
		}
		path := filepath.Join(dir, "snapshots", e.Name())
		if !strings.HasPrefix(e.Name(), asidePrefix) {
			aside := filepath.Join(dir, "snapshots", asidePrefix+e.Name())
			if err := os.Rename(path, aside); err != nil {
				return nil, err
			}
			path = aside
		}
		left = append(left, path)
	}
	return left, nil
}

// stir has the first collection look into every store, which it does only where something was deleted. An engine that was
// killed may have made things there that the database does not know of yet.
func (e *Engine) stir(ctx context.Context, mdb *metadata.DB, sns map[string]snapshots.Snapshotter) error {
	ctx = e.Context(ctx)
	const thing = "stir"
	for name := range sns {
		sn := mdb.Snapshotter(name)
		if _, err := sn.Prepare(ctx, thing, ""); err != nil && !cerrdefs.IsAlreadyExists(err) {
			return err
		}
		if err := sn.Remove(ctx, thing); err != nil {
			return err
		}
	}
	desc := ocispec.Descriptor{Digest: digest.FromString(thing), Size: int64(len(thing))}
	err := content.WriteBlob(ctx, mdb.ContentStore(), thing, strings.NewReader(thing), desc)
	if err != nil {
		return err
	}
	return mdb.ContentStore().Delete(ctx, desc.Digest)
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
	_, err := m.gc.collect(ctx)
	return err
}

// collector frees what nothing refers to any more, soon after something was deleted.
type collector struct {
	db   *metadata.DB
	busy chan struct{} // a slot that is taken while collecting, so that whoever waits sees the files gone too
	wake chan struct{}
	stop context.CancelFunc
	done chan struct{}
}

// collectDelay is the least time between a deletion and the collection, so that one collection serves many deletions, and
// those of who runs one container after another fall into fewer of them.
const collectDelay = 500 * time.Millisecond

// A collection keeps writers out of the database while it marks. It may do so for at most 1/collectShare of the time.
const collectShare = 50

// startCollector starts one that begins with what comes first, unless that is nil, and with removing the directories left,
// as far as it comes.
func startCollector(ctx context.Context, db *metadata.DB, first func(context.Context) error, left []string) *collector {
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
	go c.run(ctx, first, left)
	return c
}

func (c *collector) ask() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// collect returns for how long writers had to wait.
func (c *collector) collect(ctx context.Context) (time.Duration, error) {
	select {
	case c.busy <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-c.busy }()
	stats, err := c.db.GarbageCollect(ctx)
	if err != nil {
		return 0, err
	}
	return stats.Elapsed(), nil
}

func (c *collector) run(ctx context.Context, first func(context.Context) error, left []string) {
	defer close(c.done)
	if first != nil {
		c.busy <- struct{}{} // else what it makes could be collected while it is at it
		// It waits for the disk again and again, and needs space there, without which the engine can do a lot all the same.
		if err := first(ctx); err != nil && ctx.Err() == nil {
			log.G(ctx).WithError(err).Warn("what the last engine left, blobs and layers that it was at, stays")
		}
		<-c.busy
	}
	for _, dir := range left {
		if ctx.Err() != nil {
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			log.G(ctx).WithError(err).Warn("cannot remove what the last engine left; the next start tries again")
		}
	}
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
		locked, err := c.collect(ctx)
		if err != nil && !errors.Is(err, context.Canceled) {
			log.G(ctx).WithError(err).Warn("cannot free unused layers; the next removal tries again")
		}
		delay = max(collectDelay, collectShare*locked)
	}
}

// Close ends the collecting; one that runs is waited for.
func (c *collector) Close() error {
	c.stop()
	<-c.done
	return nil
}
