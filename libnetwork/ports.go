package libnetwork

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/containerd/log"
	"github.com/docker/go-connections/nat"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/libnetwork/firewall"
	"github.com/berthd/berth/libnetwork/relay"
)

// publication is a port of the host that leads to one of a container. The daemon holds it by a socket that nobody talks
// to: the firewall sends packets past it.
type publication struct {
	proto  string
	inside uint16 // the container's
	host   netip.Addr
	port   uint16
	socket int // -1: not held
}

func (p publication) release() {
	if p.socket >= 0 {
		unix.Close(p.socket) // it has no buffers to flush
	}
}

// publish takes the ports that a container asks for. binding is the address of those that ask for none; a family that is
// not translated gets none.
func publish(c Container, binding netip.Addr, nat4, nat6 bool) (held []publication, err error) {
	defer func() {
		if err != nil {
			for _, p := range held {
				p.release()
			}
			held = nil
		}
	}()
	for _, inside := range sortedPorts(c) {
		bindings := c.Bindings[inside]
		if len(bindings) == 0 {
			bindings = []nat.PortBinding{{}}
		}
		for _, b := range bindings {
			hosts, err := addresses(b.HostIP, binding)
			if err != nil {
				return held, err
			}
			hosts = slices.DeleteFunc(hosts, func(a netip.Addr) bool { return a.Is4() && !nat4 || a.Is6() && !nat6 })
			if len(hosts) == 0 {
				continue
			}
			ps, err := take(inside, hosts, b.HostPort)
			held = append(held, ps...)
			if err != nil {
				return held, err
			}
		}
	}
	return held, nil
}

// sortedPorts are the ports of a container that are to be published: those that ask for a certain port first.
func sortedPorts(c Container) []nat.Port {
	var ports []nat.Port
	for p := range c.Bindings {
		ports = append(ports, p)
	}
	if c.PublishAll {
		for p := range c.Exposed {
			if _, bound := c.Bindings[p]; !bound {
				ports = append(ports, p)
			}
		}
	}
	certain := func(p nat.Port) int {
		for _, b := range c.Bindings[p] {
			if b.HostPort != "" && b.HostPort != "0" {
				return 0
			}
		}
		return 1
	}
	slices.SortFunc(ports, func(a, b nat.Port) int {
		if d := certain(a) - certain(b); d != 0 {
			return d
		}
		return comparePorts(a, b)
	})
	return ports
}

func comparePorts(a, b nat.Port) int {
	return cmp.Or(cmp.Compare(a.Int(), b.Int()), cmp.Compare(a.Proto(), b.Proto()))
}

// addresses are the host's addresses that a port is published on.
func addresses(asked string, binding netip.Addr) ([]netip.Addr, error) {
	if asked != "" {
		a, err := netip.ParseAddr(asked)
		if err != nil {
			return nil, errdefs.InvalidParameterf("invalid IP address of the host: %s", asked)
		}
		return []netip.Addr{a.Unmap()}, nil
	}
	if binding == netip.IPv4Unspecified() && hasIPv6() {
		return []netip.Addr{binding, netip.IPv6Unspecified()}, nil
	}
	return []netip.Addr{binding}, nil
}

// hasIPv6 tells whether the host knows IPv6.
func hasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// tries is how many ports are tried when any will do.
const tries = 64

// take holds one port, the same on all addresses: the one that is asked for, the first free one of a range, or any.
func take(inside nat.Port, hosts []netip.Addr, asked string) ([]publication, error) {
	first, last, err := nat.ParsePortRange(asked)
	if asked == "" {
		first, last, err = 0, 0, nil
	}
	if err != nil || last > 65535 {
		return nil, errdefs.InvalidParameterf("invalid port of the host: %q", asked)
	}
	if first == 0 {
		for range tries {
			ps, err := takeAll(inside, hosts, 0)
			if !errors.Is(err, unix.EADDRINUSE) {
				return ps, err
			}
		}
		return nil, errdefs.Systemf("all ports are allocated")
	}
	for port := first; port <= last; port++ {
		ps, err := takeAll(inside, hosts, uint16(port))
		if first == last || !errors.Is(err, unix.EADDRINUSE) {
			return ps, err
		}
	}
	return nil, errdefs.Systemf("Bind for %s:%d-%d failed: all ports are allocated", hosts[0], first, last)
}

func takeAll(inside nat.Port, hosts []netip.Addr, port uint16) ([]publication, error) {
	var ps []publication
	for _, h := range hosts {
		p := publication{proto: inside.Proto(), inside: uint16(inside.Int()), host: h, port: port}
		if err := p.hold(); err != nil {
			for _, p := range ps {
				p.release()
			}
			return nil, err
		}
		port = p.port
		ps = append(ps, p)
	}
	return ps, nil
}

// hold binds a socket to the port, so that nobody else gets it; port 0 becomes a free one.
func (p *publication) hold() error {
	p.socket = -1
	fd, err := p.bind()
	switch {
	case err == nil:
		p.socket = fd
		return nil
	case errors.Is(err, unix.EPROTONOSUPPORT) && p.proto == "sctp":
		return errdefs.Systemf("port %d/sctp cannot be published: the kernel of this machine does not speak SCTP (load its "+
			"module sctp)", p.inside)
	case errors.Is(err, unix.EADDRINUSE):
		return errdefs.System(portTaken(netip.AddrPortFrom(p.host, p.port)))
	}
	return errdefs.Systemf("failed to bind host port %s/%s: %w", netip.AddrPortFrom(p.host, p.port), p.proto, err)
}

// portTaken is the error of a port that somebody else has.
type portTaken netip.AddrPort

func (e portTaken) Error() string {
	return fmt.Sprintf("Bind for %s failed: port is already allocated", netip.AddrPort(e))
}

