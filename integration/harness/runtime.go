package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
)

// SlowRuntime is an OCI runtime that takes 8 seconds for each create, or less once Release was called.
type SlowRuntime struct {
	Path string
	t    testing.TB
	dir  string
}

// Hold makes creates slow again, and forgets those that have begun.
func (r *SlowRuntime) Hold() {
	r.t.Helper()
	for _, mark := range []string{"release", "creating"} {
		assert.NilError(r.t, os.Remove(filepath.Join(r.dir, mark)))
	}
}

// NewSlowRuntime writes one that is runc otherwise.
func NewSlowRuntime(t testing.TB) *SlowRuntime {
	t.Helper()
	dir := t.TempDir()
	r := &SlowRuntime{Path: filepath.Join(dir, "slow-runc"), t: t, dir: dir}
	script := fmt.Sprintf(`#!/bin/sh
case " $* " in *" create "*)
	touch %[1]s/creating
	for i in $(seq 80); do
		[ -e %[1]s/release ] && break
		sleep .1
	done
esac
exec runc "$@"
`, dir)
	assert.NilError(t, os.WriteFile(r.Path, []byte(script), 0o700))
	return r
}

// Creating tells whether a create has begun.
func (r *SlowRuntime) Creating() bool {
	_, err := os.Stat(filepath.Join(r.dir, "creating"))
	return err == nil
}

// Release lets creates go on.
func (r *SlowRuntime) Release() {
	r.t.Helper()
	assert.NilError(r.t, os.WriteFile(filepath.Join(r.dir, "release"), nil, 0o600))
}
