package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-connections/nat"

	containertypes "github.com/berthd/berth/api/types/container"
	networktypes "github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/network"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/undo"
	"github.com/berthd/berth/libnetwork"
)

// verifyNetworks checks what a create request says about networks.
func verifyNetworks(req containertypes.CreateRequest) error {
	bad, hc := errdefs.InvalidParameterf, req.HostConfig
	for port, bindings := range hc.PortBindings {
		if _, err := nat.NewPort(port.Proto(), port.Port()); err != nil || port.Int() == 0 ||
			!slices.Contains([]string{"tcp", "udp", "sctp"}, port.Proto()) {
			return bad("invalid port specification: %q", port.Port())
		}
		for _, b := range bindings {
			if _, _, err := nat.ParsePortRange(b.HostPort); b.HostPort != "" && err != nil {
				return bad("invalid port specification: %q", b.HostPort)
			}
		}
	}
	if req.NetworkingConfig == nil {
		return nil
	}
	for name, ep := range req.NetworkingConfig.EndpointsConfig {
		if ep == nil {
			return bad("no EndpointSettings for %s", name)
		}
		if err := libnetwork.CheckEndpoint(name, ep); err != nil {
			return err
		}
	}
	return nil
}

// endpoints returns the networks that a container is to be connected to.
func endpoints(cfg *containertypes.Config, hc *containertypes.HostConfig, nc *networktypes.NetworkingConfig) map[string]*network.EndpointSettings {
	eps := map[string]*network.EndpointSettings{}
	mode := string(hc.NetworkMode)
	if hc.NetworkMode.IsContainer() || cfg.NetworkDisabled {
		return eps
	}
	eps[mode] = &network.EndpointSettings{}
	if nc != nil {
		for name, ep := range nc.EndpointsConfig {
			if name == "default" {
				name = mode
			}
			eps[name] = network.Asked(ep)
		}
	}
	return eps
}

// networkContainer is what networks need to know of a container.
func (d *Daemon) networkContainer(in *container.Intent) libnetwork.Container {
	cfg, hc, conf := in.Config, in.HostConfig, d.Config()
	or := func(own, all []string) []string {
		if len(own) > 0 {
			return own
		}
		return all
	}
	c := libnetwork.Container{
		ID: in.ID, Name: trimName(in.Name), Hostname: cfg.Hostname, Domainname: cfg.Domainname,
		Mode: string(hc.NetworkMode), Exposed: nat.PortSet{}, Bindings: hc.PortBindings, PublishAll: hc.PublishAllPorts,
		DNS: or(hc.DNS, conf.DNS), Search: or(hc.DNSSearch, conf.DNSSearch), Options: or(hc.DNSOptions, conf.DNSOpts),
		ExtraHosts: hc.ExtraHosts,
	}
	for p := range cfg.ExposedPorts {
		c.Exposed[p] = struct{}{}
	}
	for _, l := range d.links(hc) {
		c.Links = append(c.Links, libnetwork.Link{
			Container: l.target.ID, Name: trimName(l.target.Name), Alias: l.alias, Hostname: l.target.Config.Hostname,
			Exposed: l.target.Config.ExposedPorts, Env: l.target.Config.Env,
		})
	}
	return c
}

// link is a container that another one of the default bridge finds by an alias.
type link struct {
	target *container.Record
	alias  string
}

// path is how the target is called by the container that has the link.
func (l link) path(of *container.Record) string { return of.Name + "/" + l.alias }

// links are those of a container whose targets exist. On networks that users made there are none: they have their own.
func (d *Daemon) links(hc *containertypes.HostConfig) []link {
	var all []link
	if hc.NetworkMode != libnetwork.DefaultBridge {
		return nil
	}
	for _, l := range hc.Links {
		name, alias := splitLink(l)
		if c, err := d.containers.Get(name); err == nil {
			all = append(all, link{c.Snapshot(), alias})
		}
	}
	return all
}

// splitLink reads "NAME:ALIAS", of which the alias may have the container's name in front, and "NAME".
func splitLink(l string) (name, alias string) {
	name, alias, ok := strings.Cut(l, ":")
	if !ok {
		alias = name
	}
	return name, alias[strings.LastIndex(alias, "/")+1:]
}

