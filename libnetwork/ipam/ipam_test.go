package ipam

import (
	"fmt"
	"math"
	"net/netip"
	"sync"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/errdefs"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func lowest(t *testing.T, s *Space, p netip.Prefix) string {
	t.Helper()
	a, err := s.Next(p)
	assert.NilError(t, err)
	return a.String()
}

func TestAddressesAreTheLowestFreeOnes(t *testing.T) {
	s := New(nil)
	p := prefix("10.0.0.0/29")
	assert.NilError(t, s.Add(p, p))
	for i := 1; i <= 6; i++ {
		assert.Equal(t, lowest(t, s, p), fmt.Sprintf("10.0.0.%d", i))
	}
	_, err := s.Next(p)
	assert.Error(t, err, "no available addresses on this network's address pools: 10.0.0.0/29 is used up")
	s.Release(p, netip.MustParseAddr("10.0.0.5"))
	s.Release(p, netip.MustParseAddr("10.0.0.2"))
	assert.Equal(t, lowest(t, s, p), "10.0.0.2", "a container that starts again has its address again")
	assert.Equal(t, lowest(t, s, p), "10.0.0.5")
	used, free := s.Usage(p)
	assert.Equal(t, fmt.Sprint(used, " ", free), "8 0")

	s.Release(p, netip.MustParseAddr("10.0.0.6"))
	assert.NilError(t, s.Reserve(p, netip.MustParseAddr("10.0.0.6")))
	err = s.Reserve(p, netip.MustParseAddr("10.0.0.6"))
	assert.Error(t, err, "Address already in use")
	assert.Assert(t, errdefs.IsForbidden(err))
	for _, a := range []string{"10.0.0.0", "10.0.0.7"} {
		assert.Error(t, s.Reserve(p, netip.MustParseAddr(a)), "Address already in use", "network and broadcast")
	}
	err = s.Reserve(p, netip.MustParseAddr("10.0.1.1"))
	assert.Assert(t, errdefs.IsInvalidParameter(err), "%v", err)

	s.Remove(p)
	assert.NilError(t, s.Add(p, p))
	assert.Equal(t, lowest(t, s, p), "10.0.0.1", "a subnet that is given back takes its addresses along")
}

func TestRangeOfASubnet(t *testing.T) {
	s := New(nil)
	p := prefix("10.0.0.0/24")
	assert.NilError(t, s.Add(p, prefix("10.0.0.64/30")))
	assert.NilError(t, s.Reserve(p, netip.MustParseAddr("10.0.0.65")))
	assert.NilError(t, s.Reserve(p, netip.MustParseAddr("10.0.0.9")), "who asks by name is not bound to the range")
	for _, want := range []string{"10.0.0.64", "10.0.0.66", "10.0.0.67"} {
		assert.Equal(t, lowest(t, s, p), want)
	}
	_, err := s.Next(p)
	assert.ErrorContains(t, err, "10.0.0.64/30 is used up")
	used, free := s.Usage(p)
	assert.Equal(t, fmt.Sprint(used, " ", free), "7 0")

	// The last addresses that there are.
	top := prefix("255.255.255.252/30")
	assert.NilError(t, s.Add(top, top))
	assert.Equal(t, lowest(t, s, top), "255.255.255.253")
	assert.Equal(t, lowest(t, s, top), "255.255.255.254")
	_, err = s.Next(top)
	assert.ErrorContains(t, err, "is used up")

	v6 := prefix("fd00::/64")
	assert.NilError(t, s.Add(v6, v6))
	assert.Equal(t, lowest(t, s, v6), "fd00::1")
	_, free = s.Usage(v6)
	assert.Equal(t, free, uint64(math.MaxUint64))
	for _, small := range []string{"10.1.0.0/31", "10.1.0.2/32"} { // no broadcast
		p := prefix(small)
		assert.NilError(t, s.Add(p, p))
		assert.Equal(t, lowest(t, s, p), p.Addr().String())
	}
}

func TestSubnetsDoNotOverlap(t *testing.T) {
	pools := []Pool{{prefix("10.0.0.0/22"), 24}, {prefix("fd00::/62"), 64}}
	s := New(pools)
	assert.NilError(t, s.Add(prefix("10.0.1.0/25"), prefix("10.0.1.0/25")))
	for _, p := range []string{"10.0.1.0/25", "10.0.1.64/26", "10.0.0.0/8"} {
		err := s.Add(prefix(p), prefix(p))
		assert.Error(t, err, "invalid pool request: Pool overlaps with other one on this address space", p)
		assert.Assert(t, errdefs.IsForbidden(err))
	}
	pick := func(v6 bool, taken ...netip.Prefix) string {
		p, err := s.Pick(v6, taken)
		if err != nil {
			assert.Error(t, err, "all predefined address pools have been fully subnetted")
			return ""
		}
		return p.String()
	}
	assert.Equal(t, pick(false, prefix("10.0.0.128/25")), "10.0.2.0/24", "what the machine reaches already is left out")
	assert.Equal(t, pick(false), "10.0.0.0/24")
	assert.Equal(t, pick(false), "10.0.3.0/24")
	assert.Equal(t, pick(false), "")
	s.Remove(prefix("10.0.3.0/24"))
	assert.Equal(t, pick(false), "10.0.3.0/24")
	assert.Equal(t, pick(true), "fd00::/64")
	assert.Equal(t, pick(true), "fd00:0:0:1::/64")
	assert.Equal(t, len(Defaults()), 16)
}

// Nobody gets what another one has, however many ask at once.
func TestManyAskAtOnce(t *testing.T) {
	s := New(Defaults())
	p := prefix("10.0.0.0/22")
	assert.NilError(t, s.Add(p, p))
	var mu sync.Mutex
	seen := map[netip.Addr]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 120 {
				a, err := s.Next(p)
				assert.Check(t, err)
				mu.Lock()
				assert.Check(t, !seen[a], a.String())
				if seen[a] = true; i%10 == 0 {
					delete(seen, a)
					s.Release(p, a)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	used, _ := s.Usage(p)
	assert.Equal(t, used, uint64(len(seen)+2))
}
