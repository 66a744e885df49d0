package container

import (
	"maps"
	"slices"

	"github.com/docker/go-connections/nat"
	units "github.com/docker/go-units"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func ptr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

func pointees[T any](l []*T) []*T {
	if l == nil {
		return nil
	}
	out := make([]*T, len(l))
	for i, p := range l {
		out[i] = ptr(p)
	}
	return out
}

// ClonePorts returns a copy that shares no memory with p.
func ClonePorts(p nat.PortMap) nat.PortMap {
	c := maps.Clone(p)
	for k, v := range c {
		c[k] = slices.Clone(v)
	}
	return c
}

// Clone returns a copy that shares no memory with cfg.
func (cfg *Config) Clone() *Config {
	c := *cfg
	c.ExposedPorts = maps.Clone(c.ExposedPorts)
	c.Env, c.Cmd, c.Entrypoint, c.Shell = slices.Clone(c.Env), slices.Clone(c.Cmd), slices.Clone(c.Entrypoint), slices.Clone(c.Shell)
	c.Volumes, c.Labels = maps.Clone(c.Volumes), maps.Clone(c.Labels)
	c.StopTimeout = ptr(c.StopTimeout)
	if c.Healthcheck = ptr(c.Healthcheck); c.Healthcheck != nil {
		c.Healthcheck.Test = slices.Clone(c.Healthcheck.Test)
	}
	if c.OnBuild = ptr(c.OnBuild); c.OnBuild != nil {
		*c.OnBuild = slices.Clone(*c.OnBuild)
	}
	return &c
}

// Clone returns a copy that shares no memory with hc.
func (hc *HostConfig) Clone() *HostConfig {
	c := *hc
	for _, l := range []*[]string{
		&c.Binds, &c.VolumesFrom, &c.DNS, &c.DNSOptions, &c.DNSSearch, &c.ExtraHosts, &c.GroupAdd, &c.Links,
		&c.SecurityOpt, &c.MaskedPaths, &c.ReadonlyPaths, (*[]string)(&c.CapAdd), (*[]string)(&c.CapDrop), &c.DeviceCgroupRules,
		&c.Capabilities,
	} {
		*l = slices.Clone(*l)
	}
	for _, m := range []*map[string]string{&c.Annotations, &c.StorageOpt, &c.Tmpfs, &c.Sysctls, &c.LogConfig.Config} {
		*m = maps.Clone(*m)
	}
	c.PortBindings = ClonePorts(c.PortBindings)
	c.Init = ptr(c.Init)
	c.BlkioWeightDevice = pointees(c.BlkioWeightDevice)
	for _, l := range []*[]*ThrottleDevice{
		&c.BlkioDeviceReadBps, &c.BlkioDeviceWriteBps, &c.BlkioDeviceReadIOps, &c.BlkioDeviceWriteIOps,
	} {
		*l = pointees(*l)
	}
	c.Devices = slices.Clone(c.Devices)
	c.DeviceRequests = slices.Clone(c.DeviceRequests)
	for i, r := range c.DeviceRequests {
		r.DeviceIDs, r.Options, r.Capabilities = slices.Clone(r.DeviceIDs), maps.Clone(r.Options), slices.Clone(r.Capabilities)
		for j := range r.Capabilities {
			r.Capabilities[j] = slices.Clone(r.Capabilities[j])
		}
		c.DeviceRequests[i] = r
	}
	c.KernelMemory, c.KernelMemoryTCP = ptr(c.KernelMemory), ptr(c.KernelMemoryTCP)
	c.MemorySwappiness, c.OomKillDisable, c.PidsLimit = ptr(c.MemorySwappiness), ptr(c.OomKillDisable), ptr(c.PidsLimit)
	c.Ulimits = pointees[units.Ulimit](c.Ulimits)
	c.Mounts = slices.Clone(c.Mounts)
	for i := range c.Mounts {
		c.Mounts[i] = cloneMount(c.Mounts[i])
	}
	return &c
}

func cloneMount(m Mount) Mount {
	m.BindOptions, m.ImageOptions = ptr(m.BindOptions), ptr(m.ImageOptions)
	if m.VolumeOptions = ptr(m.VolumeOptions); m.VolumeOptions != nil {
		m.VolumeOptions.Labels = maps.Clone(m.VolumeOptions.Labels)
		if dc := ptr(m.VolumeOptions.DriverConfig); dc != nil {
			dc.Options = maps.Clone(dc.Options)
			m.VolumeOptions.DriverConfig = dc
		}
	}
	if m.TmpfsOptions = ptr(m.TmpfsOptions); m.TmpfsOptions != nil {
		m.TmpfsOptions.Options = slices.Clone(m.TmpfsOptions.Options)
		for i := range m.TmpfsOptions.Options {
			m.TmpfsOptions.Options[i] = slices.Clone(m.TmpfsOptions.Options[i])
		}
	}
	return m
}

// CloneDescriptor returns a copy that shares no memory with d.
func CloneDescriptor(d *ocispec.Descriptor) *ocispec.Descriptor {
	if d == nil {
		return nil
	}
	c := *d
	c.URLs, c.Annotations, c.Data = slices.Clone(c.URLs), maps.Clone(c.Annotations), slices.Clone(c.Data)
	if c.Platform = ptr(c.Platform); c.Platform != nil {
		c.Platform.OSFeatures = slices.Clone(c.Platform.OSFeatures)
	}
	return &c
}
