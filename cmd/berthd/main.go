// Command berthd is the container engine: package berth with flags, signals and exit codes.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/berthd/berth"
	"github.com/berthd/berth/daemon"
	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/internal/priority"
)

// What this program was built from, set by the linker: version and revision, and when that was made.
var (
	version = "dev"
	commit  = "unknown"
	made    string
)

func main() {
	run := run
	if len(os.Args) > 1 {
		if ask := commands[os.Args[1]]; ask != nil {
			run = func(ctx context.Context, args []string) error { return ask(ctx, args[1:]) }
		}
	}
	err := run(context.Background(), os.Args[1:])
	var code exitCode
	switch {
	case errors.As(err, &code):
		os.Exit(int(code))
	case err != nil:
		fmt.Fprintf(os.Stderr, "berthd: %v\n", err)
		os.Exit(1)
	}
}

// exitCode ends the program when all has been said.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// program is one run of berthd: what the command line said, and the engine.
type program struct {
	flags       *pflag.FlagSet
	engine      *berth.Engine
	stopTracing func(context.Context)
	pidfile     string
}

func run(ctx context.Context, args []string) error {
	p, err := parse(args)
	if err != nil || p == nil {
		return err
	}
	if err := p.start(ctx); err != nil {
		return errors.Join(err, p.close(ctx))
	}
	p.serve(ctx)
	return p.close(ctx)
}

const usage = `Usage: berthd [flags]           run the daemon
       berthd reload [flags]    have a running daemon reload its configuration, and tell what became of it
       berthd config [flags]    show the configuration of a running daemon
       berthd doctor [flags]    check this machine and the configuration, and say what to do about what it finds

A container engine that speaks the Docker Engine API.

%s`

// parse reads the command line. It returns nil when what was asked for has been done.
func parse(args []string) (*program, error) {
	fs := pflag.NewFlagSet("berthd", pflag.ContinueOnError)
	fs.SortFlags = true
	config.RegisterFlags(fs)
	validate := fs.Bool("validate", false, "Check the configuration, say what is wrong with it, and exit.")
	showVersion := fs.BoolP("version", "v", false, "Print the version and exit.")
	fs.Usage = func() {
		fmt.Fprintf(os.Stderr, usage, fs.FlagUsages())
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil, nil
		}
		return nil, config.FlagError(fs, err)
	}
	if fs.NArg() > 0 && fs.Arg(0) == args[0] {
		return nil, fmt.Errorf("%q is no command: there are %s; see berthd --help", args[0],
			strings.Join(slices.Sorted(maps.Keys(commands)), ", "))
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag; a command is the first word: see berthd --help", fs.Arg(0))
	}
	switch {
	case *showVersion:
		fmt.Printf("Berth version %s, build %s\n", version, commit)
		return nil, nil
	case *validate:
		file, explicit := config.File(fs)
		cfg, _, err := config.Load(file, explicit, fs)
		if err == nil {
			err = daemon.Validate(cfg)
		}
		if err == nil {
			fmt.Fprintln(os.Stderr, "configuration OK")
		}
		return nil, err
	}
	return &program{flags: fs}, nil
}

func (p *program) start(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("berthd needs to be started by root")
	}
	priority.Raise()
	p.engine, err = berth.New(ctx, berth.Options{
		Flags: p.flags, Applied: setLogger, Reloaded: func(v config.Verdict) { notifyReload(ctx, v) },
		Version: version, Commit: commit, BuildTime: made,
	})
	if err != nil {
		return err
	}
	p.stopTracing = startTracing(ctx)
	if path := p.engine.Daemon().Config().Pidfile; path != "" {
		if err := writePid(path); err != nil {
			return err
		}
		p.pidfile = path
	}
	return p.engine.Listen(ctx)
}

// serve handles signals until one of them says that it is enough.
func (p *program) serve(ctx context.Context) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	notify(ctx, "READY=1")
	for s := range signals {
		if s != syscall.SIGHUP {
			log.G(ctx).Infof("%s: shutting down", s)
			notify(ctx, "STOPPING=1")
			return
		}
		p.engine.Reload(ctx)
	}
}

func (p *program) close(ctx context.Context) error {
	var err error
	if p.engine != nil {
		err = p.engine.Close(ctx)
	}
	if p.stopTracing != nil {
		p.stopTracing(ctx)
	}
	if p.pidfile != "" {
		err = errors.Join(err, os.Remove(p.pidfile))
	}
	return err
}

// setLogger is the one place where the process's logger is set.
func setLogger(cfg *config.Config) {
	level := cfg.LogLevel
	if cfg.Debug {
		level = "debug"
	}
	if err := log.SetLevel(level); err != nil {
		log.L.WithError(err).Error("the log level cannot be set")
	}
	var format logrus.Formatter = &logrus.JSONFormatter{TimestampFormat: log.RFC3339NanoFixed}
	if cfg.LogFormat == "text" {
		format = &logrus.TextFormatter{
			TimestampFormat: log.RFC3339NanoFixed, FullTimestamp: true, DisableColors: cfg.RawLogs,
		}
	}
	log.L.Logger.SetFormatter(unverified{format})
}

// unverified leaves out what containerd warns of at each start on a file system without fs-verity, which is on most: there
// is nothing to do about it.
type unverified struct{ logrus.Formatter }

func (u unverified) Format(e *logrus.Entry) ([]byte, error) {
	if e.Message == "failed check for fsverity support" && !e.Logger.IsLevelEnabled(logrus.DebugLevel) {
		return nil, nil
	}
	return u.Formatter.Format(e)
}

// lives tells whether a pid is that of another process of a program. What has ended, a zombie too, has no exe any more.
// The number of a daemon that was killed, with its machine perhaps, may be another program's by now, or that of a thread
// of this process, or of a child which is about to become a runtime.
func lives(pid int, program string) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil || filepath.Base(exe) != program {
		return false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	own := strconv.Itoa(os.Getpid())
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		if (name == "Tgid" || name == "PPid") && value == own {
			return false
		}
	}
	return true
}

// writePid refuses to take over the file of a berthd that lives.
func writePid(path string) error {
	if b, err := os.ReadFile(path); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && lives(pid, "berthd") {
			return fmt.Errorf("berthd is running already as process %d, which %s names: stop it, or give this one another --pidfile", pid, path)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())), 0o644)
}
