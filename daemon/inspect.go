package daemon

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/docker/go-connections/nat"
	units "github.com/docker/go-units"

	containertypes "github.com/berthd/berth/api/types/container"
	networktypes "github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/daemon/network"
	"github.com/berthd/berth/errdefs"
)

// ContainerInspect returns all about a container as JSON, in the shape of o.Version. It never waits for what the container
// is doing; only size, which the versions below 1.21 do not have, reads the disk. The answer holds at the revision that comes
// with it. With o.After it waits for a record behind that revision, as long as o.Timeout: newer tells whether there is one.
func (d *Daemon) ContainerInspect(ctx context.Context, name string, o containertypes.InspectOptions) (
	entry *containertypes.Entry, revision uint64, newer bool, err error,
) {
	c, err := d.containers.Get(name)
	if err != nil {
		return nil, 0, false, err
	}
	if err := d.awaitNewer(ctx, c, o); err != nil {
		return nil, 0, false, err
	}
	rec, revision := d.containers.Look(c)
	if rec.Removed {
		return nil, 0, false, errdefs.NotFoundf("No such container: %s", name)
	}
	if o.Size && !versions.LessThan(o.Version, "1.21") {
		var rw, rootfs int64
		if rw, rootfs, err = d.layers.Size(ctx, rec.ID); err != nil {
			return nil, 0, false, err
		}
		r := d.inspect(ctx, rec, d.inspection(rec, o.Version))
		r.SizeRw, r.SizeRootFs = &rw, &rootfs
		entry, err = encode(r, o.Version)
	} else {
		entry, err = d.inspected(ctx, rec, o.Version)
	}
	return entry, revision, rec.Revision > o.After, err
}

// inspection is what an inspect's JSON is made of, beside its record, and that JSON.
type inspection struct {
	version string
	cfg     *config.Config
	links   []string
	entry   *containertypes.Entry // nil: it was asked for once
}

func (d *Daemon) inspection(rec *container.Record, version string) inspection {
	i := inspection{version: version, cfg: d.Config()}
	for _, l := range d.links(rec.HostConfig) {
		i.links = append(i.links, l.target.Name+":"+l.path(rec))
	}
	return i
}

// inspected returns the JSON: what the record's memo has of the same inspection. It keeps what is asked for a second time, so
// that a look at everything costs no memory. A layer is not where the record says when the container is being removed, or
// damaged: of such a record nothing is kept.
func (d *Daemon) inspected(ctx context.Context, rec *container.Record, version string) (*containertypes.Entry, error) {
	i := d.inspection(rec, version)
	last, asked := rec.Memo.Inspected.Load().(inspection)
	asked = asked && last.version == i.version && last.cfg == i.cfg && slices.Equal(last.links, i.links)
	if asked && last.entry != nil && !container.Audited {
		return last.entry, nil
	}
	r := d.inspect(ctx, rec, i)
	hasLayer := r.GraphDriver.Data != nil
	entry, err := encode(r, version)
	if err == nil && hasLayer && rec.Desired != container.Gone && !rec.Damaged {
		if asked {
			last.entry.Audit(entry)
			i.entry = entry
		}
		rec.Memo.Inspected.Store(i)
	}
	return entry, err
}

// awaitNewer waits for a record behind o.After, as long as o.Timeout. That there is none is no error.
func (d *Daemon) awaitNewer(ctx context.Context, c *container.Container, o containertypes.InspectOptions) error {
	if _, err := d.reached(o.After); err != nil {
		return err
	}
	_, err := awaitFor(ctx, c, o.Timeout, func(rec *container.Record) bool { return rec.Revision > o.After })
	return err
}

// inspect builds the union of what all versions show: a function of the record, of i, and of where the layer is.
func (d *Daemon) inspect(ctx context.Context, rec *container.Record, i inspection) *containertypes.InspectResponse {
	return &containertypes.InspectResponse{
		Base:                    d.inspectBase(ctx, rec, i),
		Mounts:                  mountPoints(rec),
		Config:                  inspectConfig(rec),
		NetworkSettings:         networkSettings(shownNetwork(rec)),
		ImageManifestDescriptor: containertypes.CloneDescriptor(rec.ImageManifest),
	}
}

func inspectConfig(rec *container.Record) *containertypes.Config {
	c := rec.Config.Clone()
	if c.OnBuild == nil { // which versions show
		c.OnBuild = new([]string)
	}
	return c
}

func (d *Daemon) inspectBase(ctx context.Context, rec *container.Record, i inspection) *containertypes.Base {
	hc := rec.HostConfig.Clone()
	hc.KernelMemory, hc.KernelMemoryTCP = new(int64), new(int64) // which versions show
	hc.Links = slices.Clone(i.links)
	hc.Ulimits = withDefaultUlimits(hc.Ulimits, i.cfg.DefaultUlimits)
	return &containertypes.Base{
		ID: rec.ID, Created: rec.Created.Format(time.RFC3339Nano), Path: rec.Path, Args: slices.Clone(rec.Args),
		State: inspectState(rec), Image: rec.ImageID,
		ResolvConfPath: rec.ResolvConfPath, HostnamePath: rec.HostnamePath, HostsPath: rec.HostsPath, LogPath: rec.LogPath,
		Name: rec.Name, RestartCount: rec.RestartCount, Driver: rec.Driver, Platform: rec.OS,
		MountLabel: rec.MountLabel, ProcessLabel: rec.ProcessLabel, AppArmorProfile: rec.AppArmorProfile,
		ExecIDs: slices.Clone(rec.ExecIDs), HostConfig: hc,
		GraphDriver: d.graphDriver(ctx, rec), Defaulted: rec.Defaulted,
		Storage: &containertypes.Storage{RootFS: &containertypes.RootFSStorage{
			Snapshot: &containertypes.SnapshotStorage{Name: rec.Driver},
		}},
	}
}

