package versions

import (
	"maps"
	"slices"
	"strings"

	"github.com/docker/go-connections/nat"

	"github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/api/types/versions/v1p19"
	"github.com/berthd/berth/api/types/versions/v1p20"
)

// containerChanges are the differences of container inspect and list. The two old shapes come last, because nothing
// follows a reshape.
func containerChanges() []Change {
	changes := slices.Concat(configChanges(), endpointChanges(), stateChanges(), storageChanges(), listChanges())
	return append(changes, []Change{
		{Below: "1.21", What: "sizes are not shown", Do: inspect(func(r *container.InspectResponse) {
			r.SizeRw, r.SizeRootFs = nil, nil
		})},
		{Below: "1.20", What: "one network, volumes as maps, limits in Config", Do: []effect{
			reshape(func(r *container.InspectResponse) any { return v1p19.New(r) })}},
		{From: "1.20", Below: "1.21", What: "one network, a longer Config", Do: []effect{
			reshape(func(r *container.InspectResponse) any { return v1p20.New(r) })}},
	}...)
}

func inspect(f func(*container.InspectResponse)) []effect { return []effect{response(f)} }

func summary(f func(*container.Summary)) []effect { return []effect{response(f)} }

// endpoints makes effects of a change of every endpoint, in inspect and in the list.
func endpoints(f func(*network.EndpointSettings)) []effect {
	return []effect{
		response(func(r *container.InspectResponse) {
			for _, ep := range r.NetworkSettings.Networks {
				f(ep)
			}
		}),
		response(func(s *container.Summary) {
			if s.NetworkSettings == nil {
				return
			}
			for _, ep := range s.NetworkSettings.Networks {
				f(ep)
			}
		}),
	}
}

func endpointChanges() []Change {
	return []Change{
		{From: "1.52", What: "no network fields outside of Networks", Do: inspect(func(r *container.InspectResponse) {
			r.NetworkSettings.LegacySandbox, r.NetworkSettings.LegacyEndpoint = nil, nil
		})},
		{Below: "1.52", What: "network fields are always present", Do: inspect(func(r *container.InspectResponse) {
			if r.NetworkSettings.LegacySandbox == nil {
				r.NetworkSettings.LegacySandbox = &container.LegacySandbox{}
			}
			if r.NetworkSettings.LegacyEndpoint == nil {
				r.NetworkSettings.LegacyEndpoint = &container.LegacyEndpoint{}
			}
		})},
		{From: "1.24", Below: "1.45", What: "aliases hold the short id and the host name", Do: inspect(aliases(true))},
		{Below: "1.24", What: "aliases hold the short id from the first start on", Do: inspect(aliases(false))},
		{From: "1.24", What: "DNSNames and GwPriority are always present", Do: endpoints(func(ep *network.EndpointSettings) {
			if ep.DNSNames == nil {
				ep.DNSNames = new([]string)
			}
			if ep.GwPriority == nil {
				ep.GwPriority = new(int)
			}
		})},
		{Below: "1.24", What: "no DNSNames and no GwPriority", Do: endpoints(func(ep *network.EndpointSettings) {
			ep.DNSNames, ep.GwPriority = nil, nil
		})},
		{From: "1.24", What: "a container that does not run has no sandbox", Do: inspect(func(r *container.InspectResponse) {
			if !r.State.Running || r.State.Restarting {
				r.NetworkSettings.SandboxID, r.NetworkSettings.SandboxKey = "", ""
			}
		})},
		{From: "1.24", What: "a container that never ran is on no network yet", Do: []effect{
			response(func(r *container.InspectResponse) {
				if r.State.Status == "created" {
					forgetNetworks(r.NetworkSettings.Networks)
				}
			}),
			response(func(s *container.Summary) {
				if s.State == "created" && s.NetworkSettings != nil {
					forgetNetworks(s.NetworkSettings.Networks)
				}
			}),
		}},
		{From: "1.21", What: "ports are never null", Do: inspect(func(r *container.InspectResponse) {
			if r.NetworkSettings.Ports == nil {
				r.NetworkSettings.Ports = nat.PortMap{}
			}
		})},
		{Below: "1.21", What: "ports are null without a sandbox", Do: inspect(func(r *container.InspectResponse) {
			s := r.NetworkSettings
			if len(s.Ports) == 0 && (!r.State.Running || r.State.Restarting || s.SandboxKey == "") {
				r.NetworkSettings.Ports = nil
			}
		})},
	}
}

