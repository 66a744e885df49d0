package libnetwork

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containerd/log"
	"github.com/docker/go-connections/nat"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/daemon/network"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/netns"
	"github.com/berthd/berth/internal/tracing"
	"github.com/berthd/berth/internal/undo"
	"github.com/berthd/berth/libnetwork/bridge"
	"github.com/berthd/berth/libnetwork/dns"
	"github.com/berthd/berth/libnetwork/macvlan"
)

// Container is what networks need to know of a container, beside its network.Settings.
type Container struct {
	ID, Name             string
	Hostname, Domainname string
	Mode                 string // of its network; the network of that name or id comes first
	Exposed              nat.PortSet
	Bindings             nat.PortMap
	PublishAll           bool
	Links                []Link
	DNS, Search, Options []string // of name lookup; empty: the host's
	ExtraHosts           []string // "name:address"
}

// Link is another container of the default bridge that the container finds by name, and reaches although containers of
// that network may not reach each other.
type Link struct {
	Container string // id
	Name      string
	Alias     string
	Hostname  string
	Exposed   nat.PortSet
	Env       []string // as its configuration has it
}

func (s *Service) took(action string, since time.Time) { s.timed(action, time.Since(since)) }

// Up makes a container's network namespace and connects it, all of it or nothing. What comes of set, which is not written
// to, is for the container's record.
func (s *Service) Up(ctx context.Context, c Container, set network.Settings) (_ network.Settings, err error) {
	defer s.took("allocate", time.Now())
	ctx, end := tracing.Start(ctx, "connect the container")
	defer func() { end(err) }()
	set = set.Clone()
	sb := &sandbox{id: c.ID, name: c.Name, links: c.Links, inside: sortedPorts(c)}
	var stack undo.Stack
	defer func() {
		if err != nil {
			err = stack.Run(ctx, err)
		}
	}()
	if c.Mode == "host" {
		host := s.HostSandbox()
		set.SandboxID, set.SandboxKey = host.ID, host.Key
	} else {
		made, h, err := s.newSandbox()
		if err != nil {
			return set, err
		}
		defer h.Close()
		stack.Push("remove the network namespace", func(context.Context) error { return s.RemoveSandbox(made.Key) })
		set.SandboxID, set.SandboxKey = made.ID, made.Key
		sb.key = made.Key
		if err := s.upPorts(c, sb, &set, &stack); err != nil {
			return set, err
		}
		stack.Push("forget the container", func(context.Context) error { return s.forget(sb) })
		if err := s.upEndpoints(ctx, c, sb, &set, h); err != nil {
			return set, err
		}
		return set, s.upServices(c, sb, &stack)
	}
	stack.Push("forget the container", func(context.Context) error { return s.forget(sb) })
	return set, s.upEndpoints(ctx, c, sb, &set, nil)
}

func (s *Service) upEndpoints(ctx context.Context, c Container, sb *sandbox, set *network.Settings, h *netlink.Handle) error {
	for _, name := range order(c.Mode, *set) {
		ep, err := s.join(ctx, c, sb, name, set.Networks[name], h)
		if err != nil {
			return err
		}
		if ep.network.Name != name { // it was asked for by its id
			set.Networks[ep.network.Name] = set.Networks[name]
			delete(set.Networks, name)
		}
		s.tell("connect", ep.network, c.ID)
	}
	if h == nil {
		return nil
	}
	return s.route(h, sb)
}

// upServices begins what the daemon does for a container that is connected.
func (s *Service) upServices(c Container, sb *sandbox, stack *undo.Stack) error {
	if err := s.serveNames(c, sb); err != nil {
		return err
	}
	if !sb.guarded() {
		return nil
	}
	stack.Push("restore the firewall", func(context.Context) error { return s.protect() })
	return s.lead(sb)
}

// serveNames opens a name server for a container whose networks have one, unless it has one already.
func (s *Service) serveNames(c Container, sb *sandbox) error {
	up := upstreams(c)
	s.mu.Lock()
	wanted := sb.named() && sb.names == nil
	if wanted {
		sb.upstreams = up
	}
	s.mu.Unlock()
	if !wanted {
		return nil
	}
	srv, err := dns.Serve(sb.key, &view{s, sb})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sb.names = srv
	return nil
}

