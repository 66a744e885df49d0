package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// runEndpoint starts a container in a network that users made, with what it asks of its place there.
func runEndpoint(d *harness.Daemon, name, network string, endpoint harness.M) string {
	spec := harness.Spec("sleep", "100000")
	spec["HostConfig"] = harness.M{"NetworkMode": network, "Dns": []string{harness.WorldIP}}
	spec["NetworkingConfig"] = harness.M{"EndpointsConfig": harness.M{network: endpoint}}
	id := d.Create(name, spec)
	d.API.Start(id)
	return id
}

func TestNames(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	world := d.Sandbox.World(t)
	world.ServeNames(t, ":53", map[string]string{"outside.test.": "192.0.2.7"})
	makeNetwork(d, "net1", harness.M{"EnableIPv6": true})
	makeNetwork(d, "net2", harness.M{"Internal": true})
	web := runEndpoint(d, "web", "net1", harness.M{"Aliases": []string{"www", "Shop"}})
	other := runEndpoint(d, "other", "net2", harness.M{})
	client := runEndpoint(d, "client", "net1", harness.M{"Links": []string{"web:linked"}})
	ep := endpointOf(d, web, "net1")

	finds := func(id, name string, want ...string) {
		t.Helper()
		got, err := d.Place(id).Resolver("127.0.0.11:53").LookupHost(t.Context(), name)
		if len(want) == 0 {
			assert.Check(t, err != nil, "%s is %v", name, got)
			return
		}
		assert.NilError(t, err, name)
		slices.Sort(got)
		assert.Check(t, cmp.DeepEqual(got, want), name)
	}
	both := []string{ep.IPAddress, ep.GlobalIPv6Address}
	check := func() {
		t.Helper()
		for _, name := range []string{"web", "WEB", "www", "shop", web[:12], "web.net1", "www.net1", "linked"} {
			finds(client, name, both...)
		}
		finds(web, "linked")
		finds(client, "other")
		finds(client, "outside.test", "192.0.2.7")
		finds(other, "outside.test")
		names, err := d.Place(client).Resolver("127.0.0.11:53").LookupAddr(t.Context(), ep.IPAddress)
		assert.NilError(t, err)
		assert.DeepEqual(t, names, []string{"web.net1."})
		names, err = d.Place(client).Resolver("127.0.0.11:53").LookupAddr(t.Context(), ep.GlobalIPv6Address)
		assert.NilError(t, err)
		assert.DeepEqual(t, names, []string{"web.net1."})
	}
	check()
	out, code := d.Exec(client, "sh", "-c", "cat /etc/resolv.conf; nslookup web | grep "+ep.IPAddress)
	assert.Equal(t, code, 0, out)
	assert.Assert(t, strings.HasPrefix(out, "nameserver 127.0.0.11\n"), out)
	out, _ = d.Exec(web, "cat", "/etc/hosts")
	assert.Assert(t, strings.HasSuffix(out, fmt.Sprintf("%s\t%s\n%s\t%s\n", both[0], web[:12], both[1], web[:12])), out)

	// A name server of a container has port 53 for itself.
	d.Place(web).ServeNames(t, ":53", map[string]string{"own.test.": "192.0.2.8"})
	d.Kill9()
	d.Start()
	check()
	d.OK("POST", "/containers/web/rename?name=shop2", nil, nil)
	finds(client, "web")
	finds(client, "shop2", both...)
	assert.Equal(t, endpointOf(d, web, "net1").DNSNames[0], "shop2")

	// Into and out of a network while it runs.
	finds(other, "web")
	d.OK("POST", "/networks/net1/connect", harness.M{"Container": "other", "EndpointConfig": harness.M{"Aliases": []string{"late"}}}, nil)
	finds(other, "shop2", both...)
	finds(client, "late", endpointOf(d, other, "net1").IPAddress, endpointOf(d, other, "net1").GlobalIPv6Address)
	finds(other, "outside.test", "192.0.2.7")
	d.Place(web).Serve(t, "web", "tcp", ":80")
	asks(t, d.Place(other), "tcp", ep.IPAddress+":80", "web: "+endpointOf(d, other, "net1").IPAddress)
	resp := d.HTTP("POST", "/networks/net1/connect", harness.M{"Container": "other"})
	assert.Equal(t, fmt.Sprint(resp.Status, " ", resp.Message()), "403 endpoint with name other already exists in network net1")
	d.OK("POST", "/networks/net1/disconnect", harness.M{"Container": "other"}, nil)
	finds(client, "late")
	finds(other, "shop2")
	assert.Check(t, !d.Place(other).Reaches("tcp", ep.IPAddress+":80"))
	resp = d.HTTP("POST", "/networks/net1/disconnect", harness.M{"Container": "other"})
	assert.Equal(t, fmt.Sprint(resp.Status, " ", resp.Message()), "500 container "+other+" is not connected to network net1")
}

