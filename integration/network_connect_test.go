package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"sort"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// subnet is the body of a request for a network with one range of addresses.
func subnet(more harness.M) harness.M {
	return harness.M{"IPAM": harness.M{"Config": []harness.M{more}}}
}

// says is the status and the message of an answer.
func says(r harness.Response) string { return fmt.Sprint(r.Status, " ", r.Message()) }

// sleeper makes a container that sleeps, without starting it.
func sleeper(d *harness.Daemon, name, network string, endpoint harness.M) string {
	spec := harness.Spec("sleep", "100000")
	spec["HostConfig"] = harness.M{"NetworkMode": network}
	if endpoint != nil {
		spec["NetworkingConfig"] = harness.M{"EndpointsConfig": harness.M{network: endpoint}}
	}
	return d.Create(name, spec)
}

func address(ip string) harness.M { return harness.M{"IPAMConfig": harness.M{"IPv4Address": ip}} }

// Who is connected how, before a start and during a run, and what stays of it.
func TestConnect(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	world := d.Sandbox.World(t)
	world.Serve(t, "world", "tcp", ":80")
	for name, sub := range map[string]func(*testing.T, *harness.Daemon){
		"addresses":      testAddresses,
		"stopped":        testConnectStopped,
		"running":        testConnectRunning,
		"ports follow":   testPortsFollow,
		"gateways":       testGateways,
		"disconnect":     testDisconnect,
		"interfaces":     testInterfaces,
		"events":         testNetworkEvents,
		"prune":          testNetworkPrune,
		"configurations": testConfigurations,
	} {
		t.Run(name, func(t *testing.T) { sub(t, d.For(t)) })
	}
}

