package libnetwork

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	networktypes "github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/ids"
	"github.com/berthd/berth/internal/undo"
	"github.com/berthd/berth/libnetwork/bridge"
	"github.com/berthd/berth/libnetwork/macvlan"
)

// Options of networks that have a meaning here; others are kept and shown.
const (
	optName        = "com.docker.network.bridge.name"
	optICC         = "com.docker.network.bridge.enable_icc"
	optMasquerade  = "com.docker.network.bridge.enable_ip_masquerade"
	optHostBinding = "com.docker.network.bridge.host_binding_ipv4"
	optInhibit     = "com.docker.network.bridge.inhibit_ipv4"
	// Gateway modes: see modeNAT.
	optGatewayMode4 = "com.docker.network.bridge.gateway_mode_ipv4"
	optGatewayMode6 = "com.docker.network.bridge.gateway_mode_ipv6"

	optMTU        = "com.docker.network.driver.mtu"
	optIfPrefix   = "com.docker.network.container_iface_prefix"
	optEnableIPv4 = "com.docker.network.enable_ipv4"
	optEnableIPv6 = "com.docker.network.enable_ipv6"
	optParent     = "parent"
)

// NetworkCreate makes a network.
func (s *Service) NetworkCreate(ctx context.Context, req networktypes.CreateRequest) (networktypes.CreateResponse, error) {
	n, err := s.plan(req)
	if err != nil {
		return networktypes.CreateResponse{}, err
	}
	err = s.change(ctx, func() error { return s.create(ctx, n) })
	return networktypes.CreateResponse{ID: n.ID}, err
}

// create takes what a network needs, in this order: name, addresses, its place in the file, device, firewall.
func (s *Service) create(ctx context.Context, n *Network) (err error) {
	var stack undo.Stack
	defer func() {
		if err != nil {
			err = stack.Run(ctx, err)
		}
	}()
	for _, o := range s.Networks() {
		if o.Name == n.Name {
			return errdefs.Conflictf("network with name %s already exists", n.Name)
		}
		if n.Device != "" && o.Device == n.Device && (n.Driver == driverBridge || n.Driver != o.Driver) {
			return errdefs.Forbiddenf("cannot create network %s (%s): conflicts with network %s (%s): networks have same bridge "+
				"name", n.ID, n.Device, o.ID, o.Device)
		}
	}
	stack.Push("give the addresses back", func(context.Context) error { s.release(n); return nil })
	if err := s.allocate(n); err != nil {
		return err
	}
	stack.Push("forget the network", func(context.Context) error { return s.put(n.ID, nil) })
	if err := s.put(n.ID, n); err != nil {
		return err
	}
	stack.Push("remove the device", func(context.Context) error { return s.removeDevice(n) })
	if err := s.ensureDevice(n); err != nil {
		return errdefs.System(err)
	}
	if n.IPv6 {
		if err := s.setForwarding(); err != nil {
			return errdefs.System(err)
		}
	}
	stack.Push("restore the firewall", func(context.Context) error { return s.protect() })
	if err := s.protect(); err != nil {
		return errdefs.System(err)
	}
	s.publish("create", n.ID, map[string]string{"name": n.Name, "type": n.Driver})
	return nil
}

