package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	listPath  = "/v1.41/containers/json?all=1"
	floodTime = 1500 * time.Millisecond
)

// flood asks from so many connections for a while and returns how many milliseconds each answer took, and how many answers
// came in a second.
func flood(c *client, ctx context.Context, connections int, path func() string) (times []float64, perSecond float64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var wg sync.WaitGroup
	begin := time.Now()
	for range connections {
		wg.Go(func() {
			var mine []float64
			for time.Since(begin) < floodTime && ctx.Err() == nil {
				ms, err := milliseconds(func() error {
					_, err := c.read(ctx, "GET", path(), nil)
					return err
				})
				if err != nil {
					cancel(err)
				}
				mine = append(mine, ms)
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, mine...)
		})
	}
	wg.Wait()
	return times, float64(len(times)) / time.Since(begin).Seconds(), context.Cause(ctx)
}

func inspectPath(id string) string { return "/v1.41/containers/" + id + "/json" }

// some returns what yields the path of an inspect of one of the containers.
func some(ids []string) func() string {
	return func() string { return inspectPath(ids[rand.IntN(len(ids))]) }
}

// fill makes containers until there are n.
func (e *engine) fill(ctx context.Context, ids []string, n int) ([]string, error) {
	var mu sync.Mutex
	_, err := spread(n-len(ids), 4, func(int) error {
		id, err := e.create(ctx, "none", "true")
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, id)
		return err
	})
	return ids, err
}

// answers measures what is asked of many containers: inspect and list, the memory they take, and how long the daemon needs to
// be back.
func (b *bench) answers(ctx context.Context) error {
	ids := map[string][]string{}
	var err error
	for name, e := range b.e {
		if ids[name], err = e.fill(ctx, nil, 1000); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := b.measureMemory(ctx, "memory with 1,000 stopped containers (MiB)"); err != nil {
		return err
	}
	if err := b.restarts(ctx); err != nil {
		return err
	}
	if err := b.inspects(ctx, ids); err != nil {
		return err
	}
	for _, n := range []int{1000, 10_000} {
		if ids["berth"], err = b.e["berth"].fill(ctx, ids["berth"], n); err != nil {
			return err
		}
		if err := b.lists(ctx, n); err != nil {
			return err
		}
	}
	return b.longLists(ctx)
}

// longLists measures a list of 10,000 containers, in milliseconds, beside one of 5,000 that another Berth has.
func (b *bench) longLists(ctx context.Context) error {
	half, err := startEngine(ctx, "berth", b.image, false)
	if err != nil {
		return err
	}
	defer half.box.close()
	if _, err := half.fill(ctx, nil, 5000); err != nil {
		return err
	}
	list := func(e *engine) func() (float64, error) {
		return func() (float64, error) {
			_, rate, err := flood(e.client, ctx, 1, func() string { return listPath })
			return 1000 / rate, err
		}
	}
	f, err := rounds(ctx, 2*b.rounds, map[string]func() (float64, error){"floor": list(half), "berth": list(b.e["berth"])})
	if err != nil {
		return err
	}
	row(b.out, "list of 10,000; floor: one of 5,000 (ms)", f, atMost("berth", "floor", 2.1))
	return nil
}

// inspects measures inspect by 8 connections, in answers a second.
func (b *bench) inspects(ctx context.Context, ids map[string][]string) error {
	own := b.e["berth"].box.inside
	path := inspectPath(ids["berth"][0])
	if err := b.mirror(ctx, path); err != nil {
		return err
	}
	sides := b.each(func(e *engine) (float64, error) {
		_, rate, err := flood(e.client, ctx, 8, some(ids[e.name]))
		return rate, err
	})
	sides["floor"] = func() (float64, error) {
		_, rate, err := flood(own, ctx, 8, func() string { return path })
		return rate, err
	}
	f, err := rounds(ctx, b.rounds, sides)
	if err != nil {
		return err
	}
	row(b.out, "inspect, 1,000 containers, 8 connections (/s)", f, atLeast("berth", "floor", 0.8))
	return nil
}

// mirror has the bare handler answer what Berth answers.
func (b *bench) mirror(ctx context.Context, path string) error {
	body, err := b.e["berth"].read(ctx, "GET", path, nil)
	if err != nil {
		return err
	}
	return b.e["berth"].box.inside.call(ctx, "POST", "/answer?path="+path, body, nil)
}

// lists measures a list of n containers, in answers a second. The others have no more than 1,000.
func (b *bench) lists(ctx context.Context, n int) error {
	const path = "/v1.41/containers/json"
	body, err := b.e["berth"].read(ctx, "GET", listPath, nil)
	if err != nil {
		return err
	}
	own := b.e["berth"].box.inside
	if err := own.call(ctx, "POST", "/answer?path="+path, body, nil); err != nil {
		return err
	}
	sides := b.each(func(e *engine) (float64, error) {
		_, rate, err := flood(e.client, ctx, 1, func() string { return listPath })
		return rate, err
	})
	if n > 1000 {
		sides = map[string]func() (float64, error){"berth": sides["berth"]}
	}
	sides["floor"] = func() (float64, error) {
		_, rate, err := flood(own, ctx, 1, func() string { return path })
		return rate, err
	}
	f, err := rounds(ctx, b.rounds, sides)
	if err != nil {
		return err
	}
	row(b.out, fmt.Sprintf("list of %d containers (/s)", n), f, atLeast("berth", "floor", 0.5))
	return nil
}

// restarts measures how long a daemon needs from its start to its first answer, a list of 1,000 containers.
func (b *bench) restarts(ctx context.Context) error {
	f, err := rounds(ctx, b.rounds, b.each(func(e *engine) (float64, error) {
		if err := e.stop(ctx); err != nil {
			return 0, err
		}
		return milliseconds(func() error { return e.start(ctx) })
	}))
	if err != nil {
		return err
	}
	row(b.out, "start with 1,000 stopped containers (ms)", f, atMost("berth", "dockerd", 0.2))
	return nil
}

// busy measures the 99th percentile of inspect, in milliseconds, while 4 others start and remove containers without pause:
// once those of another Berth, so that the machine is as busy, and once those of the one that is asked.
func (b *bench) busy(ctx context.Context) error {
	e := b.e["berth"]
	other, err := startEngine(ctx, "berth", b.image, false)
	if err != nil {
		return err
	}
	defer other.box.close()
	ids, err := e.fill(ctx, nil, 100)
	if err != nil {
		return err
	}
	during := func(busy *engine) func() (float64, error) {
		return func() (float64, error) {
			stop := make(chan struct{})
			churned := make(chan error, 1)
			go func() { churned <- busy.churn(ctx, 4, stop) }()
			times, _, err := flood(e.client, ctx, 1, some(ids))
			close(stop)
			if cerr := <-churned; err == nil {
				err = cerr
			}
			return quantile(times, 0.99), err
		}
	}
	f, err := rounds(ctx, 2*b.rounds, map[string]func() (float64, error){"floor": during(other), "berth": during(e)})
	if err != nil {
		return err
	}
	row(b.out, "inspect while 4 others start and remove, p99 (ms)", f, atMost("berth", "floor", 3))
	for _, id := range ids {
		if err := e.remove(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// churn starts and removes containers until stop is closed.
func (e *engine) churn(ctx context.Context, workers int, stop <-chan struct{}) error {
	_, err := spread(workers, workers, func(int) error {
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			if err := e.life(ctx, "none"); err != nil {
				return err
			}
		}
	})
	return err
}
