package oci

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/errdefs"
)

const (
	passwdFile = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/srv/app:/bin/sh\nbare:x:7:7:::\n"
	groupFile  = "root:x:0:\nwheel:x:10:root,app\napp:x:1001:\nextra:x:2000:\n"
)

func rootWith(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	assert.NilError(t, os.Mkdir(filepath.Join(root, "etc"), 0o755))
	for name, content := range files {
		assert.NilError(t, os.WriteFile(filepath.Join(root, name), []byte(content), 0o644))
	}
	return root
}

func TestResolveUser(t *testing.T) {
	root := rootWith(t, map[string]string{"etc/passwd": passwdFile, "etc/group": groupFile})
	for _, tc := range []struct {
		spec string
		add  []string
		want User
	}{
		{"", nil, User{0, 0, []uint32{0, 10}, "/root"}},
		{"app", nil, User{1000, 1001, []uint32{1001, 10}, "/srv/app"}},
		{"1000", nil, User{1000, 1001, []uint32{1001, 10}, "/srv/app"}},
		{"app:extra", nil, User{1000, 2000, []uint32{2000}, "/srv/app"}},
		{"app:5", nil, User{1000, 5, []uint32{5}, "/srv/app"}},
		{"4321:1234", nil, User{4321, 1234, []uint32{1234}, "/"}},
		{"4321", nil, User{4321, 0, []uint32{0}, "/"}},
		{"bare", nil, User{7, 7, []uint32{7}, "/"}},
		{"app", []string{"extra", "10", "77"}, User{1000, 1001, []uint32{1001, 10, 77, 2000}, "/srv/app"}},
	} {
		got, err := ResolveUser(root, tc.spec, tc.add)
		assert.NilError(t, err)
		assert.DeepEqual(t, got, tc.want)
	}
}

func TestResolveUserRefuses(t *testing.T) {
	root := rootWith(t, map[string]string{"etc/passwd": passwdFile, "etc/group": groupFile})
	for _, tc := range []struct {
		spec, add, text string
	}{
		{"x", "", "unable to find user x: no matching entries in passwd file"},
		{"app:x", "", "unable to find group x: no matching entries in group file"},
		{"app", "x", "unable to find group x: no matching entries in group file"},
	} {
		var add []string
		if tc.add != "" {
			add = []string{tc.add}
		}
		_, err := ResolveUser(root, tc.spec, add)
		assert.Error(t, err, tc.text)
		assert.Assert(t, errdefs.IsInvalidParameter(err))
	}
	_, err := ResolveUser(root, "app", []string{"extra", ""})
	assert.Error(t, err, `unable to find group "": no matching entries in group file`)
	assert.Assert(t, errdefs.IsInvalidParameter(err))
	for _, spec := range []string{"-1", "4294967296", "0:99999999999"} {
		_, err := ResolveUser(root, spec, nil)
		assert.Assert(t, errdefs.IsInvalidParameter(err), "%s: %v", spec, err)
	}
}

func TestResolveUserWithoutFiles(t *testing.T) {
	for _, root := range []string{t.TempDir(), rootWith(t, nil)} {
		got, err := ResolveUser(root, "12:13", []string{"14"})
		assert.NilError(t, err)
		assert.DeepEqual(t, got, User{12, 13, []uint32{13, 14}, "/"})
		_, err = ResolveUser(root, "app", nil)
		assert.Error(t, err, "unable to find user app: no matching entries in passwd file")
	}
}

// The image decides what its files are; none of it may reach the host's files, or hold up the daemon.
func TestResolveUserInHostileImage(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "passwd")
	assert.NilError(t, os.WriteFile(outside, []byte("app:x:1:1::/:\n"), 0o644))
	for name, target := range map[string]string{
		"absolute": outside,
		"relative": strings.Repeat("../", 40) + outside,
	} {
		t.Run(name, func(t *testing.T) {
			root := rootWith(t, nil)
			assert.NilError(t, os.Symlink(target, filepath.Join(root, "etc/passwd")))
			_, err := ResolveUser(root, "app", nil)
			assert.Error(t, err, "unable to find user app: no matching entries in passwd file")
		})
	}
	t.Run("directory link", func(t *testing.T) {
		root := t.TempDir()
		assert.NilError(t, os.Symlink(filepath.Dir(outside), filepath.Join(root, "etc")))
		_, err := ResolveUser(root, "app", nil)
		assert.Error(t, err, "unable to find user app: no matching entries in passwd file")
	})
	t.Run("link inside", func(t *testing.T) {
		root := rootWith(t, map[string]string{"users": passwdFile})
		assert.NilError(t, os.Symlink("/users", filepath.Join(root, "etc/passwd")))
		got, err := ResolveUser(root, "app", nil)
		assert.NilError(t, err)
		assert.Equal(t, got.UID, uint32(1000))
	})
	t.Run("fifo", func(t *testing.T) {
		root := rootWith(t, nil)
		assert.NilError(t, unix.Mkfifo(filepath.Join(root, "etc/passwd"), 0o644))
		_, err := ResolveUser(root, "", nil)
		assert.ErrorContains(t, err, "/etc/passwd of the container is not a regular file")
	})
	t.Run("endless line", func(t *testing.T) {
		root := rootWith(t, nil)
		f, err := os.Create(filepath.Join(root, "etc/passwd"))
		assert.NilError(t, err)
		assert.NilError(t, f.Truncate(1<<40))
		assert.NilError(t, f.Close())
		_, err = ResolveUser(root, "app", nil)
		assert.ErrorContains(t, err, "unable to find user app")
	})
}