// plan makes a network of a request, without taking anything.
func (s *Service) plan(req networktypes.CreateRequest) (*Network, error) {
	if err := checkRequest(req); err != nil {
		return nil, err
	}
	req, err := s.borrow(req)
	if err != nil {
		return nil, err
	}
	n := &Network{
		Name: req.Name, ID: ids.New(), Driver: req.Driver, Created: time.Now().UTC(), IPv4: true,
		Internal: req.Internal, Attachable: req.Attachable, Options: maps.Clone(req.Options), Labels: maps.Clone(req.Labels),
		ConfigOnly: req.ConfigOnly,
	}
	if req.ConfigFrom != nil {
		n.ConfigFrom = req.ConfigFrom.Network
	}
	if n.ConfigOnly {
		n.Driver = driverNull
	}
	if n.Driver == "" || n.Driver == "default" {
		n.Driver = driverBridge
	}
	for k, v := range s.cfg.DefaultNetworkOpts[n.Driver] {
		if _, set := n.Options[k]; !set {
			if n.Options == nil {
				n.Options = map[string]string{}
			}
			n.Options[k] = v
		}
	}
	for _, f := range []struct {
		on     *bool
		asked  *bool
		option string
	}{{&n.IPv4, req.EnableIPv4, optEnableIPv4}, {&n.IPv6, req.EnableIPv6, optEnableIPv6}} {
		if v, set := n.Options[f.option]; set {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return nil, errdefs.InvalidParameterf("invalid value for %s: %q is neither true nor false", f.option, v)
			}
			*f.on = b
		}
		if f.asked != nil {
			*f.on = *f.asked
		}
	}
	if !n.IPv4 && !n.IPv6 {
		return nil, errdefs.InvalidParameterf("IPv4 or IPv6 must be enabled")
	}
	n.IPAM = networktypes.IPAM{Driver: "default"}
	if req.IPAM != nil {
		n.IPAM.Options = req.IPAM.Options
		n.IPAM.Config = slices.Clone(req.IPAM.Config)
	}
	if err := checkIPAM(n); err != nil {
		return nil, err
	}
	if n.subnets, err = subnetsOf(n); err != nil {
		return nil, errdefs.InvalidParameter(err)
	}
	if n.ConfigOnly {
		n.subnets = nil
		return n, nil
	}
	return n, s.planDevice(n)
}

func checkRequest(req networktypes.CreateRequest) error {
	if req.IPAM != nil && req.IPAM.Driver != "" && req.IPAM.Driver != "default" {
		return errdefs.NotFoundf("plugin %q not found: the only IPAM driver is default", req.IPAM.Driver)
	}
	switch {
	case strings.TrimSpace(req.Name) == "":
		return errdefs.InvalidParameterf("invalid name: name is empty")
	case strings.ContainsAny(req.Name, "/ \t\n"):
		return errdefs.InvalidParameterf("invalid name: %q may not contain blanks or slashes", req.Name)
	case predefined(req.Name):
		return errdefs.Forbiddenf("operation is not permitted on predefined %s network ", req.Name)
	case req.Ingress, req.Scope == "swarm", req.Scope == "global":
		return errdefs.Unavailable(errors.New("this node is not a swarm manager: networks of a swarm cannot be made"))
	case req.ConfigOnly && (req.Internal || req.Attachable || req.Scope != ""):
		return errdefs.Forbiddenf("configuration network can only contain network specific fields. Network operator fields " +
			"like [ ingress | internal | attachable | scope ] are not supported.")
	case req.ConfigOnly:
		return nil
	}
	switch req.Driver {
	case "", "default", driverBridge, driverMacvlan, driverIpvlan:
		return nil
	case driverHost, driverNull:
		return errdefs.Forbiddenf("only one instance of %q network is allowed", req.Driver)
	}
	return errdefs.NotFoundf("could not find plugin %s in v1 plugin registry: plugin %q not found", req.Driver, req.Driver)
}

// planDevice works out what the network's device is to be, and checks the options that it depends on.
func (s *Service) planDevice(n *Network) error {
	bad := errdefs.InvalidParameterf
	for _, key := range []string{optICC, optMasquerade, optInhibit} {
		if v, set := n.Options[key]; set {
			if _, err := strconv.ParseBool(v); err != nil {
				return bad("invalid value for %s: %q is neither true nor false", key, v)
			}
		}
	}
	if v, set := n.Options[optMTU]; set {
		if mtu, err := strconv.Atoi(v); err != nil || mtu < 0 || mtu > 65535 {
			return bad("invalid value for %s: %q is not a number of bytes", optMTU, v)
		}
	}
	if v, set := n.Options[optHostBinding]; set {
		if a, err := netip.ParseAddr(v); err != nil || !a.Is4() {
			return bad("invalid value for %s: %q is not an IPv4 address", optHostBinding, v)
		}
	}
	if n.Driver == driverBridge {
		if err := n.checkModes(); err != nil {
			return err
		}
	} else {
		var err error
		n.Device, n.MadeDevice, err = macvlan.Parent(n.Driver, n.Options, ids.Short(n.ID))
		return errdefs.InvalidParameter(err)
	}
	n.Device, n.MadeDevice = n.option(optName, "br-"+ids.Short(n.ID)), true
	odd := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("/:%", r) }
	if len(n.Device) > 15 || strings.ContainsFunc(n.Device, odd) || n.Device == "." || n.Device == ".." {
		return bad("invalid value for %s: %q is not a name of an interface", optName, n.Device)
	}
	return nil
}