// Addresses are the lowest free ones of the range, without what the network reserves; who asks for one gets it, also
// outside of the range; a restart keeps them.
func testAddresses(t *testing.T, d *harness.Daemon) {
	makeNetwork(d, "ranged", subnet(harness.M{
		"Subnet": "10.50.0.0/24", "IPRange": "10.50.0.64/30", "Gateway": "10.50.0.254",
		"AuxiliaryAddresses": harness.M{"nas": "10.50.0.65"},
	}))
	first, second := runIn(d, "ad1", "ranged", nil), runIn(d, "ad2", "ranged", nil)
	assert.Equal(t, endpointOf(d, first, "ranged").IPAddress, "10.50.0.64")
	assert.Equal(t, endpointOf(d, second, "ranged").IPAddress, "10.50.0.66")
	assert.Equal(t, endpointOf(d, second, "ranged").Gateway, "10.50.0.254")
	d.OK("POST", "/containers/ad1/restart?t=0", nil, nil)
	assert.Equal(t, endpointOf(d, first, "ranged").IPAddress, "10.50.0.64", "after a restart")
	asked := runEndpoint(d, "ad3", "ranged", harness.M{
		"IPAMConfig": harness.M{"IPv4Address": "10.50.0.200"}, "MacAddress": "02:42:00:00:00:99",
	})
	for range 2 {
		ep := endpointOf(d, asked, "ranged")
		assert.Equal(t, ep.IPAddress+" "+ep.MacAddress, "10.50.0.200 02:42:00:00:00:99")
		d.OK("POST", "/containers/ad3/restart?t=0", nil, nil)
	}
	runIn(d, "ad4", "ranged", nil)
	full := sleeper(d, "ad5", "ranged", nil)
	resp := d.HTTP("POST", "/containers/"+full+"/start", nil)
	assert.Equal(t, resp.Status, 500)
	assert.Assert(t, strings.HasSuffix(resp.Message(),
		"no available addresses on this network's address pools: 10.50.0.64/30 is used up"), resp.Message())
	assert.Equal(t, d.Inspect(full).State.Status, "created")

	makeNetwork(d, "chosen", nil)
	const failed = "failed to set up container networking: "
	for i, tc := range []struct{ network, ip, want string }{
		{"ranged", "10.50.0.200", "403 " + failed + "Address already in use"},
		{"ranged", "10.50.0.65", "403 " + failed + "Address already in use"},
		{"ranged", "10.50.0.254", "403 " + failed + "Address already in use"},
		{"ranged", "10.99.0.1",
			"400 " + failed + "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.99.0.1"},
		{"chosen", "172.18.0.77", "400 " + failed + "invalid endpoint settings:\nuser specified IP address is supported only when " +
			"connecting to networks with user configured subnets"},
	} {
		id := sleeper(d, fmt.Sprint("refused", i), tc.network, address(tc.ip))
		assert.Check(t, cmp.Equal(says(d.HTTP("POST", "/containers/"+id+"/start", nil)), tc.want))
		assert.Check(t, cmp.Equal(d.Inspect(id).State.Status, "created"))
	}
	id := sleeper(d, "nowhere", "nosuchnetwork", nil)
	assert.Equal(t, says(d.HTTP("POST", "/containers/"+id+"/start", nil)), "404 "+failed+"network nosuchnetwork not found")
	d.Remove(full)

	for _, tc := range []struct {
		more harness.M
		want string
	}{
		{subnet(harness.M{"Subnet": "10.50.0.128/25"}), "403 invalid pool request: Pool overlaps with other one on this address space"},
		{subnet(harness.M{"Subnet": "10.51.0.0/24", "Gateway": "10.52.0.1"}),
			"400 invalid network config:\ninvalid gateway 10.52.0.1: parent subnet 10.51.0.0/24 doesn't contain this address"},
		{subnet(harness.M{"Subnet": "10.51.0.1/24"}),
			"400 invalid network config:\ninvalid subnet 10.51.0.1/24: it should be 10.51.0.0/24"},
		{subnet(harness.M{"Subnet": "10.51.0.0/24", "IPRange": "10.0.0.0/8"}), "400 invalid network config:\ninvalid ip-range " +
			"10.0.0.0/8: parent subnet 10.51.0.0/24 doesn't contain ip-range"},
		{subnet(harness.M{"Subnet": "fd01::/64"}),
			"400 invalid network config:\ninvalid subnet fd01::/64: IPv6 has not been enabled for this network"},
		{harness.M{"Driver": "host"}, `403 only one instance of "host" network is allowed`},
		{harness.M{"Options": harness.M{"com.docker.network.bridge.name": "docker0"}, "Name": "same"},
			"403 *networks have same bridge name"},
		{harness.M{"Name": "ranged"}, "409 network with name ranged already exists"},
		{harness.M{"Name": "bridge"}, "403 operation is not permitted on predefined bridge network "},
		{harness.M{"Options": harness.M{"com.docker.network.driver.mtu": "-1"}}, "400 *is not a number of bytes"},
		{harness.M{"Options": harness.M{"com.docker.network.bridge.name": "br%d"}}, "400 *is not a name of an interface"},
		{harness.M{"Options": harness.M{"com.docker.network.bridge.name": "br\n"}}, "400 *is not a name of an interface"},
	} {
		body := harness.M{"Name": "refused"}
		for k, v := range tc.more {
			body[k] = v
		}
		got := says(d.HTTP("POST", "/networks/create", body))
		want, tail, _ := strings.Cut(tc.want, "*")
		assert.Check(t, strings.HasPrefix(got, want) && strings.HasSuffix(got, tail) && (tail != "" || got == want), got)
	}

	// Names that are left empty are those that are not given, as a variable of a compose file may be.
	makeNetwork(d, "unnamed", harness.M{"Options": harness.M{
		"com.docker.network.bridge.name": "", "com.docker.network.container_iface_prefix": ""}})
	out, _ := d.Exec(runIn(d, "inunnamed", "unnamed", nil), "ls", "/sys/class/net")
	assert.Equal(t, out, "eth0\nlo\n")
	d.Remove("inunnamed")
}

