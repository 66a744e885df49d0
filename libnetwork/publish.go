package libnetwork

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/docker/go-connections/nat"

	"github.com/berthd/berth/daemon/network"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/undo"
)

// Gateway modes of a bridge network, which it has for each family: how its containers meet the world.
const (
	modeNAT         = "nat"             // behind the machine's address, reached by published ports; the default
	modeUnprotected = "nat-unprotected" // the same, and reached by their own addresses
	modeRouted      = "routed"          // by their own addresses; of those, published ports are reached
	modeIsolated    = "isolated"        // not at all, not even the machine
)

// mode is the gateway mode for a family.
func (n *Network) mode(v6 bool) string {
	if v6 {
		return n.option(optGatewayMode6, modeNAT)
	}
	return n.option(optGatewayMode4, modeNAT)
}

// translated tells whether ports of the machine lead to containers of the network.
func (n *Network) translated(v6 bool) bool {
	return n.mode(v6) == modeNAT || n.mode(v6) == modeUnprotected
}

// direct tells whether published ports of containers are reached by their own addresses. routing is the configuration's
// key allow-direct-routing.
func (n *Network) direct(routing, v6 bool) bool {
	return n.leads() && (routing || n.mode(v6) == modeRouted)
}

// checkModes checks the gateway modes that a user asks for.
func (n *Network) checkModes() error {
	for key, v6 := range map[string]bool{optGatewayMode4: false, optGatewayMode6: true} {
		switch n.mode(v6) {
		case modeNAT, modeUnprotected, modeRouted:
		case modeIsolated:
			if !n.Internal {
				return errdefs.InvalidParameterf("invalid value for %s: gateway mode 'isolated' can only be used for an internal "+
					"network", key)
			}
		default:
			return errdefs.InvalidParameterf("invalid value for %s: %q: use nat, nat-unprotected, routed or isolated", key, n.mode(v6))
		}
	}
	return nil
}

// leads tells whether ports of containers of the network can be published.
func (n *Network) leads() bool { return n.Driver == driverBridge && !n.Internal }

// upPorts takes the ports that the container publishes, if one of its networks leads to the world.
func (s *Service) upPorts(c Container, sb *sandbox, set *network.Settings, stack *undo.Stack) error {
	set.Ports = nat.PortMap{}
	for _, name := range order(c.Mode, *set) {
		if n, err := s.Find(name); err == nil && n.leads() {
			return s.takePorts(c, sb, n, set, stack)
		}
	}
	return nil
}

// followPorts takes the ports of a container whose networks have changed, if they lead to the world now. Those of one that
// has no such network any more are returned: they are to be given back once the firewall knows.
func (s *Service) followPorts(
	c Container, sb *sandbox, set *network.Settings, stack *undo.Stack,
) (dropped []publication, err error) {
	s.mu.Lock()
	v4, v6 := sb.gateways()
	held := sb.ports
	var main *Network
	switch {
	case v4 != nil && v4.network.leads():
		main = v4.network
	case v6 != nil && v6.network.leads():
		main = v6.network
	default:
		sb.ports = nil
	}
	s.mu.Unlock()
	switch {
	case main == nil:
		set.Ports = nat.PortMap{}
		return held, nil
	case len(held) == 0:
		return nil, s.takePorts(c, sb, main, set, stack)
	}
	return nil, nil
}

// takePorts takes the ports that the container publishes by way of n.
func (s *Service) takePorts(c Container, sb *sandbox, n *Network, set *network.Settings, stack *undo.Stack) error {
	binding, err := netip.ParseAddr(n.option(optHostBinding, s.cfg.IP))
	if err != nil {
		return errdefs.InvalidParameterf("the configuration's key ip is no address: %q", s.cfg.IP)
	}
	ports, err := publish(c, binding, n.translated(false), n.translated(true))
	if err != nil {
		return fmt.Errorf("driver failed programming external connectivity on endpoint %s (%s): %w", c.Name, c.ID, err)
	}
	stack.Push("give the ports back", func(context.Context) error {
		s.mu.Lock()
		held := sb.ports // none, if the container was forgotten already
		sb.ports = nil
		s.mu.Unlock()
		s.letGo(held)
		return nil
	})
	s.mu.Lock()
	sb.ports = ports
	s.mu.Unlock()
	set.Ports = portMap(c, ports)
	return nil
}
