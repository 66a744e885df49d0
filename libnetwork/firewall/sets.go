package firewall

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
)

// declared are the sets and maps of the table; those that there are by family hold IPv4 first.
type declared struct {
	bridges, outward *nftables.Set // interface names: all of ours; those that reach the world
	pairs            *nftables.Set // interface, interface: between which packets pass
	links            *nftables.Set // address, address, protocol, port
	exact, wild      [2]*nftables.Set
	subnets, masked  [2]*nftables.Set
	open, routed     [2]*nftables.Set // subnets
	direct           [2]*nftables.Set // address, protocol, port
}

func (b *batch) declare(r Records) declared {
	var d declared
	var bridges, outward, pairs, links []nftables.SetElement
	for _, n := range r.Networks {
		name := ifname(n.Bridge)
		bridges = append(bridges, nftables.SetElement{Key: name})
		if !n.Internal {
			outward = append(outward, nftables.SetElement{Key: name})
		}
		if n.ICC {
			pairs = append(pairs, nftables.SetElement{Key: slices.Concat(name, name)})
		}
	}
	for _, l := range r.Links {
		links = append(links, nftables.SetElement{
			Key: slices.Concat(l.From.AsSlice(), l.To.Addr().AsSlice(), service(l.Proto, l.To.Port())),
		})
	}
	names := nftables.Set{KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	names.Name = "bridges"
	d.bridges = b.set(names, bridges)
	names.Name = "outward"
	d.outward = b.set(names, outward)
	d.pairs = b.set(nftables.Set{
		Name: "pairs", KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName), Concatenation: true,
	}, pairs)
	d.links = b.set(nftables.Set{Name: "links", Concatenation: true, KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr,
		nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)}, links)
	for i, f := range families {
		d.exact[i], d.wild[i] = b.ports(f, r)
		d.subnets[i] = b.subnets(f, "subnets", r, func(n Network) []netip.Prefix { return n.Subnets })
		d.masked[i] = b.subnets(f, "masked", r, func(n Network) []netip.Prefix { return n.Masked })
		d.open[i] = b.subnets(f, "open", r, func(n Network) []netip.Prefix { return n.Open })
		d.routed[i] = b.subnets(f, "routed", r, func(n Network) []netip.Prefix { return n.Routed })
		d.direct[i] = b.direct(f, r)
	}
	return d
}

// subnets declares a set of subnets of all networks that are not internal.
func (b *batch) subnets(f family, name string, r Records, of func(Network) []netip.Prefix) *nftables.Set {
	var all []netip.Prefix
	for _, n := range r.Networks {
		for _, p := range of(n) {
			if p.Addr().Is4() == f.v4 && !n.Internal {
				all = append(all, p)
			}
		}
	}
	return b.set(nftables.Set{Name: name + f.suffix, KeyType: f.addr, Interval: true}, intervals(all))
}

// direct declares the set of ports that are reached without a port of this machine.
func (b *batch) direct(f family, r Records) *nftables.Set {
	var all []nftables.SetElement
	for _, p := range r.Direct {
		if p.To.Addr().Is4() == f.v4 {
			all = append(all, nftables.SetElement{Key: slices.Concat(p.To.Addr().AsSlice(), service(p.Proto, p.To.Port()))})
		}
	}
	return b.set(nftables.Set{Name: "direct" + f.suffix, Concatenation: true,
		KeyType: nftables.MustConcatSetType(f.addr, nftables.TypeInetProto, nftables.TypeInetService)}, all)
}

// ports declares the maps from a published port to the container's: of one address of the machine, and of all.
func (b *batch) ports(f family, r Records) (exact, wild *nftables.Set) {
	var exacts, wilds []nftables.SetElement
	for _, p := range r.Ports {
		if p.To.Addr().Is4() != f.v4 || f.off(r) {
			continue
		}
		to := slices.Concat(p.To.Addr().AsSlice(), port(p.To.Port()))
		if p.Host.IsUnspecified() {
			wilds = append(wilds, nftables.SetElement{Key: service(p.Proto, p.Port), Val: to})
		} else {
			exacts = append(exacts, nftables.SetElement{Key: slices.Concat(p.Host.AsSlice(), service(p.Proto, p.Port)), Val: to})
		}
	}
	m := nftables.Set{IsMap: true, Concatenation: true, DataType: nftables.MustConcatSetType(f.addr, nftables.TypeInetService)}
	m.Name = "ports" + f.suffix
	m.KeyType = nftables.MustConcatSetType(f.addr, nftables.TypeInetProto, nftables.TypeInetService)
	exact = b.set(m, exacts)
	m.Name = "wildports" + f.suffix
	m.KeyType = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	return exact, b.set(m, wilds)
}

// ifname is the name of an interface as the kernel compares it.
func ifname(name string) []byte {
	b := make([]byte, 16)
	copy(b, name)
	return b
}

// service is a protocol and a port, each in a register of its own.
func service(proto string, n uint16) []byte {
	return slices.Concat([]byte{Protocols[proto], 0, 0, 0}, port(n))
}

func port(n uint16) []byte {
	return append(binary.BigEndian.AppendUint16(nil, n), 0, 0)
}

// intervals are the elements of a set of ranges: each begins with a subnet and ends behind it.
func intervals(prefixes []netip.Prefix) []nftables.SetElement {
	var all []nftables.SetElement
	for _, p := range prefixes {
		p = p.Masked()
		all = append(all, nftables.SetElement{Key: p.Addr().AsSlice()})
		if end := behind(p); end != nil {
			all = append(all, nftables.SetElement{Key: end, IntervalEnd: true})
		}
	}
	return all
}

// behind is the first address behind p; nil when p holds the last one that there is.
func behind(p netip.Prefix) []byte {
	b := p.Addr().AsSlice()
	for i := p.Bits() - 1; i >= 0; i-- {
		bit := byte(1) << (7 - i%8)
		b[i/8] ^= bit
		if b[i/8]&bit != 0 {
			return b
		}
	}
	return nil
}
