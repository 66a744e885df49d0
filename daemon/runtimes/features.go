package runtimes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/berthd/berth/internal/priority"
)

const (
	// featuresTimeout is how long a runtime may take to say what it can do.
	featuresTimeout = 2 * time.Second
	// maxFeatures bounds what is read of the answer.
	maxFeatures = 1 << 20
)

// probe fills in what the binaries of the entries say of themselves, each asked once and all at the same time, and
// returns what is to be warned of, in the order of the entries.
func probe(ctx context.Context, entries []*entry) []string {
	type answer struct {
		features string
		warning  string
	}
	answers := map[string]*answer{}
	var (
		order []string
		wg    sync.WaitGroup
	)
	for _, e := range entries {
		path := e.rt.Path
		if path == "" || answers[path] != nil {
			continue
		}
		a := &answer{}
		answers[path] = a
		order = append(order, path)
		if err := e.rt.Preflight(); err != nil {
			a.warning = err.Error()
			continue
		}
		wg.Go(func() {
			var err error
			if a.features, err = ask(ctx, path); err != nil {
				a.warning = fmt.Sprintf("Failed to run [%s features]: %v", path, err)
			}
		})
	}
	wg.Wait()
	for _, e := range entries {
		if a := answers[e.rt.Path]; a != nil {
			e.rt.Features = a.features
		}
	}
	var warnings []string
	for _, path := range order {
		if w := answers[path].warning; w != "" {
			warnings = append(warnings, w)
		}
	}
	return warnings
}

// ask runs "<path> features" and returns its answer without blanks.
func ask(ctx context.Context, path string) (string, error) {
	out, err := output(ctx, path, "features")
	if err != nil {
		return "", err
	}
	var f features.Features
	if err := json.Unmarshal(out, &f); err != nil {
		return "", fmt.Errorf("invalid answer: %w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, out); err != nil {
		return "", errors.New("invalid answer")
	}
	return compact.String(), nil
}

// output runs a program that may do as it likes, and returns what it prints.
func output(ctx context.Context, path, arg string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, featuresTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, arg)
	stdout, stderr := &limited{max: maxFeatures}, &limited{max: 512}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// What the runtime started ends with it, or at least is not waited for.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = featuresTimeout / 4
	if err := priority.Ordinary(cmd.Run); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("no answer within %s", featuresTimeout)
		}
		if text := strings.TrimSpace(string(stderr.kept)); text != "" {
			return nil, fmt.Errorf("%w: %s", err, text)
		}
		return nil, err
	}
	if stdout.over {
		return nil, fmt.Errorf("an answer of more than %d bytes", maxFeatures)
	}
	return stdout.kept, nil
}

// limited keeps the first max bytes that are written to it and drops the rest.
type limited struct {
	kept []byte
	max  int
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	room := l.max - len(l.kept)
	l.over = l.over || room < len(p)
	l.kept = append(l.kept, p[:min(room, len(p))]...)
	return len(p), nil
}
