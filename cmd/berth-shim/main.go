// Command berth-shim holds one container for berthd: it runs the OCI runtime, waits for the container's processes,
// writes the log and serves attach. It outlives the daemon that started it.
package main

import (
	"context"
	"flag"
	"os"

	"github.com/containerd/log"

	"github.com/berthd/berth/libcontainerd/shim"
)

func main() {
	debug := flag.Bool("debug", false, "log debug messages")
	_ = flag.String("id", "", "first name of the shim, for people who look at a list of processes")
	flag.Parse()
	if *debug {
		_ = log.SetLevel("debug")
	}
	if err := shim.Main(context.Background()); err != nil {
		log.L.Error(err)
		os.Exit(1)
	}
}
