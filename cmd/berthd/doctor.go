package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/berthd/berth"
	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/doctor"
)

// examine is berthd doctor: it takes the daemon's flags, and fails when a daemon with them would.
func examine(ctx context.Context, args []string) error {
	fs := pflag.NewFlagSet("berthd doctor", pflag.ContinueOnError)
	config.RegisterFlags(fs)
	asJSON := fs.Bool("json", false, "Print the findings as JSON.")
	fs.Usage = func() {
		fmt.Fprintf(os.Stderr, "Usage: berthd doctor [flags]\n\n%s\n\n%s",
			`Checks this machine and the configuration, and says what to do about what it finds. It changes nothing.
Exit code: 0 the daemon can run containers, 1 it cannot. The flags are those of the daemon, and --json.`, fs.FlagUsages())
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return config.FlagError(fs, err)
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%s takes flags only, not %q", fs.Name(), fs.Arg(0))
	}
	shim, shimErr := berth.FindShim("")
	findings := doctor.Examine(ctx, fs, shim, shimErr)
	var err error
	if *asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		err = e.Encode(findings)
	} else {
		err = doctor.Print(os.Stdout, findings)
	}
	if err == nil && doctor.Worst(findings) == doctor.Problem {
		return exitProblem
	}
	return err
}
