package oci

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
)

func mapping(host, inside, access string) *containertypes.HostConfig {
	return &containertypes.HostConfig{Resources: containertypes.Resources{
		Devices: []containertypes.DeviceMapping{{PathOnHost: host, PathInContainer: inside, CgroupPermissions: access}},
	}}
}

// makeDevice makes a node for the number of /dev/null, or of a block device that need not be there.
func makeDevice(t *testing.T, path string, kind uint32, major, minor uint32) {
	t.Helper()
	assert.NilError(t, unix.Mknod(path, kind|0o640, int(unix.Mkdev(major, minor))))
}

func TestResolveDevices(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	assert.NilError(t, os.Symlink("/dev/null", link))
	for name, tc := range map[string]struct {
		hc         *containertypes.HostConfig
		path, rule string
	}{
		"a device":         {mapping("/dev/null", "/dev/null2", "r"), "/dev/null2", "r"},
		"a link to one":    {mapping(link, "/dev/linked", "rw"), "/dev/linked", "rw"},
		"nothing but that": {mapping("/dev/null", "", ""), "/dev/null", "rwm"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := ResolveDevices(tc.hc)
			assert.NilError(t, err)
			assert.Equal(t, len(d.Nodes), 1)
			n := d.Nodes[0]
			assert.Equal(t, n.Path, tc.path)
			assert.Equal(t, n.Type, "c")
			assert.Equal(t, n.Major, int64(1))
			assert.Equal(t, n.Minor, int64(3))
			assert.Equal(t, *n.FileMode, os.FileMode(0o666))
			assert.DeepEqual(t, d.Rules, []specs.LinuxDeviceCgroup{
				{Allow: true, Type: "c", Major: new(int64(1)), Minor: new(int64(3)), Access: tc.rule},
			})
			s := mustSpec(t, func(in *Input) { in.Devices = d })
			assert.DeepEqual(t, s.Linux.Devices, d.Nodes)
			assert.DeepEqual(t, s.Linux.Resources.Devices, append(defaultDeviceRules(), d.Rules...))
		})
	}
}

func TestResolveDevicesOfDirectory(t *testing.T) {
	dir := t.TempDir()
	assert.NilError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	makeDevice(t, filepath.Join(dir, "a"), unix.S_IFCHR, 1, 3)
	makeDevice(t, filepath.Join(dir, "sub/b"), unix.S_IFBLK, 240, 9)
	d, err := ResolveDevices(mapping(dir, "/dev/mine", "rw"))
	assert.NilError(t, err)
	var got []string
	for _, n := range d.Nodes {
		got = append(got, n.Type+n.Path)
	}
	assert.DeepEqual(t, got, []string{"c/dev/mine/a", "b/dev/mine/sub/b"})
	assert.Equal(t, len(d.Rules), 2)
}

func TestResolveDevicesRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	assert.NilError(t, unix.Mkfifo(fifo, 0o600))
	const prefix = "error gathering device information while adding custom device "
	for host, text := range map[string]string{
		"/dev/nope": prefix + `"/dev/nope": no such file or directory`,
		fifo:        prefix + `"` + fifo + `": not a device node`,
		dir:         prefix + `"` + dir + `": not a device node`,
	} {
		_, err := ResolveDevices(mapping(host, "/dev/x", "rwm"))
		assert.Error(t, err, text)
		assert.Assert(t, errdefs.IsInvalidParameter(err))
	}
	_, err := ResolveDevices(mapping("/dev/null", "/dev/x", "rx"))
	assert.ErrorContains(t, err, `invalid permissions "rx"`)
}

func TestResolveDevicesOfPrivileged(t *testing.T) {
	hc := mapping("/dev/null", "/dev/null", "rwm")
	hc.Privileged = true
	hc.Devices = append(hc.Devices, containertypes.DeviceMapping{PathOnHost: "/dev/zero", PathInContainer: "/dev/naught"})
	d, err := ResolveDevices(hc)
	assert.NilError(t, err)
	count := func(path string) int {
		n := 0
		for _, node := range d.Nodes {
			if node.Path == path {
				n++
			}
		}
		return n
	}
	assert.Equal(t, count("/dev/null"), 1)
	assert.Equal(t, count("/dev/full"), 1)
	assert.Equal(t, count("/dev/naught"), 1)
	assert.Assert(t, !slices.ContainsFunc(d.Nodes, func(n specs.LinuxDevice) bool { return n.Type == "p" }))
}

