package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// network measures what a start on the default bridge costs more than one without a network, and what published ports cost
// while nobody connects.
func (b *bench) network(ctx context.Context) error {
	const starts = 12
	f, err := rounds(ctx, b.rounds, b.each(func(e *engine) (float64, error) {
		differences := make([]float64, starts)
		for i := range differences {
			networks := []string{"bridge", "none"}
			if i%2 == 1 { // what comes second meets what the first has left to do
				slices.Reverse(networks)
			}
			took := map[string]float64{}
			for _, network := range networks {
				var err error
				if took[network], err = e.startTime(ctx, network); err != nil {
					return 0, err
				}
			}
			differences[i] = took["bridge"] - took["none"]
		}
		return median(differences), nil
	}))
	if err != nil {
		return err
	}
	row(b.out, "start, network bridge more than none (ms)", f)
	bound(b.out, "berth", median(f["berth"]), 15, "ms")
	ports, err := rounds(ctx, b.rounds, b.each(func(e *engine) (float64, error) { return e.portMemory(ctx, 100) }))
	if err != nil {
		return err
	}
	row(b.out, "memory that 100 published ports add (MiB)", ports)
	bound(b.out, "berth", median(ports["berth"]), 1, "MiB")
	return nil
}

// startTime is how many milliseconds a start takes. The container is removed again.
func (e *engine) startTime(ctx context.Context, network string) (float64, error) {
	id, err := e.create(ctx, network, "true")
	if err != nil {
		return 0, err
	}
	ms, err := milliseconds(func() error { return e.call(ctx, "POST", "/v1.41/containers/"+id+"/start", nil, nil) })
	if err == nil {
		err = e.wait(ctx, id)
	}
	if err != nil {
		return 0, err
	}
	return ms, e.remove(ctx, id)
}

// portMemory is how much more memory an engine needs, its proxies included, when a container publishes that many ports than
// when it publishes none.
func (e *engine) portMemory(ctx context.Context, n int) (float64, error) {
	var at [2]float64
	for i, published := range []int{0, n} {
		bindings, exposed := map[string]any{}, map[string]any{}
		for p := range published {
			inside := fmt.Sprintf("%d/tcp", 1000+p)
			bindings[inside], exposed[inside] = []map[string]string{{"HostPort": fmt.Sprint(20000 + p)}}, struct{}{}
		}
		var c struct{ ID string }
		err := e.call(ctx, "POST", "/v1.41/containers/create", map[string]any{
			"Image": imageName, "Cmd": []string{"sleep", "1000000"}, "ExposedPorts": exposed,
			"HostConfig": map[string]any{"NetworkMode": "bridge", "PortBindings": bindings},
		}, &c)
		if err == nil {
			err = e.call(ctx, "POST", "/v1.41/containers/"+c.ID+"/start", nil, nil)
		}
		if err != nil {
			return 0, err
		}
		time.Sleep(settle)
		if at[i], err = e.box.memory(ctx, sleepForever); err != nil {
			return 0, err
		}
		if err := e.remove(ctx, c.ID); err != nil {
			return 0, err
		}
		time.Sleep(settle) // so that the next one does not get a shim that has grown with this one
	}
	return at[1] - at[0], nil
}
