package oci

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	containertypes "github.com/berthd/berth/api/types/container"
)

// unlimited is how a runtime is told to take a limit away: one that is not named stays.
const unlimited = -1

// Limits returns what a runtime is to be told when the limits of a container that runs change from old to now: all that
// there are, and the end of those that are no more. A device that is missing is InvalidParameter.
func Limits(old, now *containertypes.HostConfig) (*specs.LinuxResources, error) {
	was, err := limits(old)
	if err != nil {
		return nil, err
	}
	is, err := limits(now)
	if err != nil {
		return nil, err
	}
	if is.Memory == nil {
		is.Memory = &specs.LinuxMemory{}
	}
	if is.CPU == nil {
		is.CPU = &specs.LinuxCPU{}
	}
	if m := was.Memory; m != nil {
		end(&is.Memory.Limit, m.Limit, unlimited)
		end(&is.Memory.Reservation, m.Reservation, unlimited)
		end(&is.Memory.Swap, m.Swap, unlimited)
	}
	if c := was.CPU; c != nil {
		end(&is.CPU.Quota, c.Quota, unlimited)
		end(&is.CPU.Period, c.Period, cpuPeriod)
		end(&is.CPU.Shares, c.Shares, defaultShares)
	}
	if was.Pids != nil && is.Pids == nil {
		is.Pids = &specs.LinuxPids{Limit: new(int64(unlimited))}
	}
	if was.BlockIO != nil {
		if is.BlockIO == nil {
			is.BlockIO = &specs.LinuxBlockIO{}
		}
		b := is.BlockIO
		b.ThrottleReadBpsDevice = endRates(b.ThrottleReadBpsDevice, was.BlockIO.ThrottleReadBpsDevice)
		b.ThrottleWriteBpsDevice = endRates(b.ThrottleWriteBpsDevice, was.BlockIO.ThrottleWriteBpsDevice)
		b.ThrottleReadIOPSDevice = endRates(b.ThrottleReadIOPSDevice, was.BlockIO.ThrottleReadIOPSDevice)
		b.ThrottleWriteIOPSDevice = endRates(b.ThrottleWriteIOPSDevice, was.BlockIO.ThrottleWriteIOPSDevice)
	}
	return is, nil
}

// defaultShares are the CPU shares of a cgroup that nobody gave any.
const defaultShares = 1024

func limits(hc *containertypes.HostConfig) (*specs.LinuxResources, error) {
	var d Devices
	if err := d.resolveBlkio(&hc.Resources); err != nil {
		return nil, err
	}
	r, err := resources(hc, d)
	if err == nil {
		r.Devices = nil // those stay as they are
	}
	return r, err
}

// end sets a limit that there was and is not any more to the value that means none.
func end[T any](is **T, was *T, none T) {
	if was != nil && *is == nil {
		*is = &none
	}
}

// endRates adds the devices that had a rate and have none any more: 0 takes it away.
func endRates(is, was []specs.LinuxThrottleDevice) []specs.LinuxThrottleDevice {
	rated := map[[2]int64]bool{}
	for _, d := range is {
		rated[[2]int64{d.Major, d.Minor}] = true
	}
	for _, d := range was {
		if !rated[[2]int64{d.Major, d.Minor}] {
			d.Rate = 0
			is = append(is, d)
		}
	}
	return is
}