// unlink takes the link CONTAINER/ALIAS away. The container that it leads to stays.
func (d *Daemon) unlink(ctx context.Context, path string) error {
	i := strings.LastIndex(path, "/")
	c, err := d.containers.Get(cmp.Or(path[:max(i, 0)], path))
	switch {
	case err != nil:
		return err
	case i <= 0:
		return errdefs.Systemf("Conflict, cannot remove the default link name of the container") // S-R007
	}
	return d.operate(ctx, c, func(ctx context.Context) error {
		rec, err := c.Update(func(in *container.Intent) error {
			hc := in.HostConfig.Clone()
			hc.Links = slices.DeleteFunc(hc.Links, func(l string) bool {
				_, alias := splitLink(l)
				return alias == path[i+1:]
			})
			if len(hc.Links) == len(in.HostConfig.Links) {
				return errdefs.NotFoundf("No such container: %s", path)
			}
			in.HostConfig = hc
			return nil
		})
		if err != nil || !connected(rec) {
			return err
		}
		set, err := d.networks.Refresh(ctx, d.networkContainer(&rec.Intent), rec.Network, nil)
		if err != nil {
			return err
		}
		return d.updateNetwork(c, set)
	})
}

// verifyLinks checks that what a new container links to is there. Networks that users made look for it later.
func (d *Daemon) verifyLinks(hc *containertypes.HostConfig) error {
	if hc.NetworkMode.IsUserDefined() {
		return nil
	}
	for _, l := range hc.Links {
		if l == "" || strings.Count(l, ":") > 1 {
			return errdefs.InvalidParameterf("bad format for links: %s", l)
		}
		name, _ := splitLink(l)
		c, err := d.containers.Get(name)
		if err != nil {
			return errdefs.InvalidParameterf("could not get container for %s: %w", name, err)
		}
		if c.Snapshot().HostConfig.NetworkMode.IsHost() {
			return errdefs.InvalidParameterf("conflicting options: host type networking can't be used with links. " +
				"This would result in undefined behavior")
		}
	}
	return nil
}

// connect makes the container's network namespace and connects it.
func (d *Daemon) connect(ctx context.Context, in *container.Intent, stack *undo.Stack) error {
	if in.HostConfig.NetworkMode.IsContainer() {
		in.Network.SandboxID, in.Network.SandboxKey = "", ""
		return nil
	}
	c := d.networkContainer(in)
	for _, l := range d.links(in.HostConfig) {
		if !l.target.State.Running {
			return errdefs.Systemf("Cannot link to a non running container: %s AS %s/%s", l.target.Name, in.Name, l.alias)
		}
	}
	set, err := d.networks.Up(ctx, c, in.Network)
	if err != nil {
		return err
	}
	in.Network, in.LinkEnv = set, d.networks.LinkEnv(c)
	stack.Push("disconnect the container", func(ctx context.Context) error { return d.networks.Down(ctx, in.ID, set) })
	return nil
}

// disconnected is what the network part shows of a container without a run.
func disconnected(s network.Settings) network.Settings {
	s = s.Clone()
	if s.SandboxKey != "" {
		s.LastSandboxID, s.LastSandboxKey = s.SandboxID, s.SandboxKey
	}
	s.SandboxID, s.SandboxKey, s.Ports, s.Changing = "", "", nil, ""
	for name, ep := range s.Networks {
		s.Networks[name] = ep.Disconnected()
	}
	return s
}

// shownNetwork is the network part as it is shown: that of a run which is beginning or ending is not shown any more, or
// not yet, although it is recorded.
func shownNetwork(rec *container.Record) network.Settings {
	switch {
	case rec.Config.NetworkDisabled: // its namespace has nothing to show
		return network.Settings{}
	case rec.State.Live():
		return rec.Network
	}
	return disconnected(rec.Network)
}

// renamed is the network part of a container that gets another name: it is found by that from now on.
func renamed(s network.Settings, old, name string) network.Settings {
	s = s.Clone()
	for _, ep := range s.Networks {
		if ep.DNSNames == nil {
			continue
		}
		names := slices.Clone(*ep.DNSNames)
		if i := slices.Index(names, old); i >= 0 {
			names[i] = name
		}
		ep.DNSNames = &names
	}
	return s
}

// restoreNetworks hands over to the network service which containers are connected.
func (d *Daemon) restoreNetworks(ctx context.Context) error {
	var live []libnetwork.Live
	recs, _ := d.containers.List()
	for _, rec := range recs {
		if !rec.Damaged && rec.Network.SandboxKey != "" {
			live = append(live, libnetwork.Live{Container: d.networkContainer(&rec.Intent), Settings: rec.Network})
		}
	}
	if err := d.networks.Restore(ctx, live); err != nil {
		return fmt.Errorf("take over the networks of containers: %w", err)
	}
	return nil
}
