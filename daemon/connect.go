package daemon

import (
	"context"
	"fmt"

	networktypes "github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/network"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/undo"
	"github.com/berthd/berth/libnetwork"
)

// NetworkConnect puts a container into a network: at once if it runs, else at its next start. A network that is not there
// is an error then.
func (d *Daemon) NetworkConnect(ctx context.Context, ref string, req networktypes.ConnectRequest) error {
	c, n, name, err := d.findPlace(ref, req.Container)
	if err != nil {
		return err
	}
	if err := libnetwork.CheckEndpoint(name, req.EndpointConfig); err != nil {
		return err
	}
	if n != nil {
		if err := n.CheckAddresses(req.EndpointConfig); err != nil {
			return err
		}
	}
	return d.operate(ctx, c, func(ctx context.Context) error {
		rec := c.Snapshot()
		if err := canConnect(rec, name); err != nil {
			return err
		}
		ep := network.Asked(req.EndpointConfig)
		if !connected(rec) {
			with := rec.Network.Clone()
			with.Networks[name] = ep
			return recordNetwork(c, with)
		}
		if n == nil {
			return errdefs.NotFoundf("network %s not found", ref)
		}
		if rec.Network.Networks[name] != nil {
			return errdefs.Forbiddenf("endpoint with name %s already exists in network %s", trimName(rec.Name), name)
		}
		var stack undo.Stack
		if err := recordNetwork(c, rec.Network.Toward(name)); err != nil {
			return err
		}
		stack.Push("record the networks as they were", func(context.Context) error { return recordNetwork(c, rec.Network) })
		member := d.networkContainer(&rec.Intent)
		set, err := d.networks.Connect(ctx, member, rec.Network, name, ep)
		if err != nil {
			return stack.Run(ctx, err)
		}
		stack.Push("disconnect the container again", func(ctx context.Context) error {
			_, err := d.networks.Disconnect(ctx, member, set, n)
			return err
		})
		stack.Push("write the container's files again", func(context.Context) error { return d.writeHostFiles(&rec.Intent) })
		if err := d.updateNetwork(c, set); err != nil {
			return stack.Run(ctx, err)
		}
		return nil
	})
}

// findPlace finds a container and a network, by the name that the record has it under. n is nil where there is no such
// network, and name is ref then.
func (d *Daemon) findPlace(ref, ofContainer string) (c *container.Container, n *libnetwork.Network, name string, err error) {
	if c, err = d.containers.Get(ofContainer); err != nil {
		return nil, nil, "", err
	}
	n, err = d.networks.Find(ref)
	switch {
	case errdefs.IsNotFound(err):
		return c, nil, ref, nil
	case err != nil:
		return nil, nil, "", err
	}
	return c, n, n.Name, nil
}

// connected tells whether a container has a network namespace that can be changed.
func connected(rec *container.Record) bool { return rec.State.Live() && rec.Network.SandboxKey != "" }

func canConnect(rec *container.Record, name string) error {
	switch mode := rec.HostConfig.NetworkMode; {
	case rec.Removed, rec.Desired == container.Gone, rec.State.Dead:
		return errdefs.Systemf("Container %s is marked for removal and cannot be connected or disconnected to the network", rec.ID)
	case mode.IsHost(), mode.IsContainer(), name == "host":
		return errdefs.InvalidParameterf("container sharing network namespace with another container or host cannot be " +
			"connected to any other network")
	case rec.Network.Networks["none"] != nil, name == "none" && len(rec.Network.Networks) > 0:
		return errdefs.InvalidParameterf("container cannot be connected to multiple networks with one of the networks in " +
			"private (none) mode")
	}
	return nil
}

// NetworkDisconnect takes a container out of a network.
func (d *Daemon) NetworkDisconnect(ctx context.Context, ref string, req networktypes.DisconnectRequest) error {
	c, n, name, err := d.findPlace(ref, req.Container)
	if req.Force && c == nil && errdefs.IsNotFound(err) {
		// There is no endpoint that would have no container.
		if _, err := d.networks.Find(ref); err != nil {
			return err
		}
		return errdefs.NotFoundf("endpoint %s not found", req.Container)
	}
	if err != nil {
		return err
	}
	return d.operate(ctx, c, func(ctx context.Context) error {
		rec := c.Snapshot()
		switch {
		case rec.Removed, rec.Desired == container.Gone, rec.State.Dead:
			return errdefs.Systemf("Container %s is marked for removal and cannot be connected or disconnected to the network", rec.ID)
		case rec.HostConfig.NetworkMode.IsHost() && name == "host":
			return errdefs.InvalidParameterf("cannot disconnect container from host network - container was created in host " +
				"network mode")
		case rec.Network.Networks[name] == nil && n == nil && !req.Force:
			return errdefs.NotFoundf("network %s not found", ref)
		case rec.Network.Networks[name] == nil && connected(rec) && n != nil:
			return errdefs.Systemf("container %s is not connected to network %s", rec.ID, name)
		case rec.Network.Networks[name] == nil:
			return errdefs.Systemf("container %s is not connected to the network %s", rec.ID, name)
		case connected(rec) && n == nil:
			return errdefs.NotFoundf("network %s not found", ref)
		}
		if connected(rec) {
			return d.leave(ctx, c, n)
		}
		without := rec.Network.Clone()
		delete(without.Networks, name)
		err := recordNetwork(c, without)
		if err == nil && n != nil {
			d.networks.TellDisconnect(n, rec.ID)
		}
		return err
	})
}

// leave takes a container that runs out of a network.
func (d *Daemon) leave(ctx context.Context, c *container.Container, n *libnetwork.Network) error {
	rec := c.Snapshot()
	if err := recordNetwork(c, rec.Network.Toward(n.Name)); err != nil {
		return err
	}
	set, err := d.networks.Disconnect(ctx, d.networkContainer(&rec.Intent), rec.Network, n)
	if err != nil {
		return errdefs.Join(err, recordNetwork(c, rec.Network))
	}
	return d.updateNetwork(c, set.Toward(""))
}

// endChange ends what an earlier daemon was at with the networks of a container that runs: a connection that was begun has
// not happened, and one that was being ended has ended.
func (d *Daemon) endChange(ctx context.Context, c *container.Container) error {
	rec := c.Snapshot()
	if rec.Network.Changing == "" {
		return nil
	}
	n, _ := d.networks.Find(rec.Network.Changing) // it may have gone
	if n != nil && rec.Network.Networks[n.Name] != nil {
		return d.leave(ctx, c, n)
	}
	set, err := d.networks.Refresh(ctx, d.networkContainer(&rec.Intent), rec.Network, n)
	if err != nil {
		return err
	}
	return d.updateNetwork(c, set.Toward(""))
}

func recordNetwork(c *container.Container, set network.Settings) error {
	_, err := c.Update(func(in *container.Intent) error {
		in.Network = set
		return nil
	})
	return err
}

// updateNetwork tells a container that runs, by its files, what has become of its networks, and then records it.
func (d *Daemon) updateNetwork(c *container.Container, set network.Settings) error {
	in := c.Snapshot().Intent
	in.Network = set
	if err := d.writeHostFiles(&in); err != nil {
		return errdefs.System(fmt.Errorf("write the container's hosts and resolv.conf: %w", err))
	}
	return recordNetwork(c, set)
}
