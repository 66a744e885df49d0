package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/errdefs"
)

func TestEngineID(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "engine-id")
	assert.NilError(t, checkDataRoot(root))
	id, err := engineID(path)
	assert.NilError(t, err)
	assert.Equal(t, len(id), 64)
	again, err := engineID(path)
	assert.NilError(t, err)
	assert.Equal(t, again, id)
	assert.NilError(t, checkDataRoot(root))

	// dockerd's has an id of another form, or none, with images beside it.
	refused := func(what string) {
		t.Helper()
		err := checkDataRoot(root)
		assert.ErrorContains(t, err, filepath.Join(root, what)+" is not Berth's")
		assert.Assert(t, errdefs.IsInvalidParameter(err))
	}
	assert.NilError(t, os.WriteFile(path, []byte("5a4c6d4e-0a5c-4b3e-8f6e-2b1f6f1c9a77"), 0o600))
	refused("engine-id")
	assert.NilError(t, os.Remove(path))
	assert.NilError(t, os.Mkdir(filepath.Join(root, "image"), 0o700))
	refused("image")
}