// On the default bridge there are only links: by the hosts file, and through a network that keeps containers apart.
func TestLinksAndIsolation(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.Config(harness.M{"icc": false, "bip": "10.77.0.1/24", "fixed-cidr": "10.77.0.128/25"}))
	world := d.Sandbox.World(t)
	world.Serve(t, "world", "tcp", ":80")
	spec := harness.Spec("sleep", "100000")
	spec["HostConfig"].(harness.M)["NetworkMode"] = "bridge"
	spec["ExposedPorts"] = harness.M{"80/tcp": harness.M{}, "79/udp": harness.M{}, "80/udp": harness.M{}, "81/udp": harness.M{}}
	spec["Env"], spec["Hostname"] = []string{"SCHEMA=two=2"}, "sql.example.org"
	db := d.Create("db", spec)
	d.API.Start(db)
	front := runIn(d, "front", "bridge", harness.M{"Links": []string{"db:base"}, "ExtraHosts": []string{"gate:host-gateway"}})
	alone := runIn(d, "alone", "bridge", nil)
	d.Place(db).Serve(t, "db", "tcp", ":80")
	d.Place(db).Serve(t, "hidden", "tcp", ":81")
	ip := endpointOf(d, db, "bridge").IPAddress
	assert.Equal(t, ip, "10.77.0.128")

	out, _ := d.Exec(db, "tail", "-n1", "/etc/hosts")
	assert.Equal(t, out, ip+"\tsql.example.org sql\n")
	out, _ = d.Exec(front, "cat", "/etc/hosts")
	assert.Assert(t, strings.Contains(out, fmt.Sprintf("%s\tbase sql.example.org db\n", ip)), out)
	assert.Assert(t, strings.Contains(out, "10.77.0.1\tgate\n"), out)
	out, _ = d.Exec(front, "sh", "-c", "env | grep ^BASE_ | grep -v UDP | sort")
	assert.Equal(t, out, strings.ReplaceAll("BASE_ENV_SCHEMA=two=2\nBASE_NAME=/front/base\n"+
		"BASE_PORT=tcp://IP:80\nBASE_PORT_80_TCP=tcp://IP:80\n"+
		"BASE_PORT_80_TCP_ADDR=IP\nBASE_PORT_80_TCP_PORT=80\nBASE_PORT_80_TCP_PROTO=tcp\n", "IP", ip))
	out, _ = d.Exec(front, "sh", "-c", "env | grep -E '^BASE_.*_(START|END)=' | sort")
	assert.Equal(t, out, strings.ReplaceAll("BASE_PORT_79_UDP_END=udp://IP:81\nBASE_PORT_79_UDP_PORT_END=81\n"+
		"BASE_PORT_79_UDP_PORT_START=79\nBASE_PORT_79_UDP_START=udp://IP:79\n", "IP", ip))
	asks(t, d.Place(front), "tcp", ip+":80", "db: "+endpointOf(d, front, "bridge").IPAddress)
	assert.Check(t, !d.Place(front).Reaches("tcp", ip+":81"))
	assert.Check(t, !d.Place(alone).Reaches("tcp", ip+":80"))
	asks(t, d.Place(alone), "tcp", harness.WorldIP+":80", "world: "+harness.MachineIP)

	// A link leads to a container, whatever that is called.
	d.OK("POST", "/containers/db/rename?name=sea", nil, nil)
	runIn(d, "db", "bridge", nil)
	d.OK("POST", "/containers/front/restart?t=0", nil, nil)
	out, _ = d.Exec(front, "cat", "/etc/hosts")
	assert.Assert(t, strings.Contains(out, fmt.Sprintf("%s\tbase sql.example.org sea\n", ip)), out)
	var linked struct{ HostConfig struct{ Links []string } }
	d.OK("GET", "/containers/front/json", nil, &linked)
	assert.DeepEqual(t, linked.HostConfig.Links, []string{"/sea:/front/base"})
	resp := d.HTTP("POST", "/containers/create", harness.M{"Image": "busybox", "Cmd": []string{"true"},
		"HostConfig": harness.M{"Links": []string{"db:a", "nosuch:b"}}})
	assert.Equal(t, says(resp), "400 could not get container for nosuch: No such container: nosuch")

	// A link is taken away, and not what it leads to.
	for path, want := range map[string]string{
		"/containers/nosuch?link=1":       "404 No such container: nosuch",
		"/containers/front?link=1":        "500 Conflict, cannot remove the default link name of the container",
		"/containers/front/nosuch?link=1": "404 No such container: front/nosuch",
		"/containers/front/base":          "404 No such container: front/base",
	} {
		assert.Equal(t, says(d.HTTP("DELETE", path, nil)), want)
	}
	d.CLI("docker").Run("rm", "--link", "front/base")
	out, _ = d.Exec(front, "cat", "/etc/hosts")
	assert.Assert(t, !strings.Contains(out, "base"), out)
	assert.Check(t, !d.Place(front).Reaches("tcp", ip+":80"))
	linked.HostConfig.Links = nil
	d.OK("GET", "/containers/front/json", nil, &linked)
	assert.Equal(t, len(linked.HostConfig.Links), 0)
	d.OK("GET", "/containers/sea/json", nil, nil)

	joined := runIn(d, "joined", "container:front", nil)
	out, _ = d.Exec(joined, "hostname")
	assert.Equal(t, strings.TrimSpace(out), front[:12])
	out, _ = d.Exec(joined, "ip", "addr", "show", "eth0")
	assert.Assert(t, strings.Contains(out, endpointOf(d, front, "bridge").IPAddress), out)

	// An internal network leads nowhere.
	makeNetwork(d, "inside", harness.M{"Internal": true})
	a, b := runIn(d, "in1", "inside", nil), runIn(d, "in2", "inside", nil)
	d.Place(b).Serve(t, "in2", "tcp", ":80")
	asks(t, d.Place(a), "tcp", endpointOf(d, b, "inside").IPAddress+":80", "in2: "+endpointOf(d, a, "inside").IPAddress)
	assert.Check(t, !d.Place(a).Reaches("tcp", harness.WorldIP+":80"))
	assert.Check(t, !world.Reaches("tcp", endpointOf(d, b, "inside").IPAddress+":80"))
}
