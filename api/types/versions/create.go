package versions

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/errdefs"
)

type createRequest = container.CreateRequest

// create makes the effect of a change of POST /containers/create. A part that the client did not send is empty in f.
func create(f func(r *createRequest)) []effect {
	return createOr(func(r *createRequest) ([]string, error) {
		f(r)
		return nil, nil
	})
}

// createOr is create with warnings and an error.
func createOr(f func(r *createRequest) ([]string, error)) []effect {
	return []effect{request(func(r *createRequest) ([]string, error) {
		if r.Config == nil {
			return nil, nil // refused anyway
		}
		if r.HostConfig == nil {
			r.HostConfig, r.NoHostConfig = &container.HostConfig{}, true
		}
		if r.NetworkingConfig == nil {
			r.NetworkingConfig = &network.NetworkingConfig{}
		}
		return f(r)
	})}
}

// createChanges are the differences of what POST /containers/create takes.
func createChanges() []Change {
	return slices.Concat(createIgnored(), createMounts(), createNetworks(), []Change{
		{Below: "1.24", What: "limits may stand beside HostConfig", Do: create(takeOldLimits)},
		{Below: "1.19", What: "CPU shares are brought into the kernel's bounds", Do: create(func(r *createRequest) {
			if r.HostConfig.CPUShares > 0 {
				r.HostConfig.CPUShares = min(max(r.HostConfig.CPUShares, 2), 262144)
			}
		})},
		{From: "1.40", Below: "1.41", What: "Capabilities is refused", Do: createOr(func(r *createRequest) ([]string, error) {
			if len(r.HostConfig.Capabilities) > 0 {
				return nil, errdefs.InvalidParameterf("the HostConfig.Capabilities field is not supported by this daemon; " +
					"use CapAdd and CapDrop to set capabilities")
			}
			return nil, nil
		})},
		{What: "Capabilities is ignored", Do: create(func(r *createRequest) { r.HostConfig.Capabilities = nil })},
		{Below: "1.40", What: "the IPC namespace is shareable by default", Do: create(func(r *createRequest) {
			if r.HostConfig.IpcMode == "" {
				r.HostConfig.IpcMode = "shareable"
			}
		})},
		{From: "1.52", What: "empty port bindings are warned of", Do: createOr(func(r *createRequest) ([]string, error) {
			var empty []string
			for port, bindings := range r.HostConfig.PortBindings {
				if len(bindings) == 0 {
					empty = append(empty, string(port))
				}
			}
			if empty == nil {
				return nil, nil
			}
			slices.Sort(empty)
			return []string{fmt.Sprintf("Following container port(s) have an empty list of port-bindings: %s. "+
				"Such bindings will be discarded in a future version.", strings.Join(empty, ", "))}, nil
		})},
	})
}

// takeOldLimits moves what is beside HostConfig into it, where that does not say something else.
func takeOldLimits(r *createRequest) {
	old, hc := r.OldLimits, r.HostConfig
	r.NoHostConfig = r.NoHostConfig && old == (container.OldLimits{})
	hc.Memory = cmp.Or(hc.Memory, old.Memory)
	hc.MemorySwap = cmp.Or(hc.MemorySwap, old.MemorySwap)
	hc.CPUShares = cmp.Or(hc.CPUShares, old.CPUShares)
	hc.CpusetCpus = cmp.Or(hc.CpusetCpus, old.CpusetCpus, old.Cpuset)
	hc.VolumeDriver = cmp.Or(hc.VolumeDriver, old.VolumeDriver)
}

// createIgnored are settings that versions before them do not know and so ignore.
func createIgnored() []Change {
	return []Change{
		{Below: "1.25", What: "AutoRemove is ignored", Do: create(func(r *createRequest) {
			r.HostConfig.AutoRemove = false
		})},
		{Below: "1.41", What: "platform is ignored", Do: create(func(r *createRequest) { r.Platform = "" })},
		{Below: "1.42", What: "ConsoleSize is ignored", Do: append(
			create(func(r *createRequest) { r.HostConfig.ConsoleSize = [2]uint{} }),
			request(func(o *container.ExecOptions) ([]string, error) {
				o.ConsoleSize = nil
				return nil, nil
			}),
			request(func(o *container.ExecStartOptions) ([]string, error) {
				o.ConsoleSize = nil
				return nil, nil
			}),
		)},
		{From: "1.42", What: "KernelMemory is ignored", Do: create(func(r *createRequest) {
			r.HostConfig.KernelMemory = nil
		})},
		{Below: "1.40", What: "KernelMemoryTCP is ignored", Do: create(func(r *createRequest) {
			r.HostConfig.KernelMemoryTCP = nil
		})},
		{From: "1.52", What: "KernelMemoryTCP is gone", Do: create(func(r *createRequest) {
			r.HostConfig.KernelMemoryTCP = nil
		})},
		{Below: "1.43", What: "annotations are ignored", Do: create(func(r *createRequest) {
			r.HostConfig.Annotations = nil
		})},
		{Below: "1.44", What: "StartInterval is ignored", Do: create(func(r *createRequest) {
			if r.Config.Healthcheck != nil {
				r.Config.Healthcheck.StartInterval = 0
			}
		})},
	}
}

