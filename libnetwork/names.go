package libnetwork

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/berthd/berth/daemon/network"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/libnetwork/dns"
)

// view is what a container's name server answers by: the containers that share a network with it.
type view struct {
	s  *Service
	sb *sandbox
}

// Lookup returns the addresses of a container by name, alias, short id or link, alone or with the network's name behind.
func (v *view) Lookup(name string) (addrs []netip.Addr, known bool) {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	for _, mine := range v.sb.endpoints {
		if !mine.network.named() {
			continue
		}
		want := name
		if short, ok := cutSuffixFold(name, "."+mine.network.Name); ok {
			want = short
		}
		if target, ok := mine.links[strings.ToLower(want)]; ok {
			want = target
		}
		for _, other := range v.s.sandboxes {
			for _, ep := range other.endpoints {
				if ep.network.ID == mine.network.ID && (hasName(ep.names, want) || hasName(ep.names, name) || other.id == want) {
					addrs = append(addrs, ep.addrs()...)
					known = true
				}
			}
		}
		if known {
			return addrs, true
		}
	}
	return nil, false
}

func (ep *endpoint) addrs() []netip.Addr {
	var all []netip.Addr
	for _, p := range []netip.Prefix{ep.v4, ep.v6} {
		if p.IsValid() {
			all = append(all, p.Addr())
		}
	}
	return all
}

func hasName(names []string, want string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, want) })
}

func cutSuffixFold(s, suffix string) (string, bool) {
	i := len(s) - len(suffix)
	if i <= 0 || !strings.EqualFold(s[i:], suffix) {
		return s, false
	}
	return s[:i], true
}

// Reverse returns the name of the container that has an address, with the network's name behind.
func (v *view) Reverse(addr netip.Addr) (string, bool) {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	for _, mine := range v.sb.endpoints {
		for _, other := range v.s.sandboxes {
			for _, ep := range other.endpoints {
				if ep.network.ID == mine.network.ID && ep.network.named() && slices.Contains(ep.addrs(), addr) {
					return other.name + "." + ep.network.Name, true
				}
			}
		}
	}
	return "", false
}

// Upstreams are asked about other names; nobody is for a container whose networks lead nowhere.
func (v *view) Upstreams() []dns.Upstream {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	if v4, v6 := v.sb.gateways(); v4 == nil && v6 == nil {
		return nil
	}
	return v.sb.upstreams
}

const resolvConf = "/etc/resolv.conf"

// publicServers are asked when the host names nobody that a container could reach.
var publicServers = []string{"8.8.8.8", "8.8.4.4"}

// resolver is what a resolv.conf says.
type resolver struct {
	servers, search, options []string
}

func parseResolvConf(b []byte) (r resolver) {
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			r.servers = append(r.servers, f[1])
		case "search", "domain":
			r.search = f[1:]
		case "options":
			r.options = append(r.options, f[1:]...)
		}
	}
	return r
}

func hostResolver() (resolver, error) {
	b, err := os.ReadFile(resolvConf)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return resolver{}, err
	}
	return parseResolvConf(b), nil
}

// upstreams are the name servers that a container's asks: those of its own, else the host's.
func upstreams(c Container) []dns.Upstream {
	var all []dns.Upstream
	servers, fromHost := c.DNS, false
	if len(servers) == 0 {
		r, err := hostResolver()
		if err != nil || len(r.servers) == 0 {
			r.servers = publicServers
		}
		servers, fromHost = r.servers, true
	}
	for _, text := range servers {
		if a, err := netip.ParseAddr(text); err == nil {
			all = append(all, dns.Upstream{Addr: a, FromHost: fromHost})
		}
	}
	return all
}

// ResolvConf is the file that a container finds at /etc/resolv.conf.
func (s *Service) ResolvConf(c Container, set network.Settings) ([]byte, error) {
	r, err := hostResolver()
	if err != nil {
		return nil, err
	}
	named := false
	for name := range set.Networks {
		if n, err := s.Find(name); err == nil {
			named = named || n.named()
		}
	}
	if len(c.Search) > 0 {
		r.search = c.Search
	}
	if len(c.Options) > 0 {
		r.options = c.Options
	}
	switch {
	case named:
		r.servers = []string{dns.Address}
		if !slices.ContainsFunc(r.options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
			r.options = append(slices.Clone(r.options), "ndots:0")
		}
	case len(c.DNS) > 0:
		r.servers = c.DNS
	case c.Mode == "host":
	default: // the host's own server is out of reach
		r.servers = slices.DeleteFunc(r.servers, func(text string) bool {
			a, err := netip.ParseAddr(text)
			return err == nil && a.IsLoopback()
		})
		if len(r.servers) == 0 && c.Mode != "none" {
			r.servers = publicServers
		}
	}
	return r.bytes(), nil
}

func (r resolver) bytes() []byte {
	var b bytes.Buffer
	for _, s := range r.servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(r.search) > 0 && !slices.Equal(r.search, []string{"."}) {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.search, " "))
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.options, " "))
	}
	return b.Bytes()
}

const localHosts = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::	ip6-localnet
ff00::	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

// Hosts is the file that a container finds at /etc/hosts.
func (s *Service) Hosts(c Container, set network.Settings) ([]byte, error) {
	b := []byte(localHosts)
	if c.Mode == "host" {
		own, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		b = own
	}
	for _, extra := range c.ExtraHosts {
		name, addr, _ := strings.Cut(extra, ":")
		addrs := []string{strings.Trim(addr, "[]")}
		if addr == "host-gateway" {
			if addrs = s.hostGateway(); len(addrs) == 0 {
				return nil, errdefs.Systemf("unable to derive the IP value for host-gateway: there is no default bridge, and "+
					"the configuration's key host-gateway-ips is not set (extra host %s)", name)
			}
		}
		for _, a := range addrs {
			if _, err := netip.ParseAddr(a); err != nil {
				return nil, errdefs.InvalidParameterf("invalid IP address in add-host: %q", a)
			}
			b = fmt.Appendf(b, "%s\t%s\n", a, name)
		}
	}
	own := c.Hostname
	if c.Domainname != "" {
		own += "." + c.Domainname
	}
	if short, _, dotted := strings.Cut(own, "."); dotted {
		own += " " + short
	}
	for _, name := range order(c.Mode, set) {
		ep := set.Networks[name]
		for _, a := range []string{ep.IPAddress, ep.GlobalIPv6Address} {
			if a != "" {
				b = fmt.Appendf(b, "%s\t%s\n", a, own)
			}
		}
	}
	return append(b, s.linkHosts(c)...), nil
}

// hostGateway are the addresses that host-gateway stands for.
func (s *Service) hostGateway() []string {
	if len(s.cfg.HostGatewayIPs) > 0 {
		return s.cfg.HostGatewayIPs
	}
	if s.cfg.HostGatewayIP != "" {
		return []string{s.cfg.HostGatewayIP}
	}
	var all []string
	if n, err := s.Find(DefaultBridge); err == nil {
		for _, sub := range n.subnets {
			if sub.own.IsValid() {
				all = append(all, sub.own.String())
			}
		}
	}
	return all
}

func parseMAC(text string) net.HardwareAddr {
	mac, err := net.ParseMAC(text)
	if err != nil {
		return nil
	}
	return mac
}
