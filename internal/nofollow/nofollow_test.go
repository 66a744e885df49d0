package nofollow_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/internal/nofollow"
)

func TestLinksAreNotFollowed(t *testing.T) {
	path := t.TempDir()
	assert.NilError(t, os.Mkdir(filepath.Join(path, "b"), 0o755))
	assert.NilError(t, os.Symlink("b", filepath.Join(path, "a")))
	assert.NilError(t, unix.Setxattr(filepath.Join(path, "b"), "user.long", make([]byte, 1000), 0))
	dir, err := nofollow.Open(path)
	assert.NilError(t, err)
	defer dir.Close()
	names, err := dir.Names()
	assert.NilError(t, err)
	assert.DeepEqual(t, names, []string{"a", "b"})
	_, err = dir.Dir("a")
	assert.Assert(t, nofollow.Gone(err), "%v", err)
	_, err = dir.Stat("c")
	assert.Assert(t, nofollow.Gone(err), "%v", err)
	h, err := dir.Handle("a")
	assert.NilError(t, err)
	defer h.Close()
	var st unix.Stat_t
	assert.NilError(t, unix.Fstat(int(h.Fd()), &st))
	assert.Equal(t, st.Mode&unix.S_IFMT, uint32(unix.S_IFLNK))
	b, err := dir.Dir("b")
	assert.NilError(t, err)
	defer b.Close()
	for name, want := range map[string]int{"user.long": 1000, "user.none": 0} {
		value, err := nofollow.Xattr(b.File(), name)
		assert.NilError(t, err)
		assert.Equal(t, len(value), want)
	}
}

// Directories that are nested without end end in an error, not in a lack of descriptors.
func TestDepthHasAnEnd(t *testing.T) {
	path := t.TempDir()
	dir, err := nofollow.Open(path)
	assert.NilError(t, err)
	for range 5000 {
		defer dir.Close()
		assert.NilError(t, unix.Mkdirat(int(dir.File().Fd()), "d", 0o755))
		if dir, err = dir.Dir("d"); err != nil {
			break
		}
	}
	assert.Assert(t, errors.Is(err, nofollow.ErrTooDeep), "%v", err)
}
