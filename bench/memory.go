package main

import (
	"context"
	"fmt"
	"time"
)

// settle is how long an engine has after its work before its memory is measured.
const settle = 3 * time.Second

// measureMemory prints what the engines use now.
func (b *bench) measureMemory(ctx context.Context, name string) error {
	time.Sleep(settle)
	f, err := rounds(ctx, b.rounds, b.each(func(e *engine) (float64, error) { return e.box.memory(ctx) }))
	if err != nil {
		return err
	}
	row(b.out, name, f, atMost("berth", "dockerd", 0.5))
	return nil
}

// memory measures what the engines use idle, and what each container that runs adds to that.
func (b *bench) memory(ctx context.Context) error {
	if err := b.measureMemory(ctx, "memory of an idle daemon (MiB)"); err != nil {
		return err
	}
	const containers = 10
	f, err := rounds(ctx, b.rounds, b.each(func(e *engine) (float64, error) {
		time.Sleep(settle) // what served the last round's containers waits for others for a moment
		before, err := e.box.memory(ctx)
		if err != nil {
			return 0, err
		}
		var ids []string
		for range containers {
			id, err := e.run(ctx, "none", "sleep", "1000000")
			if err != nil {
				return 0, err
			}
			ids = append(ids, id)
		}
		time.Sleep(settle)
		after, err := e.box.memory(ctx, sleepForever)
		if err != nil {
			return 0, err
		}
		for _, id := range ids {
			if err := e.remove(ctx, id); err != nil {
				return 0, err
			}
		}
		return (after - before) / containers, nil
	}))
	if err != nil {
		return err
	}
	row(b.out, "memory that one running sleep adds (MiB)", f, atMost("berth", "dockerd", 0.5))
	return nil
}

// state is what a daemon may not need more and more of.
type state struct {
	memory           float64 // MiB
	NGoroutines, NFd int
}

func (e *engine) state(ctx context.Context) (s state, err error) {
	time.Sleep(settle)
	if err := e.call(ctx, "GET", "/info", nil, &s); err != nil {
		return s, err
	}
	s.memory, err = e.box.memory(ctx, sleepForever)
	return s, err
}

// flat starts containers and execs by the thousand, waits for their ends, and tells what the daemon needs before and
// afterwards. What it keeps for ten minutes, results of execs, it has afterwards.
func (b *bench) flat(ctx context.Context) error {
	e := b.e["berth"]
	id, err := e.run(ctx, "none", "sleep", "1000000")
	if err != nil {
		return err
	}
	work := func(n int) error {
		if _, err := spread(n, 8, func(int) error { return e.life(ctx, "none") }); err != nil {
			return err
		}
		_, err := spread(n, 8, func(int) error { return e.exec(ctx, id) })
		return err
	}
	if err := work(b.soak / 10); err != nil {
		return err
	}
	before, err := e.state(ctx)
	if err != nil {
		return err
	}
	if err := work(b.soak); err != nil {
		return err
	}
	after, err := e.state(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "%d starts, exits and execs: memory %.1f → %.1f MiB, goroutines %d → %d, descriptors %d → %d\n", b.soak,
		before.memory, after.memory, before.NGoroutines, after.NGoroutines, before.NFd, after.NFd)
	return e.remove(ctx, id)
}