func (portTaken) Is(target error) bool { return target == unix.EADDRINUSE }

func (p *publication) bind() (fd int, err error) {
	family, typ := unix.AF_INET, unix.SOCK_STREAM
	if p.host.Is6() {
		family = unix.AF_INET6
	}
	if p.proto == "udp" {
		typ = unix.SOCK_DGRAM
	}
	if fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC, int(firewall.Protocols[p.proto])); err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if p.host.Is6() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return -1, err
		}
	}
	if p.proto == "tcp" {
		err = bindStream(fd, sockaddr(p.host, p.port))
	} else {
		err = unix.Bind(fd, sockaddr(p.host, p.port))
	}
	if err != nil {
		return -1, err
	}
	if p.port == 0 {
		sa, err := unix.Getsockname(fd)
		if err != nil {
			return -1, err
		}
		p.port = portOf(sa)
	}
	return fd, nil
}

// bindStream binds TCP to a port that connections of an earlier server may still linger on, but that nobody else has:
// SO_REUSEADDR alone would share the port with all who do not listen, so the socket listens for a moment.
func bindStream(fd int, sa unix.Sockaddr) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return err
	}
	if err := unix.Listen(fd, 0); err != nil {
		return err
	}
	if err := unix.Shutdown(fd, unix.SHUT_RD); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
}

func sockaddr(a netip.Addr, port uint16) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Port: int(port), Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Port: int(port), Addr: a.As16()}
}

func portOf(sa unix.Sockaddr) uint16 {
	switch s := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(s.Port)
	case *unix.SockaddrInet6:
		return uint16(s.Port)
	}
	return 0
}

// lead brings all that leads to the published ports of a container to what its endpoints say: the firewall, and where the
// kernel cannot translate, the relay.
func (s *Service) lead(sb *sandbox) error {
	if err := s.protect(); err != nil {
		return err
	}
	s.mu.Lock()
	ports := slices.Clone(sb.ports)
	s.mu.Unlock()
	s.forgetFlows(ports) // those from before the port led here
	return s.relay(sb)
}

// relay has the daemon carry what comes to the published ports of a container and the kernel cannot translate.
func (s *Service) relay(sb *sandbox) error {
	s.mu.Lock()
	ports := slices.Clone(sb.ports)
	s.mu.Unlock()
	for _, p := range ports {
		add := map[string]func(int, relay.Target) error{"tcp": s.relays.Add, "udp": s.relays.AddUDP}[p.proto]
		if !s.cfg.UserlandProxy || add == nil || p.socket < 0 || p.host.Is4() && s.cfg.IPTables {
			continue
		}
		if err := add(p.socket, func() (netip.AddrPort, bool) { return s.target(sb, p) }); err != nil {
			return errdefs.System(err)
		}
	}
	return nil
}

// target is where a published port leads.
func (s *Service) target(sb *sandbox, p publication) (netip.AddrPort, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v4, v6 := sb.gateways()
	switch {
	case p.host.Is6() && v6 != nil:
		return netip.AddrPortFrom(v6.v6.Addr(), p.inside), true
	case v4 != nil:
		return netip.AddrPortFrom(v4.v4.Addr(), p.inside), true
	}
	return netip.AddrPort{}, false
}

// letGo gives ports back, once the firewall leads nobody there any more.
func (s *Service) letGo(ports []publication) {
	s.forgetFlows(ports)
	for _, p := range ports {
		s.let(p)
	}
}

func (s *Service) let(p publication) {
	s.relays.Remove(p.socket)
	p.release()
}

// flows are those to UDP ports of this machine: without connections, the kernel takes packets of the same sender for the
// flow that it knows, for as long as they come.
type flows struct {
	ports []publication
	local []netlink.Addr
}

// MatchConntrackFlow tells whether the kernel is to forget a flow.
func (f flows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	to := flow.Forward
	return to.Protocol == unix.IPPROTO_UDP &&
		slices.ContainsFunc(f.ports, func(p publication) bool { return p.proto == "udp" && p.port == to.DstPort }) &&
		slices.ContainsFunc(f.local, func(a netlink.Addr) bool { return a.IP.Equal(to.DstIP) })
}

// forgetFlows has the kernel decide anew where packets for these ports go. That it cannot is no reason to fail: it forgets
// by itself, later.
func (s *Service) forgetFlows(ports []publication) {
	if !slices.ContainsFunc(ports, func(p publication) bool { return p.proto == "udp" }) {
		return
	}
	local, err := s.host.AddrList(nil, netlink.FAMILY_ALL)
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if err == nil {
			_, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, flows{ports, local})
		}
	}
	if err != nil {
		log.L.WithError(err).Warn("flows to published UDP ports are not forgotten at once")
	}
}

// portMap is how the API shows the ports of a container: those that are only exposed, too.
func portMap(c Container, ps []publication) nat.PortMap {
	m := nat.PortMap{}
	for p := range c.Exposed {
		m[p] = nil
	}
	for _, p := range ps {
		key := nat.Port(strconv.Itoa(int(p.inside)) + "/" + p.proto)
		m[key] = append(m[key], nat.PortBinding{HostIP: p.host.String(), HostPort: strconv.Itoa(int(p.port))})
	}
	return m
}

// publications reads a portMap. Nothing is held yet.
func publications(m nat.PortMap) []publication {
	var ps []publication
	for inside, bindings := range m {
		for _, b := range bindings {
			host, err := netip.ParseAddr(b.HostIP)
			port, perr := strconv.ParseUint(b.HostPort, 10, 16)
			if err == nil && perr == nil {
				ps = append(ps, publication{
					proto: inside.Proto(), inside: uint16(inside.Int()), host: host, port: uint16(port), socket: -1,
				})
			}
		}
	}
	return ps
}
