// Package ipam hands out subnets, and the addresses in them. It is memory only: what is in use is known from the records
// of networks and containers, which say it again at every start of the daemon.
package ipam

import (
	"math"
	"net/netip"
	"sync"

	"github.com/berthd/berth/errdefs"
)

// Pool is a range that is cut into subnets of Size bits.
type Pool struct {
	Base netip.Prefix
	Size int
}

// Defaults are the pools of an engine that was told none.
func Defaults() []Pool {
	pools := make([]Pool, 0, 16)
	for i := range 15 {
		pools = append(pools, Pool{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(17 + i)}), 16), 16})
	}
	return append(pools, Pool{netip.MustParsePrefix("192.168.0.0/16"), 20})
}

// Space is the subnets in use. Its methods may be called from everywhere at once.
type Space struct {
	pools []Pool

	mu      sync.Mutex
	subnets map[netip.Prefix]*subnet
}

// subnet is the addresses of one subnet. Those that nobody asks for by name come from within, the lowest first: a
// container that starts again has the address that it had, unless somebody took it meanwhile.
type subnet struct {
	prefix, within netip.Prefix
	used           map[netip.Addr]bool
}

// New returns a Space without subnets.
func New(pools []Pool) *Space {
	return &Space{pools: pools, subnets: map[netip.Prefix]*subnet{}}
}

// Pick returns a subnet of the pools that overlaps with nothing: of the family that v6 tells, not in use, and
// not among the taken ones, which are those that the machine reaches already. It is in use from then on.
func (s *Space) Pick(v6 bool, taken []netip.Prefix) (netip.Prefix, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pools {
		if p.Base.Addr().Is4() == v6 {
			continue
		}
		for c := netip.PrefixFrom(p.Base.Masked().Addr(), p.Size); c.IsValid() && p.Base.Contains(c.Addr()); c = next(c) {
			if !s.overlapsLocked(c) && !overlaps(c, taken) {
				s.addLocked(c, c)
				return c, nil
			}
		}
	}
	return netip.Prefix{}, errdefs.Systemf("all predefined address pools have been fully subnetted")
}

// next is the subnet behind p; it is invalid behind the last one.
func next(p netip.Prefix) netip.Prefix {
	after := Last(p).Next()
	if !after.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(after, p.Bits())
}

// Last returns the highest address of p.
func Last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

func overlaps(p netip.Prefix, all []netip.Prefix) bool {
	for _, o := range all {
		if p.Overlaps(o) {
			return true
		}
	}
	return false
}

func (s *Space) overlapsLocked(p netip.Prefix) bool {
	for o := range s.subnets {
		if p.Overlaps(o) {
			return true
		}
	}
	return false
}

// Add puts a subnet in use. Addresses that nobody asks for by name come from within.
func (s *Space) Add(p, within netip.Prefix) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.overlapsLocked(p) {
		return errdefs.Forbiddenf("invalid pool request: Pool overlaps with other one on this address space")
	}
	s.addLocked(p, within)
	return nil
}

func (s *Space) addLocked(p, within netip.Prefix) {
	n := &subnet{prefix: p, within: within, used: map[netip.Addr]bool{}}
	if size(p) > 2 {
		n.used[p.Masked().Addr()] = true
		if p.Addr().Is4() {
			n.used[Last(p)] = true // broadcast
		}
	}
	s.subnets[p] = n
}

// Remove gives a subnet back, with all addresses in it.
func (s *Space) Remove(p netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.subnets, p)
}

// Reserve puts an address of a subnet in use.
func (s *Space) Reserve(p netip.Prefix, a netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.subnets[p]
	switch {
	case n == nil || !p.Contains(a):
		return errdefs.InvalidParameterf("no configured subnet contains IP address %s", a)
	case n.used[a]:
		return errdefs.Forbiddenf("Address already in use")
	}
	n.used[a] = true
	return nil
}

// Next puts the lowest address of a subnet in use that nobody has.
func (s *Space) Next(p netip.Prefix) (netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.subnets[p]
	if n == nil {
		return netip.Addr{}, errdefs.NotFoundf("the subnet %s is not in use", p)
	}
	for a := n.within.Masked().Addr(); n.within.Contains(a); a = a.Next() {
		if !n.used[a] {
			n.used[a] = true
			return a, nil
		}
	}
	return netip.Addr{}, errdefs.Systemf("no available addresses on this network's address pools: %s is used up", n.within)
}

// Release gives an address back. It is no error when it is not in use.
func (s *Space) Release(p netip.Prefix, a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.subnets[p]; n != nil {
		delete(n.used, a)
	}
}

// Usage tells how many addresses of a subnet are in use, those for the network itself and for broadcast included, and
// how many there are for who does not ask for one by name. Numbers that are too large are math.MaxUint64.
func (s *Space) Usage(p netip.Prefix) (inUse, available uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.subnets[p]
	if n == nil {
		return 0, 0
	}
	inside := uint64(0)
	for a := range n.used {
		if n.within.Contains(a) {
			inside++
		}
	}
	total := size(n.within)
	if total == math.MaxUint64 {
		return uint64(len(n.used)), total
	}
	return uint64(len(n.used)), total - inside
}

func size(p netip.Prefix) uint64 {
	bits := p.Addr().BitLen() - p.Bits()
	if bits >= 64 {
		return math.MaxUint64
	}
	return 1 << bits
}
