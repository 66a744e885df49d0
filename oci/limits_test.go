package oci

import (
	"reflect"
	"testing"

	"gotest.tools/v3/assert"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
)

// everyLimit is a container with all limits that a kernel can lack.
func everyLimit() *containertypes.Resources {
	device := []*containertypes.ThrottleDevice{{Path: "/dev/x", Rate: 1}}
	return &containertypes.Resources{
		Memory: 64 << 20, MemorySwap: 128 << 20, MemoryReservation: 32 << 20, MemorySwappiness: new(int64(10)),
		KernelMemory: new(int64(64 << 20)), OomKillDisable: new(true), PidsLimit: new(int64(5)), CPUShares: 5,
		CPUPeriod: 10000, CPUQuota: 5000, CpusetCpus: "0", CpusetMems: "0", BlkioWeight: 100,
		BlkioWeightDevice:  []*containertypes.WeightDevice{{Path: "/dev/x", Weight: 100}},
		BlkioDeviceReadBps: device, BlkioDeviceWriteBps: device, BlkioDeviceReadIOps: device, BlkioDeviceWriteIOps: device,
	}
}

// A kernel that can limit nothing leaves nothing of it, and each limit is spoken of once.
func TestLimitsThatAKernelLacks(t *testing.T) {
	r := everyLimit()
	warnings, err := FitLimits(r, CanLimit{})
	assert.NilError(t, err)
	assert.DeepEqual(t, *r, containertypes.Resources{MemorySwap: -1})
	assert.Equal(t, len(warnings), 15, "%q", warnings)
	assert.Equal(t, warnings[0], "Your kernel does not support memory limit capabilities or the cgroup is not mounted. "+
		"Limitation discarded.")

	can := CanLimit{CPUs: "0", MemNodes: "0"}
	for i, v := 0, reflect.ValueOf(&can).Elem(); i < v.NumField(); i++ {
		if f := v.Field(i); f.Kind() == reflect.Bool {
			f.SetBool(true)
		}
	}
	r = everyLimit()
	warnings, err = FitLimits(r, can)
	assert.NilError(t, err)
	assert.Equal(t, len(warnings), 1, "of kernel memory, which no kernel limits: %q", warnings)
	want := everyLimit()
	want.KernelMemory = nil
	assert.DeepEqual(t, r, want)
}

func TestSetsOfCPUs(t *testing.T) {
	for asked, text := range map[string]string{
		"": "", "0": "", "0-2,8": "", "8,0-1": "",
		"3":        "Requested CPUs are not available - requested 3, available: 0-2,8",
		"0-8":      "Requested CPUs are not available - requested 0-8, available: 0-2,8",
		"2-1":      "Invalid value 2-1 for cpuset cpus: invalid format: 2-1",
		"0,":       "Invalid value 0, for cpuset cpus: invalid format: 0,",
		"-1":       "Invalid value -1 for cpuset cpus: invalid format: -1",
		"0-999999": "Invalid value 0-999999 for cpuset cpus: value of out range, maximum is 8191",
	} {
		_, err := FitLimits(&containertypes.Resources{CpusetCpus: asked}, CanLimit{Cpuset: true, CPUs: "0-2,8"})
		if text == "" {
			assert.NilError(t, err)
			continue
		}
		assert.Error(t, err, text)
		assert.Assert(t, errdefs.IsInvalidParameter(err))
	}
}
