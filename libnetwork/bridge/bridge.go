// Package bridge makes the host's side of bridge networks: the bridge, and a veth pair for each container.
package bridge

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/internal/step"
)

// linkLocal is the address that a bridge with IPv6 has beside its own.
var linkLocal = netip.MustParsePrefix("fe80::1/64")

// Device is a bridge.
type Device struct {
	Name string
	// Owner is written to the device. A bridge that has another owner's mark is not touched.
	Owner string
	MTU   int
	// Addrs are the host's addresses on it; none leaves those that there are.
	Addrs []netip.Prefix
	// Foreign leaves all about the device to whoever made it: it has to be there.
	Foreign bool
}

// ErrOwned says that a bridge belongs to another engine.
var ErrOwned = errors.New("the bridge belongs to another engine")

// Ensure makes the bridge, or brings it to what d says.
func Ensure(h *netlink.Handle, d Device) error {
	if err := ensure(h, d); err != nil {
		return fmt.Errorf("bridge %s: %w", d.Name, err)
	}
	return nil
}

func ensure(h *netlink.Handle, d Device) error {
	link, err := find(h, d.Name)
	if err != nil {
		return err
	}
	switch {
	case link == nil && d.Foreign:
		return errors.New("there is no such device: the configuration's key bridge names one that exists already")
	case link == nil:
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.Flags = d.Name, d.MTU, net.FlagUp
		if link, err = Add(h, &netlink.Bridge{LinkAttrs: attrs}, d.Owner); err != nil {
			return err
		}
	case link.Type() != "bridge":
		return fmt.Errorf("it is a %s and no bridge", link.Type())
	case d.Foreign:
	case strings.HasPrefix(link.Attrs().Alias, "berth:") && link.Attrs().Alias != d.Owner:
		return ErrOwned
	default:
		if err := adopt(h, link, d); err != nil {
			return err
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return err
	}
	if !d.Foreign {
		if err := address(h, link, d); err != nil {
			return err
		}
	}
	// What comes from 127.0.0.1 and goes to a published port leaves through the bridge.
	return Sysctl("ipv4", d.Name, "route_localnet", "1")
}

func adopt(h *netlink.Handle, link netlink.Link, d Device) error {
	if link.Attrs().Alias != d.Owner {
		if err := h.LinkSetAlias(link, d.Owner); err != nil {
			return err
		}
	}
	if d.MTU > 0 && link.Attrs().MTU != d.MTU {
		return h.LinkSetMTU(link, d.MTU)
	}
	return nil
}

// address gives the bridge its addresses, and takes others of the same family away.
func address(h *netlink.Handle, link netlink.Link, d Device) error {
	want := slices.Clone(d.Addrs)
	if slices.ContainsFunc(want, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		want = append(want, linkLocal)
		for key, value := range map[string]string{"disable_ipv6": "0", "accept_ra": "0"} {
			if err := Sysctl("ipv6", d.Name, key, value); err != nil {
				return err
			}
		}
	}
	have, err := h.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range have {
		p, ok := prefix(a.IPNet)
		switch i := slices.Index(want, p); {
		case i >= 0:
			want = slices.Delete(want, i, i+1)
		case ok && replaced(p, d.Addrs):
			if err := h.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) { // it went with another one
				return err
			}
		}
	}
	for _, p := range want {
		if err := h.AddrAdd(link, Addr(p)); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add the address %s: %w", p, err)
		}
	}
	return nil
}

// replaced tells whether p gives way to the addresses that are wanted: one of their family, and not link-local.
func replaced(p netip.Prefix, want []netip.Prefix) bool {
	return !p.Addr().IsLinkLocalUnicast() && slices.ContainsFunc(want, func(w netip.Prefix) bool {
		return w.Addr().Is4() == p.Addr().Is4()
	})
}

// Addrs returns the addresses of a bridge that is there already, link-local ones apart; none if there is no such device.
func Addrs(h *netlink.Handle, name string) ([]netip.Prefix, error) {
	link, err := find(h, name)
	if link == nil || err != nil {
		return nil, err
	}
	have, err := h.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	var all []netip.Prefix
	for _, a := range have {
		if p, ok := prefix(a.IPNet); ok && !p.Addr().IsLinkLocalUnicast() {
			all = append(all, p)
		}
	}
	return all, nil
}

