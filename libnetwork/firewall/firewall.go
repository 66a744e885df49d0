// Package firewall writes the one nftables table that Berth has. What the table says is a function of Records; it is
// replaced whole, in one transaction, so that no packet ever meets half of it.
//
// The rules themselves never change. What they decide by stands in sets and maps, so that a packet costs the same with one
// published port as with a thousand:
//
//	guard        no packet from a container reaches the host's 127.0.0.0/8
//	prerouting   what is for this machine: to the container, if the port is published (ports)
//	output       the same for what this machine sends to itself
//	forward      user first; then what containers may reach, and who may reach them
//	postrouting  what leaves containers' networks has the machine's address
//
// The chain user is the administrator's: Berth makes it, jumps to it before its own rules for forwarded packets, and never
// touches what is in it. There, accept and drop decide about a packet in this table.
package firewall

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/internal/step"
)

// UserChain is the administrator's chain.
const UserChain = "user"

// Records are what the table is made from.
type Records struct {
	Networks []Network
	Ports    []Port
	Links    []Link
	// Direct are ports of containers that others reach without a port of this machine.
	Direct []Direct
	// Packets whose mark is Mark, in the bits of Mask, reach all containers. Mask 0: none.
	Mark, Mask uint32
	// DropForward drops what is forwarded between others: this machine was no router before Berth came.
	DropForward bool
	// NoIPv4 and NoIPv6 leave a family alone.
	NoIPv4, NoIPv6 bool
}

// Network is a bridge and who may use it.
type Network struct {
	Bridge   string
	Subnets  []netip.Prefix
	Masked   []netip.Prefix // of these, what leaves has the machine's address
	Open     []netip.Prefix // of these, all is reached from outside
	Routed   []netip.Prefix // of these, pings are answered to everybody
	ICC      bool           // containers reach each other
	Internal bool           // nothing leaves, nothing comes in
}

// Port is a published port.
type Port struct {
	Proto string     // tcp, udp, sctp
	Host  netip.Addr // unspecified: all addresses of that family
	Port  uint16
	To    netip.AddrPort
}

// Direct is a port of a container.
type Direct struct {
	Proto string // tcp, udp, sctp
	To    netip.AddrPort
}

// Link lets one container reach a port of another although their network does not.
type Link struct {
	From  netip.Addr
	To    netip.AddrPort
	Proto string
}

// Protocols are the protocols that have ports.
var Protocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// Apply makes the table, in the network namespace of the calling thread, or brings it to what r says.
func Apply(table string, r Records) error {
	c, err := nftables.New(nftables.WithSockOptions(func(conn *netlink.Conn) error {
		return conn.SetReadBuffer(4 << 20) // each message of the transaction is acknowledged
	}))
	if err != nil {
		return fmt.Errorf("the firewall: %w", err)
	}
	b := &batch{conn: c, table: c.AddTable(&nftables.Table{Name: table, Family: nftables.TableFamilyINet})}
	b.program(r)
	if b.err == nil {
		b.err = c.Flush()
	}
	if b.err != nil {
		return fmt.Errorf("write the firewall's table %s: %w", table, b.err)
	}
	step.Reached("wrote the firewall")
	return nil
}

// batch is a transaction that is being written down.
type batch struct {
	conn  *nftables.Conn
	table *nftables.Table
	err   error
}

// setID numbers the sets of all transactions. The library's own counter is not safe for several of them at once.
var setID atomic.Uint32

// chunk is how many elements go into one message, whose length is bounded.
const chunk = 200

// set declares a set or map that holds just these elements.
func (b *batch) set(s nftables.Set, elements []nftables.SetElement) *nftables.Set {
	s.Table, s.ID = b.table, setID.Add(1)
	if b.err == nil {
		b.err = b.conn.AddSet(&s, nil)
	}
	b.conn.FlushSet(&s)
	for len(elements) > 0 && b.err == nil {
		n := min(chunk, len(elements))
		b.err = b.conn.SetAddElements(&s, elements[:n])
		elements = elements[n:]
	}
	return &s
}

// chain declares a chain without rules.
func (b *batch) chain(c nftables.Chain) *nftables.Chain {
	c.Table = b.table
	b.conn.AddChain(&c)
	b.conn.FlushChain(&c)
	return &c
}

func (b *batch) rule(c *nftables.Chain, parts ...[]expr.Any) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: c, Exprs: all})
}

// program writes everything down.
func (b *batch) program(r Records) {
	d := b.declare(r)
	policy := nftables.ChainPolicyAccept
	if r.DropForward {
		policy = nftables.ChainPolicyDrop
	}
	base := func(name string, typ nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
		return b.chain(nftables.Chain{Name: name, Type: typ, Hooknum: hook, Priority: prio})
	}
	user := b.conn.AddChain(&nftables.Chain{Name: UserChain, Table: b.table})
	ports := b.chain(nftables.Chain{Name: "ports"})

	guard := base("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	b.rule(guard, iif(d.bridges), v4.is(), v4.within(dst, loopback4), verdict(expr.VerdictDrop))

	pre := base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	b.rule(pre, local(), jump(ports))
	out := base("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	b.rule(out, v6.is(), v6.within(dst, loopback6), verdict(expr.VerdictReturn)) // no answer would find the way back
	b.rule(out, local(), jump(ports))
	for i, f := range families {
		b.rule(ports, f.is(), f.dnat(d.exact[i], true))
		b.rule(ports, f.is(), f.dnat(d.wild[i], false))
	}

	forward := b.chain(nftables.Chain{
		Name: "forward", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
		Priority: nftables.ChainPriorityFilter, Policy: &policy,
	})
	b.forward(forward, user, r, d)

	post := base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	b.rule(post, v4.is(), v4.within(src, loopback4), oif(d.bridges), masquerade())
	for i, f := range families {
		if f.off(r) {
			continue
		}
		// Who asks for a port of a neighbour gets the answer by way of this machine, which has to undo the translation.
		b.rule(post, f.is(), redirected(), f.among(src, d.subnets[i]), oif(d.bridges), masquerade())
		b.rule(post, f.is(), f.among(src, d.masked[i]), notOif(d.bridges), masquerade())
	}
}

func (b *batch) forward(c, user *nftables.Chain, r Records, d declared) {
	b.rule(c, jump(user))
	for _, f := range families {
		if f.off(r) {
			b.rule(c, f.is(), verdict(expr.VerdictAccept))
		}
	}
	b.rule(c, established(), verdict(expr.VerdictAccept))
	b.rule(c, oif(d.bridges), redirected(), verdict(expr.VerdictAccept))
	b.rule(c, samePair(d.pairs), verdict(expr.VerdictAccept))
	b.rule(c, v4.is(), linked(d.links), verdict(expr.VerdictAccept))
	for i, f := range families {
		b.rule(c, notIif(d.bridges), f.is(), f.among(dst, d.open[i]), verdict(expr.VerdictAccept))
		b.rule(c, f.is(), f.among(dst, d.routed[i]), f.icmp(), verdict(expr.VerdictAccept))
		b.rule(c, f.is(), f.direct(d.direct[i]), verdict(expr.VerdictAccept))
	}
	if r.Mask != 0 {
		b.rule(c, oif(d.bridges), marked(r.Mark, r.Mask), verdict(expr.VerdictAccept))
	}
	b.rule(c, iif(d.outward), notOif(d.bridges), verdict(expr.VerdictAccept))
	b.rule(c, iif(d.bridges), verdict(expr.VerdictDrop))
	b.rule(c, oif(d.bridges), verdict(expr.VerdictDrop))
}
