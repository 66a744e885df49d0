package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"github.com/berthd/berth/daemon"
	"github.com/berthd/berth/daemon/config"
)

// commands are those beside running the daemon.
var commands = map[string]func(ctx context.Context, args []string) error{
	"reload": askReload, "config": askConfig, "doctor": examine,
}

// What scripts learn of a reload, beside 0: everything that the file says is in force.
const (
	exitRejected     exitCode = 1
	exitNeedsRestart exitCode = 2
)

// exitProblem is what scripts learn of berthd doctor.
const exitProblem exitCode = 1

// question is what a command line asks of a daemon.
type question struct {
	flags *pflag.FlagSet
	host  *string
	json  *bool
}

func newQuestion(name, about string) question {
	fs := pflag.NewFlagSet("berthd "+name, pflag.ContinueOnError)
	host := os.Getenv("DOCKER_HOST")
	if host == "" {
		host = config.Default().Hosts[0]
	}
	q := question{
		flags: fs,
		host:  fs.StringP("host", "H", host, "Address of the daemon: unix://PATH or tcp://ADDRESS:PORT ($DOCKER_HOST)."),
		json:  fs.Bool("json", false, "Print the answer as JSON."),
	}
	fs.Usage = func() { fmt.Fprintf(os.Stderr, "Usage: berthd %s [flags]\n\n%s\n\n%s", name, about, fs.FlagUsages()) }
	return q
}

// parse reports false when nothing is left to be done.
func (q question) parse(args []string) (bool, error) {
	if err := q.flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return false, nil
		}
		return false, config.FlagError(q.flags, err)
	}
	if q.flags.NArg() > 0 {
		return false, fmt.Errorf("%s takes flags only, not %q", q.flags.Name(), q.flags.Arg(0))
	}
	return true, nil
}

func askReload(ctx context.Context, args []string) error {
	q := newQuestion("reload", `Has a running daemon reload its configuration, waits, and tells what became of each key.
Exit code: 0 all is in force, 1 rejected, nothing was applied, 2 applied, but something needs a restart.`)
	dry := q.flags.Bool("dry-run", false, "Only say what a reload would do.")
	if ok, err := q.parse(args); !ok {
		return err
	}
	path := "/berth/config/reload"
	if *dry {
		path += "?dry-run=1"
	}
	var v config.Verdict
	raw, err := q.ask(ctx, http.MethodPost, path, &v)
	if err != nil {
		return err
	}
	if *q.json {
		_, err = os.Stdout.Write(raw)
	} else {
		err = printVerdict(os.Stdout, v)
	}
	switch {
	case err != nil:
		return err
	case v.Outcome == config.Rejected:
		return exitRejected
	case v.Outcome == config.NeedsRestart:
		return exitNeedsRestart
	}
	return nil
}

func printVerdict(w io.Writer, v config.Verdict) error {
	if len(v.Changes) > 0 {
		t := newTable(w, "KEY", "OUTCOME", "RUNNING", "CONFIGURED", "REASON")
		for _, c := range v.Changes {
			t.row(c.Key, string(c.Outcome), string(c.Running), string(c.Configured), c.Reason)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	for _, n := range v.Notes {
		fmt.Fprintln(w, "applied:", n)
	}
	for _, warning := range v.Warnings {
		fmt.Fprintln(w, "warning:", warning)
	}
	sentence := map[config.Outcome]string{
		config.Applied:      "applied: everything that the configuration says is in force",
		config.NeedsRestart: "applied, but for what needs a restart of the daemon: there the running value stays",
		config.Rejected:     "rejected, nothing was applied",
	}[v.Outcome]
	if v.Outcome == config.Rejected && len(v.Changes) == 0 { // no key is to blame
		sentence += ": " + v.Error
	}
	_, err := fmt.Fprintln(w, sentence)
	return err
}

func askConfig(ctx context.Context, args []string) error {
	q := newQuestion("config", "Shows the configuration of a running daemon, and where each value comes from.")
	if ok, err := q.parse(args); !ok {
		return err
	}
	var r daemon.ConfigReport
	raw, err := q.ask(ctx, http.MethodGet, "/berth/config", &r)
	if err != nil {
		return err
	}
	if *q.json {
		_, err = os.Stdout.Write(raw)
		return err
	}
	t := newTable(os.Stdout, "KEY", "RUNNING", "ORIGIN", "RELOAD", "WAITS FOR A RESTART")
	for _, e := range r.Keys {
		reload := "needs restart"
		if e.Reloadable {
			reload = "applied"
		}
		t.row(e.Key, string(e.Running), string(e.Origin), reload, string(e.Configured))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err = fmt.Printf("\ngeneration %d; last reload: %s\n", r.Generation, r.Last)
	return err
}

// ask sends one request. The answer is decoded into to, and returned as it came.
func (q question) ask(ctx context.Context, method, path string, to any) ([]byte, error) {
	host, err := config.ParseHost(*q.host, false)
	if err != nil {
		return nil, err
	}
	if host.Proto == "fd" {
		return nil, fmt.Errorf("%s is no address to ask at: use unix://PATH or tcp://ADDRESS:PORT", *q.host)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, host.Proto, host.Addr)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial}}
	req, err := http.NewRequestWithContext(ctx, method, "http://berth"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no daemon answers at %s: %w", host, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("the answer of %s ends early: %w", host, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: %s; is it berthd?", host, resp.Status, strings.TrimSpace(string(raw)))
	}
	if err := json.Unmarshal(raw, to); err != nil {
		return nil, fmt.Errorf("the answer of %s: %w", host, err)
	}
	return raw, nil
}

// table is printed in columns as wide as they need to be.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer, head ...string) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row(head...)
	return t
}

// row adds a row. Cells that are empty at its end leave no blanks behind.
func (t table) row(cells ...string) {
	for len(cells) > 0 && cells[len(cells)-1] == "" {
		cells = cells[:len(cells)-1]
	}
	fmt.Fprintln(t, strings.Join(cells, "\t"))
}
