//go:build vm

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// What needs parts of a kernel that not every machine has. scripts/vm-test builds it, and runs it on one that has them all.
func TestVM(t *testing.T) {
	d := harness.Start(t)
	world := d.Sandbox.World(t)
	world.Serve(t, "world", "tcp", ":80")
	for _, sub := range []struct {
		name string
		run  func(*testing.T, *harness.Daemon, harness.Place)
	}{
		{"ipvlan l2", vmIpvlan}, {"ipvlan l3", vmIpvlanL3}, {"VLAN of macvlan", vmVLAN("macvlan")}, {"VLAN of ipvlan", vmVLAN("ipvlan")},
		{"SCTP", vmSCTP}, {"nfs", vmNFS},
	} {
		t.Run(sub.name, func(t *testing.T) { sub.run(t, d.For(t), world) })
	}
}

// ofWorld runs ip in the outside world.
func ofWorld(t *testing.T, d *harness.Daemon, args ...string) {
	t.Helper()
	in(t, d, append([]string{"ip", "-n", filepath.Base(d.Sandbox.Dir)}, args...)...)
}

// Containers on the cable have addresses of the outside world there, and the hardware address of the cable.
func vmIpvlan(t *testing.T, d *harness.Daemon, world harness.Place) {
	makeNetwork(d, "iv", harness.M{"Driver": "ipvlan", "Options": harness.M{"parent": "cable"},
		"IPAM": subnet(harness.M{"Subnet": "203.0.113.0/24", "IPRange": "203.0.113.128/26", "Gateway": harness.WorldIP})["IPAM"]})
	a, b := runIn(d, "iv1", "iv", nil), runIn(d, "iv2", "iv", nil)
	ep := endpointOf(d, a, "iv")
	assert.Equal(t, ep.IPAddress+" "+ep.MacAddress, "203.0.113.128 ")
	d.Place(a).Serve(t, "iv1", "tcp", ":80")
	check := func() {
		t.Helper()
		asks(t, world, "tcp", ep.IPAddress+":80", "iv1: "+harness.WorldIP)
		asks(t, d.Place(b), "tcp", ep.IPAddress+":80", "iv1: 203.0.113.129")
		asks(t, d.Place(a), "tcp", harness.WorldIP+":80", "world: "+ep.IPAddress)
		got, err := d.Place(b).Resolver("127.0.0.11:53").LookupHost(t.Context(), "iv1")
		assert.NilError(t, err)
		assert.DeepEqual(t, got, []string{ep.IPAddress})
	}
	check()
	mac, _ := d.Exec(a, "cat", "/sys/class/net/eth0/address")
	assert.Equal(t, mac, in(t, d, "cat", "/sys/class/net/cable/address"))
	d.Kill9()
	asks(t, world, "tcp", ep.IPAddress+":80", "iv1: "+harness.WorldIP)
	d.Start()
	check()
	d.OK("POST", "/networks/iv/disconnect", harness.M{"Container": "iv1"}, nil)
	assert.Check(t, !world.Reaches("tcp", ep.IPAddress+":80"))
	d.OK("POST", "/networks/iv/connect", harness.M{"Container": "iv1"}, nil)
	check()
	assert.Equal(t, says(d.HTTP("POST", "/networks/create", harness.M{"Name": "refused", "Driver": "ipvlan",
		"Options": harness.M{"parent": "cable", "ipvlan_mode": "x"}})), `400 unknown ipvlan mode "x": use l2, l3 or l3s`)
	d.Remove(a)
	d.Remove(b)
	d.OK("DELETE", "/networks/iv", nil, nil)
	in(t, d, "ip", "link", "show", "cable") // the parent is not Berth's
}

