package daemon

import (
	"context"
	"io"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/archive"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/ids"
	"github.com/berthd/berth/oci"
)

// ContainerStatPath tells about a file in a container.
func (d *Daemon) ContainerStatPath(ctx context.Context, name, path string) (stat containertypes.PathStat, _ error) {
	return stat, d.withFiles(ctx, name, path, func(_ context.Context, f *view) (err error) {
		stat, err = f.Stat(path)
		return err
	})
}

// ContainerArchivePath packs a file of a container, a directory with all that is in it. found gets what there is, and a
// context that ends when the container is removed; it returns where the archive goes.
func (d *Daemon) ContainerArchivePath(ctx context.Context, name, path string, found func(context.Context, containertypes.PathStat) io.Writer) error {
	return d.withFiles(ctx, name, path, func(ctx context.Context, f *view) error {
		return f.Pack(ctx, path, func(st containertypes.PathStat) io.Writer {
			d.containers.Tell(f.c, container.Event{Action: "archive-path"})
			return found(ctx, st)
		})
	})
}

// ContainerCopy is ContainerArchivePath for old clients: links are followed.
func (d *Daemon) ContainerCopy(ctx context.Context, name, path string, found func(context.Context) io.Writer) error {
	return d.withFiles(ctx, name, path, func(ctx context.Context, f *view) error {
		return f.PackResolved(ctx, path, func() io.Writer {
			d.containers.Tell(f.c, container.Event{Action: "copy"})
			return found(ctx)
		})
	})
}

// ContainerExtractToDir unpacks an archive into a directory of a container. content gets a context that ends when the
// container is removed.
func (d *Daemon) ContainerExtractToDir(ctx context.Context, name string, o containertypes.ExtractOptions, content func(context.Context) io.Reader) error {
	return d.withFiles(ctx, name, o.Path, func(ctx context.Context, f *view) error {
		u := archive.UnpackOptions{KeepKind: o.NoOverwriteDirNonDir}
		if user := f.rec.Config.User; o.CopyUIDGID && user != "" {
			found, err := oci.ResolveUser(f.root, user, nil)
			if err != nil {
				return err
			}
			u.Owner = &archive.Owner{UID: int(found.UID), GID: int(found.GID)}
		}
		if err := f.Unpack(ctx, content(ctx), o.Path, u); err != nil {
			return err
		}
		d.containers.Tell(f.c, container.Event{Action: "extract-to-dir"})
		return nil
	})
}

// ContainerExport packs a container's file system, without what is mounted over it.
func (d *Daemon) ContainerExport(ctx context.Context, name string, begin func(context.Context) io.Writer) error {
	c, err := d.containers.Get(name)
	if err != nil {
		return err
	}
	switch s := c.Snapshot().State; {
	case s.Dead:
		return errdefs.Conflictf("You cannot export container %s which is Dead", c.ID)
	case s.RemovalInProgress:
		return errdefs.Conflictf("You cannot export container %s which is being removed", c.ID)
	}
	f, ctx, err := d.openFiles(ctx, c, false)
	if err != nil {
		return err
	}
	defer f.close()
	d.containers.Tell(c, container.Event{Action: "export"})
	return f.PackAll(ctx, begin(ctx))
}

// view is a container's file system that is held open. It takes no operation slot: the container may start, end and be
// removed meanwhile.
type view struct {
	*archive.Tree
	c     *container.Container
	rec   *container.Record
	root  string // where the layer is mounted
	close func()
}

// withFiles calls fn with what a container sees, and a context that ends when the container is removed.
func (d *Daemon) withFiles(ctx context.Context, name, path string, fn func(context.Context, *view) error) error {
	c, err := d.containers.Get(name)
	if err != nil {
		return err
	}
	f, ctx, err := d.openFiles(ctx, c, true)
	if err != nil {
		return err
	}
	defer f.close()
	if err = fn(ctx, f); errdefs.IsNotFound(err) {
		return errdefs.NotFoundf("Could not find the file %s in container %s", path, name)
	}
	return err
}

func (d *Daemon) openFiles(ctx context.Context, c *container.Container, mounts bool) (_ *view, _ context.Context, err error) {
	f := &view{c: c, rec: c.Snapshot()}
	if f.rec.State.RemovalInProgress || f.rec.Removed {
		return nil, nil, errdefs.Systemf("container %s is being removed", c.ID)
	}
	root, unhold, err := d.layers.Hold(ctx, c.ID)
	if err != nil {
		return nil, nil, errdefs.System(err)
	}
	f.root = root
	o, release := archive.Options{Root: root}, func() {}
	if mounts {
		release, err = d.mountedFiles(ctx, f.rec, &o)
	}
	if err == nil {
		if f.Tree, err = archive.Open(o); err != nil {
			release()
		}
	}
	if err != nil {
		unhold()
		return nil, nil, err
	}
	ctx, stop := d.untilRemoved(ctx, c)
	f.close = func() {
		stop()
		_ = f.Tree.Close() // only looked at
		release()
		unhold()
	}
	return f, ctx, nil
}

// untilRemoved returns a context that ends with ctx, and when the container is being removed or the daemon closes. stop
// ends the watch, not the context.
func (d *Daemon) untilRemoved(ctx context.Context, c *container.Container) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	watch, stop := context.WithCancel(d.work.ctx)
	if !d.work.Go(func() {
		_, err := c.Await(watch, func(rec *container.Record) bool { return rec.State.RemovalInProgress || rec.Removed })
		switch {
		case err == nil:
			cancel(errdefs.Conflictf("container %s is being removed", c.ID))
		case d.work.ctx.Err() != nil:
			cancel(errClosing)
		}
	}) {
		cancel(errClosing)
	}
	return ctx, stop
}

// mountedFiles adds what is mounted over the layer of a container: what its process sees, or else the sources, of which
// volumes are held until release.
func (d *Daemon) mountedFiles(ctx context.Context, rec *container.Record, o *archive.Options) (release func(), _ error) {
	o.ReadOnly, o.Mounts = rec.HostConfig.ReadonlyRootfs, archive.MountsOf(rec)
	if err := d.runs.awaitAdoption(ctx, rec.ID); err != nil {
		return nil, err
	}
	if l := d.runs.of(rec); l != nil && l.process != nil && rec.State.Live() {
		o.Enter = l.process.EnterMounts
		return func() {}, nil
	}
	if err := makeSources(rec.MountPoints); err != nil {
		return nil, err
	}
	holder := ids.New()
	release = func() {
		warn(d.work.ctx, "release the volumes that files were copied from or to", d.volumes.Release(d.work.ctx, holder))
	}
	for _, mp := range rec.MountPoints {
		if mp.Type != "volume" {
			continue
		}
		if err := d.volumes.Hold(ctx, mp.Name, holder); err != nil {
			release()
			return nil, err
		}
	}
	return release, nil
}