// createMounts are the differences of HostConfig.Mounts.
func createMounts() []Change {
	binds := func(f func(*container.BindOptions)) []effect {
		return create(func(r *createRequest) {
			for i := range r.HostConfig.Mounts {
				if o := r.HostConfig.Mounts[i].BindOptions; o != nil {
					f(o)
				}
			}
		})
	}
	refuse := func(bad func(container.Mount) bool, text string) []effect {
		return createOr(func(r *createRequest) ([]string, error) {
			if slices.ContainsFunc(r.HostConfig.Mounts, bad) {
				return nil, errdefs.InvalidParameterf("%s", text)
			}
			return nil, nil
		})
	}
	return []Change{
		{Below: "1.40", What: "NonRecursive is ignored", Do: binds(func(o *container.BindOptions) {
			o.NonRecursive = false
		})},
		{Below: "1.42", What: "CreateMountpoint is ignored", Do: binds(func(o *container.BindOptions) {
			o.CreateMountpoint = false
		})},
		{From: "1.42", What: "options of another type of mount are refused", Do: createOr(mismatchedMounts)},
		{Below: "1.44", What: "ReadOnlyForceRecursive is refused", Do: refuse(func(m container.Mount) bool {
			return m.BindOptions != nil && m.BindOptions.ReadOnlyForceRecursive
		}, "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")},
		{Below: "1.44", What: "read-only binds leave what is mounted in them writable", Do: create(
			func(r *createRequest) { r.ReadOnlyNonRecursive = true })},
		{Below: "1.45", What: "a path in a volume is refused", Do: refuse(func(m container.Mount) bool {
			return m.VolumeOptions != nil && m.VolumeOptions.Subpath != ""
		}, "VolumeOptions.Subpath needs API v1.45 or newer")},
		{Below: "1.48", What: "mounts of images are refused", Do: refuse(func(m container.Mount) bool {
			return m.Type == "image"
		}, `Mount type "Image" needs API v1.48 or newer`)},
		{From: "1.48", What: "a volume driver that volumes do not take is warned of", Do: createOr(
			func(r *createRequest) ([]string, error) {
				ignored := slices.ContainsFunc(r.HostConfig.Mounts, func(m container.Mount) bool {
					o := m.VolumeOptions
					return m.Type == "volume" && (o == nil || o.DriverConfig == nil || o.DriverConfig.Name == "")
				})
				if r.HostConfig.VolumeDriver == "" || !ignored {
					return nil, nil
				}
				return []string{"WARNING: the container-wide volume-driver configuration is ignored for volumes specified " +
					"via 'mount'. Use '--mount type=volume,volume-driver=...' instead"}, nil
			})},
	}
}

func mismatchedMounts(r *createRequest) ([]string, error) {
	for _, m := range r.HostConfig.Mounts {
		for _, o := range []struct {
			set         bool
			name, owner string
		}{
			{m.BindOptions != nil, "BindOptions", "bind"},
			{m.VolumeOptions != nil, "VolumeOptions", "volume"},
			{m.TmpfsOptions != nil, "TmpfsOptions", "tmpfs"},
		} {
			if o.set && m.Type != o.owner {
				return nil, errdefs.InvalidParameterf("%s must not be specified on mount type %q", o.name, m.Type)
			}
		}
	}
	return nil, nil
}

// createNetworks are the differences of how a container asks for its networks.
func createNetworks() []Change {
	each := func(f func(*network.EndpointSettings)) []effect {
		return create(func(r *createRequest) {
			for _, ep := range r.NetworkingConfig.EndpointsConfig {
				if ep != nil {
					f(ep)
				}
			}
		})
	}
	return []Change{
		{Below: "1.44", What: "several networks are refused", Do: createOr(func(r *createRequest) ([]string, error) {
			names := slices.Sorted(maps.Keys(r.NetworkingConfig.EndpointsConfig))
			if len(names) > 1 {
				return nil, errdefs.InvalidParameterf("Container cannot be created with multiple network endpoints: %s",
					strings.Join(names, ", "))
			}
			return nil, nil
		})},
		{Below: "1.44", What: "the MAC address is the container's, not an endpoint's", Do: createOr(macOfContainer)},
		{From: "1.44", Below: "1.52", What: "the container's MAC address moves to its endpoint", Do: createOr(macMoves)},
		{From: "1.52", What: "the container's MAC address is not read", Do: create(func(r *createRequest) {
			r.Config.MacAddress = ""
		})},
		{From: "1.44", What: "the endpoint's MAC address is also shown as the container's", Do: create(
			func(r *createRequest) {
				if ep := mainEndpoint(r); ep != nil && !isolated(r) && ep.MacAddress != "" {
					r.Config.MacAddress = ep.MacAddress
				}
			})},
		{Below: "1.48", What: "GwPriority is ignored", Do: each(func(ep *network.EndpointSettings) { ep.GwPriority = nil })},
		{Below: "1.48", What: "sysctls of eth0 move to its endpoint", Do: createOr(moveSysctls)},
		{From: "1.48", What: "sysctls of an interface are refused", Do: createOr(func(r *createRequest) ([]string, error) {
			for _, k := range slices.Sorted(maps.Keys(r.HostConfig.Sysctls)) {
				if reInterface.MatchString(k) {
					return nil, errdefs.InvalidParameterf("interface specific sysctl setting %q must be supplied using driver "+
						"option '%s'", k, endpointSysctls)
				}
			}
			return nil, nil
		})},
	}
}