// The kernel routes between the cable and containers in subnets of their own; the world has to know the way.
func vmIpvlanL3(t *testing.T, d *harness.Daemon, world harness.Place) {
	for i, name := range []string{"l3a", "l3b"} {
		makeNetwork(d, name, harness.M{"Driver": "ipvlan", "EnableIPv6": true,
			"Options": harness.M{"parent": "cable", "ipvlan_mode": "l3"},
			"IPAM": harness.M{"Config": []harness.M{
				{"Subnet": fmt.Sprintf("10.66.%d.0/24", i)}, {"Subnet": fmt.Sprintf("fd66:%d::/64", i)},
			}}})
	}
	a, b := runIn(d, "l3one", "l3a", nil), runIn(d, "l3two", "l3b", nil)
	one, two := endpointOf(d, a, "l3a"), endpointOf(d, b, "l3b")
	d.Place(a).Serve(t, "l3one", "tcp", ":80")
	asks(t, world, "tcp", one.IPAddress+":80", "l3one: "+harness.WorldIP)
	asks(t, world, "tcp", "["+one.GlobalIPv6Address+"]:80", "l3one: "+harness.WorldIP6)
	asks(t, d.Place(a), "tcp", harness.WorldIP+":80", "world: "+one.IPAddress)
	asks(t, d.Place(a), "tcp", "["+harness.WorldIP6+"]:80", "world: "+one.GlobalIPv6Address)
	asks(t, d.Place(b), "tcp", one.IPAddress+":80", "l3one: "+two.IPAddress)
	for _, id := range []string{a, b} {
		d.Remove(id)
	}
	d.OK("DELETE", "/networks/l3a", nil, nil)
	d.OK("DELETE", "/networks/l3b", nil, nil)
}

// Networks on a VLAN of the cable, which comes with the first of them and goes with the last.
func vmVLAN(driver string) func(*testing.T, *harness.Daemon, harness.Place) {
	return func(t *testing.T, d *harness.Daemon, world harness.Place) {
		ofWorld(t, d, "link", "add", "link", "eth0", "name", "eth0.10", "type", "vlan", "id", "10")
		ofWorld(t, d, "addr", "add", "192.0.2.2/24", "dev", "eth0.10")
		ofWorld(t, d, "link", "set", "eth0.10", "up")
		t.Cleanup(func() { ofWorld(t, d, "link", "del", "eth0.10") })
		network := func(name, parent, prefix string) {
			makeNetwork(d, name, harness.M{"Driver": driver, "Options": harness.M{"parent": parent}, "IPAM": harness.M{
				"Config": []harness.M{{"Subnet": prefix + ".0/24", "IPRange": prefix + ".128/25", "Gateway": prefix + ".2"}}}})
		}
		devices := func() string { return in(t, d, "ip", "-d", "-o", "link", "show", "type", "vlan") }
		assert.Equal(t, devices(), "")
		network("vl1", "cable.10", "192.0.2")
		network("vl2", "cable.10", "192.0.3")
		assert.Check(t, cmp.Contains(devices(), "cable.10@cable: <BROADCAST,MULTICAST,UP"))
		assert.Check(t, cmp.Contains(devices(), "protocol 802.1Q id 10 "))
		id := runIn(d, "vlan", "vl1", nil)
		check := func() {
			t.Helper()
			ip := endpointOf(d, id, "vl1").IPAddress
			asks(t, world, "tcp", ip+":80", "vlan: 192.0.2.2")
			asks(t, d.Place(id), "tcp", "192.0.2.2:80", "world: "+ip)
		}
		d.Place(id).Serve(t, "vlan", "tcp", ":80")
		check()
		d.Kill9()
		d.Start()
		d.OK("DELETE", "/networks/vl2", nil, nil)
		check() // the device has to stay for the other network
		d.Remove(id)
		in(t, d, "ip", "link", "del", "cable.10") // as a restart of the machine would
		d.Restart()
		id = runIn(d, "vlan", "vl1", nil)
		d.Place(id).Serve(t, "vlan", "tcp", ":80")
		check()
		d.Remove(id)
		d.OK("DELETE", "/networks/vl1", nil, nil)
		assert.Equal(t, devices(), "")

		in(t, d, "ip", "link", "add", "link", "cable", "name", "cable.11", "type", "vlan", "id", "11")
		network("vl3", "cable.11", "192.0.4")
		d.OK("DELETE", "/networks/vl3", nil, nil)
		assert.Check(t, cmp.Contains(devices(), "cable.11@cable"), "it was there before")
		in(t, d, "ip", "link", "del", "cable.11")
	}
}

