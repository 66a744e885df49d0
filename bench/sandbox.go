package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// sandbox is a sandbox of scripts/sandbox with this program inside.
type sandbox struct {
	dir    string // a folder of its own, the same inside and outside
	inside *client
	cmd    *exec.Cmd
	stdin  io.Closer
}

func newSandbox() (*sandbox, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("scripts/sandbox", self, "-inside")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("start a sandbox: %w", err)
	}
	s := &sandbox{dir: strings.TrimSpace(line), cmd: cmd, stdin: stdin}
	s.inside = newClient(s.path("inside"))
	return s, nil
}

func (s *sandbox) path(p ...string) string { return filepath.Join(append([]string{s.dir}, p...)...) }

// runDir is a directory for what a reboot ends. Engines and runc have that in /run, in memory; a sandbox has one of its own.
func runDir(name string) string { return filepath.Join("/run/bench", name) }

// close ends all that is in the sandbox.
func (s *sandbox) close() {
	s.stdin.Close()
	_ = s.cmd.Wait()
}

// spawn starts a program that goes on, and returns its pid as it is inside.
func (s *sandbox) spawn(ctx context.Context, args ...string) (pid int, err error) {
	r := spawnRequest{Args: args, Log: s.path(filepath.Base(args[0]) + ".log")}
	return pid, s.inside.call(ctx, "POST", "/spawn", r, &pid)
}

// memory is what the engine in the sandbox uses, in MiB, without the processes with these command lines.
func (s *sandbox) memory(ctx context.Context, except ...string) (float64, error) {
	var kib int
	err := s.inside.call(ctx, "POST", "/memory", except, &kib)
	return float64(kib) / 1024, err
}

// peak is what memory a process had at most since peak was asked last, in MiB.
func (s *sandbox) peak(ctx context.Context, pid int) (float64, error) {
	var kib int
	err := s.inside.call(ctx, "POST", "/peak", pid, &kib)
	return float64(kib) / 1024, err
}
