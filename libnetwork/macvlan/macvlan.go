// Package macvlan makes interfaces of containers that stand on an interface of the host: macvlan and ipvlan.
package macvlan

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/berthd/berth/internal/step"
	"github.com/berthd/berth/libnetwork/bridge"
)

var (
	macModes = map[string]netlink.MacvlanMode{
		"": netlink.MACVLAN_MODE_BRIDGE, "bridge": netlink.MACVLAN_MODE_BRIDGE, "private": netlink.MACVLAN_MODE_PRIVATE,
		"vepa": netlink.MACVLAN_MODE_VEPA, "passthru": netlink.MACVLAN_MODE_PASSTHRU,
	}
	ipModes = map[string]netlink.IPVlanMode{
		"": netlink.IPVLAN_MODE_L2, "l2": netlink.IPVLAN_MODE_L2, "l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S,
	}
	ipFlags = map[string]netlink.IPVlanFlag{
		"": netlink.IPVLAN_FLAG_BRIDGE, "bridge": netlink.IPVLAN_FLAG_BRIDGE, "private": netlink.IPVLAN_FLAG_PRIVATE,
		"vepa": netlink.IPVLAN_FLAG_VEPA,
	}
)

// Parent checks the options of a network, and returns the device that its interfaces stand on: the option parent, else a
// dummy that goes with the network. A parent "eth0.7" is the VLAN 7 of eth0, and is made if there is none.
func Parent(driver string, options map[string]string, short string) (device string, made bool, _ error) {
	mode, flag := options[driver+"_mode"], options["ipvlan_flag"]
	_, macOK := macModes[mode]
	_, ipOK := ipModes[mode]
	_, flagOK := ipFlags[flag]
	switch {
	case driver == "macvlan" && !macOK:
		return "", false, fmt.Errorf("unknown macvlan mode %q: use bridge, private, vepa or passthru", mode)
	case driver == "ipvlan" && !ipOK:
		return "", false, fmt.Errorf("unknown ipvlan mode %q: use l2, l3 or l3s", mode)
	case driver == "ipvlan" && !flagOK:
		return "", false, fmt.Errorf("unknown ipvlan flag %q: use bridge, private or vepa", flag)
	}
	parent := options["parent"]
	if parent == "" {
		return "dm-" + short, true, nil
	}
	if len(parent) > 15 {
		return "", false, fmt.Errorf("invalid parent %q: it is too long for the name of an interface", parent)
	}
	return parent, strings.Contains(parent, "."), nil
}

// EnsureParent makes the device that interfaces stand on, if it is ours to make.
func EnsureParent(h *netlink.Handle, name, owner string, make bool) error {
	_, err := h.LinkByName(name)
	if err == nil || !errors.As(err, &netlink.LinkNotFoundError{}) {
		return err
	}
	if !make {
		return fmt.Errorf("the parent interface %s does not exist", name)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Flags = name, net.FlagUp
	var link netlink.Link = &netlink.Dummy{LinkAttrs: attrs}
	if on, tag, vlan := strings.Cut(name, "."); vlan {
		parent, err := h.LinkByName(on)
		if err != nil {
			return fmt.Errorf("the parent interface %s: %w", on, err)
		}
		id, err := strconv.Atoi(tag)
		if err != nil || id < 1 || id > 4094 {
			return fmt.Errorf("invalid parent %s: a VLAN has a number from 1 to 4094", name)
		}
		attrs.ParentIndex = parent.Attrs().Index
		link = &netlink.Vlan{LinkAttrs: attrs, VlanId: id, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
	}
	if _, err = bridge.Add(h, link, owner); err != nil {
		return fmt.Errorf("make the parent interface %s: %w", name, err)
	}
	return nil
}

// Port is an interface of a container.
type Port struct {
	Driver    string // macvlan or ipvlan
	Options   map[string]string
	Parent    string
	Name      string // in the container
	Namespace int    // descriptor of the container's network namespace
	MTU       int
	MAC       net.HardwareAddr // macvlan only
}

// Plug makes the interface, in the container's network namespace.
func Plug(h *netlink.Handle, p Port) error {
	parent, err := h.LinkByName(p.Parent)
	if err != nil {
		return fmt.Errorf("the parent interface %s: %w", p.Parent, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.MTU = p.Name, parent.Attrs().Index, p.MTU
	attrs.Namespace = netlink.NsFd(p.Namespace)
	var link netlink.Link
	if p.Driver == "macvlan" {
		attrs.HardwareAddr = p.MAC
		link = &netlink.Macvlan{LinkAttrs: attrs, Mode: macModes[p.Options["macvlan_mode"]]}
	} else {
		link = &netlink.IPVlan{
			LinkAttrs: attrs, Mode: ipModes[p.Options["ipvlan_mode"]], Flag: ipFlags[p.Options["ipvlan_flag"]],
		}
	}
	if err := h.LinkAdd(link); err != nil {
		return fmt.Errorf("make the %s interface on %s: %w", p.Driver, p.Parent, err)
	}
	step.Reached("made the interface", p.Name)
	return nil
}

// Unplug removes the interfaces on a parent from a container's network namespace, which inside is for, but for those that
// are to be kept.
func Unplug(h, inside *netlink.Handle, parent string, kept func(name string) bool) error {
	on, err := h.LinkByName(parent)
	if err != nil {
		return fmt.Errorf("the parent interface %s: %w", parent, err)
	}
	links, err := inside.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		a := l.Attrs()
		if (l.Type() == "macvlan" || l.Type() == "ipvlan") && a.ParentIndex == on.Attrs().Index && !kept(a.Name) {
			err = errors.Join(err, bridge.Remove(inside, a.Name))
		}
	}
	return err
}
