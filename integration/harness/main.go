// Package harness gives integration tests real daemons: each in a sandbox of its own, driven over its socket, over the
// stock docker CLI or inside the test's process, and gone without a trace afterwards.
package harness

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Main is what TestMain of a package of integration tests calls. It builds the programs, moves the test process into
// a sandbox, so that engines inside it are in one too, and runs the tests.
func Main(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	flag.Parse()
	if os.Getenv("SANDBOX") != "" || prebuilt() != "" {
		return m.Run(), nil
	}
	if err := build(); err != nil {
		return 0, err
	}
	cmd := exec.Command(filepath.Join(root(), "scripts/sandbox"), os.Args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if cmd.ProcessState != nil {
		return cmd.ProcessState.ExitCode(), nil
	}
	return 0, err
}

// build puts berthd and berth-shim into a folder of bin. What is there and up to date costs little; the lock keeps
// packages whose tests run at the same time from writing one file together.
func build() error {
	dir := binaries()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if err := goBuild("", "-race", "-o", Berthd(), "./cmd/berthd"); err != nil {
		return err
	}
	return goBuild("CGO_ENABLED=0", "-tags", "no_grpc", "-o", filepath.Join(dir, "berth-shim"), "./cmd/berth-shim")
}

func goBuild(env string, args ...string) error {
	cmd := exec.Command("go", append([]string{"build"}, args...)...)
	cmd.Dir = root()
	if env != "" {
		cmd.Env = append(os.Environ(), env)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return nil
}

// Berthd is the path of the daemon's program, with the race detector.
func Berthd() string { return filepath.Join(binaries(), "berthd") }

// ShimPath is the path of the shim, for engines inside the test's process.
func ShimPath() string { return filepath.Join(binaries(), "berth-shim") }

// patience is how long the harness waits for something that takes that long on a machine: in a throwaway one everything does.
func patience(usual time.Duration) time.Duration {
	if prebuilt() != "" {
		return 10 * usual
	}
	return usual
}

// prebuilt is the folder of the programs in a throwaway machine, where nothing is built and no sandboxes are made: all of
// it is one. See scripts/vm-test.
func prebuilt() string { return os.Getenv("PREBUILT") }

func binaries() string {
	if dir := prebuilt(); dir != "" {
		return dir
	}
	return filepath.Join(root(), "bin/test")
}

// root is the folder of go.mod: tests run in their package's folder.
func root() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	panic("harness: no go.mod above the working directory")
}