func testConnectStopped(t *testing.T, d *harness.Daemon) {
	makeNetwork(d, "st1", subnet(harness.M{"Subnet": "10.53.0.0/24"}))
	makeNetwork(d, "st2", subnet(harness.M{"Subnet": "10.53.1.0/24"}))
	id := sleeper(d, "st", "st1", nil)
	other := runIn(d, "stpeer", "st2", nil)
	d.OK("POST", "/networks/st2/connect", harness.M{"Container": "st", "EndpointConfig": harness.M{
		"IPAMConfig": harness.M{"IPv4Address": "10.53.1.77"}, "MacAddress": "02:42:00:00:00:77", "Aliases": []string{"shop"},
	}}, nil)
	resp := d.HTTP("POST", "/networks/st2/connect", harness.M{"Container": "st", "EndpointConfig": address("10.54.0.1")})
	assert.Equal(t, says(resp), "400 invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.54.0.1")
	for range 2 { // and so at every start
		d.API.Start(id)
		ep := endpointOf(d, id, "st2")
		assert.Equal(t, ep.IPAddress+" "+ep.MacAddress, "10.53.1.77 02:42:00:00:00:77")
		got, err := d.Place(other).Resolver("127.0.0.11:53").LookupHost(t.Context(), "shop")
		assert.NilError(t, err)
		assert.DeepEqual(t, got, []string{"10.53.1.77"})
		d.Place(id).Serve(t, "st", "tcp", ":80")
		asks(t, d.Place(other), "tcp", "10.53.1.77:80", "st: "+endpointOf(d, other, "st2").IPAddress)
		d.OK("POST", "/containers/st/kill", nil, nil)
		d.Wait(id)
	}
	// Its address is free while it does not run.
	thief := runEndpoint(d, "stthief", "st2", address("10.53.1.77"))
	assert.Equal(t, says(d.HTTP("POST", "/containers/st/start", nil)),
		"403 failed to set up container networking: Address already in use")
	d.Remove(thief)
	d.OK("POST", "/networks/st2/disconnect", harness.M{"Container": "st"}, nil)
	d.API.Start(id)
	assert.DeepEqual(t, endpointOf(d, id, "st2"), endpoint{})

	// A network that is not there is found out at the start.
	late := sleeper(d, "late", "st1", nil)
	d.OK("POST", "/networks/later/connect", harness.M{"Container": "late"}, nil)
	assert.Equal(t, says(d.HTTP("POST", "/containers/late/start", nil)),
		"404 failed to set up container networking: network later not found")
	makeNetwork(d, "later", nil)
	d.API.Start(late)
	assert.Assert(t, endpointOf(d, late, "later").IPAddress != "")
}

