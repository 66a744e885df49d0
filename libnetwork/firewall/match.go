package firewall

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The parts that rules are put together from. Registers 1 to 4 have 16 bytes each; 8 to 23 are the same in parts of four.

var (
	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
	loopback6 = netip.MustParsePrefix("::1/128")
)

// family is what differs between IPv4 and IPv6.
type family struct {
	v4       bool
	nfproto  byte
	addr     nftables.SetDatatype
	suffix   string
	src, dst uint32 // where the addresses stand in the header
}

var (
	v4 = family{true, unix.NFPROTO_IPV4, nftables.TypeIPAddr, "4", 12, 16}
	v6 = family{false, unix.NFPROTO_IPV6, nftables.TypeIP6Addr, "6", 8, 24}

	families = [2]family{v4, v6}
)

func (f family) off(r Records) bool { return f.v4 && r.NoIPv4 || !f.v4 && r.NoIPv6 }

// is matches packets of the family.
func (f family) is() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.nfproto}},
	}
}

type side bool

const (
	src side = false
	dst side = true
)

func (f family) load(s side, register uint32) expr.Any {
	offset := f.src
	if s == dst {
		offset = f.dst
	}
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.addr.Bytes}
}

// within matches packets from or to a range.
func (f family) within(s side, p netip.Prefix) []expr.Any {
	mask := make([]byte, f.addr.Bytes)
	for i := range p.Bits() {
		mask[i/8] |= 1 << (7 - i%8)
	}
	return []expr.Any{
		f.load(s, 1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: f.addr.Bytes, Mask: mask, Xor: make([]byte, f.addr.Bytes)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Addr().AsSlice()},
	}
}

// among matches packets from or to one of the ranges of a set.
func (f family) among(s side, set *nftables.Set) []expr.Any {
	return []expr.Any{f.load(s, 1), lookup(set, false)}
}

// dnat sends packets to where the map says, if it says anything.
func (f family) dnat(m *nftables.Set, exact bool) []expr.Any {
	register := uint32(8)
	var exprs []expr.Any
	if exact {
		exprs = append(exprs, f.load(dst, 1))
		register += f.addr.Bytes / 4
	}
	return slices.Concat(exprs, loadService(register), []expr.Any{
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetID: m.ID, SetName: m.Name},
		&expr.NAT{
			Type: expr.NATTypeDestNAT, Family: uint32(f.nfproto), RegAddrMin: 1, RegProtoMin: 8 + f.addr.Bytes/4,
			Specified: true,
		},
	})
}

// loadService loads the protocol and the port that a packet is for.
func loadService(register uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Payload{DestRegister: register + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

func lookup(set *nftables.Set, invert bool) expr.Any {
	return &expr.Lookup{SourceRegister: 1, SetID: set.ID, SetName: set.Name, Invert: invert}
}

func iif(set *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, lookup(set, false)}
}

func notIif(set *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, lookup(set, true)}
}

func oif(set *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, lookup(set, false)}
}

func notOif(set *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, lookup(set, true)}
}

// samePair matches packets that pass between two interfaces of the set.
func samePair(set *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 2},
		lookup(set, false),
	}
}

// linked matches IPv4 packets of which the set has source, destination, protocol and port.
func linked(set *nftables.Set) []expr.Any {
	return slices.Concat([]expr.Any{v4.load(src, 8), v4.load(dst, 9)}, loadService(10), []expr.Any{lookup(set, false)})
}

// direct matches packets of which the set has destination, protocol and port.
func (f family) direct(set *nftables.Set) []expr.Any {
	return slices.Concat([]expr.Any{f.load(dst, 1)}, loadService(8+f.addr.Bytes/4), []expr.Any{lookup(set, false)})
}

// icmp matches the family's control messages.
func (f family) icmp() []expr.Any {
	proto := byte(unix.IPPROTO_ICMPV6)
	if f.v4 {
		proto = unix.IPPROTO_ICMP
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
	}
}

// marked matches packets with a mark, in the bits of mask.
func marked(mark, mask uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(mask), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: native(mark & mask)},
	}
}

// local matches packets for an address of this machine.
func local() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: native(unix.RTN_LOCAL)},
	}
}

// established matches packets of connections that passed already, and what belongs to them.
func established() []expr.Any {
	return bits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// redirected matches packets of connections to a published port.
func redirected() []expr.Any {
	const destinationChanged = 1 << 5
	return bits(expr.CtKeySTATUS, destinationChanged)
}

func bits(key expr.CtKey, mask uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: 1, Key: key},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(mask), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native(0)},
	}
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func jump(c *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: c.Name}}
}

func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
