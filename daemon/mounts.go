package daemon

import (
	"context"
	"errors"
	"os"
	"slices"

	containertypes "github.com/berthd/berth/api/types/container"
	volumetypes "github.com/berthd/berth/api/types/volume"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/undo"
	"github.com/berthd/berth/volume"
	"github.com/berthd/berth/volume/mounts"
)

// parseMounts works out the mounts of a container that is to be made.
func (d *Daemon) parseMounts(req containertypes.CreateRequest) ([]*mounts.Mount, error) {
	root := d.Config().DataRoot
	return mounts.Parse(req, mounts.Host{DataRoot: root, Container: func(ref string) (*container.Record, error) {
		c, err := d.containers.Get(ref)
		if err != nil {
			return nil, err
		}
		return c.Snapshot(), nil
	}})
}

// takeVolumes finds or makes the volumes of a container that is being made, which holds them until they are released,
// and fills those that are empty with what the image has. It needs the container's layer.
func (d *Daemon) takeVolumes(ctx context.Context, in *container.Intent, ms []*mounts.Mount, stack *undo.Stack) error {
	stack.Push("release the volumes", func(ctx context.Context) error { return d.volumes.Release(ctx, in.ID) })
	in.MountPoints = map[string]*container.MountPoint{}
	for _, m := range ms {
		in.MountPoints[m.Destination] = &m.MountPoint
		if m.Type == "image" {
			if err := d.takeImage(ctx, in.ID, m); err != nil {
				return err
			}
		}
		if m.Type != "volume" {
			continue
		}
		if m.Existing {
			if err := d.volumes.Hold(ctx, m.Name, in.ID); err != nil {
				return err
			}
			continue
		}
		v, created, err := d.volumes.Acquire(ctx, volumetypes.CreateRequest{
			Name: m.Name, Driver: m.Driver, DriverOpts: m.Options, Labels: m.Labels,
		}, in.ID)
		if err != nil {
			return err
		}
		if created {
			stack.Push("remove the volume", func(ctx context.Context) error { return d.volumes.Discard(ctx, v.Name, in.ID) })
		}
		m.Name, m.Driver, m.Source = v.Name, v.Driver, v.Mountpoint
		if m.Mode == "" && !m.Declared {
			m.Mode = "z" // as dockerd shows a label that may be shared, also where nothing is labelled
		}
	}
	return d.fillVolumes(ctx, in.ID, ms)
}

// takeImage makes what a container gets of an image. It goes with the container's layer, and the lease keeps it.
func (d *Daemon) takeImage(ctx context.Context, id string, m *mounts.Mount) error {
	leased := d.layers.Leased(ctx, id)
	img, err := d.images.Resolve(leased, m.Source)
	if errdefs.IsNotFound(err) {
		return errdefs.InvalidParameter(err) // not NotFound: clients would pull the container's image
	}
	if err != nil {
		return err
	}
	return d.layers.CreateView(leased, id, m.Destination, img.ChainID)
}

func (d *Daemon) fillVolumes(ctx context.Context, id string, ms []*mounts.Mount) error {
	if !slices.ContainsFunc(ms, func(m *mounts.Mount) bool { return m.Copy }) {
		return nil
	}
	rootfs, release, err := d.layers.Hold(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	for _, m := range ms {
		if !m.Copy {
			continue
		}
		if err := d.volumes.CopyUp(ctx, m.Name, id, rootfs, m.Destination); err != nil {
			return err
		}
	}
	return nil
}

// mountVolumes makes the volumes of a container ready for a run and returns what is to be mounted, by destination.
func (d *Daemon) mountVolumes(
	ctx context.Context, rec *container.Record, stack *undo.Stack,
) (map[string]string, error) {
	stack.Push("release the volumes", func(ctx context.Context) error { return d.volumes.Release(ctx, rec.ID) })
	sources := map[string]string{}
	for dest, mp := range rec.MountPoints {
		if mp.Type == "image" {
			source, err := d.layers.MountView(ctx, rec.ID, dest, mp.Subpath)
			if err != nil {
				return nil, err
			}
			sources[dest] = source
		}
		if mp.Type != "volume" {
			continue
		}
		source, err := d.volumes.Mount(ctx, volume.Use{
			Volume: mp.Name, Container: rec.ID, Destination: dest, Subpath: mp.Subpath, RW: mp.RW, Propagation: mp.Propagation,
		})
		if err != nil {
			return nil, err
		}
		sources[dest] = source
	}
	return sources, nil
}

// giveUpVolumes removes the anonymous volumes of a container that is about to be forgotten, or leaves them to nobody.
// It may be repeated.
func (d *Daemon) giveUpVolumes(ctx context.Context, rec *container.Record) error {
	if !rec.RemoveVolumes {
		return d.volumes.Disown(ctx, rec.ID)
	}
	for _, mp := range rec.MountPoints {
		if !mp.Anonymous {
			continue
		}
		if err := d.volumes.Discard(ctx, mp.Name, rec.ID); err != nil {
			return err
		}
	}
	return nil
}

// volumeUses tells the volume service which containers refer to which volume.
func (d *Daemon) volumeUses() map[string][]string {
	uses := map[string][]string{}
	recs, _ := d.containers.List()
	for _, rec := range recs {
		for _, mp := range rec.MountPoints {
			if mp.Type == "volume" {
				uses[mp.Name] = append(uses[mp.Name], rec.ID)
			}
		}
	}
	return uses
}

// restoreVolumes tells the volume service which containers have a run, and finds the volumes of those that never came
// into being, with their owners. known are the ids of all containers.
func (d *Daemon) restoreVolumes(known map[string]bool) (orphans map[string]string, _ error) {
	running := map[string][]string{}
	recs, _ := d.containers.List()
	for _, rec := range recs {
		if rec.Task == nil {
			continue
		}
		running[rec.ID] = nil
		for _, mp := range rec.MountPoints {
			if mp.Type == "volume" {
				running[rec.ID] = append(running[rec.ID], mp.Name)
			}
		}
	}
	if err := d.volumes.Restore(running); err != nil {
		return nil, err
	}
	return d.volumes.Orphans(func(id string) bool { return known[id] }), nil
}

// makeSources makes the directories that binds are missing. It is no undo's business to remove them: dockerd's users rely
// on finding them.
func makeSources(mps map[string]*container.MountPoint) error {
	for _, mp := range mps {
		if mp.Type != "bind" {
			continue
		}
		_, err := os.Stat(mp.Source)
		if errors.Is(err, os.ErrNotExist) && mp.CreateSource {
			err = os.MkdirAll(mp.Source, 0o755)
		}
		if errors.Is(err, os.ErrNotExist) {
			return errdefs.InvalidParameterf("invalid mount config for type \"bind\": bind source path does not exist: %s", mp.Source)
		}
		if err != nil {
			return errdefs.Systemf("error while creating mount source path '%s': %w", mp.Source, err)
		}
	}
	return nil
}
