package integration

import (
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

// endpoint is a container's place in a network, as inspect shows it.
type endpoint struct {
	IPAddress, GlobalIPv6Address, Gateway, MacAddress, EndpointID string
	DNSNames                                                      []string
}

func endpointOf(d *harness.Daemon, id, network string) endpoint {
	var c struct {
		NetworkSettings struct{ Networks map[string]endpoint }
	}
	d.OK("GET", "/containers/"+id+"/json", nil, &c)
	return c.NetworkSettings.Networks[network]
}

// runIn starts a container that sleeps in a network; more is added to its HostConfig.
func runIn(d *harness.Daemon, name, network string, more harness.M) string {
	spec := harness.Spec("sleep", "100000")
	hc := spec["HostConfig"].(harness.M)
	hc["NetworkMode"] = network
	for k, v := range more {
		hc[k] = v
	}
	id := d.Create(name, spec)
	d.API.Start(id)
	return id
}

func makeNetwork(d *harness.Daemon, name string, more harness.M) string {
	body := harness.M{"Name": name}
	for k, v := range more {
		body[k] = v
	}
	var n struct{ ID string }
	d.OK("POST", "/networks/create", body, &n)
	return n.ID
}

// asks is what a server says that is asked from a place.
func asks(t *testing.T, from harness.Place, network, addr, want string) {
	t.Helper()
	got, err := from.Ask(network, addr)
	assert.NilError(t, err)
	assert.Equal(t, got, want)
}

func TestBridges(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	world := d.Sandbox.World(t)
	world.Serve(t, "world", "tcp", ":80")
	makeNetwork(d, "net1", nil)
	makeNetwork(d, "net2", nil)
	type box struct {
		id, ip string
		harness.Place
	}
	up := func(name, network string) box {
		id := runIn(d, name, network, nil)
		b := box{id, endpointOf(d, id, network).IPAddress, d.Place(id)}
		b.Serve(t, name, "tcp", ":80")
		return b
	}
	a, b := up("c1", "bridge"), up("c2", "bridge")
	c, e, f := up("c3", "net1"), up("c4", "net1"), up("c5", "net2")

	out, code := d.Exec(a.id, "ip", "addr", "show", "eth0")
	assert.Equal(t, code, 0)
	assert.Assert(t, strings.Contains(out, "inet "+a.ip+"/16 ") && !strings.Contains(out, "inet6"), out)
	asks(t, a.Place, "tcp", b.ip+":80", "c2: "+a.ip)
	asks(t, c.Place, "tcp", e.ip+":80", "c4: "+c.ip)
	asks(t, d.Sandbox.Machine(), "tcp", a.ip+":80", "c1: 172.17.0.1")
	for _, x := range []box{a, c, f} {
		asks(t, x.Place, "tcp", harness.WorldIP+":80", "world: "+harness.MachineIP)
	}
	for _, apart := range []struct {
		from harness.Place
		to   box
	}{{a.Place, c}, {c.Place, a}, {c.Place, f}, {world, a}, {world, c}} {
		assert.Check(t, !apart.from.Reaches("tcp", apart.to.ip+":80"), apart.to.ip)
	}
	shown := d.HTTP("GET", "/networks/net1", nil).Body
	assert.Assert(t, strings.Contains(shown, c.id) && strings.Contains(shown, e.id), shown)

	resp := d.HTTP("DELETE", "/networks/net1", nil)
	assert.Equal(t, resp.Status, 403)
	assert.Assert(t, strings.HasPrefix(resp.Message(), "error while removing network: network net1 has active endpoints (name:"),
		resp.Message())

	// A daemon that died leaves packets flowing, and the next one knows what addresses are in use.
	d.Kill9()
	asks(t, a.Place, "tcp", b.ip+":80", "c2: "+a.ip)
	asks(t, c.Place, "tcp", harness.WorldIP+":80", "world: "+harness.MachineIP)
	d.Start()
	asks(t, c.Place, "tcp", harness.WorldIP+":80", "world: "+harness.MachineIP)
	g := up("c6", "net1")
	assert.Assert(t, g.ip != c.ip && g.ip != e.ip && g.ip != "", g.ip)
	asks(t, g.Place, "tcp", c.ip+":80", "c3: "+g.ip)
}

// Published ports are reached from the world, from the machine itself, from other containers and from the container that
// publishes them; who asks from outside is seen as who he is.
func TestPorts(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	world, machine := d.Sandbox.World(t), d.Sandbox.Machine()
	makeNetwork(d, "net1", harness.M{"EnableIPv6": true})
	publish := func(bindings ...string) harness.M { // "80/tcp=127.0.0.1:8080"
		m := map[string][]harness.M{}
		for _, b := range bindings {
			inside, host, _ := strings.Cut(b, "=")
			i := strings.LastIndex(host, ":")
			m[inside] = append(m[inside], harness.M{"HostIp": strings.Trim(host[:max(i, 0)], "[]"), "HostPort": host[i+1:]})
		}
		return harness.M{"PortBindings": m}
	}
	a := runIn(d, "c1", "bridge", publish("80/tcp=8080", "53/udp=5353", "81/tcp=127.0.0.1:8081", "82/tcp="+harness.MachineIP+":8082"))
	b := runIn(d, "c2", "net1", publish("80/tcp=9000-9001", "53/udp=0"))
	other := d.Place(runIn(d, "c3", "bridge", nil))
	in := d.Place(a)
	for _, port := range []string{"80", "81", "82"} {
		in.Serve(t, port, "tcp", ":"+port)
		d.Place(b).Serve(t, "b"+port, "tcp", ":"+port)
	}
	in.Serve(t, "dns", "udp", "0.0.0.0:53")

	check := func() {
		t.Helper()
		ip, gw := endpointOf(d, a, "bridge").IPAddress, "172.17.0.1"
		asks(t, world, "tcp", harness.MachineIP+":8080", "80: "+harness.WorldIP)
		asks(t, world, "udp", harness.MachineIP+":5353", "dns: "+harness.WorldIP)
		asks(t, world, "tcp", harness.MachineIP+":8082", "82: "+harness.WorldIP)
		asks(t, machine, "tcp", "127.0.0.1:8080", "80: "+gw)
		asks(t, machine, "tcp", "127.0.0.1:8081", "81: "+gw)
		asks(t, machine, "udp", "127.0.0.1:5353", "dns: "+gw)
		asks(t, machine, "tcp", harness.MachineIP+":8080", "80: "+harness.MachineIP)
		asks(t, other, "tcp", harness.MachineIP+":8080", "80: "+gw)
		asks(t, in, "tcp", harness.MachineIP+":8080", "80: "+gw)
		got, err := d.Place(b).Ask("tcp", harness.MachineIP+":8080")
		assert.NilError(t, err)
		assert.Assert(t, strings.HasPrefix(got, "80: "), got)
		asks(t, world, "tcp", "["+harness.MachineIP6+"]:9000", "b80: "+harness.WorldIP6)
		got, err = machine.Ask("tcp", "[::1]:9000")
		assert.NilError(t, err)
		assert.Assert(t, strings.HasPrefix(got, "b80: fd"), got)
		assert.Check(t, !world.Reaches("tcp", harness.MachineIP+":8081"), "a port of 127.0.0.1")
		assert.Check(t, !machine.Reaches("tcp", "127.0.0.1:8082"), "a port of one address")
		assert.Check(t, !world.Reaches("tcp", ip+":80"), "a container's own address")
	}
	check()
	flush, err := d.Sandbox.Command("nft", "flush", "ruleset").CombinedOutput()
	assert.NilError(t, err, string(flush))
	assert.Check(t, !world.Reaches("tcp", harness.MachineIP+":8080"), "nothing is left of the firewall")
	d.OK("POST", "/berth/network/repair", nil, nil)
	check()

	taken := func(want string, bindings ...string) {
		t.Helper()
		spec := harness.Spec("sleep", "1")
		spec["HostConfig"] = publish(bindings...)
		id := d.Create("", spec)
		resp := d.HTTP("POST", "/containers/"+id+"/start", nil)
		assert.Equal(t, resp.Status, 500)
		assert.Assert(t, strings.HasSuffix(resp.Message(), want), resp.Message())
		assert.Equal(t, d.Inspect(id).State.Status, "created")
	}
	const suffix = " failed: port is already allocated"
	taken("Bind for 0.0.0.0:8080"+suffix, "80/tcp=8080")
	taken("Bind for 127.0.0.1:8080"+suffix, "80/tcp=127.0.0.1:8080")
	taken("Bind for 0.0.0.0:5353"+suffix, "90/tcp=8090", "80/udp=5353")
	machine.Serve(t, "machine", "tcp", "127.0.0.1:8091")
	taken("Bind for 0.0.0.0:8091"+suffix, "80/tcp=8091")
	runIn(d, "c4", "bridge", publish("80/tcp=8090")) // was given back
	runIn(d, "c5", "bridge", publish("80/tcp=9000-9001"))
	taken("Bind for 0.0.0.0:9000-9001 failed: all ports are allocated", "80/tcp=9000-9001")

	// The next daemon holds them again.
	d.Kill9()
	asks(t, world, "tcp", harness.MachineIP+":8080", "80: "+harness.WorldIP)
	d.Start()
	check()
	taken("Bind for 0.0.0.0:8080"+suffix, "80/tcp=8080")
	d.Remove(a)
	assert.Check(t, !world.Reaches("tcp", harness.MachineIP+":8080"), "the container has gone")
	runIn(d, "c6", "bridge", publish("80/tcp=8080"))
}

// 200 runs, 16 at a time, in a network of 29 addresses, each with a published port: all that a run takes comes back.
func TestPlacesComeBack(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	makeNetwork(d, "small", harness.M{"IPAM": harness.M{"Config": []harness.M{{"Subnet": "10.91.0.0/27"}}}})
	spec := harness.Spec("true")
	spec["HostConfig"] = harness.M{"NetworkMode": "small", "PortBindings": harness.M{"80/tcp": []harness.M{{}}}}
	var left atomic.Int32
	left.Store(200)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for left.Add(-1) >= 0 && !t.Failed() {
				runOnce(t, d, spec)
			}
		})
	}
	wg.Wait()
	assert.Assert(t, strings.Contains(d.HTTP("GET", "/networks/small", nil).Body, `"Containers":{}`))
	d.OK("DELETE", "/networks/small", nil, nil)
}

