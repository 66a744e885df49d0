package oci

import (
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
)

func limitsOf(t *testing.T, old, now containertypes.Resources) *specs.LinuxResources {
	t.Helper()
	r, err := Limits(&containertypes.HostConfig{Resources: old}, &containertypes.HostConfig{Resources: now})
	assert.NilError(t, err)
	return r
}

// What is asked for is told, and what was and is not any more is told too: a runtime leaves what it is not told.
func TestLimitsOfAnUpdate(t *testing.T) {
	some := containertypes.Resources{
		Memory: 64 << 20, MemorySwap: 128 << 20, CPUShares: 512, CPUQuota: 5000, CPUPeriod: 10000, PidsLimit: new(int64(7)),
	}
	r := limitsOf(t, containertypes.Resources{}, some)
	assert.Equal(t, *r.Memory.Limit, int64(64<<20))
	assert.Equal(t, *r.CPU.Quota, int64(5000))
	assert.Equal(t, *r.Pids.Limit, int64(7))
	assert.Assert(t, r.Devices == nil, "the rules for devices stay")

	r = limitsOf(t, some, containertypes.Resources{PidsLimit: new(int64(0))})
	assert.DeepEqual(t, r, &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(-1)), Swap: new(int64(-1))},
		CPU:    &specs.LinuxCPU{Shares: new(uint64(1024)), Quota: new(int64(-1)), Period: new(uint64(100000))},
		Pids:   &specs.LinuxPids{Limit: new(int64(-1))},
	})
	assert.DeepEqual(t, limitsOf(t, containertypes.Resources{}, containertypes.Resources{}),
		&specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}})
}

func TestRatesOfAnUpdate(t *testing.T) {
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	makeDevice(t, one, unix.S_IFBLK, 240, 1)
	makeDevice(t, two, unix.S_IFBLK, 240, 2)
	rates := func(path string, rate uint64) containertypes.Resources {
		return containertypes.Resources{BlkioDeviceReadBps: []*containertypes.ThrottleDevice{{Path: path, Rate: rate}}}
	}
	r := limitsOf(t, rates(one, 1000), rates(two, 2000))
	var got [][2]uint64
	for _, d := range r.BlockIO.ThrottleReadBpsDevice {
		got = append(got, [2]uint64{uint64(d.Minor), d.Rate})
	}
	assert.DeepEqual(t, got, [][2]uint64{{2, 2000}, {1, 0}})

	_, err := Limits(&containertypes.HostConfig{}, &containertypes.HostConfig{Resources: rates("/dev/nope", 1)})
	assert.Assert(t, errdefs.IsInvalidParameter(err), "%v", err)
}
