// Command bench measures Berth against what people would use instead, and against the floor of each measure: the least that
// a machine needs for it. `make bench` runs it.
//
// All engines are in sandboxes of their own and are asked by the same client. In each round every side is measured once, in
// turn, and what counts is the median of the rounds' ratios: so a machine that is busy with something else slows both
// sides, and the ratio stays.
//
// The floor of a container's life is runc alone, create, start and delete, on the very spec that Berth has written for such
// a container; that of an exec is runc exec; that of an answer is a bare net/http handler with the same bytes on a unix
// socket; that of output is a pipe into a file.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/berthd/berth/internal/testimage"
)

func main() {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	b := &bench{out: os.Stdout, e: map[string]*engine{}}
	only := flag.String("only", "", "measure these parts alone: "+strings.Join(names, ","))
	with := flag.String("with", "berth,dockerd,podman", "measure these engines; berth is always one")
	flag.IntVar(&b.rounds, "rounds", 5, "`number` of rounds of each measure")
	flag.IntVar(&b.soak, "soak", 500, "`number` of starts, exits and execs of the part soak")
	isInside := flag.Bool("inside", false, "internal: be in a sandbox")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	run := func() error { return b.run(ctx, strings.Split(*with, ","), strings.Split(*only, ",")) }
	if *isInside {
		run = runInside
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context, with, only []string) (err error) {
	if b.image, err = testimage.BusyboxTar(); err != nil {
		return err
	}
	defer func() {
		for _, e := range b.e {
			e.box.close()
		}
	}()
	for _, name := range columns {
		if name == "floor" || name != "berth" && !slices.Contains(with, name) {
			continue
		}
		e, err := startEngine(ctx, name, b.image, false)
		if err != nil {
			return err
		}
		b.e[name] = e
		version, err := e.version(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintln(b.out, version)
	}
	head(b.out)
	for _, p := range parts {
		if only[0] != "" && !slices.Contains(only, p.name) {
			continue
		}
		if err := p.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w; the end of Berth's log:\n%s", p.name, err, b.e["berth"].log())
		}
	}
	return nil
}