// Ports of SCTP are reached as those of TCP are.
func vmSCTP(t *testing.T, d *harness.Daemon, world harness.Place) {
	makeNetwork(d, "sc", harness.M{"EnableIPv6": true})
	publish := harness.M{"PortBindings": harness.M{"9000/sctp": []harness.M{{"HostPort": "9100"}}}}
	a, b := runIn(d, "sctp1", "sc", publish), runIn(d, "sctp2", "sc", nil)
	one, two := endpointOf(d, a, "sc"), endpointOf(d, b, "sc")
	d.Place(a).Serve(t, "four", "sctp", "0.0.0.0:9000")
	d.Place(a).Serve(t, "six", "sctp", "[::]:9000")
	machine := d.Sandbox.Machine()
	check := func() {
		t.Helper()
		asks(t, d.Place(b), "sctp", one.IPAddress+":9000", "four: "+two.IPAddress)
		asks(t, d.Place(b), "sctp", harness.MachineIP+":9100", "four: "+one.Gateway)
		asks(t, world, "sctp", harness.MachineIP+":9100", "four: "+harness.WorldIP)
		asks(t, world, "sctp", "["+harness.MachineIP6+"]:9100", "six: "+harness.WorldIP6)
		asks(t, machine, "sctp", harness.MachineIP+":9100", "four: "+harness.MachineIP)
		asks(t, machine, "sctp", "127.0.0.1:9100", "four: "+one.Gateway)
	}
	check()
	spec := harness.Spec("sleep", "1")
	spec["HostConfig"] = publish
	other := d.Create("sctp3", spec)
	taken := func() {
		t.Helper()
		resp := d.HTTP("POST", "/containers/sctp3/start", nil)
		assert.Assert(t, strings.HasSuffix(resp.Message(), "Bind for 0.0.0.0:9100 failed: port is already allocated"), says(resp))
	}
	taken()
	d.Kill9()
	asks(t, world, "sctp", harness.MachineIP+":9100", "four: "+harness.WorldIP)
	d.Start()
	check()
	taken()
	d.Remove(a)
	assert.Check(t, !world.Reaches("sctp", harness.MachineIP+":9100"), "the container has gone")
	d.API.Start(other)
	d.Remove(other)
	d.Remove(b)
	d.OK("DELETE", "/networks/sc", nil, nil)
}

// A volume of a file server: the kernel's own, which is told by hand what programs of a distribution would tell it.
func vmNFS(t *testing.T, d *harness.Daemon, _ harness.Place) {
	export := d.File("export")
	in(t, d, "sh", "-ec", `
mkdir "$1"
mount -t tmpfs export "$1"
modprobe nfsd
mount -t nfsd nfsd /proc/fs/nfsd
echo -2 -3 >/proc/fs/nfsd/versions # version 4 needs no other servers
echo 10 >/proc/fs/nfsd/nfsv4gracetime # clients that had something open before would come in that time
echo tcp 2049 >/proc/fs/nfsd/portlist
echo 2 >/proc/fs/nfsd/threads
cd /proc/net/rpc
echo "nfsd 127.0.0.1 2000000000 us" >auth.unix.ip/channel
echo "us $1 2000000000 $((0x2412)) 65534 65534 0" >nfsd.export/channel
printf 'us 1 \\x00000000 2000000000 %s\n' "$1" >nfsd.fh/channel`, "sh", export)
	t.Cleanup(func() {
		in(t, d, "sh", "-ec", `echo 0 >/proc/fs/nfsd/threads; umount /proc/fs/nfsd; umount "$1"`, "sh", export)
	})
	assert.NilError(t, os.WriteFile(filepath.Join(export, "there"), []byte("served\n"), 0o644))
	cli := d.CLI()
	cli.Run("volume", "create", "-o", "type=nfs", "-o", "o=addr=localhost,vers=4.2", "-o", "device=:/", "far")
	runDetached(t, cli, "near1", "-v", "far:/far", "busybox", "sleep", "1000")
	runDetached(t, cli, "near2", "-v", "far:/far:ro", "busybox", "sleep", "1000")
	assert.Equal(t, cli.Run("exec", "near1", "cat", "/far/there"), "served")
	cli.Run("exec", "near1", "sh", "-c", "echo written >/far/new")
	b, err := os.ReadFile(filepath.Join(export, "new"))
	assert.NilError(t, err)
	assert.Equal(t, string(b), "written\n")
	assert.Equal(t, cli.Run("exec", "near2", "cat", "/far/new"), "written")
	assert.Check(t, cmp.Contains(cli.Run("exec", "near2", "sh", "-c", "touch /far/x 2>&1 || true"), "Read-only"))
	mounts := func() int { return strings.Count(in(t, d, "cat", "/proc/self/mountinfo"), "/far/_data ") }
	assert.Equal(t, mounts(), 1)
	cli.Run("rm", "-f", "near1")
	assert.Equal(t, mounts(), 1)
	cli.Run("rm", "-f", "near2")
	assert.Equal(t, mounts(), 0)
	cli.Run("volume", "rm", "far")
	_, err = os.Stat(filepath.Join(export, "new"))
	assert.NilError(t, err, "the volume goes, what is served stays")
}
