package container

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker/go-connections/nat"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/filters"
	"github.com/berthd/berth/errdefs"
)

// CheckFilters refuses values of filters that no record could match.
func CheckFilters(f filters.Args) error {
	for _, s := range f["status"] {
		if !slices.Contains(Words, s) {
			return errdefs.InvalidParameterf("invalid filter 'status=%s': invalid value for state (%s): must be one of %s",
				s, s, strings.Join(Words, ", "))
		}
	}
	for _, h := range f["health"] {
		if !slices.Contains([]string{"starting", "healthy", "unhealthy", "none"}, h) {
			return errdefs.InvalidParameterf("invalid filter 'health=%s': unrecognised health state: %s", h, h)
		}
	}
	for _, key := range []string{"publish", "expose"} {
		for _, s := range f[key] {
			if _, _, _, err := portFilter(s); err != nil {
				return errdefs.InvalidParameterf("invalid filter '%s=%s': %w", key, s, err)
			}
		}
	}
	return nil
}

// Matches applies the filters of a list that need nothing but the record; CheckFilters has to let them pass.
func (rec *Record) Matches(f filters.Args) bool {
	switch {
	case len(f) == 0:
	case f.Has("id") && !slices.ContainsFunc(f["id"], func(p string) bool { return strings.HasPrefix(rec.ID, p) }):
		return false
	case !f.Match("name", rec.Name) && !f.Match("name", strings.TrimPrefix(rec.Name, "/")):
		return false
	case !f.Labels("label", rec.Config.Labels):
		return false
	case f.Has("network") && !matchNetwork(f["network"], rec):
		return false
	case f.Has("volume") && !matchMount(f["volume"], rec):
		return false
	case f.Has("health") && !slices.Contains(f["health"], healthWord(rec)):
		return false
	case f.Has("publish") && !matchPorts(f["publish"], publicPorts(rec)):
		return false
	case f.Has("expose") && !matchPorts(f["expose"], slices.Collect(maps.Keys(rec.Config.ExposedPorts))):
		return false
	}
	return true
}

func healthWord(rec *Record) string {
	if rec.Health == nil {
		return "none"
	}
	return rec.Health.Status
}

func matchNetwork(want []string, rec *Record) bool {
	for name, ep := range rec.Network.Networks {
		if slices.Contains(want, name) || ep != nil && ep.NetworkID != "" && slices.Contains(want, ep.NetworkID) {
			return true
		}
	}
	return false
}

func matchMount(want []string, rec *Record) bool {
	for _, m := range rec.MountPoints {
		if slices.Contains(want, m.Destination) || slices.Contains(want, m.Source) || m.Name != "" && slices.Contains(want, m.Name) {
			return true
		}
	}
	return false
}

// publicPorts are the ports of the host that lead to a container.
func publicPorts(rec *Record) []nat.Port {
	var all []nat.Port
	for _, p := range containertypes.PortSummaries(rec.Network.Ports) {
		if p.PublicPort > 0 {
			all = append(all, nat.Port(fmt.Sprintf("%d/%s", p.PublicPort, p.Type)))
		}
	}
	return all
}

// portFilter reads a value of publish or expose, "80", "80/tcp" or "80-90/tcp". An empty protocol is any.
func portFilter(s string) (first, last int, proto string, err error) {
	ports, proto, _ := strings.Cut(s, "/")
	if !slices.Contains([]string{"", "tcp", "udp", "sctp"}, proto) {
		return 0, 0, "", fmt.Errorf("no such protocol: %s", proto)
	}
	first, last, err = nat.ParsePortRangeToInt(ports)
	return first, last, proto, err
}

func matchPorts(want []string, ports []nat.Port) bool {
	for _, port := range ports {
		for _, w := range want {
			lo, hi, proto, err := portFilter(w)
			if err == nil && port.Int() >= lo && port.Int() <= hi && (proto == "" || proto == port.Proto()) {
				return true
			}
		}
	}
	return false
}