// allocate gives the network the subnets and gateways that it was not given, and puts all in use.
func (s *Service) allocate(n *Network) error {
	has := func(v6 bool) bool {
		return slices.ContainsFunc(n.subnets, func(sub subnet) bool { return sub.prefix.Addr().Is6() == v6 })
	}
	askedFor := len(n.subnets)
	for _, f := range []struct{ wanted, v6 bool }{{n.IPv4, false}, {n.IPv6, true}} {
		if !f.wanted || has(f.v6) || n.ConfigOnly {
			continue
		}
		p, err := s.pick(f.v6)
		if err != nil {
			return err
		}
		s.space.Remove(p)
		n.subnets, n.Picked = append(n.subnets, subnet{prefix: p, within: p}), append(n.Picked, p)
		n.IPAM.Config = append(n.IPAM.Config, networktypes.IPAMConfig{Subnet: p.String()})
	}
	for i := range n.subnets {
		sub, asked := &n.subnets[i], i < askedFor
		if err := s.claimSubnet(*sub); err != nil {
			n.subnets = n.subnets[:i] // those behind are not in use
			return err
		}
		isolated := n.Driver == driverBridge && n.mode(sub.prefix.Addr().Is6()) == modeIsolated
		if !sub.gateway.IsValid() && !isolated {
			a, err := s.space.Next(sub.prefix)
			if err != nil {
				return err
			}
			sub.gateway = a
			n.IPAM.Config[i].Gateway = a.String()
			if asked {
				n.Chosen = append(n.Chosen, n.IPAM.Config[i].Subnet)
			}
		}
		if n.Driver == driverBridge && !isolated {
			sub.own = sub.gateway
		}
	}
	return nil
}

func (s *Service) release(n *Network) {
	for _, sub := range n.subnets {
		s.space.Remove(sub.prefix)
	}
}

// subnetsOf reads the address ranges of a network, which are right.
func subnetsOf(n *Network) ([]subnet, error) {
	var all []subnet
	for _, c := range n.IPAM.Config {
		var sub subnet
		var err error
		if sub.prefix, err = netip.ParsePrefix(c.Subnet); err != nil {
			return nil, err
		}
		sub.within = sub.prefix
		if c.IPRange != "" {
			if sub.within, err = netip.ParsePrefix(c.IPRange); err != nil {
				return nil, err
			}
		}
		if c.Gateway != "" {
			if sub.gateway, err = netip.ParseAddr(c.Gateway); err != nil {
				return nil, err
			}
		}
		if n.Driver == driverBridge && n.mode(sub.prefix.Addr().Is6()) != modeIsolated {
			sub.own = sub.gateway
		}
		for _, name := range slices.Sorted(maps.Keys(c.AuxAddress)) {
			a, err := netip.ParseAddr(c.AuxAddress[name])
			if err != nil {
				return nil, err
			}
			sub.aux = append(sub.aux, a)
		}
		all = append(all, sub)
	}
	return all, nil
}

// checkIPAM names everything that is wrong with the address ranges of a request.
func checkIPAM(n *Network) error {
	var faults []string
	for _, c := range n.IPAM.Config {
		faults = append(faults, rangeFaults(n, c)...)
	}
	if len(faults) == 0 {
		return nil
	}
	return errdefs.InvalidParameterf("invalid network config:\n%s", strings.Join(faults, "\n"))
}

