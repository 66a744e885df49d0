package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// What the keys of the configuration make of the default bridge. One daemon gets them one after the other.
func TestDefaultBridgeKeys(t *testing.T) {
	t.Parallel()
	keys := func(more harness.M) harness.M {
		more["default-address-pools"] = []harness.M{{"base": "10.70.0.0/16", "size": 24}, {"base": "fd70::/48", "size": 64}}
		return more
	}
	d := harness.Start(t, harness.Config(keys(harness.M{})))
	world, machine := d.Sandbox.World(t), d.Sandbox.Machine()
	world.Serve(t, "world", "tcp", ":80")
	again := func(t *testing.T, more harness.M, meanwhile ...[]string) *harness.Daemon {
		assert.Equal(t, d.Stop(), 0)
		for _, cmd := range meanwhile {
			in(t, d, cmd...)
		}
		d.WriteConfig(keys(more))
		d.Start()
		return d.For(t)
	}
	up := func(d *harness.Daemon, name string) string {
		host := []harness.M{{"HostPort": "5050"}}
		return runIn(d, name, "bridge", harness.M{"PortBindings": harness.M{"80/tcp": host, "80/udp": host}})
	}
	removed := func(d *harness.Daemon, ids ...string) {
		for _, id := range ids {
			d.Remove(id)
		}
	}

	t.Run("another's docker0 is left alone", func(t *testing.T) {
		d := again(t, harness.M{}, []string{"ip", "link", "del", "docker0"}, []string{"ip", "link", "add", "docker0", "type", "bridge"},
			[]string{"ip", "addr", "add", "10.70.0.1/24", "dev", "docker0"}, []string{"ip", "link", "set", "docker0", "up"})
		id := up(d, "kd")
		assert.Equal(t, endpointOf(d, id, "bridge").Gateway, "10.70.1.1")
		out := in(t, d, "ip", "-o", "link", "show", "type", "bridge")
		assert.Assert(t, strings.Contains(out, "docker1") && !strings.Contains(strings.Split(out, "\n")[0], "berth:"), out)
		assert.Assert(t, !strings.Contains(in(t, d, "ip", "link", "show", "master", "docker0"), "veth"))
		removed(d, id)
		in(t, d, "ip", "link", "del", "docker0")
		in(t, d, "ip", "link", "del", "docker1")
	})
	t.Run("pools and IPv6", func(t *testing.T) {
		d := again(t, harness.M{"ipv6": true, "bip": "10.70.9.1/24", "ip-masq": true})
		id := up(d, "k6")
		d.Place(id).Serve(t, "k6", "tcp", ":80")
		ep := endpointOf(d, id, "bridge")
		assert.Check(t, netip.MustParsePrefix("fd70::/48").Contains(netip.MustParseAddr(ep.GlobalIPv6Address)), ep.GlobalIPv6Address)
		asks(t, d.Place(id), "tcp", "["+harness.WorldIP6+"]:80", "world: "+harness.MachineIP6)
		asks(t, world, "tcp", "["+harness.MachineIP6+"]:5050", "k6: "+harness.WorldIP6)
		got, err := machine.Ask("tcp", "[::1]:5050")
		assert.NilError(t, err)
		assert.Assert(t, strings.HasPrefix(got, "k6: fd70:"), got)
		removed(d, id)
	})
	t.Run("addresses", func(t *testing.T) {
		d := again(t, harness.M{
			"bip": "10.71.0.1/24", "fixed-cidr": "10.71.0.128/25", "default-gateway": "10.71.0.5", "mtu": 1280, "ip-masq": false,
			"ipv6": true, "fixed-cidr-v6": "fd71::/64", "ip": harness.MachineIP,
		})
		in(t, d, "ip", "addr", "add", "10.71.0.5/24", "dev", "docker0") // the gateway
		id := up(d, "ka")
		ep := endpointOf(d, id, "bridge")
		assert.Equal(t, ep.IPAddress+" "+ep.Gateway+" "+ep.GlobalIPv6Address, "10.71.0.128 10.71.0.5 fd71::2")
		out, _ := d.Exec(id, "sh", "-c", "ip route; cat /sys/class/net/eth0/mtu")
		assert.Assert(t, strings.Contains(out, "default via 10.71.0.5 ") && strings.HasSuffix(out, "\n1280\n"), out)
		d.Place(id).Serve(t, "ka", "tcp", ":80")
		asks(t, d.Place(id), "tcp", "["+harness.WorldIP6+"]:80", "world: fd71::2") // not behind the machine's address
		asks(t, world, "tcp", harness.MachineIP+":5050", "ka: "+harness.WorldIP)
		assert.Check(t, !machine.Reaches("tcp", "127.0.0.1:5050"), "ports are published on the key ip")
		var n struct {
			IPAM struct {
				Config []struct {
					Subnet, Gateway, IPRange string
					AuxiliaryAddresses       map[string]string
				}
			}
			Options map[string]string
		}
		d.OK("GET", "/networks/bridge", nil, &n)
		assert.Equal(t, fmt.Sprint(n.IPAM.Config),
			"[{10.71.0.0/24 10.71.0.1 10.71.0.128/25 map[DefaultGatewayIPv4:10.71.0.5]} {fd71::/64 fd71::1  map[]}]")
		assert.Equal(t, n.Options["com.docker.network.bridge.enable_ip_masquerade"], "false")
		removed(d, id)
	})
	t.Run("no firewall", func(t *testing.T) {
		d := again(t, harness.M{"iptables": false, "ip6tables": false, "bip": "10.72.0.1/24"}, []string{"nft", "flush", "ruleset"})
		id := up(d, "kn")
		d.Place(id).Serve(t, "kn", "tcp", ":80")
		d.Place(id).Serve(t, "kn", "udp", ":80")
		assert.Equal(t, in(t, d, "nft", "list", "tables"), "")
		ip := endpointOf(d, id, "bridge").IPAddress
		asks(t, world, "tcp", ip+":80", "kn: "+harness.WorldIP) // nothing keeps anybody
		for _, proto := range []string{"tcp", "udp"} {
			for _, addr := range []string{"127.0.0.1:5050", "[::1]:5050"} {
				asks(t, machine, proto, addr, "kn: 10.72.0.1") // the daemon carries it
			}
			asks(t, world, proto, harness.MachineIP+":5050", "kn: 10.72.0.1")
		}
		removed(d, id)
	})
	t.Run("no bridge", func(t *testing.T) {
		d := again(t, harness.M{"bridge": "none"})
		assert.Check(t, cmp.Equal(d.HTTP("GET", "/networks/bridge", nil).Status, 404))
		id := sleeper(d, "kb", "bridge", nil)
		assert.Equal(t, says(d.HTTP("POST", "/containers/kb/start", nil)),
			"404 failed to set up container networking: network bridge not found")
		makeNetwork(d, "own", nil)
		other := runIn(d, "kb2", "own", nil)
		asks(t, d.Place(other), "tcp", harness.WorldIP+":80", "world: "+harness.MachineIP)
		removed(d, id, other)
	})
	t.Run("a bridge of the machine", func(t *testing.T) {
		own := d
		d := again(t, harness.M{"bridge": "mine", "allow-direct-routing": true, "userland-proxy": false},
			[]string{"ip", "link", "add", "mine", "type", "bridge"}, []string{"ip", "addr", "add", "10.73.0.7/24", "dev", "mine"})
		id := up(d, "km")
		d.Place(id).Serve(t, "km", "tcp", ":80")
		d.Place(id).Serve(t, "km", "tcp", ":81")
		assert.Equal(t, endpointOf(d, id, "bridge").IPAddress, "10.73.0.1")
		asks(t, world, "tcp", harness.MachineIP+":5050", "km: "+harness.WorldIP)
		asks(t, world, "tcp", "10.73.0.1:80", "km: "+harness.WorldIP) // allow-direct-routing: what is published
		assert.Check(t, !world.Reaches("tcp", "10.73.0.1:81"))
		assert.Check(t, !machine.Reaches("tcp", "[::1]:5050"), "the daemon carries nothing")
		removed(d, id)
		assert.Equal(t, own.Stop(), 0)
		assert.Check(t, strings.Contains(in(t, d, "ip", "addr", "show", "mine"), "10.73.0.7/24"))
		in(t, d, "ip", "link", "del", "mine")
		own.WriteConfig(keys(harness.M{"bip": "10.73.0.7/24"}))
		own.Start()
	})
}