func inspectState(rec *container.Record) *containertypes.State {
	s := &rec.State
	out := &containertypes.State{
		Status: s.Word(), Running: s.Running, Paused: s.Paused, Restarting: s.Restarting, OOMKilled: s.OOMKilled, Dead: s.Dead,
		Pid: s.Pid, ExitCode: s.ExitCode, Error: s.Error,
		StartedAt: s.StartedAt.Format(time.RFC3339Nano), FinishedAt: s.FinishedAt.Format(time.RFC3339Nano),
	}
	if h := rec.Health; h != nil {
		out.Health = &containertypes.Health{
			Status: h.Status, FailingStreak: h.FailingStreak, Log: make([]*containertypes.HealthResult, 0, len(h.Log)),
		}
		if h.Status == "" {
			out.Health.Status = "unhealthy"
		}
		for _, r := range h.Log {
			out.Health.Log = append(out.Health.Log, &containertypes.HealthResult{
				Start: r.Start, End: r.End, ExitCode: r.ExitCode, Output: r.Output,
			})
		}
	}
	return out
}

// graphDriver shows where the container's layer is. A container whose layer has gone is shown without.
func (d *Daemon) graphDriver(ctx context.Context, rec *container.Record) *containertypes.DriverData {
	g := &containertypes.DriverData{Name: rec.Driver}
	if data, err := d.layers.Metadata(ctx, rec.ID); err == nil {
		g.Data = data
	}
	return g
}

// withDefaultUlimits adds the daemon's limits that a container does not set, by name.
func withDefaultUlimits(own []*units.Ulimit, defaults map[string]units.Ulimit) []*units.Ulimit {
	for _, name := range slices.Sorted(maps.Keys(defaults)) {
		if !slices.ContainsFunc(own, func(u *units.Ulimit) bool { return u.Name == name }) {
			u := defaults[name]
			own = append(own, &u)
		}
	}
	return own
}

// mountPoints returns the mounts by destination; never nil.
func mountPoints(rec *container.Record) []containertypes.MountPoint {
	mps := make([]containertypes.MountPoint, 0, len(rec.MountPoints))
	for _, dest := range slices.Sorted(maps.Keys(rec.MountPoints)) {
		m := rec.MountPoints[dest]
		mps = append(mps, containertypes.MountPoint{
			Type: m.Type, Name: m.Name, Source: m.Source, Destination: m.Destination, Driver: m.Driver,
			Mode: m.Mode, RW: m.RW, Propagation: m.Propagation,
		})
	}
	return mps
}

func networkSettings(s network.Settings) *containertypes.NetworkSettings {
	ns := &containertypes.NetworkSettings{
		LegacySandbox: &containertypes.LegacySandbox{}, LegacyEndpoint: &containertypes.LegacyEndpoint{},
		SandboxID: cmp.Or(s.SandboxID, s.LastSandboxID), SandboxKey: cmp.Or(s.SandboxKey, s.LastSandboxKey),
		Ports: containertypes.ClonePorts(s.Ports), Networks: wireEndpoints(s),
	}
	if ns.Ports == nil {
		ns.Ports = nat.PortMap{}
	}
	if ep := s.Networks["bridge"]; ep != nil {
		*ns.LegacyEndpoint = containertypes.LegacyEndpoint{
			EndpointID: ep.EndpointID, Gateway: ep.Gateway, GlobalIPv6Address: ep.GlobalIPv6Address,
			GlobalIPv6PrefixLen: ep.GlobalIPv6PrefixLen, IPAddress: ep.IPAddress, IPPrefixLen: ep.IPPrefixLen,
			IPv6Gateway: ep.IPv6Gateway, MacAddress: ep.MacAddress,
		}
	}
	return ns
}

func wireEndpoints(s network.Settings) map[string]*networktypes.EndpointSettings {
	m := make(map[string]*networktypes.EndpointSettings, len(s.Networks))
	for name, ep := range s.Networks {
		if ep != nil {
			m[name] = ep.Wire()
		}
	}
	return m
}

// ContainerExecInspect returns all about an exec, also when its container has gone.
func (d *Daemon) ContainerExecInspect(id string) (*containertypes.ExecInspect, error) {
	x, err := d.execs.Get(id)
	if err != nil {
		return nil, err
	}
	privileged := x.Privileged
	r := &containertypes.ExecInspect{
		ID: x.ID, Running: x.State.Running, ContainerID: x.ContainerID, DetachKeys: x.DetachKeys, Pid: x.State.Pid,
		OpenStdin: x.OpenStdin, OpenStdout: x.OpenStdout, OpenStderr: x.OpenStderr,
		ProcessConfig: &containertypes.ExecProcess{
			Tty: x.Tty, Entrypoint: x.Entrypoint, Arguments: slices.Clone(x.Args), Privileged: &privileged, User: x.User,
		},
	}
	if x.State.ExitCode != nil {
		code := *x.State.ExitCode
		r.ExitCode = &code
	}
	return r, nil
}

// ContainerResolve returns the full id for whatever names a container.
func (d *Daemon) ContainerResolve(name string) (string, error) {
	c, err := d.containers.Get(name)
	if err != nil {
		return "", err
	}
	if c.Snapshot().Removed {
		return "", errdefs.NotFoundf("No such container: %s", name)
	}
	return c.ID, nil
}
