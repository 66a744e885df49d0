package libnetwork

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/log"
	"github.com/vishvananda/netlink"

	networktypes "github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/internal/files"
	"github.com/berthd/berth/internal/ids"
	"github.com/berthd/berth/libnetwork/bridge"
	"github.com/berthd/berth/libnetwork/ipam"
)

// pools are where networks get their subnets that ask for none: the configuration's, and for IPv6 a range of the
// engine's own.
func (s *Service) pools(id string) ([]ipam.Pool, error) {
	pools := ipam.Defaults()
	if len(s.cfg.DefaultAddressPools) > 0 {
		pools = nil
	}
	for _, p := range s.cfg.DefaultAddressPools {
		base, err := netip.ParsePrefix(p.Base)
		if err != nil || p.Size < base.Bits() || p.Size > base.Addr().BitLen() {
			return nil, fmt.Errorf("invalid default-address-pools: base %q, size %d: a base is a range such as 10.0.0.0/8, "+
				"and a size is the prefix length of the subnets that it is cut into", p.Base, p.Size)
		}
		pools = append(pools, ipam.Pool{Base: base.Masked(), Size: p.Size})
	}
	unique := [16]byte{0: 0xfd}
	sum := sha256.Sum256([]byte(id))
	copy(unique[1:6], sum[:])
	return append(pools, ipam.Pool{Base: netip.PrefixFrom(netip.AddrFrom16(unique), 48), Size: 64}), nil
}

// open puts the networks' addresses in use and makes their devices.
func (s *Service) open() error {
	if err := s.setupDefault(); err != nil {
		return fmt.Errorf("the default bridge: %w (with \"bridge\": \"none\" in the configuration there is none)", err)
	}
	for _, n := range s.Networks() {
		if n.Name == DefaultBridge {
			continue
		}
		err := s.claim(n)
		if err == nil {
			err = s.ensureDevice(n)
		}
		if err != nil {
			log.L.WithError(err).Errorf("network %s cannot be used", n.Name)
		}
	}
	return s.setForwarding()
}

// setupDefault makes the default bridge what the configuration says. Its id stays, its subnet too if that is free.
func (s *Service) setupDefault() error {
	old, _ := s.Find(DefaultBridge)
	if s.cfg.Bridge == "none" {
		if old == nil || old.Name != DefaultBridge {
			return nil
		}
		return s.put(old.ID, nil)
	}
	n := &Network{Name: DefaultBridge, ID: ids.New(), Driver: driverBridge, Created: time.Now().UTC(), IPv4: true}
	if old != nil && old.Name == DefaultBridge {
		n.ID, n.Created, n.Device = old.ID, old.Created, old.Device
	} else {
		old = nil
	}
	if err := s.nameDefault(n); err != nil {
		return err
	}
	n.IPv6 = s.cfg.IPv6
	n.Options = map[string]string{
		"com.docker.network.bridge.default_bridge": "true",
		optICC:         strconv.FormatBool(s.cfg.ICC),
		optMasquerade:  strconv.FormatBool(s.cfg.IPMasq),
		optHostBinding: s.cfg.IP,
		optName:        n.Device,
		optMTU:         strconv.Itoa(s.cfg.MTU),
	}
	if err := s.addressDefault(n, old); err != nil {
		return err
	}
	if err := s.ensureDevice(n); err != nil {
		return err
	}
	return s.put(n.ID, n)
}

// nameDefault finds the name of the bridge: the configured one, else docker0, unless somebody else has that. A docker0 without
// a mark is a dockerd's, which may be running, once it has an address.
func (s *Service) nameDefault(n *Network) error {
	if s.cfg.Bridge != "" {
		n.Device = s.cfg.Bridge
		return nil
	}
	for i := range 100 {
		n.Device = "docker" + strconv.Itoa(i)
		owner, there, err := bridge.Owner(s.host, n.Device)
		if err != nil || !there || owner == s.owner {
			return err
		}
		if owner == "" {
			if addrs, err := bridge.Addrs(s.host, n.Device); err != nil || len(addrs) == 0 {
				return err
			}
		}
		log.L.Infof("the bridge %s belongs to somebody else, and is left alone", n.Device)
	}
	return errors.New("docker0 to docker99 belong to others")
}

// addressDefault gives the default bridge its subnets: what is configured, else what the device has, else what it had
// before, else a free one.
func (s *Service) addressDefault(n, old *Network) error {
	have, err := bridge.Addrs(s.host, n.Device)
	if err != nil {
		return err
	}
	v4, err := s.defaultSubnet(false, s.cfg.BIP, s.cfg.FixedCIDR, s.cfg.DefaultGateway, have, old)
	if err != nil {
		return err
	}
	n.subnets = []subnet{v4}
	if n.IPv6 {
		v6, err := s.defaultSubnet(true, s.cfg.BIP6, s.cfg.FixedCIDRv6, s.cfg.DefaultGatewayV6, have, old)
		if err != nil {
			return err
		}
		n.subnets = append(n.subnets, v6)
	}
	n.IPAM = networktypes.IPAM{Driver: "default"}
	for _, sub := range n.subnets {
		c := networktypes.IPAMConfig{Subnet: sub.prefix.String(), Gateway: sub.own.String()}
		if sub.gateway != sub.own {
			name := "DefaultGatewayIPv4"
			if sub.gateway.Is6() {
				name = "DefaultGatewayIPv6"
			}
			c.AuxAddress = map[string]string{name: sub.gateway.String()}
		}
		if sub.within != sub.prefix {
			c.IPRange = sub.within.String()
		}
		n.IPAM.Config = append(n.IPAM.Config, c)
	}
	return nil
}

