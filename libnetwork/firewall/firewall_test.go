package firewall

import (
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/internal/netns"
)

func nft(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("nft", args...).CombinedOutput()
	assert.Check(t, err, string(out))
	return string(out)
}

// The table is read back by nft: what it says has to be what the records say, and nothing of records before.
func TestApply(t *testing.T) {
	assert.NilError(t, inNamespace(t, func() { testApply(t) }))
}

func inNamespace(tb testing.TB, fn func()) error {
	path := filepath.Join(tb.TempDir(), "ns")
	tb.Cleanup(func() { assert.Check(tb, netns.Remove(path)) })
	return netns.Make(path, func() error {
		fn()
		return nil
	})
}

func testApply(t *testing.T) {
	one := Records{
		Networks: []Network{
			{Bridge: "docker0", Subnets: []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16"), netip.MustParsePrefix("fd00::/64")},
				Masked: []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")}, ICC: true,
				Routed: []netip.Prefix{netip.MustParsePrefix("fd00::/64")}, Open: []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")}},
			{Bridge: "br-inside", Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, Internal: true},
		},
		Ports: []Port{
			{Proto: "tcp", Host: netip.IPv4Unspecified(), Port: 8080, To: netip.MustParseAddrPort("172.17.0.2:80")},
			{Proto: "udp", Host: netip.MustParseAddr("127.0.0.1"), Port: 53, To: netip.MustParseAddrPort("172.17.0.2:5353")},
			{Proto: "tcp", Host: netip.IPv6Unspecified(), Port: 8080, To: netip.MustParseAddrPort("[fd00::2]:80")},
		},
		Links: []Link{{From: netip.MustParseAddr("172.17.0.2"), To: netip.MustParseAddrPort("172.17.0.3:5432"), Proto: "tcp"}},
		Direct: []Direct{{Proto: "tcp", To: netip.MustParseAddrPort("[fd00::3]:81")},
			{Proto: "udp", To: netip.MustParseAddrPort("172.17.0.4:82")}},
		Mark: 0x10, Mask: 0xf0,
	}
	assert.Check(t, Apply("berth-test", one))
	nft(t, "add", "rule", "inet", "berth-test", UserChain, "tcp", "dport", "25", "drop")
	first := nft(t, "list", "table", "inet", "berth-test")
	for _, want := range []string{
		`"br-inside"`, "172.17.0.0/16", "fd00::/64", "tcp . 8080 : 172.17.0.2 . 80", "tcp . 8080 : fd00::2 . 80",
		"127.0.0.1 . udp . 53 : 172.17.0.2 . 5353", "172.17.0.2 . 172.17.0.3 . tcp . 5432", "jump user",
		"fd00::3 . tcp . 81", "172.17.0.4 . udp . 82", "ip daddr @open4 accept", "ip6 daddr @routed6 meta l4proto ipv6-icmp accept",
		"ip6 daddr . meta l4proto . th dport @direct6 accept", "meta mark & 0x000000f0 == 0x00000010 accept", "policy accept",
	} {
		assert.Check(t, strings.Contains(strings.Join(strings.Fields(first), " "), want), want)
	}

	var many Records
	for i := range 2000 {
		many.Ports = append(many.Ports, Port{Proto: "tcp", Host: netip.IPv4Unspecified(), Port: uint16(1000 + i),
			To: netip.AddrPortFrom(netip.MustParseAddr("172.17.0.9"), 80)})
	}
	many.DropForward = true
	assert.Check(t, Apply("berth-test", many))
	second := nft(t, "list", "table", "inet", "berth-test")
	for _, gone := range []string{"172.17.0.2", "docker0", "policy accept; }\n\t\tjump user"} {
		assert.Check(t, !strings.Contains(second, gone), gone)
	}
	for _, want := range []string{"2999", "policy drop", "tcp dport 25 drop"} {
		assert.Check(t, strings.Contains(second, want), want)
	}
	assert.Check(t, Apply("berth-test", one))
	assert.Check(t, is.Equal(nft(t, "list", "table", "inet", "berth-test"), first), "the same records, the same table")
}

func BenchmarkApply(b *testing.B) {
	var r Records
	for i := range 100 {
		r.Ports = append(r.Ports, Port{Proto: "tcp", Host: netip.IPv4Unspecified(), Port: uint16(1000 + i),
			To: netip.AddrPortFrom(netip.MustParseAddr("172.17.0.9"), 80)})
	}
	assert.NilError(b, inNamespace(b, func() {
		for b.Loop() {
			assert.Check(b, Apply("berth-test", r))
		}
	}))
}