// A connection that is open lives through networks that come and go.
func testConnectRunning(t *testing.T, d *harness.Daemon) {
	makeNetwork(d, "ru1", subnet(harness.M{"Subnet": "10.55.0.0/24"}))
	makeNetwork(d, "ru2", subnet(harness.M{"Subnet": "10.55.1.0/24"}))
	a, b := runIn(d, "ru", "ru1", nil), runIn(d, "rupeer", "ru1", nil)
	third := runIn(d, "ruother", "ru2", nil)
	d.Place(third).Serve(t, "third", "tcp", ":80")
	talk := d.Place(a).Talk(t, d.Place(b), endpointOf(d, b, "ru1").IPAddress+":81")
	for range 5 {
		d.OK("POST", "/networks/ru2/connect", harness.M{"Container": "ru", "EndpointConfig": address("10.55.1.9")}, nil)
		talk()
		asks(t, d.Place(a), "tcp", endpointOf(d, third, "ru2").IPAddress+":80", "third: 10.55.1.9")
		asks(t, d.Place(a), "tcp", harness.WorldIP+":80", "world: "+harness.MachineIP)
		d.OK("POST", "/networks/ru2/disconnect", harness.M{"Container": "ru"}, nil)
		talk()
		asks(t, d.Place(a), "tcp", harness.WorldIP+":80", "world: "+harness.MachineIP)
	}
	out, _ := d.Exec(a, "ip", "-o", "link")
	assert.Assert(t, !strings.Contains(out, "eth1"), out)

	for _, tc := range []struct {
		ref  string
		ep   harness.M
		want string
	}{
		{"ru2", address(endpointOf(d, third, "ru2").IPAddress), "403 Address already in use"},
		{"ru2", address("10.56.0.1"),
			"400 invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.56.0.1"},
		{"nope", nil, "404 network nope not found"},
		{"ru1", nil, "403 endpoint with name ru already exists in network ru1"},
		{"host", nil,
			"400 container sharing network namespace with another container or host cannot be connected to any other network"},
	} {
		got := says(d.HTTP("POST", "/networks/"+tc.ref+"/connect", harness.M{"Container": "ru", "EndpointConfig": tc.ep}))
		assert.Check(t, cmp.Equal(got, tc.want))
	}
	assert.DeepEqual(t, endpointOf(d, a, "ru2"), endpoint{}) // nothing is left of what was refused
	talk()
}

// A container publishes its ports while one of its networks leads to the world.
func testPortsFollow(t *testing.T, d *harness.Daemon) {
	makeNetwork(d, "pf", nil)
	makeNetwork(d, "pfinside", harness.M{"Internal": true})
	id := runIn(d, "pf", "pfinside", harness.M{"PortBindings": harness.M{"80/tcp": []harness.M{{"HostPort": "7070"}}}})
	d.Place(id).Serve(t, "pf", "tcp", ":80")
	machine := d.Sandbox.Machine()
	ports := func() string {
		var c struct {
			NetworkSettings struct{ Ports map[string][]harness.M }
		}
		d.OK("GET", "/containers/pf/json", nil, &c)
		return fmt.Sprint(c.NetworkSettings.Ports)
	}
	assert.Equal(t, ports(), "map[]")
	for _, network := range []string{"pf", "bridge", "pf"} {
		d.OK("POST", "/networks/"+network+"/connect", harness.M{"Container": "pf"}, nil)
		assert.Equal(t, ports(), "map[80/tcp:[map[HostIp:0.0.0.0 HostPort:7070] map[HostIp::: HostPort:7070]]]")
		got, err := machine.Ask("tcp", "127.0.0.1:7070")
		assert.NilError(t, err)
		assert.Assert(t, strings.HasPrefix(got, "pf: "), got)
		got, err = machine.Ask("tcp", "[::1]:7070")
		assert.NilError(t, err)
		assert.Assert(t, strings.HasPrefix(got, "pf: "), got)
		d.OK("POST", "/networks/"+network+"/disconnect", harness.M{"Container": "pf"}, nil)
		assert.Equal(t, ports(), "map[]")
		assert.Check(t, !machine.Reaches("tcp", "127.0.0.1:7070"))
		l := d.Sandbox.Listen(t, "tcp", ":7070") // it is free for others
		assert.NilError(t, l.Close())
	}
	// One who has the port meanwhile keeps it, and the container stays out of the network.
	l := d.Sandbox.Listen(t, "tcp", ":7070")
	resp := d.HTTP("POST", "/networks/pf/connect", harness.M{"Container": "pf"})
	assert.Equal(t, resp.Status, 500)
	assert.Assert(t, strings.HasSuffix(resp.Message(), "Bind for 0.0.0.0:7070 failed: port is already allocated"), resp.Message())
	assert.DeepEqual(t, endpointOf(d, id, "pf"), endpoint{})
	out, _ := d.Exec(id, "ip", "-o", "link")
	assert.Assert(t, !strings.Contains(out, "eth1"), out)
	assert.NilError(t, l.Close())
}