// runOnce makes, starts, awaits and removes a container. It is called by many goroutines at once.
func runOnce(t *testing.T, d *harness.Daemon, spec harness.M) {
	try := func(method, path string, body any) string {
		resp, err := d.Try(method, path, body)
		assert.Check(t, err)
		assert.Check(t, resp.Status < 300, "%s %s: %s", method, path, resp.Body)
		return resp.Body
	}
	var c struct{ ID string }
	assert.Check(t, json.Unmarshal([]byte(try("POST", "/containers/create", spec)), &c))
	try("POST", "/containers/"+c.ID+"/start", nil)
	try("POST", "/containers/"+c.ID+"/wait", nil)
	try("DELETE", "/containers/"+c.ID, nil)
}

// A start in a network costs little more than one without: nothing is run for it. CPU time is counted, which depends little
// on what else the machine does.
func TestStartInANetworkCostsLittle(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	cost := map[string]uint64{}
	for range 6 {
		for _, network := range []string{"none", "bridge"} {
			before := cpuTime(t, d.Proc("cgroup"))
			id := sleeper(d, "", network, nil)
			d.API.Start(id)
			d.Remove(id)
			cost[network] += cpuTime(t, d.Proc("cgroup")) - before
		}
	}
	t.Log(cost)
	assert.Assert(t, cost["bridge"] < cost["none"]*4/3, "%v", cost)
}
