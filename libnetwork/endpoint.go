package libnetwork

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/log"
	"github.com/docker/go-connections/nat"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	networktypes "github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/daemon/network"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/ids"
	"github.com/berthd/berth/internal/netns"
	"github.com/berthd/berth/internal/undo"
	"github.com/berthd/berth/libnetwork/bridge"
	"github.com/berthd/berth/libnetwork/dns"
	"github.com/berthd/berth/libnetwork/macvlan"
)

// sandbox is a container that has a network namespace. Its fields are guarded by Service.mu, once others can see it.
type sandbox struct {
	id, name, key string
	endpoints     []*endpoint   // in the order of their interfaces
	inside        []nat.Port    // that the container publishes
	ports         []publication // where, on the host
	links         []Link
	upstreams     []dns.Upstream
	names         *dns.Server // nil while no network has a name service
}

// endpoint is a container's place in a network. Only its names change.
type endpoint struct {
	id       string
	network  *Network
	iface    string // in the container
	v4, v6   netip.Prefix
	gw4, gw6 netip.Addr
	mac      net.HardwareAddr
	priority int
	names    []string          // by which the others of the network find it
	links    map[string]string // alias → name of a container, for this container alone
}

// veth is the name of the host's end of an endpoint's interface pair.
func veth(endpointID string) string { return "veth" + endpointID[:7] }

// gateways returns the endpoints that the default routes go by.
func (sb *sandbox) gateways() (v4, v6 *endpoint) {
	eps := slices.SortedFunc(slices.Values(sb.endpoints), func(a, b *endpoint) int {
		if a.priority != b.priority {
			return b.priority - a.priority
		}
		return strings.Compare(a.network.Name, b.network.Name)
	})
	for _, ep := range eps {
		if v4 == nil && ep.gw4.IsValid() {
			v4 = ep
		}
		if v6 == nil && ep.gw6.IsValid() {
			v6 = ep
		}
	}
	return v4, v6
}

func (sb *sandbox) named() bool {
	return slices.ContainsFunc(sb.endpoints, func(ep *endpoint) bool { return ep.network.named() })
}

// takeServicesLocked takes from the sandbox what the daemon holds for the container: its name server, which is nil where
// there is none, and its ports. The caller ends them without the lock.
func (sb *sandbox) takeServicesLocked() (names *dns.Server, ports []publication) {
	names, ports = sb.names, sb.ports
	sb.names, sb.ports = nil, nil
	return names, ports
}

// guarded tells whether the firewall has something for the container.
func (sb *sandbox) guarded() bool { return len(sb.inside) > 0 || len(sb.links) > 0 }