// The default route leads by the network with the highest priority, else by the first one by name.
func testGateways(t *testing.T, d *harness.Daemon) {
	for i, name := range []string{"gwa", "gwb", "gwc"} {
		makeNetwork(d, name, subnet(harness.M{"Subnet": fmt.Sprintf("10.57.%d.0/24", i)}))
	}
	spec := harness.Spec("sleep", "100000")
	spec["HostConfig"] = harness.M{"NetworkMode": "gwb"}
	spec["NetworkingConfig"] = harness.M{"EndpointsConfig": harness.M{
		"gwa": harness.M{}, "gwb": harness.M{}, "gwc": harness.M{"GwPriority": 5},
	}}
	id := d.Create("gw", spec)
	d.API.Start(id)
	route := func(want string) {
		t.Helper()
		out, _ := d.Exec(id, "ip", "route")
		assert.Check(t, cmp.Equal(strings.Count(out, "default"), 1))
		assert.Check(t, strings.Contains(out, "default via "+want+" "), out)
	}
	route("10.57.2.1")
	d.OK("POST", "/networks/gwc/disconnect", harness.M{"Container": "gw"}, nil)
	route("10.57.0.1")
	d.OK("POST", "/networks/gwc/connect", harness.M{"Container": "gw", "EndpointConfig": harness.M{"GwPriority": -1}}, nil)
	route("10.57.0.1")
	d.OK("POST", "/networks/gwa/disconnect", harness.M{"Container": "gw"}, nil)
	route("10.57.1.1")
	asks(t, d.Place(id), "tcp", harness.WorldIP+":80", "world: "+harness.MachineIP)
	var c struct {
		NetworkSettings struct {
			Networks map[string]struct{ GwPriority int }
		}
	}
	d.OK("GET", "/containers/gw/json", nil, &c)
	assert.Equal(t, fmt.Sprint(c.NetworkSettings.Networks), "map[gwb:{0} gwc:{-1}]")
}

func testDisconnect(t *testing.T, d *harness.Daemon) {
	id := runIn(d, "dis", "bridge", nil)
	none := sleeper(d, "disnone", "none", nil)
	ask := func(network, container string, force bool) string {
		return says(d.HTTP("POST", "/networks/"+network+"/disconnect", harness.M{"Container": container, "Force": force}))
	}
	assert.Equal(t, ask("nonet", "dis", false), "404 network nonet not found")
	assert.Equal(t, ask("nonet", "dis", true), "500 container "+id+" is not connected to the network nonet")
	assert.Equal(t, ask("bridge", "nobody", false), "404 No such container: nobody")
	assert.Equal(t, ask("bridge", "nobody", true), "404 endpoint nobody not found")
	assert.Equal(t, ask("bridge", "disnone", true), "500 container "+none+" is not connected to the network bridge")
	d.OK("POST", "/networks/bridge/disconnect", harness.M{"Container": "dis", "Force": true}, nil)
	out, _ := d.Exec(id, "ip", "-o", "link")
	assert.Assert(t, !strings.Contains(out, "eth0"), out)
	d.OK("POST", "/networks/bridge/connect", harness.M{"Container": "dis"}, nil)
	asks(t, d.Place(id), "tcp", harness.WorldIP+":80", "world: "+harness.MachineIP)

	// The way out of no network.
	d.API.Start(none)
	assert.Equal(t, says(d.HTTP("POST", "/networks/bridge/connect", harness.M{"Container": "disnone"})),
		"400 container cannot be connected to multiple networks with one of the networks in private (none) mode")
	d.OK("POST", "/networks/none/disconnect", harness.M{"Container": "disnone"}, nil)
	d.OK("POST", "/networks/bridge/connect", harness.M{"Container": "disnone"}, nil)
	asks(t, d.Place(none), "tcp", harness.WorldIP+":80", "world: "+harness.MachineIP)
}

