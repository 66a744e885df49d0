package layer_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/testimage"
	"github.com/berthd/berth/libcontainerd/embedded"
)

// show writes changes as docker diff does.
func show(changes []containertypes.FilesystemChange) string {
	lines := []string{}
	for _, c := range changes {
		lines = append(lines, "CAD"[c.Kind:c.Kind+1]+" "+c.Path)
	}
	return strings.Join(lines, "\n")
}

// What is wanted here is what dockerd 20.10 answers after the same commands, sorted.
func TestChanges(t *testing.T) {
	for _, driver := range []string{embedded.Overlayfs, embedded.Native} {
		t.Run(driver, func(t *testing.T) {
			s, e := setup(t, driver)
			image(t, e, "base", "", testimage.File{Name: "d/"}, testimage.File{Name: "d/a", Body: "a"},
				testimage.File{Name: "d/b", Body: "b"}, testimage.File{Name: "d/sub/"}, testimage.File{Name: "d/sub/c", Body: "c"},
				testimage.File{Name: "bin/"}, testimage.File{Name: "bin/mv"}, testimage.File{Name: "tmp/"}, testimage.File{Name: "cap"},
				testimage.File{Name: "f/"}, testimage.File{Name: "f/x"}, testimage.File{Name: "l", Link: "d/a"})
			image(t, e, "top", "base", testimage.File{Name: "upper"})
			create(t, s, "c1", "top")
			changes, err := s.Changes(t.Context(), "c1")
			assert.NilError(t, err)
			assert.Assert(t, changes == nil, show(changes))
			root, err := s.Mount(t.Context(), "c1")
			assert.NilError(t, err)
			changes, err = s.Changes(t.Context(), "c1")
			assert.NilError(t, err)
			assert.Assert(t, changes == nil, "mount points are no changes:\n%s", show(changes))

			at := func(p string) string { return filepath.Join(root, p) }
			for _, err := range []error{
				os.WriteFile(at("tmp/x"), nil, 0o644), os.Remove(at("tmp/x")),
				os.Remove(at("d/a")), os.WriteFile(at("d/b"), []byte("more"), 0o644),
				os.RemoveAll(at("d/sub")), os.Mkdir(at("d/sub"), 0o755), os.WriteFile(at("d/sub/z"), nil, 0o644),
				os.MkdirAll(at("n/m"), 0o755), os.WriteFile(at("n/m/q"), nil, 0o644),
				os.Chmod(at("bin"), 0o700), os.Remove(at("bin/mv")), os.Remove(at("upper")),
				os.WriteFile(at("etc/own"), nil, 0o644),
				os.RemoveAll(at("f")), os.WriteFile(at("f"), nil, 0o644),
				os.Remove(at("l")), os.MkdirAll(at("l/in"), 0o755),
				unix.Setxattr(at("cap"), "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0),
			} {
				assert.NilError(t, err)
			}
			changes, err = s.Changes(t.Context(), "c1")
			assert.NilError(t, err)
			assert.Equal(t, show(changes), "C /bin\nD /bin/mv\nC /cap\nC /d\nD /d/a\nC /d/b\nC /d/sub\nD /d/sub/c\nA /d/sub/z\n"+
				"C /etc\nA /etc/own\nC /f\nC /l\nA /l/in\nA /n\nA /n/m\nA /n/m/q\nD /upper")
			_, err = s.Changes(t.Context(), "nobody")
			assert.Assert(t, errdefs.IsNotFound(err), "%v", err)
		})
	}
}

func TestChangesOfALayerOnNothing(t *testing.T) {
	s, _ := setup(t, embedded.Overlayfs)
	create(t, s, "c1", "")
	root, err := s.Mount(t.Context(), "c1")
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(filepath.Join(root, "own"), nil, 0o644))
	changes, err := s.Changes(t.Context(), "c1")
	assert.NilError(t, err)
	assert.Equal(t, show(changes), "A /own")
}

func TestALayerThatIsHeldStaysMounted(t *testing.T) {
	s, _ := setup(t, embedded.Overlayfs)
	create(t, s, "c1", "")
	path, first, err := s.Hold(t.Context(), "c1")
	assert.NilError(t, err)
	_, second, err := s.Hold(t.Context(), "c1")
	assert.NilError(t, err)
	assert.Equal(t, mounted(t, path), 1)

	// A run begins and ends meanwhile.
	_, err = s.Mount(t.Context(), "c1")
	assert.NilError(t, err)
	assert.Equal(t, mounted(t, path), 1)
	assert.NilError(t, s.Unmount(t.Context(), "c1"))
	assert.Equal(t, mounted(t, path), 1)
	first()
	first()
	assert.Equal(t, mounted(t, path), 1)
	second()
	assert.Equal(t, mounted(t, path), 0)

	// A run that goes on keeps the mount.
	_, held, err := s.Hold(t.Context(), "c1")
	assert.NilError(t, err)
	_, err = s.Mount(t.Context(), "c1")
	assert.NilError(t, err)
	held()
	assert.Equal(t, mounted(t, path), 1)
}

func TestReleaseWaitsForWhoHolds(t *testing.T) {
	s, _ := setup(t, embedded.Overlayfs)
	create(t, s, "c1", "")
	path, held, err := s.Hold(t.Context(), "c1")
	assert.NilError(t, err)
	released := make(chan error, 1)
	go func() { released <- s.Release(t.Context(), "c1") }()
	_, again, err := s.Hold(t.Context(), "c1")
	assert.NilError(t, err)
	held()
	assert.NilError(t, os.WriteFile(filepath.Join(path, "still"), nil, 0o644))
	again()
	assert.NilError(t, <-released)
	_, _, err = s.Hold(t.Context(), "c1")
	assert.Assert(t, errdefs.IsNotFound(err), "%v", err)
}
