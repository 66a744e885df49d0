package libnetwork

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/docker/go-connections/nat"

	"github.com/berthd/berth/libnetwork/firewall"
)

// addressLocked is the IPv4 address that a container has on the default bridge. mu is held, and sb may be nil.
func addressLocked(sb *sandbox) (a netip.Addr) {
	if sb == nil {
		return a
	}
	for _, ep := range sb.endpoints {
		if ep.network.isDefault() && ep.v4.IsValid() {
			a = ep.v4.Addr()
		}
	}
	return a
}

// linksLocked are the ways that the firewall opens for a container's links. mu is held.
func (s *Service) linksLocked(sb *sandbox) []firewall.Link {
	var all []firewall.Link
	for _, l := range sb.links {
		from, to := addressLocked(sb), addressLocked(s.sandboxes[l.Container])
		if !from.IsValid() || !to.IsValid() {
			continue
		}
		for p := range l.Exposed {
			all = append(all, firewall.Link{From: from, To: netip.AddrPortFrom(to, uint16(p.Int())), Proto: p.Proto()})
		}
	}
	return all
}

// linkHosts are the lines for containers that a container of the default bridge is linked to.
func (s *Service) linkHosts(c Container) (b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range c.Links {
		sb := s.sandboxes[l.Container]
		if sb == nil {
			continue
		}
		names := []string{l.Alias}
		for _, n := range []string{l.Hostname, l.Name} {
			if n != "" && !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
		for _, ep := range sb.endpoints {
			if !ep.network.isDefault() {
				continue
			}
			for _, a := range ep.addrs() {
				b = fmt.Appendf(b, "%s\t%s\n", a, strings.Join(names, " "))
			}
		}
	}
	return b
}

// LinkEnv are the variables that tell a container of the default bridge about those that it is linked to.
func (s *Service) LinkEnv(c Container) (env []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range c.Links {
		if ip := addressLocked(s.sandboxes[l.Container]); ip.IsValid() {
			env = append(env, l.env(c.Name, ip.String())...)
		}
	}
	return env
}

// env are the variables of one link, to a container with that address.
func (l Link) env(container, ip string) (env []string) {
	prefix := strings.ReplaceAll(strings.ToUpper(path.Base(l.Alias)), "-", "_")
	set := func(name, format string, a ...any) { env = append(env, prefix+name+"="+fmt.Sprintf(format, a...)) }
	rank := func(p nat.Port) int { return slices.Index([]string{"tcp", "sctp", "udp"}, p.Proto()) }
	ports := slices.SortedFunc(maps.Keys(l.Exposed), func(a, b nat.Port) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), comparePorts(a, b))
	})
	if len(ports) > 0 {
		set("_PORT", "%s://%s:%s", ports[0].Proto(), ip, ports[0].Port())
	}
	for _, p := range ports {
		name := "_PORT_" + p.Port() + "_" + strings.ToUpper(p.Proto())
		set(name, "%s://%s:%s", p.Proto(), ip, p.Port())
		set(name+"_ADDR", "%s", ip)
		set(name+"_PORT", "%s", p.Port())
		set(name+"_PROTO", "%s", p.Proto())
	}
	for i, n := 0, 0; i < len(ports); i += n { // a range is told of as one too
		for n = 1; i+n < len(ports) && ports[i+n].Proto() == ports[i].Proto() && ports[i+n].Int() == ports[i].Int()+n; n++ {
		}
		if n == 1 {
			continue
		}
		first, last := ports[i], ports[i+n-1]
		name := "_PORT_" + first.Port() + "_" + strings.ToUpper(first.Proto())
		set(name+"_START", "%s://%s:%s", first.Proto(), ip, first.Port())
		set(name+"_END", "%s://%s:%s", last.Proto(), ip, last.Port())
		set(name+"_PORT_START", "%s", first.Port())
		set(name+"_PORT_END", "%s", last.Port())
	}
	set("_NAME", "/%s/%s", container, l.Alias)
	for _, v := range l.Env {
		if name, _, ok := strings.Cut(v, "="); ok && name != "HOME" && name != "PATH" {
			set("_ENV_"+name, "%s", v[len(name)+1:])
		}
	}
	return env
}