// What drivers' options say of a single interface.
func testInterfaces(t *testing.T, d *harness.Daemon) {
	makeNetwork(d, "if", subnet(harness.M{"Subnet": "10.58.0.0/24"}))
	id := runEndpoint(d, "if", "if", harness.M{
		"IPAMConfig": harness.M{"IPv4Address": "10.58.0.5", "LinkLocalIPs": []string{"169.254.8.8"}},
		"DriverOpts": harness.M{
			"com.docker.network.endpoint.ifname":  "lan7",
			"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.arp_ignore=2",
		},
	})
	out, _ := d.Exec(id, "sh", "-c", "ip addr show lan7; "+
		"cat /proc/sys/net/ipv4/conf/lan7/log_martians /proc/sys/net/ipv4/conf/lan7/arp_ignore")
	for _, want := range []string{"inet 10.58.0.5/24 ", "inet 169.254.8.8/16 ", "\n1\n2\n"} {
		assert.Check(t, strings.Contains(out, want), "%s\n%s", want, out)
	}
	var u struct {
		Networks map[string]struct{ TxBytes, RxBytes uint64 }
	}
	peer := runIn(d, "ifpeer", "if", nil)
	d.Place(id).Serve(t, "if", "tcp", ":80")
	asks(t, d.Place(peer), "tcp", "10.58.0.5:80", "if: "+endpointOf(d, peer, "if").IPAddress)
	resp := d.HTTP("GET", "/containers/if/stats?stream=0&one-shot=1", nil)
	body := strings.NewReplacer("tx_bytes", "TxBytes", "rx_bytes", "RxBytes").Replace(resp.Body)
	assert.NilError(t, json.Unmarshal([]byte(body), &u))
	assert.Assert(t, cmp.Len(u.Networks, 1))
	assert.Assert(t, u.Networks["lan7"].TxBytes > 100 && u.Networks["lan7"].RxBytes > 100, resp.Body)
	for opts, want := range map[string]string{
		"net.ipv4.conf.eth0.log_martians=1":    "write net.FAMILY.conf.IFNAME.NAME=VALUE",
		"net.ipv4.conf.IFNAME.nosuchsetting=1": "nosuchsetting",
		"net.ipv4.conf.IFNAME.../../x=1":       "write net.FAMILY.conf.IFNAME.NAME=VALUE",
	} {
		bad := sleeper(d, "", "if", harness.M{"DriverOpts": harness.M{"com.docker.network.endpoint.sysctls": opts}})
		resp := d.HTTP("POST", "/containers/"+bad+"/start", nil)
		assert.Check(t, resp.Status >= 400 && strings.Contains(resp.Message(), want), says(resp))
	}
}

