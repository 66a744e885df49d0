// Package doctor examines a machine and a configuration, and says what keeps an engine from working there, and what to do
// about it. It changes nothing.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/berthd/berth/daemon"
	"github.com/berthd/berth/daemon/config"
)

// Level is how bad a finding is.
type Level string

// The levels of findings.
const (
	OK      Level = "ok"
	Warning Level = "warning" // something will not work, or not well
	Problem Level = "problem" // the daemon will not start, or no container will
)

// Finding is what one check has found.
type Finding struct {
	Check string // what was looked at: kernel, cgroups …
	Level Level
	Found string
	Do    string `json:",omitempty"` // what to do about it; empty with OK
}

// report collects the findings.
type report []Finding

func (r *report) ok(check, format string, a ...any) {
	*r = append(*r, Finding{Check: check, Level: OK, Found: fmt.Sprintf(format, a...)})
}

func (r *report) add(level Level, check, found, do string) {
	*r = append(*r, Finding{Check: check, Level: level, Found: found, Do: do})
}

// Examine looks at everything. The flags are those of config.RegisterFlags, parsed, as the daemon would get them; shimPath
// is the berth-shim that it would use, or shimErr says why there is none.
func Examine(ctx context.Context, flags *pflag.FlagSet, shimPath string, shimErr error) []Finding {
	r := &report{}
	cfg := r.configuration(flags)
	if os.Geteuid() != 0 {
		r.add(Problem, "user", "berthd has to run as root, and most of what follows can only be seen by root", "run it with sudo")
	}
	r.kernel()
	r.cgroups(cfg)
	r.runtimes(ctx, cfg)
	if shimErr != nil {
		r.add(Problem, "shim", shimErr.Error(), "install berth-shim beside berthd: make install does")
	} else {
		r.ok("shim", "%s", shimPath)
	}
	r.storage(cfg)
	r.firewall(cfg)
	r.forwarding(cfg)
	r.named(cfg)
	r.limits()
	r.neighbours(ctx, cfg)
	return *r
}

// configuration loads what the daemon would load. If that is refused, the other checks go by the defaults.
func (r *report) configuration(flags *pflag.FlagSet) config.Config {
	file, explicit := config.File(flags)
	cfg, _, err := config.Load(file, explicit, flags)
	if err == nil {
		err = daemon.Validate(cfg)
	}
	if err != nil {
		for _, e := range each(err) {
			r.add(Problem, "configuration", e.Error(), "change "+file+" or the flags; docs/configuration.md lists the keys")
		}
		return config.Default()
	}
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		r.ok("configuration", "there is no %s: defaults", file)
	} else {
		r.ok("configuration", "%s", file)
	}
	return cfg
}

// each is the errors that were joined.
func each(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, each(e)...)
	}
	return all
}

// Worst is the worst level of the findings.
func Worst(findings []Finding) Level {
	worst := OK
	for _, f := range findings {
		if f.Level == Problem || f.Level == Warning && worst == OK {
			worst = f.Level
		}
	}
	return worst
}

// Print writes the findings for people.
func Print(w io.Writer, findings []Finding) error {
	for _, f := range findings {
		text := fmt.Sprintf("%-8s %-13s %s\n", f.Level, f.Check, strings.ReplaceAll(f.Found, "\n", "\n"+strings.Repeat(" ", 23)))
		if f.Do != "" {
			text += fmt.Sprintf("%23s-> %s\n", "", f.Do)
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	sentence := map[Level]string{
		OK:      "Nothing stands in the way.",
		Warning: "The daemon can start and run containers; what is marked will not work, or not well.",
		Problem: "What is marked as a problem keeps the daemon or its containers from starting.",
	}[Worst(findings)]
	_, err := fmt.Fprintf(w, "\n%s\n", sentence)
	return err
}