func (s *Service) defaultSubnet(v6 bool, ip, fixed, gateway string, have []netip.Prefix, old *Network) (sub subnet, err error) {
	family := func(p netip.Prefix) bool { return p.Addr().Is6() == v6 }
	var own netip.Prefix
	switch {
	case ip != "":
		if own, err = netip.ParsePrefix(ip); err != nil {
			return sub, fmt.Errorf("invalid bip %q: write an address with its prefix length, such as 172.17.0.1/16", ip)
		}
	case v6 && fixed != "":
		if own, err = netip.ParsePrefix(fixed); err == nil {
			own = netip.PrefixFrom(own.Masked().Addr().Next(), own.Bits())
		}
	case slices.ContainsFunc(have, family):
		own = have[slices.IndexFunc(have, family)]
	case old != nil:
		if own, err = s.subnetBefore(old, family); err != nil {
			return sub, err
		}
	}
	if own.IsValid() {
		sub.prefix, sub.own = own.Masked(), own.Addr()
		err = s.space.Add(sub.prefix, sub.prefix)
	} else if sub.prefix, err = s.pick(v6); err == nil {
		sub.own = sub.prefix.Addr().Next()
	}
	if err != nil {
		return sub, err
	}
	sub.within, sub.gateway = sub.prefix, sub.own
	if fixed != "" {
		if sub.within, err = netip.ParsePrefix(fixed); err != nil || !sub.prefix.Contains(sub.within.Addr()) {
			return sub, fmt.Errorf("invalid fixed-cidr %q: write a range within %s", fixed, sub.prefix)
		}
		sub.within = sub.within.Masked()
	}
	if gateway != "" {
		if sub.gateway, err = netip.ParseAddr(gateway); err != nil || !sub.prefix.Contains(sub.gateway) {
			return sub, fmt.Errorf("invalid default gateway %q: write an address within %s", gateway, sub.prefix)
		}
	}
	s.space.Remove(sub.prefix)
	return sub, s.claimSubnet(sub)
}

// subnetBefore is the bridge's address in the subnet that the default bridge had before, unless somebody else has that now.
func (s *Service) subnetBefore(old *Network, family func(netip.Prefix) bool) (netip.Prefix, error) {
	taken, err := s.reached()
	for _, o := range old.subnets {
		if family(o.prefix) && !slices.ContainsFunc(taken, o.prefix.Overlaps) {
			return netip.PrefixFrom(o.own, o.prefix.Bits()), err
		}
	}
	return netip.Prefix{}, err
}

// pick takes a subnet that nobody has and that the machine does not reach already.
func (s *Service) pick(v6 bool) (netip.Prefix, error) {
	taken, err := s.reached()
	if err != nil {
		return netip.Prefix{}, err
	}
	return s.space.Pick(v6, taken)
}

// reached are the ranges that the machine has routes to, but for the default ones.
func (s *Service) reached() (taken []netip.Prefix, _ error) {
	routes, err := s.host.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list the machine's routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		a, _ := netip.AddrFromSlice(r.Dst.IP)
		if bits, _ := r.Dst.Mask.Size(); bits > 0 {
			taken = append(taken, netip.PrefixFrom(a.Unmap(), bits))
		}
	}
	return taken, nil
}

// claim puts the subnets of a network in use, with all addresses of them that are not containers'.
func (s *Service) claim(n *Network) error {
	for _, sub := range n.subnets {
		if err := s.claimSubnet(sub); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) claimSubnet(sub subnet) error {
	if err := s.space.Add(sub.prefix, sub.within); err != nil {
		return err
	}
	reserved := append([]netip.Addr{sub.gateway}, sub.aux...)
	if sub.own != sub.gateway {
		reserved = append(reserved, sub.own)
	}
	for _, a := range reserved {
		if !a.IsValid() {
			continue
		}
		if err := s.space.Reserve(sub.prefix, a); err != nil {
			s.space.Remove(sub.prefix)
			return fmt.Errorf("%s in %s: %w", a, sub.prefix, err)
		}
	}
	return nil
}

// setForwarding has the kernel forward packets. A machine that was no router before Berth came, which is remembered
// until it boots again, forwards for containers only.
func (s *Service) setForwarding() error {
	if !s.cfg.IPForward {
		return nil
	}
	const v4 = "/proc/sys/net/ipv4/ip_forward"
	was, err := os.ReadFile(v4)
	if err != nil {
		return err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	note := filepath.Join(s.dir, "forwarding")
	if strings.TrimSpace(string(was)) != "1" {
		if err := files.Write(note, boot, 0o600, files.Whole); err != nil {
			return err
		}
		if err := os.WriteFile(v4, []byte("1"), 0o644); err != nil {
			return fmt.Errorf("have the kernel forward packets: %w", err)
		}
	}
	noted, err := os.ReadFile(note)
	s.dropForward.Store(err == nil && bytes.Equal(noted, boot) && !s.cfg.IPForwardNoDrop)
	if slices.ContainsFunc(s.Networks(), func(n *Network) bool { return n.IPv6 }) {
		for _, which := range []string{"default", "all"} {
			if err := bridge.Sysctl("ipv6", which, "forwarding", "1"); err != nil {
				return err
			}
		}
	}
	return nil
}
