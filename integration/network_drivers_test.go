package integration

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// in runs a program in the sandbox, which has to succeed.
func in(t *testing.T, d *harness.Daemon, args ...string) string {
	t.Helper()
	out, err := d.Sandbox.Command(args[0], args[1:]...).CombinedOutput()
	assert.NilError(t, err, "%v: %s", args, out)
	return string(out)
}

// What networks do that are not as everybody's.
func TestNetworkDrivers(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.Config(harness.M{
		"default-address-pools": []harness.M{{"base": "10.40.0.0/15", "size": 24}, {"base": "fd40::/48", "size": 64}},
		"default-network-opts":  harness.M{"bridge": harness.M{"com.docker.network.driver.mtu": "1334"}},
		"bridge-accept-fwmark":  "0x40/0x40",
	}))
	world := d.Sandbox.World(t)
	world.Serve(t, "world", "tcp", ":80")
	restart := func(meanwhile func()) {
		d.Kill9()
		meanwhile()
		d.Start()
	}
	for name, sub := range map[string]func(*testing.T, *harness.Daemon, harness.Place, func(func())){
		"options": testDriverOptions,
		"modes":   testGatewayModes,
		"macvlan": testMacvlan,
		"ports":   testPortSockets,
	} {
		t.Run(name, func(t *testing.T) { sub(t, d.For(t), world, restart) })
	}
}

func testDriverOptions(t *testing.T, d *harness.Daemon, world harness.Place, _ func(func())) {
	const opt = "com.docker.network.bridge."
	makeNetwork(d, "op", harness.M{"EnableIPv6": true, "Options": harness.M{
		opt + "name": "opbridge", opt + "enable_icc": "false", opt + "enable_ip_masquerade": "0",
		opt + "host_binding_ipv4": "127.0.0.1", "com.docker.network.driver.mtu": "1300",
		"com.docker.network.container_iface_prefix": "lan",
	}})
	publish := harness.M{"PortBindings": harness.M{"80/tcp": []harness.M{{"HostPort": "6060"}}}}
	a, b := runIn(d, "op1", "op", publish), runIn(d, "op2", "op", nil)
	d.Place(a).Serve(t, "op1", "tcp", ":80")
	ep := endpointOf(d, a, "op")
	assert.Check(t, strings.HasPrefix(ep.IPAddress, "10.40.") && strings.HasPrefix(ep.GlobalIPv6Address, "fd40:"),
		"from the pools: %v", ep)
	assert.Check(t, strings.Contains(in(t, d, "ip", "addr", "show", "opbridge"), "mtu 1300"))
	out, _ := d.Exec(a, "ip", "addr", "show", "lan0")
	assert.Check(t, strings.Contains(out, "mtu 1300") && strings.Contains(out, ep.IPAddress+"/24"), out)
	assert.Check(t, !d.Place(b).Reaches("tcp", ep.IPAddress+":80"), "containers are kept apart")
	asks(t, d.Place(a), "tcp", harness.WorldIP+":80", "world: "+ep.IPAddress) // not behind the machine's address
	asks(t, d.Sandbox.Machine(), "tcp", "127.0.0.1:6060", "op1: "+endpointOf(d, a, "op").Gateway)
	assert.Check(t, !world.Reaches("tcp", harness.MachineIP+":6060"), "published on 127.0.0.1 alone")
	var c struct {
		NetworkSettings struct{ Ports map[string][]harness.M }
	}
	d.OK("GET", "/containers/op1/json", nil, &c)
	assert.Equal(t, fmt.Sprint(c.NetworkSettings.Ports), "map[80/tcp:[map[HostIp:127.0.0.1 HostPort:6060]]]")

	plain := runIn(d, "op3", "bridge", nil)
	makeNetwork(d, "opdefault", nil)
	other := runIn(d, "op4", "opdefault", nil)
	mtu := func(id string) string { out, _ := d.Exec(id, "cat", "/sys/class/net/eth0/mtu"); return out }
	assert.Equal(t, mtu(plain)+mtu(other), "1500\n1334\n", "default options are for networks that users make")
	assert.Assert(t, strings.HasPrefix(endpointOf(d, plain, "bridge").IPAddress, "10.40."))

	// Packets with the mark of the configuration reach what nobody else does.
	target := endpointOf(d, other, "opdefault").IPAddress + ":80"
	d.Place(other).Serve(t, "op4", "tcp", ":80")
	assert.Check(t, !world.Reaches("tcp", target))
	in(t, d, "nft", "add table inet marks; add chain inet marks pre { type filter hook prerouting priority -300; }; "+
		"add rule inet marks pre iifname cable meta mark set 0x41")
	asks(t, world, "tcp", target, "op4: "+harness.WorldIP)
	in(t, d, "nft", "delete", "table", "inet", "marks")
}