func TestDeviceRules(t *testing.T) {
	s := mustSpec(t, func(in *Input) {
		in.Record.HostConfig.DeviceCgroupRules = []string{"c 42:* rmw", "a *:7 r"}
	})
	assert.DeepEqual(t, s.Linux.Resources.Devices[7:], []specs.LinuxDeviceCgroup{
		{Allow: true, Type: "c", Major: new(int64(42)), Access: "rmw"},
		{Allow: true, Type: "a", Minor: new(int64(7)), Access: "r"},
	})
}

func TestResources(t *testing.T) {
	for name, tc := range map[string]struct {
		r    containertypes.Resources
		want specs.LinuxResources
	}{
		"memory": {
			containertypes.Resources{Memory: 64 << 20, MemorySwap: -1, MemoryReservation: 32 << 20,
				MemorySwappiness: new(int64(0)), OomKillDisable: new(true)},
			specs.LinuxResources{Memory: &specs.LinuxMemory{
				Limit: new(int64(64 << 20)), Swap: new(int64(-1)), Reservation: new(int64(32 << 20)),
				Swappiness: new(uint64(0)), DisableOOMKiller: new(true),
			}},
		},
		"no limits": {
			containertypes.Resources{PidsLimit: new(int64(-1)), OomKillDisable: new(false), MemorySwappiness: new(int64(-1))},
			specs.LinuxResources{},
		},
		"cpu": {
			containertypes.Resources{CPUShares: 512, CPUPeriod: 50000, CPUQuota: 25000, CpusetCpus: "0-1", CpusetMems: "0",
				CPURealtimePeriod: 1000000, CPURealtimeRuntime: 950000},
			specs.LinuxResources{CPU: &specs.LinuxCPU{
				Shares: new(uint64(512)), Period: new(uint64(50000)), Quota: new(int64(25000)), Cpus: "0-1", Mems: "0",
				RealtimePeriod: new(uint64(1000000)), RealtimeRuntime: new(int64(950000)),
			}},
		},
		"cpus": {
			containertypes.Resources{NanoCPUs: 15e8},
			specs.LinuxResources{CPU: &specs.LinuxCPU{Period: new(uint64(100000)), Quota: new(int64(150000))}},
		},
		"pids and block io": {
			containertypes.Resources{PidsLimit: new(int64(100)), BlkioWeight: 300},
			specs.LinuxResources{
				Pids: &specs.LinuxPids{Limit: new(int64(100))}, BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(300))},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustSpec(t, func(in *Input) { in.Record.HostConfig.Resources = tc.r })
			tc.want.Devices = defaultDeviceRules()
			assert.DeepEqual(t, *s.Linux.Resources, tc.want)
		})
	}
}

func TestBlockDeviceLimits(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	makeDevice(t, disk, unix.S_IFBLK, 240, 9)
	rate := func(n uint64) []*containertypes.ThrottleDevice {
		return []*containertypes.ThrottleDevice{{Path: disk, Rate: n}}
	}
	hc := &containertypes.HostConfig{Resources: containertypes.Resources{
		BlkioWeightDevice:  []*containertypes.WeightDevice{{Path: disk, Weight: 500}},
		BlkioDeviceReadBps: rate(1), BlkioDeviceWriteBps: rate(2),
		BlkioDeviceReadIOps: rate(3), BlkioDeviceWriteIOps: rate(4),
	}}
	d, err := ResolveDevices(hc)
	assert.NilError(t, err)
	s := mustSpec(t, func(in *Input) { in.Devices = d })
	want := func(n uint64) []specs.LinuxThrottleDevice {
		dev := specs.LinuxThrottleDevice{Rate: n}
		dev.Major, dev.Minor = 240, 9
		return []specs.LinuxThrottleDevice{dev}
	}
	weight := specs.LinuxWeightDevice{Weight: new(uint16(500))}
	weight.Major, weight.Minor = 240, 9
	assert.DeepEqual(t, s.Linux.Resources.BlockIO, &specs.LinuxBlockIO{
		WeightDevice:          []specs.LinuxWeightDevice{weight},
		ThrottleReadBpsDevice: want(1), ThrottleWriteBpsDevice: want(2),
		ThrottleReadIOPSDevice: want(3), ThrottleWriteIOPSDevice: want(4),
	})

	for path, text := range map[string]string{
		"/dev/nope": `block device "/dev/nope" of the I/O limits: no such file or directory`,
		"/dev/null": `block device "/dev/null" of the I/O limits: it is not a block device`,
	} {
		_, err := ResolveDevices(&containertypes.HostConfig{Resources: containertypes.Resources{
			BlkioDeviceReadBps: []*containertypes.ThrottleDevice{{Path: path, Rate: 1}},
		}})
		assert.Error(t, err, text)
		assert.Assert(t, errdefs.IsInvalidParameter(err))
	}
}