// Owner returns the mark on a device, and whether there is such a device.
func Owner(h *netlink.Handle, name string) (owner string, there bool, _ error) {
	link, err := find(h, name)
	if link == nil || err != nil {
		return "", false, err
	}
	return link.Attrs().Alias, true, nil
}

// Owns tells whether there is a device with that name and an owner's mark.
func Owns(h *netlink.Handle, name, owner string) (bool, error) {
	link, err := find(h, name)
	return link != nil && marked(link, owner), err
}

// Port is a container's place on a bridge: a veth pair.
type Port struct {
	Bridge    string
	Host      string // name of the host's end
	Name      string // name of the end in the container
	Owner     string // written to the host's end
	Namespace int    // descriptor of the container's network namespace
	MTU       int
	MAC       net.HardwareAddr
	// Hairpin lets packets leave where they came in: a container that asks for a port that it publishes itself.
	Hairpin bool
}

// Plug makes the pair. Its host's end is up.
func Plug(h *netlink.Handle, p Port) error {
	br, err := h.LinkByName(p.Bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", p.Bridge, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Flags = p.Host, p.MTU, net.FlagUp
	attrs.MasterIndex = br.Attrs().Index
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: p.Name, PeerHardwareAddr: p.MAC, PeerNamespace: netlink.NsFd(p.Namespace), PeerTxQLen: -1,
	}
	if _, err := Add(h, veth, p.Owner); err != nil {
		return fmt.Errorf("make the interface pair %s: %w", p.Host, err)
	}
	if p.Hairpin {
		return h.LinkSetHairpin(veth, true)
	}
	return nil
}

// Remove deletes a device. It is no error when there is none.
func Remove(h *netlink.Handle, name string) error {
	link, err := find(h, name)
	if link == nil || err != nil {
		return err
	}
	if err := h.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove the device %s: %w", name, err)
	}
	step.Reached("removed the device", name)
	return nil
}

// Unplug takes a device off its bridge and down: from then on nothing comes or goes by it. That takes the kernel 0.2 ms, and
// to delete a device 15 to 30. It tells whether there is such a device.
func Unplug(h *netlink.Handle, name string) (there bool, _ error) {
	link, err := find(h, name)
	if link == nil || err != nil {
		return false, err
	}
	if err := errors.Join(h.LinkSetDown(link), h.LinkSetNoMaster(link)); err != nil && !errors.Is(err, unix.ENODEV) {
		return true, fmt.Errorf("unplug the device %s: %w", name, err)
	}
	step.Reached("unplugged the device", name)
	return true, nil
}

// Owned returns the devices with a mark.
func Owned(h *netlink.Handle, owner string) ([]string, error) {
	links, err := h.LinkList()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range links {
		if marked(l, owner) {
			names = append(names, l.Attrs().Name)
		}
	}
	return names, nil
}

// Sysctl sets a value of an interface, "all" or "default", in the network namespace of the calling thread.
func Sysctl(family, name, key, value string) error {
	path := filepath.Join("/proc/sys/net", family, "conf", name, key)
	have, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(have)) == value {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) && family == "ipv6" {
		return nil // a kernel without IPv6 needs no such setting
	}
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set a kernel parameter: %w", err)
	}
	return nil
}

// Addr is p as an address of an interface. IPv6 addresses are used at once: who hands them out knows that they are free.
func Addr(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits), ok
}

// find returns the device with that name, nil if there is none.
func find(h *netlink.Handle, name string) (netlink.Link, error) {
	link, err := h.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	return link, err
}

// group is the number of the group that an owner's devices are in. It marks them from the moment when they are made: the
// mark that people can read is a second step.
func group(owner string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(owner))
	return h.Sum32() | 1<<30 // out of the way of groups that people number by hand
}

func marked(link netlink.Link, owner string) bool {
	return link.Attrs().Alias == owner || link.Attrs().Group == group(owner)
}

// Add makes a device and marks it.
func Add(h *netlink.Handle, link netlink.Link, owner string) (netlink.Link, error) {
	link.Attrs().Group = group(owner)
	if err := h.LinkAdd(link); err != nil {
		return nil, err
	}
	step.Reached("made the device", link.Attrs().Name)
	if err := h.LinkSetAlias(link, owner); err != nil {
		return nil, err
	}
	step.Reached("marked the device", link.Attrs().Name)
	return link, nil
}
