package daemon

import (
	"context"
	"maps"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/network"
	"github.com/berthd/berth/internal/undo"
)

// replaceHostConfig gives a container that does not run another HostConfig, all of it or nothing, as clients below 1.24
// may ask for at a start. Mounts that it has stay, unless the new ones take their place; its networks stay unless the mode
// is another one. The caller holds the operation slot.
func (d *Daemon) replaceHostConfig(ctx context.Context, c *container.Container, hc *containertypes.HostConfig) (err error) {
	store, rec := d.config.Load(), c.Snapshot()
	req := containertypes.CreateRequest{Config: &containertypes.Config{}, HostConfig: hc, ReadOnlyNonRecursive: true}
	if _, err := d.verify(store, req); err != nil {
		return err
	}
	if err := d.pinSharing(hc); err != nil {
		return err
	}
	defaulted := leftOpen(hc)
	defaulted.MaskedPaths, defaulted.ReadonlyPaths = hc.MaskedPaths == nil, hc.ReadonlyPaths == nil
	fillHostConfig(store, d.host, hc)
	for _, l := range []*[]string{&hc.DNS, &hc.DNSSearch, &hc.DNSOptions} { // such a start leaves no null, create does
		if *l == nil {
			*l = []string{}
		}
	}
	ms, err := d.parseMounts(req)
	if err != nil {
		return err
	}
	var stack undo.Stack
	defer func() {
		if err != nil {
			err = stack.Run(ctx, err)
		}
	}()
	in := rec.Intent
	if err := d.takeVolumes(ctx, &in, ms, &stack); err != nil {
		return err
	}
	points := maps.Clone(rec.MountPoints)
	maps.Copy(points, in.MountPoints)
	_, err = c.Update(func(now *container.Intent) error {
		if now.HostConfig.NetworkMode != hc.NetworkMode {
			now.Network = network.Settings{Networks: endpoints(now.Config, hc, nil)}
		}
		now.HostConfig, now.Defaulted, now.MountPoints = hc, defaulted, points
		return nil
	})
	if err != nil {
		return err
	}
	warn(ctx, "release the volumes of a new HostConfig", d.volumes.Release(ctx, c.ID)) // the record refers to them now
	return nil
}
