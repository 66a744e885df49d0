package archive_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/archive"
	"github.com/berthd/berth/internal/vary"
)

// FuzzUnpack feeds archives of all kinds; whatever they say, nothing changes outside of the container's files.
// `go test -fuzz=FuzzUnpack ./archive` looks for more.
func FuzzUnpack(f *testing.F) {
	h := func(kind byte, name, link string) tar.Header {
		return tar.Header{Typeflag: kind, Name: name, Linkname: link, Format: tar.FormatPAX}
	}
	special := h(tar.TypeReg, "attrs", "")
	special.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "y", "SCHILY.xattr.trusted.overlay.opaque": "y", "mtime": "-5"}
	for _, seed := range vary.Bytes(60,
		nil,
		entries(f, h(tar.TypeReg, "a", ""), h(tar.TypeDir, "d", ""), h(tar.TypeReg, "d/x", "")),
		entries(f, h(tar.TypeSymlink, "l", "../outside"), h(tar.TypeReg, "l/secret", "")),
		entries(f, h(tar.TypeSymlink, "l", "/"), h(tar.TypeLink, "h", "l/../../outside/secret"), h(tar.TypeReg, "h", "")),
		entries(f, h(tar.TypeLink, "h", "../outside/secret")),
		entries(f, h(tar.TypeReg, "../outside/secret", "")),
		entries(f, h(tar.TypeReg, "/../outside/secret", "")),
		entries(f, h(tar.TypeChar, "c", ""), h(tar.TypeFifo, "p", ""), h(tar.TypeReg, "p", ""), special),
		entries(f, h(tar.TypeDir, "x", ""), h(tar.TypeSymlink, "x", "."), h(tar.TypeReg, "x/x/x/f", ""), h(tar.TypeReg, "x", "")),
		entries(f, h(tar.TypeReg, ".wh..wh..opq", ""), h(tar.TypeReg, ".wh.a", "")),
		[]byte("BZh91AY&SY"), []byte("\x28\xb5\x2f\xfd rest of it"), []byte("\x1f\x8b\x08 and more of it"),
	) {
		f.Add(seed, "/t")
		f.Add(seed, "/")
	}
	f.Fuzz(func(t *testing.T, data []byte, path string) {
		dir := t.TempDir()
		root, outside := filepath.Join(dir, "root"), filepath.Join(dir, "outside")
		must(t, os.MkdirAll(filepath.Join(root, "t"), 0o755), os.Mkdir(outside, 0o755),
			os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600))
		tree := open(t, archive.Options{Root: root})
		_ = tree.Unpack(t.Context(), bytes.NewReader(data), path, archive.UnpackOptions{}) // any answer will do
		packed(t, tree, "/")
		var found []string
		must(t, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
			if p == root {
				return filepath.SkipDir
			}
			found = append(found, p)
			return err
		}))
		assert.DeepEqual(t, found, []string{dir, outside, filepath.Join(outside, "secret")})
		fi, err := os.Stat(filepath.Join(outside, "secret"))
		assert.NilError(t, err)
		assert.Equal(t, fi.Size(), int64(1))
		assert.Equal(t, fi.Mode(), os.FileMode(0o600))
	})
}
