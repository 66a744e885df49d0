package files

import (
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
)

func TestWriteReplacesWholeAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for i, content := range []string{"one", "a longer two", ""} {
		assert.NilError(t, Write(path, []byte(content), 0o640, Durability(i)))
		got, err := os.ReadFile(path)
		assert.NilError(t, err)
		assert.Equal(t, string(got), content)
	}
	fi, err := os.Stat(path)
	assert.NilError(t, err)
	assert.Equal(t, fi.Mode().Perm(), os.FileMode(0o640))

	// What cannot be replaced stays, and no temporary file is left beside it.
	busy := filepath.Join(dir, "busy")
	assert.NilError(t, os.MkdirAll(filepath.Join(busy, "x"), 0o700))
	assert.Assert(t, Write(busy, []byte("new"), 0o600, Whole) != nil)
	entries, err := os.ReadDir(dir)
	assert.NilError(t, err)
	assert.Equal(t, len(entries), 2)
}

func TestSweepRemovesWhatWasCut(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"f", ".tmp-123"} {
		assert.NilError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	assert.NilError(t, Sweep(dir))
	entries, err := os.ReadDir(dir)
	assert.NilError(t, err)
	assert.Equal(t, len(entries), 1)
	assert.NilError(t, Sweep(filepath.Join(dir, "none")))
}