// order returns the names of the networks of a container, that of its network mode first.
func order(mode string, set network.Settings) []string {
	names := make([]string, 0, len(set.Networks))
	for name := range set.Networks {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if (a == mode) != (b == mode) {
			if a == mode {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return names
}

func (s *Service) tell(action string, n *Network, container string) {
	s.publish(action, n.ID, map[string]string{"name": n.Name, "type": n.Driver, "container": container})
}

// TellDisconnect tells that a container that does not run is no longer in a network.
func (s *Service) TellDisconnect(n *Network, container string) { s.tell("disconnect", n, container) }

// forget takes a container that goes with its namespace out of everything: name server, interfaces, ports.
func (s *Service) forget(sb *sandbox) error {
	s.mu.Lock()
	eps := slices.Clone(sb.endpoints)
	s.mu.Unlock()
	for _, ep := range eps {
		if err := s.unplug(sb, ep, nil); err != nil {
			return err
		}
		s.tell("disconnect", ep.network, sb.id)
	}
	s.mu.Lock()
	if s.sandboxes[sb.id] == sb {
		delete(s.sandboxes, sb.id)
	}
	names, ports := sb.takeServicesLocked()
	s.mu.Unlock()
	if names != nil {
		names.Close()
	}
	var err error
	if sb.guarded() {
		err = s.protect()
	}
	s.letGo(ports)
	return err
}

// Down takes back what Up gave, whoever did that. It may be repeated.
func (s *Service) Down(_ context.Context, id string, set network.Settings) error {
	defer s.took("release", time.Now())
	s.mu.Lock()
	sb := s.sandboxes[id]
	s.mu.Unlock()
	if sb != nil {
		if err := s.forget(sb); err != nil {
			return err
		}
		set.Networks = nil
	}
	for _, ep := range set.Networks { // that an earlier daemon has connected, and ended
		if ep.EndpointID != "" && ep.Interface != "" {
			if err := s.drop(veth(ep.EndpointID)); err != nil {
				return err
			}
		}
	}
	if set.SandboxKey == "" || set.SandboxKey == s.HostSandbox().Key {
		return nil
	}
	return s.RemoveSandbox(set.SandboxKey)
}

// Connect puts a running container into one more network. What comes of set is for the container's record.
func (s *Service) Connect(ctx context.Context, c Container, set network.Settings, name string, ep *network.EndpointSettings) (network.Settings, error) {
	set = set.Clone()
	var made *endpoint
	err := s.alter(ctx, c, &set, func(sb *sandbox, h *netlink.Handle, stack *undo.Stack) (err error) {
		if made, err = s.join(ctx, c, sb, name, ep, h); err != nil {
			return err
		}
		stack.Push("leave the network", func(context.Context) error {
			return errdefs.Join(s.unplug(sb, made, h), s.route(h, sb))
		})
		set.Networks[made.network.Name] = ep
		return s.serveNames(c, sb)
	})
	if err == nil {
		s.tell("connect", made.network, c.ID)
	}
	return set, err
}

// Disconnect takes a running container out of a network. It may be repeated.
func (s *Service) Disconnect(ctx context.Context, c Container, set network.Settings, n *Network) (network.Settings, error) {
	set = set.Clone()
	err := s.alter(ctx, c, &set, func(sb *sandbox, h *netlink.Handle, _ *undo.Stack) error {
		delete(set.Networks, n.Name)
		for _, ep := range sb.endpoints {
			if ep.network.ID == n.ID {
				return s.unplug(sb, ep, h)
			}
		}
		return nil
	})
	if err == nil {
		s.tell("disconnect", n, c.ID)
	}
	return set, err
}

// Refresh has routes, published ports and firewall follow the networks and links that a running container has. It takes away
// what the container has of cut, a network that an earlier daemon did not come to connect it to; nil where there is none.
func (s *Service) Refresh(ctx context.Context, c Container, set network.Settings, cut *Network) (network.Settings, error) {
	set = set.Clone()
	return set, s.alter(ctx, c, &set, func(sb *sandbox, h *netlink.Handle, _ *undo.Stack) error {
		if cut == nil || cut.Driver != driverMacvlan && cut.Driver != driverIpvlan {
			return nil // an interface of a bridge has gone with the host's end
		}
		return macvlan.Unplug(s.host, h, cut.Device, func(name string) bool {
			return slices.ContainsFunc(sb.endpoints, func(ep *endpoint) bool { return ep.iface == name })
		})
	})
}

// alter changes the networks of a running container, and its links to c's: afterwards routes, published ports and firewall
// follow. fn puts on the stack how what it did is taken back when that fails.
func (s *Service) alter(
	ctx context.Context, c Container, set *network.Settings, fn func(*sandbox, *netlink.Handle, *undo.Stack) error,
) (err error) {
	var stack undo.Stack
	defer func() {
		if err != nil {
			err = stack.Run(ctx, err)
		}
	}()
	s.mu.Lock()
	sb := s.sandboxes[c.ID]
	guarded := sb != nil && sb.guarded()
	if sb != nil {
		sb.links = c.Links
	}
	s.mu.Unlock()
	if sb == nil || set.SandboxKey == "" {
		return errdefs.Systemf("container %s has no networks that could be changed", c.ID)
	}
	var h *netlink.Handle
	if err := netns.Do(sb.key, func() (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	}); err != nil {
		return errdefs.Systemf("reach the network namespace of container %s: %w", c.ID, err)
	}
	defer h.Close()
	if err := fn(sb, h, &stack); err != nil {
		return err
	}
	if err := s.route(h, sb); err != nil {
		return err
	}
	dropped, err := s.followPorts(c, sb, set, &stack)
	if err != nil {
		return err
	}
	if guarded || sb.guarded() {
		err = s.lead(sb)
	}
	s.letGo(dropped)
	return err
}

// Live is a container that has a network namespace, as its record tells.
type Live struct {
	Container
	Settings network.Settings
}

// Restore takes over the containers that an earlier daemon connected, and takes away what none of them has. It is called
// before anything can be connected.
func (s *Service) Restore(ctx context.Context, all []Live) error {
	known := map[string]bool{}
	for _, n := range s.Networks() {
		known[n.Device] = true
	}
	for _, l := range all {
		sb := s.restore(ctx, l)
		for _, ep := range sb.endpoints {
			known[veth(ep.id)] = true
		}
	}
	names, err := bridge.Owned(s.host, s.owner)
	if err != nil {
		return fmt.Errorf("look for interfaces that were left: %w", err)
	}
	for _, name := range names {
		if !known[name] {
			if err := bridge.Remove(s.host, name); err != nil {
				log.G(ctx).WithError(err).Warnf("cannot remove the interface %s, which no container has", name)
			}
		}
	}
	return s.protect()
}

// restore takes over one container. What cannot be had again is logged: the container runs, and keeps the rest.
func (s *Service) restore(ctx context.Context, l Live) *sandbox {
	warn := func(what string, err error) {
		log.G(ctx).WithError(err).Warnf("container %s: %s", l.ID, what)
	}
	sb := &sandbox{id: l.ID, name: l.Name, key: l.Settings.SandboxKey, links: l.Links, inside: sortedPorts(l.Container)}
	for _, name := range order(l.Mode, l.Settings) {
		set := l.Settings.Networks[name]
		if set.EndpointID == "" {
			continue
		}
		n, err := s.Find(set.NetworkID)
		if err != nil {
			warn("one of its networks has gone", err)
			continue
		}
		sb.endpoints = append(sb.endpoints, s.restoreEndpoint(l.Container, n, set, warn))
	}
	for _, p := range publications(l.Settings.Ports) {
		if err := p.hold(); err != nil {
			warn("a port that it publishes cannot be held", err)
		}
		sb.ports = append(sb.ports, p)
	}
	s.mu.Lock()
	s.sandboxes[l.ID] = sb
	s.mu.Unlock()
	if err := s.relay(sb); err != nil {
		warn("its published ports are not carried where the kernel cannot", err)
	}
	if err := s.serveNames(l.Container, sb); err != nil {
		warn("its name server cannot be opened", err)
	}
	return sb
}

func (s *Service) restoreEndpoint(c Container, n *Network, set *network.EndpointSettings, warn func(string, error)) *endpoint {
	ep := &endpoint{id: set.EndpointID, network: n, iface: set.Interface, mac: parseMAC(set.MacAddress)}
	if set.GwPriority != nil {
		ep.priority = *set.GwPriority
	}
	if n.named() {
		ep.names, ep.links = dnsNames(c, set.Aliases), parseLinks(set.Links)
	}
	for _, a := range []struct {
		text   string
		bits   int
		gw     string
		prefix *netip.Prefix
		gate   *netip.Addr
	}{
		{set.IPAddress, set.IPPrefixLen, set.Gateway, &ep.v4, &ep.gw4},
		{set.GlobalIPv6Address, set.GlobalIPv6PrefixLen, set.IPv6Gateway, &ep.v6, &ep.gw6},
	} {
		addr, err := netip.ParseAddr(a.text)
		if err != nil {
			continue
		}
		*a.prefix = netip.PrefixFrom(addr, a.bits)
		*a.gate, _ = netip.ParseAddr(a.gw) // none: the zero Addr
		if err := s.space.Reserve(a.prefix.Masked(), addr); err != nil {
			warn("its address "+a.text+" is not free in network "+n.Name, err)
		}
	}
	return ep
}

// Rename tells that a container has another name.
func (s *Service) Rename(id, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sb := s.sandboxes[id]
	if sb == nil {
		return
	}
	old := sb.name
	sb.name = name
	for _, ep := range sb.endpoints {
		ep.names = slices.Clone(ep.names)
		if i := slices.Index(ep.names, old); i >= 0 {
			ep.names[i] = name
		}
	}
}