// isolated reports whether the network mode leaves no choice of addresses.
func isolated(r *createRequest) bool {
	m := r.HostConfig.NetworkMode
	return m.IsHost() || m.IsNone() || strings.HasPrefix(string(m), "container:")
}

// mainNames returns the names that the settings of the container's main network may stand under.
func mainNames(r *createRequest) []string {
	switch m := string(r.HostConfig.NetworkMode); m {
	case "", "default", "bridge":
		return []string{"bridge", "default"}
	default:
		return []string{m}
	}
}

func mainEndpoint(r *createRequest) *network.EndpointSettings {
	for _, name := range mainNames(r) {
		if ep := r.NetworkingConfig.EndpointsConfig[name]; ep != nil {
			return ep
		}
	}
	return nil
}

// makeMainEndpoint is mainEndpoint, which it adds if there is none.
func makeMainEndpoint(r *createRequest) *network.EndpointSettings {
	if ep := mainEndpoint(r); ep != nil {
		return ep
	}
	if r.NetworkingConfig.EndpointsConfig == nil {
		r.NetworkingConfig.EndpointsConfig = map[string]*network.EndpointSettings{}
	}
	ep := &network.EndpointSettings{}
	r.NetworkingConfig.EndpointsConfig[mainNames(r)[0]] = ep
	return ep
}

func macOfContainer(r *createRequest) ([]string, error) {
	if r.Config.MacAddress == "" {
		for _, ep := range r.NetworkingConfig.EndpointsConfig {
			if ep != nil {
				ep.MacAddress = ""
			}
		}
		return nil, nil
	}
	if isolated(r) {
		return nil, errdefs.InvalidParameterf("conflicting options: mac-address and the network mode")
	}
	makeMainEndpoint(r).MacAddress = r.Config.MacAddress
	return nil, nil
}

func macMoves(r *createRequest) ([]string, error) {
	if r.Config.MacAddress == "" {
		return nil, nil
	}
	warnings := []string{"The container-wide MacAddress field is now deprecated. " +
		"It should be specified in EndpointsConfig instead."}
	if isolated(r) {
		return warnings, nil
	}
	if mainEndpoint(r) == nil && len(r.NetworkingConfig.EndpointsConfig) > 0 {
		return nil, errdefs.InvalidParameterf("unable to migrate container-wide MAC address to a specific network: " +
			"HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks")
	}
	ep := makeMainEndpoint(r)
	if ep.MacAddress != "" && ep.MacAddress != r.Config.MacAddress {
		return nil, errdefs.InvalidParameterf("the container-wide MAC address must match the endpoint-specific MAC address " +
			"for the main network, or be left empty")
	}
	ep.MacAddress = r.Config.MacAddress
	return warnings, nil
}

// endpointSysctls is the driver option of an endpoint that holds settings of its interface.
const endpointSysctls = "com.docker.network.endpoint.sysctls"

var reInterface = regexp.MustCompile(`^net\.[^.]+\.[^.]+\.eth[0-9]+\.`)

// moveSysctls makes "net.ipv4.conf.IFNAME.forwarding=1" for the main endpoint of "net.ipv4.conf.eth0.forwarding": 1.
func moveSysctls(r *createRequest) ([]string, error) {
	if m := r.HostConfig.NetworkMode; m.IsHost() || strings.HasPrefix(string(m), "container:") {
		return nil, nil
	}
	var names, settings []string
	for _, k := range slices.Sorted(maps.Keys(r.HostConfig.Sysctls)) {
		if !reInterface.MatchString(k) {
			continue
		}
		parts := strings.Split(k, ".")
		if parts[3] != "eth0" {
			return nil, errdefs.InvalidParameterf("unable to determine network endpoint for sysctl %s, use driver option "+
				"'%s' to set per-interface sysctls", k, endpointSysctls)
		}
		parts[3] = "IFNAME"
		names = append(names, k)
		settings = append(settings, strings.Join(parts, ".")+"="+r.HostConfig.Sysctls[k])
		delete(r.HostConfig.Sysctls, k)
	}
	if names == nil {
		return nil, nil
	}
	ep := makeMainEndpoint(r)
	if ep.DriverOpts == nil {
		ep.DriverOpts = map[string]string{}
	}
	if old := ep.DriverOpts[endpointSysctls]; old != "" {
		settings = append([]string{old}, settings...)
	}
	ep.DriverOpts[endpointSysctls] = strings.Join(settings, ",")
	return []string{fmt.Sprintf("Migrated sysctl %q to DriverOpts{%q:%q}.", strings.Join(names, ","), endpointSysctls,
		strings.Join(settings, ","))}, nil
}