// plan works out an endpoint: its addresses are in use from then on, and it is among the sandbox's.
func (s *Service) planEndpoint(c Container, sb *sandbox, name string, set *network.EndpointSettings) (*endpoint, error) {
	n, err := s.Find(name)
	if err != nil {
		return nil, err
	}
	if n.ConfigOnly {
		return nil, errdefs.Forbiddenf("cannot create endpoint on configuration-only network")
	}
	ep := &endpoint{id: ids.New(), network: n}
	if set.GwPriority != nil {
		ep.priority = *set.GwPriority
	}
	if n.named() {
		ep.names = dnsNames(c, set.Aliases)
		ep.links = parseLinks(set.Links)
	}
	for _, sub := range []bool{false, true} {
		if err := s.giveAddress(ep, set, sub); err != nil {
			s.freeAddresses(ep)
			return nil, err
		}
	}
	if err := ep.giveMAC(set.WantedMAC); err != nil {
		s.freeAddresses(ep)
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.removed || s.networks[n.ID] != n {
		s.freeAddresses(ep)
		return nil, errdefs.NotFoundf("network %s not found", name)
	}
	ep.iface = set.DriverOpts[optIfName]
	if ep.iface == "" {
		ep.iface = sb.freeInterface(n.option(optIfPrefix, "eth"))
	}
	sb.endpoints = append(sb.endpoints, ep)
	s.sandboxes[sb.id] = sb
	return ep, nil
}

func (sb *sandbox) freeInterface(prefix string) string {
	for i := 0; ; i++ {
		name := prefix + strconv.Itoa(i)
		if !slices.ContainsFunc(sb.endpoints, func(ep *endpoint) bool { return ep.iface == name }) {
			return name
		}
	}
}

// giveAddress takes an address of a family, if the network has that family: the one that is asked for, or a free one.
func (s *Service) giveAddress(ep *endpoint, set *network.EndpointSettings, v6 bool) error {
	asked := ""
	if set.IPAMConfig != nil {
		asked = set.IPAMConfig.IPv4Address
		if v6 {
			asked = set.IPAMConfig.IPv6Address
		}
	}
	n := ep.network
	give := func(sub subnet, a netip.Addr) {
		p, gw := netip.PrefixFrom(a, sub.prefix.Bits()), sub.gateway
		if n.Internal {
			gw = netip.Addr{}
		}
		if v6 {
			ep.v6, ep.gw6 = p, gw
		} else {
			ep.v4, ep.gw4 = p, gw
		}
	}
	if asked != "" {
		a, sub, err := n.askedAddress(asked, v6)
		if err == nil {
			err = s.space.Reserve(sub.prefix, a)
		}
		if err == nil {
			give(sub, a)
		}
		return err
	}
	var err error
	for _, sub := range n.subnets {
		if sub.prefix.Addr().Is6() != v6 {
			continue
		}
		var a netip.Addr
		if a, err = s.space.Next(sub.prefix); err == nil {
			give(sub, a)
			return nil
		}
	}
	return err
}

// askedAddress returns an address that a user asks for, and the subnet that it is in.
func (n *Network) askedAddress(text string, v6 bool) (a netip.Addr, _ subnet, err error) {
	bad := func(format string, args ...any) error {
		return errdefs.InvalidParameterf("invalid endpoint settings:\n"+format, args...)
	}
	if a, err = netip.ParseAddr(text); err != nil {
		return a, subnet{}, bad("invalid IP address: %s", text)
	}
	configured := false
	for _, sub := range n.subnets {
		if sub.prefix.Addr().Is6() != v6 || slices.Contains(n.Picked, sub.prefix) {
			continue
		}
		if configured = true; sub.prefix.Contains(a) {
			return a, sub, nil
		}
	}
	if !configured {
		return a, subnet{}, bad("user specified IP address is supported only when connecting to networks with user configured " +
			"subnets")
	}
	return a, subnet{}, bad("no configured subnet or ip-range contain the IP address %s", text)
}

// CheckAddresses checks the addresses that a user asks for in n.
func (n *Network) CheckAddresses(ep *networktypes.EndpointSettings) error {
	if ep == nil || ep.IPAMConfig == nil {
		return nil
	}
	for text, v6 := range map[string]bool{ep.IPAMConfig.IPv4Address: false, ep.IPAMConfig.IPv6Address: true} {
		if text == "" {
			continue
		}
		if _, _, err := n.askedAddress(text, v6); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) freeAddresses(ep *endpoint) {
	for _, p := range []netip.Prefix{ep.v4, ep.v6} {
		if p.IsValid() {
			s.space.Release(p.Masked(), p.Addr())
		}
	}
}

// giveMAC chooses the hardware address: one that follows from the IPv4 address is right in every neighbour's memory when
// the next container gets the address.
func (ep *endpoint) giveMAC(asked string) error {
	switch {
	case asked != "":
		mac, err := net.ParseMAC(asked)
		if err != nil {
			return errdefs.InvalidParameterf("invalid MAC address %q: %w", asked, err)
		}
		ep.mac = mac
	case ep.v4.IsValid():
		ep.mac = append(net.HardwareAddr{0x02, 0x42}, ep.v4.Addr().AsSlice()...)
	case ep.v6.IsValid():
		ep.mac = make(net.HardwareAddr, 6)
		if _, err := rand.Read(ep.mac); err != nil {
			return err
		}
		ep.mac[0] = ep.mac[0]&^1 | 2
	}
	return nil
}

// plug makes the interface of an endpoint and brings it up. h speaks to the container's namespace.
func (s *Service) plug(sb *sandbox, ep *endpoint, set *network.EndpointSettings, h *netlink.Handle) error {
	n := ep.network
	if n.Driver == driverHost || n.Driver == driverNull {
		return nil
	}
	ns, err := os.Open(sb.key)
	if err != nil {
		return err
	}
	defer ns.Close()
	if n.Driver == driverBridge {
		err = bridge.Plug(s.host, bridge.Port{
			Bridge: n.Device, Host: veth(ep.id), Name: ep.iface, Owner: s.owner, Namespace: int(ns.Fd()), MTU: n.mtu(),
			MAC: ep.mac, Hairpin: len(sb.inside) > 0,
		})
	} else {
		err = macvlan.Plug(s.host, macvlan.Port{
			Driver: n.Driver, Options: n.Options, Parent: n.Device, Name: ep.iface, Namespace: int(ns.Fd()), MTU: n.mtu(),
			MAC: ep.mac,
		})
	}
	if err != nil {
		return err
	}
	if err := parameters(sb.key, ep, set.DriverOpts); err != nil {
		return err
	}
	return configure(h, ep, linkLocals(set))
}

// linkLocals are the link-local addresses that a user asks for beside the others.
func linkLocals(set *network.EndpointSettings) (all []netip.Prefix) {
	if set.IPAMConfig == nil {
		return nil
	}
	for _, text := range set.IPAMConfig.LinkLocalIPs {
		if a, err := netip.ParseAddr(text); err == nil { // they were checked
			bits := 64
			if a.Is4() {
				bits = 16
			}
			all = append(all, netip.PrefixFrom(a, bits))
		}
	}
	return all
}

// optIfName names an endpoint's interface in the container.
const optIfName = "com.docker.network.endpoint.ifname"

// optSysctls holds kernel parameters of an endpoint's interface, as net.X.Y.IFNAME.Z=VALUE, separated by commas.
const optSysctls = "com.docker.network.endpoint.sysctls"

// parameters sets the kernel parameters of an interface.
func parameters(key string, ep *endpoint, opts map[string]string) error {
	var settings [][4]string // family, key, value
	if ep.v6.IsValid() {
		settings = append(settings, [4]string{"ipv6", "disable_ipv6", "0"})
	}
	for _, f := range strings.FieldsFunc(opts[optSysctls], func(r rune) bool { return r == ',' }) {
		name, value, ok := strings.Cut(f, "=")
		parts := strings.Split(name, ".")
		if !ok || len(parts) != 5 || parts[0] != "net" || parts[2] != "conf" || parts[3] != "IFNAME" {
			return errdefs.InvalidParameterf("invalid value of %s: %q: write net.FAMILY.conf.IFNAME.NAME=VALUE", optSysctls, f)
		}
		settings = append(settings, [4]string{parts[1], parts[4], value})
	}
	if len(settings) == 0 {
		return nil
	}
	return netns.Do(key, func() error {
		for _, s := range settings {
			if err := bridge.Sysctl(s[0], ep.iface, s[1], s[2]); err != nil {
				return err
			}
		}
		return nil
	})
}

func configure(h *netlink.Handle, ep *endpoint, more []netip.Prefix) error {
	link, err := h.LinkByName(ep.iface)
	if err != nil {
		return fmt.Errorf("the interface %s: %w", ep.iface, err)
	}
	for _, p := range append(more, ep.v4, ep.v6) {
		if p.IsValid() {
			if err := h.AddrAdd(link, bridge.Addr(p)); err != nil {
				return fmt.Errorf("give the interface %s the address %s: %w", ep.iface, p, err)
			}
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring the interface %s up: %w", ep.iface, err)
	}
	if ep.network.Driver == driverIpvlan {
		ep.mac = nil // it is the parent's
	}
	return nil
}

// route brings the default routes of a container to what its endpoints say.
func (s *Service) route(h *netlink.Handle, sb *sandbox) error {
	s.mu.Lock()
	v4, v6 := sb.gateways()
	s.mu.Unlock()
	for _, f := range []struct {
		family int
		ep     *endpoint
		gw     func(*endpoint) netip.Addr
	}{
		{netlink.FAMILY_V4, v4, func(ep *endpoint) netip.Addr { return ep.gw4 }},
		{netlink.FAMILY_V6, v6, func(ep *endpoint) netip.Addr { return ep.gw6 }},
	} {
		if err := routeFamily(h, f.family, f.ep, f.gw); err != nil {
			return fmt.Errorf("set the default route: %w", err)
		}
	}
	return nil
}

func routeFamily(h *netlink.Handle, family int, ep *endpoint, gw func(*endpoint) netip.Addr) error {
	have, err := h.RouteListFiltered(family, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
	if err != nil {
		if family == netlink.FAMILY_V6 && ep == nil {
			return nil // a kernel without IPv6
		}
		return err
	}
	for _, r := range have {
		if err := h.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	if ep == nil {
		return nil
	}
	link, err := h.LinkByName(ep.iface)
	if err != nil {
		return err
	}
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Family: family}
	if mode := ep.network.Options["ipvlan_mode"]; mode == "l3" || mode == "l3s" {
		r.Scope = netlink.SCOPE_LINK // there is no gateway: the host routes
		bits := 128
		if family == netlink.FAMILY_V4 {
			bits = 32
		}
		r.Dst = &net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)}
	} else {
		r.Gw = gw(ep).AsSlice()
	}
	return h.RouteAdd(r)
}

// unplug takes an endpoint out of its network: interface first, then the addresses are free for others. h speaks to the
// container's namespace, and is nil when that goes as well.
func (s *Service) unplug(sb *sandbox, ep *endpoint, h *netlink.Handle) error {
	switch ep.network.Driver {
	case driverBridge:
		var err error
		if h == nil {
			err = s.drop(veth(ep.id))
		} else {
			err = bridge.Remove(s.host, veth(ep.id))
		}
		if err != nil {
			return err
		}
	case driverMacvlan, driverIpvlan:
		if h != nil {
			if err := bridge.Remove(h, ep.iface); err != nil {
				return err
			}
		}
	}
	s.mu.Lock()
	sb.endpoints = slices.DeleteFunc(slices.Clone(sb.endpoints), func(o *endpoint) bool { return o == ep })
	s.mu.Unlock()
	s.freeAddresses(ep)
	return nil
}

// drop takes a device of a container that has ended out of use, and has it deleted behind that: the kernel deletes slowly. It
// is no error when there is none. What is not deleted is found by the next daemon, as a device that no container has.
func (s *Service) drop(device string) error {
	there, err := bridge.Unplug(s.host, device)
	if !there || err != nil {
		return err
	}
	s.dropping.Go(func() {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE) // whoever shares one waits for each other's answers
		if err == nil {
			defer h.Close()
			err = bridge.Remove(h, device)
		}
		if err != nil {
			log.L.WithError(err).Warnf("cannot remove the interface %s of a container that has ended", device)
		}
	})
	return nil
}

// join puts a container into a network: all of it or nothing. set is what was asked for, and gets what came of it.
func (s *Service) join(ctx context.Context, c Container, sb *sandbox, name string, set *network.EndpointSettings, h *netlink.Handle) (*endpoint, error) {
	defer s.took("connect", time.Now())
	ep, err := s.planEndpoint(c, sb, name, set)
	if err != nil {
		return nil, err
	}
	var stack undo.Stack
	stack.Push("give the endpoint back", func(context.Context) error { return s.unplug(sb, ep, h) })
	if err := s.plug(sb, ep, set, h); err != nil {
		return nil, stack.Run(ctx, errdefs.System(err))
	}
	ep.show(set)
	return ep, nil
}

// show writes down what came of an endpoint.
func (ep *endpoint) show(set *network.EndpointSettings) {
	set.NetworkID, set.EndpointID, set.Interface = ep.network.ID, ep.id, ep.iface
	if ep.network.Driver == driverHost || ep.network.Driver == driverNull {
		set.Interface = ""
	}
	set.MacAddress = ep.mac.String()
	if ep.v4.IsValid() {
		set.IPAddress, set.IPPrefixLen = ep.v4.Addr().String(), ep.v4.Bits()
	}
	if ep.v6.IsValid() {
		set.GlobalIPv6Address, set.GlobalIPv6PrefixLen = ep.v6.Addr().String(), ep.v6.Bits()
	}
	if ep.gw4.IsValid() {
		set.Gateway = ep.gw4.String()
	}
	if ep.gw6.IsValid() {
		set.IPv6Gateway = ep.gw6.String()
	}
	for _, sub := range ep.network.subnets {
		switch {
		case !ep.network.Internal || !sub.gateway.IsValid():
		case sub.prefix.Contains(ep.v4.Addr()):
			set.NetworkGateway = sub.gateway.String()
		case sub.prefix.Contains(ep.v6.Addr()):
			set.NetworkIPv6Gateway = sub.gateway.String()
		}
	}
	set.DNSNames = nil
	if ep.names != nil {
		set.DNSNames = &ep.names
	}
}

// dnsNames are the names by which the others of a network find a container.
func dnsNames(c Container, aliases []string) []string {
	var names []string
	for _, n := range slices.Concat([]string{c.Name}, aliases, []string{ids.Short(c.ID), c.Hostname}) {
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// parseLinks reads "name:alias" and "name".
func parseLinks(links []string) map[string]string {
	m := make(map[string]string, len(links))
	for _, l := range links {
		name, alias, ok := strings.Cut(l, ":")
		if !ok {
			alias = name
		}
		m[strings.ToLower(alias)] = name
	}
	return m
}

// CheckEndpoint checks what a user asks of a container's place in a network.
func CheckEndpoint(name string, ep *networktypes.EndpointSettings) error {
	if ep == nil {
		return nil
	}
	var faults []string
	if c := ep.IPAMConfig; c != nil {
		for _, a := range []struct {
			what, text string
			v6         bool
		}{{"IPv4", c.IPv4Address, false}, {"IPv6", c.IPv6Address, true}} {
			if addr, err := netip.ParseAddr(a.text); a.text != "" && (err != nil || addr.Is6() != a.v6) {
				faults = append(faults, fmt.Sprintf("invalid %s address: %s", a.what, a.text))
			}
		}
		for _, text := range c.LinkLocalIPs {
			if _, err := netip.ParseAddr(text); err != nil {
				faults = append(faults, "invalid link-local IP address: "+text)
			}
		}
		if predefined(name) && (c.IPv4Address != "" || c.IPv6Address != "") {
			faults = append(faults, "user-specified IP address is supported on user-defined networks only")
		}
	}
	if predefined(name) && len(ep.Aliases) > 0 {
		faults = append(faults, "network-scoped aliases are only supported for user-defined networks")
	}
	if name := ep.DriverOpts[optIfName]; len(name) > 15 || strings.ContainsAny(name, "/ ") ||
		slices.Contains([]string{".", "..", "lo"}, name) {
		faults = append(faults, "invalid name of an interface: "+name)
	}
	if ep.MacAddress != "" {
		if _, err := net.ParseMAC(ep.MacAddress); err != nil {
			faults = append(faults, "invalid MAC address: "+ep.MacAddress)
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return errdefs.InvalidParameterf("invalid endpoint settings:\n%s", strings.Join(faults, "\n"))
}
