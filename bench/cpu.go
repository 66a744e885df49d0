package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cpu measures what a life costs in CPU time, engine, runc and container together. It says where time goes also on a machine
// that is too busy for clocks.
func (b *bench) cpu(ctx context.Context) error {
	forget, err := b.e["berth"].floor(ctx, "none", 1, "true")
	if err != nil {
		return err
	}
	const lives = 10
	of := func(e *engine, life func() error) (float64, error) {
		before, err := e.box.cpu()
		if err != nil {
			return 0, err
		}
		for range lives {
			if err := life(); err != nil {
				return 0, err
			}
		}
		after, err := e.box.cpu()
		return (after - before) / lives, err
	}
	sides := b.each(func(e *engine) (float64, error) {
		return of(e, func() error { return e.life(ctx, "none") })
	})
	sides["floor"] = func() (float64, error) { return of(b.e["berth"], b.floor(ctx, "/life?slot=0")) }
	f, err := rounds(ctx, b.rounds, sides)
	if err != nil {
		return err
	}
	row(b.out, "CPU time of a life, no network (ms)", f)
	return forget()
}

// cpu is how many milliseconds of CPU the sandbox has used.
func (s *sandbox) cpu() (float64, error) {
	name := filepath.Base(s.dir) // of the sandbox's cgroup too
	if text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/cpuacct", name, "cpuacct.usage")); err == nil {
		ns, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
		return ns / 1e6, err
	}
	text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", name, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	var us float64
	_, err = fmt.Sscanf(string(text), "usage_usec %f", &us)
	return us / 1000, err
}
