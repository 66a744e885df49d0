package daemon

import (
	"cmp"
	"context"
	"fmt"
	"reflect"

	"github.com/containerd/log"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/libcontainerd/task"
	"github.com/berthd/berth/oci"
)

// ContainerUpdate changes limits and the restart policy of a container, all of what is asked for or nothing: a running
// one gets the limits at once, the policy decides from the next exit on.
func (d *Daemon) ContainerUpdate(ctx context.Context, name string, req containertypes.UpdateRequest) (containertypes.UpdateResponse, error) {
	var resp containertypes.UpdateResponse
	if err := oci.CheckLimits(&req.Resources, true); err != nil {
		return resp, err
	}
	var err error
	if resp.Warnings, err = oci.FitLimits(&req.Resources, d.host.oci.CanLimit); err != nil {
		return resp, err
	}
	if err := verifyRestart(req.RestartPolicy, false); err != nil {
		return resp, err
	}
	c, err := d.containers.Get(name)
	if err != nil {
		return resp, err
	}
	if err := canUpdate(c.Snapshot()); err != nil {
		return resp, err
	}
	return resp, d.operate(ctx, c, func(ctx context.Context) error {
		rec := c.Snapshot()
		if err := canUpdate(rec); err != nil {
			return err
		}
		return d.update(ctx, c, rec, req)
	})
}

func canUpdate(rec *container.Record) error {
	if rec.Desired == container.Gone || rec.State.RemovalInProgress || rec.State.Dead {
		return errdefs.Systemf(`Cannot update container %s: container is marked for removal and cannot be "update"`, rec.ID)
	}
	return nil
}

// update records what is being tried, has the kernel take the limits and records them, or has it go back: the caller holds
// the operation slot.
func (d *Daemon) update(ctx context.Context, c *container.Container, rec *container.Record, req containertypes.UpdateRequest) error {
	hc, err := updated(rec.HostConfig, req)
	if err != nil {
		return fmt.Errorf("Cannot update container %s: %w", rec.ID, err)
	}
	if !rec.State.Live() || reflect.DeepEqual(hc.Resources, rec.HostConfig.Resources) {
		return recordLimits(c, hc, req)
	}
	l, err := d.runs.await(ctx, rec)
	if err != nil {
		return err
	}
	if _, err := c.Update(func(in *container.Intent) error { in.Task = in.Task.Limited(hc); return nil }); err != nil {
		return err
	}
	err = relimit(ctx, l.task, rec.HostConfig, hc)
	if err == nil || !errdefs.IsInvalidParameter(err) && isOver(ctx, c, rec) { // the next run gets them
		err = recordLimits(c, hc, req)
	}
	if err == nil {
		return nil
	}
	back := relimit(ctx, l.task, hc, rec.HostConfig)
	if back == nil {
		_, back = c.Update(func(in *container.Intent) error { in.Task = in.Task.Limited(nil); return nil })
	}
	if back != nil {
		log.G(ctx).WithError(back).Warnf("container %s may have some of the limits that it was refused", rec.ID)
	}
	if errdefs.IsInvalidParameter(err) {
		return err
	}
	return errdefs.Systemf("Cannot update container %s: %w", rec.ID, err)
}

func recordLimits(c *container.Container, hc *containertypes.HostConfig, req containertypes.UpdateRequest) error {
	_, err := c.Update(func(in *container.Intent) error {
		in.HostConfig, in.Task = hc, in.Task.Limited(nil)
		in.Defaulted.RestartPolicy = in.Defaulted.RestartPolicy && req.RestartPolicy.Name == ""
		return nil
	}, container.Event{Action: "update"})
	return err
}

// relimit has the kernel change a container's limits.
func relimit(ctx context.Context, t *task.Task, old, now *containertypes.HostConfig) error {
	limits, err := oci.Limits(old, now)
	if err != nil {
		return err
	}
	return t.Update(ctx, limits)
}

// endUpdate undoes an update that an earlier daemon did not come to record.
func (d *Daemon) endUpdate(ctx context.Context, c *container.Container, t *task.Task) {
	rec := c.Snapshot()
	if rec.Task == nil || rec.Task.Limits == nil {
		return
	}
	err := relimit(ctx, t, rec.Task.Limits, rec.HostConfig)
	if err == nil {
		_, err = c.Update(func(in *container.Intent) error { in.Task = in.Task.Limited(nil); return nil })
	}
	warn(ctx, "take limits back that container "+c.ID+" was being given", err)
}

// updated returns hc with what req asks for. What req leaves at zero stays.
func updated(hc *containertypes.HostConfig, req containertypes.UpdateRequest) (*containertypes.HostConfig, error) {
	out, conflict := *hc, errdefs.Conflictf
	old, r := &hc.Resources, &req.Resources
	switch {
	case r.NanoCPUs > 0 && old.CPUPeriod > 0:
		return nil, conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
	case r.NanoCPUs > 0 && old.CPUQuota > 0:
		return nil, conflict("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set")
	case r.CPUPeriod > 0 && old.NanoCPUs > 0:
		return nil, conflict("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
	case r.CPUQuota > 0 && old.NanoCPUs > 0:
		return nil, conflict("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
	case r.Memory != 0 && r.MemorySwap == 0 && old.MemorySwap > 0 && r.Memory > old.MemorySwap:
		return nil, conflict("Memory limit should be smaller than already set memoryswap limit, " +
			"update the memoryswap at the same time")
	case hc.AutoRemove && req.RestartPolicy.Name != "" && req.RestartPolicy.Name != "no":
		return nil, conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
	}
	merge(&out.BlkioWeight, r.BlkioWeight)
	merge(&out.CPUShares, r.CPUShares)
	merge(&out.NanoCPUs, r.NanoCPUs)
	merge(&out.CPUPeriod, r.CPUPeriod)
	merge(&out.CPUQuota, r.CPUQuota)
	merge(&out.CPURealtimePeriod, r.CPURealtimePeriod)
	merge(&out.CPURealtimeRuntime, r.CPURealtimeRuntime)
	merge(&out.CpusetCpus, r.CpusetCpus)
	merge(&out.CpusetMems, r.CpusetMems)
	merge(&out.Memory, r.Memory)
	merge(&out.MemorySwap, r.MemorySwap)
	merge(&out.MemoryReservation, r.MemoryReservation)
	if r.PidsLimit != nil {
		out.PidsLimit = new(max(*r.PidsLimit, 0)) // 0 is no limit
	}
	mergeList(&out.BlkioWeightDevice, r.BlkioWeightDevice)
	mergeList(&out.BlkioDeviceReadBps, r.BlkioDeviceReadBps)
	mergeList(&out.BlkioDeviceWriteBps, r.BlkioDeviceWriteBps)
	mergeList(&out.BlkioDeviceReadIOps, r.BlkioDeviceReadIOps)
	mergeList(&out.BlkioDeviceWriteIOps, r.BlkioDeviceWriteIOps)
	if req.RestartPolicy.Name != "" {
		out.RestartPolicy = req.RestartPolicy
	}
	return &out, oci.CheckLimits(&out.Resources, false)
}

func merge[T comparable](into *T, v T) { *into = cmp.Or(v, *into) }

// mergeList replaces a list, with an empty one too; null leaves it.
func mergeList[T any](into *[]T, l []T) {
	if l != nil {
		*into = l
	}
}
