package versions

import (
	"slices"
	"strings"

	"github.com/berthd/berth/api/types/events"
	"github.com/berthd/berth/api/types/system"
)

func info(f func(*system.Info)) []effect { return []effect{response(f)} }

func systemChanges() []Change {
	return append(infoChanges(), []Change{
		{Below: "1.24", What: "_ping tells neither the builder's version nor the swarm's state", Do: []effect{
			response(func(p *system.Ping) { p.BuilderVersion, p.Swarm = "", "" })}},
		{Below: "1.52", What: "events of containers and images have status, id and from", Do: []effect{
			response(func(m *events.Message) {
				switch m.Type {
				case "container":
					m.Status, m.ID, m.From = m.Action, m.Actor.ID, m.Actor.Attributes["image"]
				case "image":
					m.Status, m.ID = m.Action, m.Actor.ID
				}
			})}},
		{Below: "1.46", What: "no create events of images", Do: []effect{reshape(func(m *events.Message) any {
			if m.Type == "image" && m.Action == "create" {
				return nil
			}
			return m
		})}},
	}...)
}

func infoChanges() []Change {
	return []Change{
		{Below: "1.53", What: "no NRI", Do: info(func(i *system.Info) { i.NRI = nil })},
		{From: "1.52", What: "no KernelMemoryTCP", Do: info(func(i *system.Info) { i.KernelMemoryTCP = false })},
		{From: "1.50", What: "nothing about br_netfilter", Do: info(func(i *system.Info) {
			i.BridgeNfIptables, i.BridgeNfIP6tables = nil, nil
		})},
		{Below: "1.50", What: "br_netfilter is told of", Do: info(func(i *system.Info) {
			present(&i.BridgeNfIptables)
			present(&i.BridgeNfIP6tables)
		})},
		{Below: "1.50", What: "no discovered devices", Do: info(func(i *system.Info) { i.DiscoveredDevices = nil })},
		{From: "1.49", What: "no expected commits", Do: info(func(i *system.Info) {
			i.ContainerdCommit.Expected, i.RuncCommit.Expected, i.InitCommit.Expected = "", "", ""
		})},
		{Below: "1.49", What: "expected commits are the real ones", Do: info(func(i *system.Info) {
			for _, c := range []*system.Commit{&i.ContainerdCommit, &i.RuncCommit, &i.InitCommit} {
				c.Expected = c.ID
			}
		})},
		{Below: "1.49", What: "no firewall backend", Do: info(func(i *system.Info) { i.FirewallBackend = nil })},
		{From: "1.47", What: "no nondistributable artifacts", Do: info(func(i *system.Info) {
			editRegistry(i, func(r *system.RegistryConfig) {
				r.AllowNondistributableArtifactsCIDRs, r.AllowNondistributableArtifactsHostnames = nil, nil
			})
		})},
		{From: "1.24", Below: "1.47", What: "nondistributable artifacts are null", Do: info(func(i *system.Info) {
			editRegistry(i, func(r *system.RegistryConfig) {
				r.AllowNondistributableArtifactsCIDRs = new([]string)
				r.AllowNondistributableArtifactsHostnames = new([]string)
			})
		})},
		{Below: "1.24", What: "nondistributable artifacts are empty lists", Do: info(func(i *system.Info) {
			editRegistry(i, func(r *system.RegistryConfig) {
				r.AllowNondistributableArtifactsCIDRs = &[]string{}
				r.AllowNondistributableArtifactsHostnames = &[]string{}
			})
		})},
		{Below: "1.24", What: "IPv6's loopback is no insecure registry yet", Do: info(func(i *system.Info) {
			editRegistry(i, func(r *system.RegistryConfig) {
				r.InsecureRegistryCIDRs = slices.DeleteFunc(slices.Clone(r.InsecureRegistryCIDRs), func(cidr string) bool {
					return cidr == "::1/128"
				})
			})
		})},
		{Below: "1.46", What: "nothing about containerd", Do: info(func(i *system.Info) { i.Containerd = nil })},
		{Below: "1.44", What: "runtimes have no status", Do: info(func(i *system.Info) {
			old := make(map[string]system.Runtime, len(i.Runtimes))
			for name, r := range i.Runtimes {
				r.Status = nil
				old[name] = r
			}
			i.Runtimes = old
		})},
		{From: "1.42", What: "no KernelMemory", Do: info(func(i *system.Info) { i.KernelMemory = nil })},
		{Below: "1.42", What: "KernelMemory is told of", Do: info(func(i *system.Info) { present(&i.KernelMemory) })},
		{Below: "1.25", What: "security options have names only", Do: info(func(i *system.Info) {
			i.SecurityOptions = bareNames(i.SecurityOptions)
		})},
		{Below: "1.25", What: "there is no execution driver", Do: info(func(i *system.Info) {
			i.ExecutionDriver = "<not supported>"
		})},
		{From: "1.24", What: "CDISpecDirs is never null", Do: info(func(i *system.Info) {
			if i.CDISpecDirs == nil || *i.CDISpecDirs == nil {
				i.CDISpecDirs = &[]string{}
			}
		})},
		{Below: "1.24", What: "no CDISpecDirs", Do: info(func(i *system.Info) { i.CDISpecDirs = nil })},
		{Below: "1.52", What: "the overlay driver is called overlay2", Do: info(func(i *system.Info) {
			if i.Driver == overlayNow {
				i.Driver = overlayBefore
			}
		})},
	}
}

func editRegistry(i *system.Info, f func(*system.RegistryConfig)) {
	if i.RegistryConfig != nil {
		r := *i.RegistryConfig
		f(&r)
		i.RegistryConfig = &r
	}
}

// bareNames makes "seccomp" of "name=seccomp,profile=builtin". Options that came later than bare names are left out.
func bareNames(options []string) []string {
	bare := []string{}
	for _, o := range options {
		name, _, _ := strings.Cut(strings.TrimPrefix(o, "name="), ",")
		switch name {
		case "apparmor", "seccomp", "selinux", "userns":
			bare = append(bare, name)
		}
	}
	return bare
}