func testNetworkEvents(t *testing.T, d *harness.Daemon) {
	since := time.Now().UnixNano()
	id := makeNetwork(d, "ev", nil)
	c := runIn(d, "ev", "ev", nil)
	stopped := sleeper(d, "ev2", "ev", nil)
	d.OK("POST", "/networks/ev/disconnect", harness.M{"Container": "ev2"}, nil)
	d.OK("POST", "/networks/ev/disconnect", harness.M{"Container": "ev"}, nil)
	d.OK("POST", "/networks/ev/connect", harness.M{"Container": "ev"}, nil)
	d.OK("POST", "/containers/ev/kill", nil, nil)
	d.Wait(c)
	d.Eventually("the container has left", func() bool {
		return strings.Contains(d.HTTP("GET", "/networks/ev", nil).Body, `"Containers":{}`)
	})
	d.OK("DELETE", "/networks/ev", nil, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := d.Open(ctx, "GET", fmt.Sprintf("/events?since=%d.%09d&filters=%s", since/1e9, since%1e9,
		url.QueryEscape(`{"type":["network"],"network":["ev"]}`)), nil)
	assert.NilError(t, err)
	defer resp.Body.Close()
	var got []string
	for dec := json.NewDecoder(resp.Body); len(got) == 0 || got[len(got)-1] != "destroy"; {
		var e struct {
			Type, Action, Scope string
			Actor               struct {
				ID         string
				Attributes map[string]string
			}
		}
		assert.NilError(t, dec.Decode(&e))
		assert.Equal(t, e.Type+e.Scope+e.Actor.ID+e.Actor.Attributes["name"]+e.Actor.Attributes["type"], "networklocal"+id+"evbridge")
		line := e.Action
		switch e.Actor.Attributes["container"] {
		case c:
			line += " ev"
		case stopped:
			line += " ev2"
		}
		got = append(got, line)
	}
	assert.DeepEqual(t, got,
		[]string{"create", "connect ev", "disconnect ev2", "disconnect ev", "connect ev", "disconnect ev", "destroy"})
}

func testNetworkPrune(t *testing.T, d *harness.Daemon) {
	makeNetwork(d, "pr1", harness.M{"Labels": harness.M{"team": "a"}})
	makeNetwork(d, "pr2", harness.M{"Labels": harness.M{"team": "b", "keep": ""}})
	makeNetwork(d, "pr3", harness.M{"Labels": harness.M{"team": "a"}})
	runIn(d, "pruser", "pr3", nil)
	list := func(filters string) (names []string) {
		var all []struct{ Name string }
		d.OK("GET", "/networks?filters="+url.QueryEscape(filters), nil, &all)
		for _, n := range all {
			if strings.HasPrefix(n.Name, "pr") || n.Name == "bridge" {
				names = append(names, n.Name)
			}
		}
		return names
	}
	for filters, want := range map[string][]string{
		`{"label":["team=a"]}`:                          {"pr1", "pr3"},
		`{"label":["team"],"name":["r2"]}`:              {"pr2"},
		`{"dangling":["true"],"label":["team"]}`:        {"pr1", "pr2"},
		`{"dangling":["false"],"name":["pr","bridge"]}`: {"bridge", "pr3"},
		`{"type":["builtin"],"driver":["bridge"]}`:      {"bridge"},
		`{"scope":["swarm"]}`:                           nil,
		`{"driver":["macvlan"]}`:                        nil,
	} {
		assert.Check(t, cmp.DeepEqual(list(filters), want), filters)
	}
	prune := func(filters string, want ...string) {
		t.Helper()
		var r struct{ NetworksDeleted []string }
		d.OK("POST", "/networks/prune?filters="+url.QueryEscape(filters), nil, &r)
		sort.Strings(r.NetworksDeleted)
		assert.Check(t, cmp.DeepEqual(r.NetworksDeleted, want))
	}
	prune(`{"label":["team"],"until":["1h"]}`)
	prune(`{"label":["team"],"label!":["keep"]}`, "pr1")
	prune(`{"label":["team=b"],"until":["0s"]}`, "pr2")
	prune(`{"label":["team"]}`)
	assert.DeepEqual(t, list(`{"label":["team"]}`), []string{"pr3"})
	for _, bad := range []string{`{"dangling":["x"]}`, `{"nope":["x"]}`} {
		assert.Check(t, cmp.Equal(d.HTTP("GET", "/networks?filters="+url.QueryEscape(bad), nil).Status, 400))
	}
	assert.Check(t, cmp.Equal(d.HTTP("POST", `/networks/prune?filters={"name":["pr3"]}`, nil).Status, 400))
}

// A network can lend its configuration to others.
func testConfigurations(t *testing.T, d *harness.Daemon) {
	makeNetwork(d, "cfg", harness.M{
		"ConfigOnly": true, "Driver": "bridge", "EnableIPv6": true, "Labels": harness.M{"l": "1"},
		"Options": harness.M{"com.docker.network.driver.mtu": "1400"},
		"IPAM":    harness.M{"Config": []harness.M{{"Subnet": "10.59.0.0/24"}, {"Subnet": "fd59::/64"}}},
	})
	makeNetwork(d, "fromcfg", harness.M{"ConfigFrom": harness.M{"Network": "cfg"}, "Internal": true})
	type shown struct {
		Name, Driver         string
		ConfigOnly, Internal bool
		EnableIPv6           bool
		ConfigFrom           struct{ Network string }
		Labels, Options      map[string]string
		IPAM                 struct {
			Config []struct{ Subnet, Gateway string }
		}
	}
	show := func(name string) (n shown) {
		d.OK("GET", "/networks/"+name, nil, &n)
		return n
	}
	want := shown{Name: "cfg", Driver: "null", ConfigOnly: true, EnableIPv6: true}
	want.Labels, want.Options = map[string]string{"l": "1"}, map[string]string{"com.docker.network.driver.mtu": "1400"}
	want.IPAM.Config = []struct{ Subnet, Gateway string }{{"10.59.0.0/24", ""}, {"fd59::/64", ""}}
	assert.DeepEqual(t, show("cfg"), want)
	want.Name, want.Driver, want.ConfigOnly, want.Internal = "fromcfg", "bridge", false, true
	want.ConfigFrom.Network = "cfg"
	want.IPAM.Config = []struct{ Subnet, Gateway string }{{"10.59.0.0/24", "10.59.0.1"}, {"fd59::/64", "fd59::1"}}
	assert.DeepEqual(t, show("fromcfg"), want)
	id := runIn(d, "fromcfg", "fromcfg", nil)
	assert.Equal(t, endpointOf(d, id, "fromcfg").GlobalIPv6Address, "fd59::2")
	out, _ := d.Exec(id, "cat", "/sys/class/net/eth0/mtu")
	assert.Equal(t, out, "1400\n")

	const own = "403 user specified configurations are not supported if the network depends on a configuration network"
	for _, tc := range []struct {
		more harness.M
		want string
	}{
		{harness.M{"ConfigFrom": harness.M{"Network": "nocfg"}}, `404 configuration network "nocfg" does not exist`},
		{harness.M{"ConfigFrom": harness.M{"Network": "fromcfg"}}, `404 configuration network "fromcfg" does not exist`},
		{harness.M{"ConfigFrom": harness.M{"Network": "cfg"}, "Labels": harness.M{"x": "y"}}, own},
		{harness.M{"ConfigFrom": harness.M{"Network": "cfg"}, "IPAM": subnet(harness.M{"Subnet": "10.60.0.0/24"})["IPAM"]}, own},
		{harness.M{"ConfigFrom": harness.M{"Network": "cfg"}, "Options": harness.M{"x": "y"}},
			"403 network driver options are not supported if the network depends on a configuration network"},
		{harness.M{"ConfigFrom": harness.M{"Network": "cfg"}, "ConfigOnly": true},
			"403 a configuration network cannot depend on another configuration network"},
		{harness.M{"ConfigOnly": true, "Internal": true},
			"403 configuration network can only contain network specific fields. Network " +
				"operator fields like [ ingress | internal | attachable | scope ] are not supported."},
	} {
		tc.more["Name"] = "refused"
		assert.Check(t, cmp.Equal(says(d.HTTP("POST", "/networks/create", tc.more)), tc.want))
	}
	lost := sleeper(d, "oncfg", "cfg", nil)
	assert.Equal(t, says(d.HTTP("POST", "/containers/"+lost+"/start", nil)),
		"403 failed to set up container networking: cannot create endpoint on configuration-only network")
	assert.Equal(t, says(d.HTTP("DELETE", "/networks/cfg", nil)),
		`403 error while removing network: configuration network "cfg" is in use`)
	d.Remove(id)
	d.OK("DELETE", "/networks/fromcfg", nil, nil)
	d.OK("DELETE", "/networks/cfg", nil, nil)
}