func rangeFaults(n *Network, c networktypes.IPAMConfig) (faults []string) {
	add := func(format string, a ...any) { faults = append(faults, fmt.Sprintf(format, a...)) }
	p, err := netip.ParsePrefix(c.Subnet)
	if err != nil {
		add("invalid subnet %s: invalid CIDR block notation", c.Subnet)
		return faults
	}
	switch {
	case p != p.Masked():
		add("invalid subnet %s: it should be %s", p, p.Masked())
	case p.Addr().Is4() && !n.IPv4:
		add("invalid subnet %s: IPv4 has not been enabled for this network", p)
	case p.Addr().Is6() && !n.IPv6:
		add("invalid subnet %s: IPv6 has not been enabled for this network", p)
	}
	if c.IPRange != "" {
		r, err := netip.ParsePrefix(c.IPRange)
		switch {
		case err != nil:
			add("invalid ip-range %s: invalid CIDR block notation", c.IPRange)
		case r != r.Masked():
			add("invalid ip-range %s: it should be %s", r, r.Masked())
		case r.Addr().Is4() != p.Addr().Is4() || !p.Contains(r.Addr()):
			add("invalid ip-range %s: parent subnet %s doesn't contain ip-range", r, p)
		case r.Bits() < p.Bits():
			add("invalid ip-range %s: CIDR block is bigger than its parent subnet %s", r, p)
		}
	}
	check := func(what, text string) {
		a, err := netip.ParseAddr(text)
		if err != nil {
			add("invalid %s %s: invalid address", what, text)
		} else if !p.Contains(a) {
			add("invalid %s %s: parent subnet %s doesn't contain this address", what, text, p)
		}
	}
	if c.Gateway != "" {
		check("gateway", c.Gateway)
	}
	for _, name := range slices.Sorted(maps.Keys(c.AuxAddress)) {
		check("auxiliary address", c.AuxAddress[name])
	}
	return faults
}

// ensureDevice makes the device of a network, or brings it to what it should be.
func (s *Service) ensureDevice(n *Network) error {
	switch n.Driver {
	case driverBridge:
	case driverMacvlan, driverIpvlan:
		return macvlan.EnsureParent(s.host, n.Device, s.owner, n.MadeDevice)
	default:
		return nil
	}
	d := bridge.Device{Name: n.Device, Owner: s.owner, MTU: n.mtu()}
	d.Foreign = n.isDefault() && s.cfg.Bridge != ""
	for _, sub := range n.subnets {
		if sub.own.IsValid() && (sub.own.Is6() || !n.is(optInhibit, false)) {
			d.Addrs = append(d.Addrs, netip.PrefixFrom(sub.own, sub.prefix.Bits()))
		}
	}
	return bridge.Ensure(s.host, d)
}

func (n *Network) mtu() int {
	mtu, err := strconv.Atoi(n.option(optMTU, "0"))
	if err != nil {
		return 0
	}
	return mtu
}

// removeDevice removes the device of a network, if it is ours and no other network stands on it.
func (s *Service) removeDevice(n *Network) error {
	if n.Device == "" || !n.MadeDevice ||
		slices.ContainsFunc(s.Networks(), func(o *Network) bool { return o.ID != n.ID && o.Device == n.Device }) {
		return nil
	}
	ours, err := bridge.Owns(s.host, n.Device, s.owner)
	if err != nil || !ours {
		return err
	}
	return bridge.Remove(s.host, n.Device)
}

// usage shows how much of each subnet is in use.
func (s *Service) usage(n *Network) networktypes.Status {
	status := networktypes.Status{}
	for _, sub := range n.subnets {
		if status.IPAM.Subnets == nil {
			status.IPAM.Subnets = map[string]networktypes.SubnetStatus{}
		}
		used, free := s.space.Usage(sub.prefix)
		status.IPAM.Subnets[sub.prefix.String()] = networktypes.SubnetStatus{IPsInUse: used, DynamicIPsAvailable: free}
	}
	return status
}
