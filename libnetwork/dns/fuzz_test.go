package dns

import (
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/internal/vary"
)

// names knows one container, and nobody to ask for more.
type names struct{}

func (names) Lookup(name string) ([]netip.Addr, bool) {
	return []netip.Addr{netip.MustParseAddr("172.18.0.2"), netip.MustParseAddr("fd00::2")}, name == "web"
}
func (names) Reverse(addr netip.Addr) (string, bool) {
	return "web.net", addr == netip.MustParseAddr("172.18.0.2")
}
func (names) Upstreams() []Upstream { return nil }

// writer takes the answer, of which there has to be one that can be sent.
type writer struct {
	dns.ResponseWriter
	t       *testing.T
	answers int
	size    int
}

func (*writer) LocalAddr() net.Addr { return &net.UDPAddr{} }

func (w *writer) WriteMsg(m *dns.Msg) error {
	w.answers++
	b, err := m.Pack()
	w.size = len(b)
	return err
}

// FuzzServeDNS gives the name server what a container may send it.
func FuzzServeDNS(f *testing.F) {
	var seeds [][]byte
	for name, kind := range map[string]uint16{
		"web.": dns.TypeA, "WEB.": dns.TypeAAAA, "web..": dns.TypeANY, "other.": dns.TypeA, ".": dns.TypeNS,
		"2.0.18.172.in-addr.arpa.": dns.TypePTR, "x.in-addr.arpa.": dns.TypePTR,
		"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.": dns.TypePTR,
	} {
		for _, size := range []uint16{0, 1, 512, 65535} {
			q := new(dns.Msg).SetQuestion(name, kind)
			q.Id = 7
			if size > 0 {
				q.SetEdns0(size, true)
			}
			if b, err := q.Pack(); err == nil {
				seeds = append(seeds, b)
			}
		}
	}
	for _, b := range vary.Bytes(3000, seeds...) {
		f.Add(b)
	}
	s := &Server{names: names{}}
	f.Fuzz(func(t *testing.T, b []byte) {
		q := new(dns.Msg)
		if q.Unpack(b) != nil {
			return // the server answers that by itself
		}
		w := &writer{t: t}
		s.ServeDNS(w, q)
		assert.Equal(t, w.answers, 1)
		assert.Assert(t, w.size <= dns.MaxMsgSize)
	})
}