func testGatewayModes(t *testing.T, d *harness.Daemon, world harness.Place, restart func(meanwhile func())) {
	const mode4, mode6 = "com.docker.network.bridge.gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv6"
	makeNetwork(d, "gmnat", nil)
	makeNetwork(d, "gmrouted", harness.M{"EnableIPv6": true, "Options": harness.M{mode4: "routed", mode6: "routed"}})
	makeNetwork(d, "gmopen", harness.M{"Options": harness.M{mode4: "nat-unprotected"}})
	makeNetwork(d, "gmalone", harness.M{"Internal": true, "Options": harness.M{mode4: "isolated"}})
	peer := d.Place(runIn(d, "gmpeer", "gmnat", nil))
	publish := harness.M{"PortBindings": harness.M{"80/tcp": []harness.M{{"HostPort": "6070"}}}}
	up := func(name, network string) (string, string) {
		id := runIn(d, name, network, publish)
		d.Place(id).Serve(t, name, "tcp", ":80")
		d.Place(id).Serve(t, name, "tcp", ":81")
		return id, endpointOf(d, id, network).IPAddress
	}
	id, ip := up("gmrouted", "gmrouted")
	ip6 := endpointOf(d, id, "gmrouted").GlobalIPv6Address
	peerIP, inside := endpointOf(d, "gmpeer", "gmnat").IPAddress, d.Place(id)
	check := func() {
		t.Helper()
		asks(t, world, "tcp", ip+":80", "gmrouted: "+harness.WorldIP)
		asks(t, world, "tcp", "["+ip6+"]:80", "gmrouted: "+harness.WorldIP6)
		asks(t, peer, "tcp", ip+":80", "gmrouted: "+peerIP)
		assert.Check(t, !world.Reaches("tcp", ip+":81"), "not published")
		assert.Check(t, !world.Reaches("tcp", harness.MachineIP+":6070"), "the machine's port leads nowhere")
		asks(t, inside, "tcp", harness.WorldIP+":80", "world: "+ip)
	}
	check()
	out, code := d.Exec("gmpeer", "ping", "-c1", "-W10", ip)
	assert.Equal(t, code, 0, out)
	restart(check)
	check()
	d.Remove(id)
	assert.Check(t, !world.Reaches("tcp", ip+":80"))

	id, ip = up("gmopen", "gmopen")
	asks(t, world, "tcp", ip+":81", "gmopen: "+harness.WorldIP)
	asks(t, world, "tcp", harness.MachineIP+":6070", "gmopen: "+harness.WorldIP)
	asks(t, d.Place(id), "tcp", harness.WorldIP+":80", "world: "+harness.MachineIP)
	assert.Check(t, !peer.Reaches("tcp", ip+":81"), "networks are kept apart")
	d.Remove(id)

	_, ip = up("gmalone", "gmalone")
	two := runIn(d, "gmalone2", "gmalone", nil)
	asks(t, d.Place(two), "tcp", ip+":80", "gmalone: "+endpointOf(d, two, "gmalone").IPAddress)
	assert.Check(t, !d.Sandbox.Machine().Reaches("tcp", ip+":80"), "not even the machine has an address there")
	var n struct{ IPAM struct{ Config []harness.M } }
	d.OK("GET", "/networks/gmalone", nil, &n)
	assert.Check(t, cmp.Len(n.IPAM.Config[0], 1), "no gateway: %v", n.IPAM.Config)

	for value, want := range map[string]string{
		"isolated": "400 invalid value for " + mode4 + ": gateway mode 'isolated' can only be used for an internal network",
		"magic":    "400 invalid value for " + mode4 + `: "magic": use nat, nat-unprotected, routed or isolated`,
	} {
		got := says(d.HTTP("POST", "/networks/create", harness.M{"Name": "refused", "Options": harness.M{mode4: value}}))
		assert.Check(t, cmp.Equal(got, want))
	}
}

