package daemon

import (
	"context"
	"slices"

	containertypes "github.com/berthd/berth/api/types/container"
	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/api/types/system"
	volumetypes "github.com/berthd/berth/api/types/volume"
)

// SystemDiskUsage tells what images, containers and volumes take, for the kinds that are asked for. It walks their
// files and holds nothing meanwhile.
func (d *Daemon) SystemDiskUsage(ctx context.Context, o system.UsageOptions) (*system.DiskUsage, error) {
	du := &system.DiskUsage{Verbose: o.Verbose}
	for _, kind := range []struct {
		name string
		add  func(context.Context, *system.DiskUsage) error
	}{
		{system.Images, d.addImages}, {system.Containers, d.addContainers}, {system.Volumes, d.addVolumes},
		{system.BuildCache, func(_ context.Context, du *system.DiskUsage) error {
			du.BuildCache, du.BuildCacheUsage = &[]struct{}{}, &system.UsageOf[struct{}]{}
			return nil
		}},
	} {
		if len(o.Types) > 0 && !slices.Contains(o.Types, kind.name) {
			continue
		}
		if err := kind.add(ctx, du); err != nil {
			return nil, err
		}
	}
	return du, nil
}

func (d *Daemon) addImages(ctx context.Context, du *system.DiskUsage) error {
	list, total, err := d.images.Usage(ctx)
	if err != nil {
		return err
	}
	u := &system.UsageOf[*imagetypes.Summary]{}
	for i := range list {
		u.Add(&list[i], list[i].Containers > 0, 0, list[i].Size-list[i].SharedSize)
	}
	u.TotalSize = total
	du.LayersSize, du.ImageUsage, du.Images = &total, u, items(u)
	return nil
}

func (d *Daemon) addContainers(ctx context.Context, du *system.DiskUsage) error {
	l, err := d.selected(ctx, containertypes.ListOptions{All: true})
	if err != nil {
		return err
	}
	u := &system.UsageOf[*containertypes.Summary]{}
	for _, rec := range l.recs {
		c := summary(rec, l.of(rec))
		if err := d.addSize(ctx, c); err != nil {
			return err
		}
		u.Add(c, slices.Contains([]string{"running", "paused", "restarting"}, c.State), c.SizeRw, c.SizeRw)
	}
	du.ContainerUsage, du.Containers = u, items(u)
	return nil
}

func (d *Daemon) addVolumes(ctx context.Context, du *system.DiskUsage) error {
	list, err := d.volumes.Usage(ctx)
	if err != nil {
		return err
	}
	u := &system.UsageOf[*volumetypes.Volume]{}
	for _, v := range list {
		u.Add(v, v.UsageData.RefCount > 0, v.UsageData.Size, v.UsageData.Size)
	}
	du.VolumeUsage, du.Volumes = u, items(u)
	return nil
}

// items are those of u, never nil.
func items[T any](u *system.UsageOf[T]) *[]T {
	list := append([]T{}, u.Items...)
	return &list
}
