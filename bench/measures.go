package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// bench is one run of the program.
type bench struct {
	out    io.Writer
	rounds int
	soak   int
	image  []byte
	e      map[string]*engine // by column
}

// part is a group of lines of the table.
type part struct {
	name string
	run  func(*bench, context.Context) error
}

// parts in the order in which they are measured: what needs an engine without containers comes first.
var parts = []part{
	{"memory", (*bench).memory}, {"run", (*bench).lives}, {"cpu", (*bench).cpu}, {"network", (*bench).network},
	{"parallel", (*bench).parallel}, {"exec", (*bench).exec}, {"output", (*bench).output}, {"soak", (*bench).flat},
	{"busy", (*bench).busy}, {"transfer", (*bench).transfers}, {"answer", (*bench).answers},
}

// each makes a side of a comparison for each engine.
func (b *bench) each(fn func(*engine) (float64, error)) map[string]func() (float64, error) {
	sides := map[string]func() (float64, error){}
	for name, e := range b.e {
		sides[name] = func() (float64, error) { return fn(e) }
	}
	return sides
}

// lives measures create, start, wait and remove of `true`.
func (b *bench) lives(ctx context.Context) error {
	for network, goals := range map[string][]goal{
		"none":   {atMost("berth", "floor", 1.15), atLeast("dockerd", "berth", 2.7)},
		"bridge": {atMost("berth", "floor", 1.35), atLeast("dockerd", "berth", 3)},
	} {
		forget, err := b.e["berth"].floor(ctx, network, 1, "true")
		if err != nil {
			return err
		}
		const lives = 8
		sides := b.each(func(e *engine) (float64, error) {
			return typical(lives, func() error { return e.life(ctx, network) })
		})
		sides["floor"] = func() (float64, error) { return typical(lives, b.floor(ctx, "/life?slot=0")) }
		f, err := rounds(ctx, b.rounds, sides)
		if err != nil {
			return err
		}
		row(b.out, "create+start+wait+remove, network "+network+" (ms)", f, goals...)
		if err := forget(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) floor(ctx context.Context, path string) func() error {
	return func() error { return b.e["berth"].box.inside.call(ctx, "POST", path, nil, nil) }
}

const atOnce = 16

// parallel measures lives of which 16 go on at once, in milliseconds a life.
func (b *bench) parallel(ctx context.Context) error {
	forget, err := b.e["berth"].floor(ctx, "none", atOnce, "true")
	if err != nil {
		return err
	}
	const lives, othersLives = 200, 48
	sides := b.each(func(e *engine) (float64, error) {
		n := lives
		if e.name != "berth" {
			n = othersLives
		}
		return spread(n, atOnce, func(int) error { return e.life(ctx, "none") })
	})
	sides["floor"] = func() (float64, error) {
		return spread(lives, atOnce, func(slot int) error { return b.floor(ctx, fmt.Sprintf("/life?slot=%d", slot))() })
	}
	f, err := rounds(ctx, b.rounds, sides)
	if err != nil {
		return err
	}
	row(b.out, "200 lives, 16 at once (ms a life)", f, atMost("berth", "floor", 1.3))
	return forget()
}

// spread calls fn n times, from so many workers, and returns the milliseconds that a call took of the whole.
func spread(n, workers int, fn func(worker int) error) (float64, error) {
	work := make(chan struct{}, n)
	for range n {
		work <- struct{}{}
	}
	close(work)
	errs := make([]error, workers)
	ms, _ := milliseconds(func() error {
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for range work {
					if errs[w] = fn(w); errs[w] != nil {
						return
					}
				}
			})
		}
		wg.Wait()
		return nil
	})
	return ms / float64(n), errors.Join(errs...)
}

// exec measures an exec of `true` with its output attached.
func (b *bench) exec(ctx context.Context) error {
	forget, err := b.e["berth"].floor(ctx, "none", 1, "sleep", "1000000")
	if err != nil {
		return err
	}
	if err := b.floor(ctx, "/life?slot=0&start")(); err != nil {
		return err
	}
	ids := map[string]string{}
	for name, e := range b.e {
		if ids[name], err = e.run(ctx, "none", "sleep", "1000000"); err != nil {
			return err
		}
	}
	const execs = 12
	sides := b.each(func(e *engine) (float64, error) {
		return typical(execs, func() error { return e.exec(ctx, ids[e.name]) })
	})
	sides["floor"] = func() (float64, error) { return typical(execs, b.floor(ctx, "/exec?slot=0")) }
	f, err := rounds(ctx, b.rounds, sides)
	if err != nil {
		return err
	}
	row(b.out, "exec of true, attached (ms)", f, atMost("berth", "floor", 1.1))
	for name, e := range b.e {
		if err := e.remove(ctx, ids[name]); err != nil {
			return err
		}
	}
	if err := b.floor(ctx, "/forget?slot=0")(); err != nil {
		return err
	}
	return forget()
}

// output measures how fast a container's 100 MB get into its log, and that all of them do: from a program that writes them,
// as programs do, and from cat, which has the kernel pass on the pages of a file, faster than anybody writes.
func (b *bench) output(ctx context.Context) error {
	writes := []string{"sh", "-c", fmt.Sprintf("yes %s | head -n %d", strings.Repeat("x", outputLine-1), outputLines)}
	if err := b.outputOf(ctx, "stdout of 100 MB into the log (MB/s)", writes, atLeast("berth", "floor", 0.6)); err != nil {
		return err
	}
	return b.outputOf(ctx, "the same, by cat of a file (MB/s)", []string{"cat", "/lines"})
}

func (b *bench) outputOf(ctx context.Context, name string, command []string, goals ...goal) error {
	forget, err := b.e["berth"].floor(ctx, "none", 1, command...)
	if err != nil {
		return err
	}
	const mb = outputLine * outputLines / 1e6
	sides := b.each(func(e *engine) (float64, error) {
		id, err := e.create(ctx, "none", command...)
		if err != nil {
			return 0, err
		}
		ms, err := milliseconds(func() error {
			if err := e.call(ctx, "POST", "/v1.41/containers/"+id+"/start", nil, nil); err != nil {
				return err
			}
			return e.wait(ctx, id)
		})
		if err != nil {
			return 0, err
		}
		if e.name != "podman" { // which logs elsewhere by default
			if err := e.checkLog(ctx, id); err != nil {
				return 0, err
			}
		}
		return mb / ms * 1000, e.remove(ctx, id)
	})
	sides["floor"] = func() (float64, error) {
		var ms float64
		err := b.e["berth"].box.inside.call(ctx, "POST", "/output?slot=0", nil, &ms)
		return mb / ms * 1000, err
	}
	f, err := rounds(ctx, b.rounds, sides)
	if err != nil {
		return err
	}
	row(b.out, name, f, goals...)
	return forget()
}

// checkLog adds up what frames of output a log has.
func (e *engine) checkLog(ctx context.Context, id string) error {
	resp, err := e.open(ctx, "GET", "/v1.41/containers/"+id+"/logs?stdout=1", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	r, logged := bufio.NewReaderSize(resp.Body, 1<<16), 0
	for {
		var header [8]byte
		_, err := io.ReadFull(r, header[:])
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		n, err := r.Discard(int(binary.BigEndian.Uint32(header[4:])))
		if err != nil {
			return err
		}
		logged += n
	}
	if logged != outputLine*outputLines {
		return fmt.Errorf("output is lost: the log has %d bytes of %d", logged, outputLine*outputLines)
	}
	return nil
}