// Containers on the cable have addresses of the outside world there, and hardware addresses of their own.
func testMacvlan(t *testing.T, d *harness.Daemon, world harness.Place, restart func(meanwhile func())) {
	makeNetwork(d, "mv", harness.M{"Driver": "macvlan",
		"Options": harness.M{"parent": "cable", "com.docker.network.driver.mtu": "1400"},
		"IPAM":    subnet(harness.M{"Subnet": "203.0.113.0/24", "IPRange": "203.0.113.128/26", "Gateway": harness.WorldIP})["IPAM"]})
	a, b := runIn(d, "mv1", "mv", nil), runIn(d, "mv2", "mv", nil)
	ip := endpointOf(d, a, "mv").IPAddress
	assert.Equal(t, ip, "203.0.113.128")
	d.Place(a).Serve(t, "mv1", "tcp", ":80")
	asks(t, world, "tcp", ip+":80", "mv1: "+harness.WorldIP)
	asks(t, d.Place(b), "tcp", ip+":80", "mv1: 203.0.113.129")
	asks(t, d.Place(a), "tcp", harness.WorldIP+":80", "world: "+ip)
	got, err := d.Place(b).Resolver("127.0.0.11:53").LookupHost(t.Context(), "mv1")
	assert.NilError(t, err)
	assert.DeepEqual(t, got, []string{ip})
	out, _ := d.Exec(a, "ip", "addr", "show", "eth0")
	assert.Assert(t, strings.Contains(out, "mtu 1400") && strings.Contains(out, endpointOf(d, a, "mv").MacAddress), out)
	restart(func() { asks(t, world, "tcp", ip+":80", "mv1: "+harness.WorldIP) })
	c := runIn(d, "mv3", "mv", nil)
	assert.Equal(t, endpointOf(d, c, "mv").IPAddress, "203.0.113.130")
	d.OK("POST", "/networks/mv/disconnect", harness.M{"Container": "mv1"}, nil)
	assert.Check(t, !world.Reaches("tcp", ip+":80"))
	d.OK("POST", "/networks/mv/connect", harness.M{"Container": "mv1"}, nil)
	asks(t, world, "tcp", ip+":80", "mv1: "+harness.WorldIP)
	for _, id := range []string{a, b, c} {
		d.Remove(id)
	}
	d.OK("DELETE", "/networks/mv", nil, nil)
	in(t, d, "ip", "link", "show", "cable") // the parent is not Berth's

	makeNetwork(d, "mvin", harness.M{"Driver": "macvlan", "Internal": true,
		"Options": harness.M{"parent": "cable", "macvlan_mode": "private"}})
	id := runIn(d, "mv4", "mvin", nil)
	out, _ = d.Exec(id, "ip", "route")
	assert.Assert(t, !strings.Contains(out, "default"), out)
	for _, tc := range []struct {
		options harness.M
		want    string
	}{
		{harness.M{"parent": "cable", "macvlan_mode": "x"}, `400 unknown macvlan mode "x": use bridge, private, vepa or passthru`},
		{harness.M{"parent": "nodevice"}, "500 the parent interface nodevice does not exist"},
		{harness.M{"parent": "cable.5000"}, "500 invalid parent cable.5000: a VLAN has a number from 1 to 4094"},
		{harness.M{"parent": "anameofmorethan15"},
			`400 invalid parent "anameofmorethan15": it is too long for the name of an interface`},
	} {
		got := says(d.HTTP("POST", "/networks/create", harness.M{"Name": "refused", "Driver": "macvlan", "Options": tc.options}))
		assert.Check(t, cmp.Equal(got, tc.want))
	}
}