func forgetNetworks(eps map[string]*network.EndpointSettings) {
	for _, ep := range eps {
		ep.NetworkID = ""
	}
}

const shortID = 12 // digits

// aliases adds the short id to the aliases on networks that users made, and from 1.24 on the host name.
func aliases(hostname bool) func(*container.InspectResponse) {
	return func(r *container.InspectResponse) {
		for name, ep := range r.NetworkSettings.Networks {
			if predefined(name) || !hostname && ep.NetworkID == "" {
				continue
			}
			all := append(slices.Clone(ep.Aliases), r.ID[:min(shortID, len(r.ID))])
			if hostname {
				all = append(all, r.Config.Hostname)
			}
			ep.Aliases = nil
			for _, a := range all {
				if a != "" && !slices.Contains(ep.Aliases, a) {
					ep.Aliases = append(ep.Aliases, a)
				}
			}
		}
	}
}

// predefined reports whether a network is one of those that every engine has.
func predefined(name string) bool {
	return name == "bridge" || name == "host" || name == "none" || name == "default"
}

const (
	taskPrefix  = "failed to create task for container: "
	insideInit  = "unable to start container process: error during container init: "
	outsideInit = "unable to start container process: "
)

func stateChanges() []Change {
	return []Change{
		{Below: "1.24", What: "the error of a failed start is worded otherwise", Do: inspect(
			func(r *container.InspectResponse) {
				if text, ok := strings.CutPrefix(r.State.Error, taskPrefix); ok {
					r.State.Error = strings.Replace(text, insideInit, outsideInit, 1) + ": unknown"
				}
			})},
	}
}

// The names of the driver that stores layers as overlays, by version.
const (
	overlayNow    = "overlayfs"
	overlayBefore = "overlay2"
)

func storageChanges() []Change {
	return []Change{
		{From: "1.52", What: "Storage tells what GraphDriver told", Do: inspect(func(r *container.InspectResponse) {
			r.GraphDriver = nil
		})},
		{Below: "1.52", What: "no Storage", Do: inspect(func(r *container.InspectResponse) { r.Storage = nil })},
		{Below: "1.52", What: "the overlay driver is called overlay2", Do: inspect(func(r *container.InspectResponse) {
			if r.Driver == overlayNow {
				r.Driver = overlayBefore
			}
			r.GraphDriver = overlay2(r.GraphDriver)
		})},
		{From: "1.24", Below: "1.52", What: "GraphDriver has the container's id", Do: inspect(
			func(r *container.InspectResponse) {
				if g := r.GraphDriver; g != nil && g.Data != nil {
					g.Data = maps.Clone(g.Data)
					g.Data["ID"] = r.ID
				}
			})},
		{Below: "1.52", What: "no descriptor of the image's manifest", Do: []effect{
			response(func(r *container.InspectResponse) { r.ImageManifestDescriptor = nil }),
			response(func(s *container.Summary) { s.ImageManifestDescriptor = nil }),
		}},
	}
}

// overlay2 returns g with the old name of the driver. It is a copy: g may be shared.
func overlay2(g *container.DriverData) *container.DriverData {
	if g == nil || g.Name != overlayNow {
		return g
	}
	return &container.DriverData{Name: overlayBefore, Data: g.Data}
}

func listChanges() []Change {
	return []Change{
		{Below: "1.52", What: "no health in the list", Do: summary(func(s *container.Summary) { s.Health = nil })},
		{From: "1.52", What: "a port that is not published has an empty address", Do: summary(func(s *container.Summary) {
			s.Ports = slices.Clone(s.Ports)
			for i := range s.Ports {
				if s.Ports[i].IP == nil {
					s.Ports[i].IP = new(string)
				}
			}
		})},
		{Below: "1.52", What: "a port that is not published has no address", Do: summary(func(s *container.Summary) {
			s.Ports = slices.Clone(s.Ports)
			for i := range s.Ports {
				if ip := s.Ports[i].IP; ip != nil && *ip == "" {
					s.Ports[i].IP = nil
				}
			}
		})},
		{Below: "1.46", What: "no annotations in the list", Do: summary(func(s *container.Summary) {
			s.HostConfig.Annotations = nil
		})},
	}
}
