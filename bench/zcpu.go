package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

func cpuOf(b *sandbox) float64 {
	t, _ := os.ReadFile(filepath.Join("/sys/fs/cgroup/cpuacct", filepath.Base(b.dir), "cpuacct.usage"))
	n, _ := strconv.ParseFloat(strings.TrimSpace(string(t)), 64)
	return n / 1e6
}

func init() {
	parts = append(parts, part{"cpu", func(b *bench, ctx context.Context) error {
		for _, network := range []string{"none"} {
			forget, err := b.e["berth"].floor(ctx, network, 1, "true")
			if err != nil {
				return err
			}
			const n = 20
			sides := b.each(func(e *engine) (float64, error) {
				c := cpuOf(e.box)
				for range n {
					if err := e.life(ctx, network); err != nil {
						return 0, err
					}
				}
				return (cpuOf(e.box) - c) / n, nil
			})
			sides["floor"] = func() (float64, error) {
				c := cpuOf(b.e["berth"].box)
				for range n {
					if err := b.floor(ctx, "/life?slot=0")(); err != nil {
						return 0, err
					}
				}
				return (cpuOf(b.e["berth"].box) - c) / n, nil
			}
			f, err := rounds(ctx, b.rounds, sides)
			if err != nil {
				return err
			}
			row(b.out, fmt.Sprintf("CPU ms a life %s", network), f, atMost("berth", "floor", 1.15))
			forget()
		}
		return nil
	}})
}
