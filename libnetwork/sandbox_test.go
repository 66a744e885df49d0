package libnetwork

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/errdefs"
)

// options are those of an engine without a default bridge.
func options(t *testing.T, dir string) Options {
	cfg := config.Default()
	cfg.Bridge, cfg.IPForward, cfg.ExecRoot = "none", false, t.TempDir()
	return Options{Dir: dir, NetNS: t.TempDir(), Config: cfg}
}

func TestSandboxIsANamespaceOfItsOwnUntilItIsRemoved(t *testing.T) {
	s, err := New(options(t, t.TempDir()))
	assert.NilError(t, err)
	sb, err := s.NewSandbox(t.Context())
	assert.NilError(t, err)
	inode := func(path string) uint64 {
		var st unix.Stat_t
		assert.NilError(t, unix.Stat(path, &st))
		return st.Ino
	}
	assert.Assert(t, inode(sb.Key) != inode("/proc/self/ns/net"))
	keys, err := s.Sandboxes()
	assert.NilError(t, err)
	assert.DeepEqual(t, keys, []string{sb.Key})
	for range 2 {
		assert.NilError(t, s.RemoveSandbox(sb.Key), "removing may be repeated")
	}
	_, err = os.Stat(sb.Key)
	assert.Assert(t, os.IsNotExist(err))
}

func TestNetworksKeepTheirIDs(t *testing.T) {
	dir := t.TempDir()
	s, err := New(options(t, dir))
	assert.NilError(t, err)
	none, err := s.Find("none")
	assert.NilError(t, err)
	again, err := New(options(t, dir))
	assert.NilError(t, err)
	for _, ref := range []string{"none", none.ID, none.ID[:12]} {
		n, err := again.Find(ref)
		assert.NilError(t, err)
		assert.Equal(t, n.ID, none.ID)
	}
	_, err = again.Find("nope")
	assert.Error(t, err, "network nope not found")
	assert.Assert(t, errdefs.IsNotFound(err))
	for _, id := range []string{"zz1", "zz2"} {
		again.networks[id] = &Network{ID: id, Name: "net-" + id}
	}
	_, err = again.Find("zz")
	assert.Error(t, err, "network zz is ambiguous (2 matches found based on ID prefix)")
	_, err = again.NetworkInspect(t.Context(), "zz")
	assert.Error(t, err, "2 matches found based on ID prefix: network zz is ambiguous")

	assert.NilError(t, os.WriteFile(filepath.Join(dir, "networks.json"), []byte("{"), 0o600))
	_, err = New(options(t, dir))
	assert.ErrorContains(t, err, "networks.json is damaged")
}