// What is special about the ports of this machine.
func testPortSockets(t *testing.T, d *harness.Daemon, world harness.Place, _ func(func())) {
	machine := d.Sandbox.Machine()
	port := func(name, binding string) string {
		return runIn(d, name, "bridge", harness.M{"PortBindings": harness.M{binding: []harness.M{{"HostPort": "6080"}}}})
	}
	// A server that was stopped leaves connections that linger; the port can be published at once.
	l := d.Sandbox.Listen(t, "tcp", ":6080")
	machine.Linger(t, l, "127.0.0.1:6080")
	for range 3 {
		id := port("po", "80/tcp")
		d.Place(id).Serve(t, "po", "tcp", ":80")
		for _, host := range []string{"127.0.0.1", "[::1]", harness.MachineIP, "[" + harness.MachineIP6 + "]"} {
			got, err := machine.Ask("tcp", host+":6080")
			assert.NilError(t, err, host)
			assert.Assert(t, strings.HasPrefix(got, "po: "), got)
		}
		got, err := world.Ask("tcp", "["+harness.MachineIP6+"]:6080") // the container has IPv4 only
		assert.NilError(t, err)
		assert.Assert(t, strings.HasPrefix(got, "po: "), got)
		d.OK("POST", "/containers/po/stop?t=0", nil, nil)
		_, err = machine.Ask("tcp", "127.0.0.1:6080")
		assert.ErrorIs(t, err, syscall.ECONNREFUSED)
		d.API.Start(id) // at once
		assert.Equal(t, d.Inspect(id).State.Status, "running")
		d.Remove(id)
	}

	// Flows of UDP follow the port: they began before it was published, and outlive a container.
	sender := world.Dial(t, "udp", harness.MachineIP+":6080")
	for i := range 2 {
		sender.Send()
		name := fmt.Sprint("pu", i)
		id := port(name, "53/udp")
		d.Place(id).Serve(t, name, "udp", ":53")
		assert.Equal(t, sender.Ask(t), name+": "+harness.WorldIP)
		for addr, from := range map[string]harness.Place{ // the container has IPv4 only: the daemon carries it
			"[" + harness.MachineIP6 + "]:6080": world, "[::1]:6080": machine,
		} {
			asks(t, from, "udp", addr, name+": "+endpointOf(d, id, "bridge").Gateway)
		}
		d.OK("POST", "/containers/"+id+"/stop?t=0", nil, nil)
	}

	// A hundred ports take no process.
	processes := func() (n int) {
		st, err := d.Sandbox.State()
		assert.NilError(t, err)
		for _, p := range st.Processes {
			if !strings.Contains(p, "berth-shim") { // one a container, and those that wait
				n++
			}
		}
		return n
	}
	before, hundred := processes(), harness.M{}
	for i := range 100 {
		hundred[fmt.Sprintf("%d/tcp", 1000+i)] = []harness.M{{"HostPort": fmt.Sprint(20000 + i)}}
	}
	id := runIn(d, "ph", "bridge", harness.M{"PortBindings": hundred})
	d.Place(id).Serve(t, "ph", "tcp", ":1099")
	asks(t, world, "tcp", harness.MachineIP+":20099", "ph: "+harness.WorldIP)
	assert.Equal(t, processes(), before+1, "the container's own")
	d.Remove(id)

	spec := harness.Spec("sleep", "1")
	spec["HostConfig"] = harness.M{"PortBindings": harness.M{"80/sctp": []harness.M{{"HostPort": "6080"}}}}
	id = d.Create("ps", spec)
	resp := d.HTTP("POST", "/containers/ps/start", nil)
	if _, err := os.Stat("/proc/net/sctp"); err == nil {
		assert.Equal(t, resp.Status, 204)
	} else {
		assert.Equal(t, resp.Status, 500)
		assert.Assert(t, strings.HasSuffix(resp.Message(), "the kernel of this machine does not speak SCTP (load its module sctp)"),
			says(resp))
	}
	d.Remove(id)
}
