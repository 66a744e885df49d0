package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/archive"
	"github.com/berthd/berth/errdefs"
)

// must fails the test on the first of some errors.
func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		assert.NilError(t, err)
	}
}

func open(t testing.TB, o archive.Options) *archive.Tree {
	t.Helper()
	tree, err := archive.Open(o)
	assert.NilError(t, err)
	t.Cleanup(func() { assert.NilError(t, tree.Close()) })
	return tree
}

// container makes the files of a container and returns where they are.
func container(t testing.TB) string {
	root := t.TempDir()
	at := func(p string) string { return filepath.Join(root, p) }
	must(t, os.MkdirAll(at("d/sub"), 0o755), os.MkdirAll(at("etc"), 0o755),
		os.WriteFile(at("d/a"), []byte("a\n"), 0o640), os.WriteFile(at("d/sub/c"), []byte("c"), 0o644),
		os.Symlink("/d", at("ld")), os.Symlink("d/a", at("la")), os.Symlink("/nope/x", at("dang")),
		os.Symlink("loop", at("loop")), os.Symlink("../../../../etc", at("d/up")), os.Symlink("sub/..//a", at("d/crooked")),
		os.Link(at("d/a"), at("d/hard")), unix.Mkfifo(at("d/pipe"), 0o600), unix.Mknod(at("d/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	return root
}

func TestStat(t *testing.T) {
	tree := open(t, archive.Options{Root: container(t)})
	for _, tc := range []struct{ path, want string }{
		{"/", "/ d"}, {"/.", ". d"}, {".", ". d"}, {"/d", "d d"}, {"d/", "d d"}, {"/d/.", ". d"}, {"/d/a", "a -"},
		{"d/../d/a", "a -"}, {"../../d/a", "a -"}, {"/ld", "ld L /d"}, {"/ld/", "ld d"}, {"/ld/.", ". d"}, {"/ld/a", "a -"},
		{"/la", "la L /d/a"}, {"/dang", "dang L /nope/x"}, {"/d/up", "up L /etc"}, {"/d/up/", "up d"}, {"/loop", "loop L /loop"},
		{"/d/crooked", "crooked L /d/a"}, {"/d/pipe", "pipe p"}, {"/d/null", "null Dc"},
	} {
		st, err := tree.Stat(tc.path)
		assert.NilError(t, err, tc.path)
		got := st.Name + " " + strings.TrimRight(st.Mode.String()[:len(st.Mode.String())-9], "")
		if st.LinkTarget != "" {
			got += " " + st.LinkTarget
		}
		assert.Equal(t, got, tc.want, tc.path)
	}
	for _, p := range []string{"/nope", "/nope/x", "/dang/", "/dang/x", "/d/nope"} {
		_, err := tree.Stat(p)
		assert.Assert(t, errdefs.IsNotFound(err), "%s: %v", p, err)
	}
	for _, p := range []string{"/d/a/", "/d/a/.", "/d/a/x", "/la/", "/loop/", "/d/\x00", strings.Repeat("x", 300), strings.Repeat("/x", 3000)} {
		_, err := tree.Stat(p)
		assert.Assert(t, errdefs.IsInvalidParameter(err), "%.20s: %v", p, err)
	}
}

// list shows what is in an archive, one entry a line.
func list(t testing.TB, b []byte) string {
	t.Helper()
	var lines []string
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return strings.Join(lines, "\n")
		}
		assert.NilError(t, err)
		body, err := io.ReadAll(r)
		assert.NilError(t, err)
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%c %s %s%s", h.Typeflag, h.Name, h.Linkname, body), " \n"))
	}
}

func packed(t testing.TB, tree *archive.Tree, path string) []byte {
	t.Helper()
	var b bytes.Buffer
	assert.NilError(t, tree.Pack(t.Context(), path, func(containertypes.PathStat) io.Writer { return &b }))
	return b.Bytes()
}

func TestPack(t *testing.T) {
	tree := open(t, archive.Options{Root: container(t)})
	inside := func(name string) string {
		return strings.ReplaceAll("5 N/\n0 N/a a\n2 N/crooked sub/..//a\n1 N/hard N/a\n3 N/null\n6 N/pipe\n5 N/sub/\n0 N/sub/c c\n2 N/up ../../../../etc", "N", name)
	}
	for path, want := range map[string]string{
		"/d": inside("d"), "/d/": inside("d"), "/d/.": inside("."), "/ld": "2 ld /d", "/ld/": inside("ld"), "/ld/.": inside("."),
		"/d/a": "0 a a", "/la": "2 la d/a", "/ld/sub": "5 sub/\n0 sub/c c",
	} {
		assert.Equal(t, list(t, packed(t, tree, path)), want, path)
	}
	assert.Assert(t, strings.HasPrefix(list(t, packed(t, tree, "/")), "5 /\n5 /d/\n0 /d/a a\n"))
	var b bytes.Buffer
	must(t, tree.PackAll(t.Context(), &b))
	assert.Assert(t, strings.HasPrefix(list(t, b.Bytes()), "5 d/\n0 d/a a\n"), list(t, b.Bytes()))
	b.Reset()
	must(t, tree.PackResolved(t.Context(), "la", func() io.Writer { return &b }))
	assert.Equal(t, list(t, b.Bytes()), "0 a a")
	assert.ErrorIs(t, tree.Pack(t.Context(), "/d", func(containertypes.PathStat) io.Writer { return failing{} }), errBroken)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBroken)
	assert.ErrorIs(t, tree.PackAll(ctx, io.Discard), errBroken)
}

var errBroken = errors.New("broken")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errBroken }

// What comes out of one tree goes into another as it was.
func TestThereAndBack(t *testing.T) {
	from, to := container(t), t.TempDir()
	old := time.Unix(1_000_000_000, 0)
	capability := []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	must(t, os.WriteFile(filepath.Join(from, "d/tool"), []byte("tool"), 0o755), os.Lchown(filepath.Join(from, "d/tool"), 7, 8),
		os.Chmod(filepath.Join(from, "d/tool"), 0o755|os.ModeSetgid), os.Lchown(filepath.Join(from, "d/up"), 5, 6),
		unix.Setxattr(filepath.Join(from, "d/tool"), "security.capability", capability, 0),
		os.Chtimes(filepath.Join(from, "d/tool"), old, old), os.Chmod(filepath.Join(from, "d"), 0o711), os.Chtimes(filepath.Join(from, "d"), old, old))
	b := packed(t, open(t, archive.Options{Root: from}), "/d")
	tree := open(t, archive.Options{Root: to})
	for range 2 { // the second time over what is there
		must(t, tree.Unpack(t.Context(), bytes.NewReader(b), "/", archive.UnpackOptions{}))
		assert.Equal(t, list(t, packed(t, tree, "/d")), list(t, b))
	}
	for _, name := range []string{"d", "d/tool", "d/a", "d/up", "d/null", "d/pipe"} {
		var want, got unix.Stat_t
		must(t, unix.Lstat(filepath.Join(from, name), &want), unix.Lstat(filepath.Join(to, name), &got))
		assert.Equal(t, got.Mode, want.Mode, name)
		assert.Equal(t, got.Uid, want.Uid, name)
		assert.Equal(t, got.Gid, want.Gid, name)
		assert.Equal(t, got.Rdev, want.Rdev, name)
		assert.Equal(t, got.Mtim.Sec, want.Mtim.Sec, name)
	}
	got := make([]byte, 64)
	n, err := unix.Getxattr(filepath.Join(to, "d/tool"), "security.capability", got)
	assert.NilError(t, err)
	assert.DeepEqual(t, got[:n], capability)
}

// entries makes an archive.
func entries(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		body := ""
		if h.Typeflag == tar.TypeReg {
			body = "new"
		}
		h.Size = int64(len(body))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		must(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, body)
		assert.NilError(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

func TestUnpack(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink}
	}
	hard := func(name, to string) tar.Header {
		return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeLink}
	}
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
	for _, tc := range []struct {
		what    string
		path    string
		keep    bool
		archive []byte
		want    string // a file that is there afterwards, or a part of the error
		is      func(error) bool
	}{
		{"a file", "/d", false, entries(t, file("new")), "d/new", nil},
		{"through a link", "/ld", false, entries(t, file("new")), "d/new", nil},
		{"at the root", "/", false, entries(t, file("./new")), "new", nil},
		{"parents", "/d", false, entries(t, file("p/q/new")), "d/p/q/new", nil},
		{"absolute", "/d", false, entries(t, file("/x/new")), "d/x/new", nil},
		{"over a file", "/d", false, entries(t, file("a")), "d/a", nil},
		{"over a link", "/", false, entries(t, file("la")), "la", nil},
		{"over a directory", "/d", false, entries(t, file("sub")), "d/sub", nil},
		{"over a FIFO", "/d", false, entries(t, file("pipe")), "d/pipe", nil},
		{"over a device", "/d", false, entries(t, file("null")), "d/null", nil},
		{"a whiteout", "/d", false, entries(t, file(".wh.a")), "d/.wh.a", nil},
		{"below a link", "/", false, entries(t, file("ld/new")), "d/new", nil},
		{"below its own link", "/d", false, entries(t, link("l", "/etc"), file("l/new")), "etc/new", nil},
		{"below a link out", "/d", false, entries(t, link("l", "../../../../../etc"), file("l/new")), "etc/new", nil},
		{"a hard link", "/d", false, entries(t, file("x"), hard("y", "x")), "d/y", nil},
		{"an absolute hard link", "/d", false, entries(t, file("x"), hard("y", "/x")), "d/y", nil},
		{"dots", "/d", false, entries(t, dir("."), file("new")), "d/new", nil},
		{"nothing", "/d", false, nil, "d/a", nil},

		{"up", "/d", false, entries(t, file("../evil")), `"../evil" is outside of "/d"`, errdefs.IsInvalidParameter},
		{"up at the root", "/", false, entries(t, file("../../evil")), `"../../evil" is outside of "/"`, errdefs.IsInvalidParameter},
		{"a hard link out", "/d", false, entries(t, hard("y", "../etc/passwd")), `invalid hardlink "y" -> "../etc/passwd"`, errdefs.IsInvalidParameter},
		{"a hard link to nothing", "/d", false, entries(t, hard("y", "nope")), "there is no such file", errdefs.IsInvalidParameter},
		{"below a file", "/d", false, entries(t, file("a/new")), "not a directory", errdefs.IsInvalidParameter},
		{"below a loop", "/", false, entries(t, file("loop/new")), "too many levels", errdefs.IsInvalidParameter},
		{"file over directory", "/d", true, entries(t, file("sub")), `cannot overwrite directory "/d/sub" with non-directory "/d"`, nil},
		{"directory over file", "/d", true, entries(t, dir("a")), `cannot overwrite non-directory "/d/a" with directory "/d"`, nil},
		{"no archive", "/d", false, bytes.Repeat([]byte("x"), 2000), "invalid tar header", errdefs.IsInvalidParameter},
		{"truncated content", "/d", false, entries(t, file("new"))[:513], "unexpected EOF", errdefs.IsInvalidParameter},
		{"truncated header", "/d", false, entries(t, file("new"))[:500], "unexpected EOF", errdefs.IsInvalidParameter},
		{"truncated gzip", "/d", false, []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03x"), "EOF", errdefs.IsInvalidParameter},
		{"xz", "/d", false, []byte("\xfd7zXZ\x00abcdefgh"), "compressed with xz", errdefs.IsInvalidParameter},
		{"into a file", "/d/a", false, entries(t, file("new")), "extraction point is not a directory", errdefs.IsInvalidParameter},
		{"into nothing", "/nope", false, entries(t, file("new")), "no such file", errdefs.IsNotFound},
		{"through a dangling link", "/dang", false, entries(t, file("new")), "no such file", errdefs.IsNotFound},
	} {
		t.Run(tc.what, func(t *testing.T) {
			root := container(t)
			err := open(t, archive.Options{Root: root}).Unpack(t.Context(), bytes.NewReader(tc.archive), tc.path, archive.UnpackOptions{KeepKind: tc.keep})
			if tc.is == nil && !tc.keep {
				assert.NilError(t, err)
				fi, err := os.Lstat(filepath.Join(root, tc.want))
				assert.NilError(t, err)
				assert.Assert(t, fi.Mode().IsRegular())
				return
			}
			assert.ErrorContains(t, err, tc.want)
			assert.Assert(t, tc.is == nil || tc.is(err), "%v", err)
		})
	}
}

func TestUnpackForAnOwner(t *testing.T) {
	root := container(t)
	b := entries(t, tar.Header{Name: "f", Typeflag: tar.TypeReg, Uid: 1, Gid: 2}, tar.Header{Name: "l", Linkname: "f", Typeflag: tar.TypeSymlink})
	must(t, open(t, archive.Options{Root: root}).Unpack(t.Context(), bytes.NewReader(b), "/d", archive.UnpackOptions{Owner: &archive.Owner{UID: 33, GID: 44}}))
	for _, name := range []string{"d/f", "d/l"} {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(root, name), &st))
		assert.Equal(t, st.Uid, uint32(33))
		assert.Equal(t, st.Gid, uint32(44))
	}
}

func TestMounts(t *testing.T) {
	root, bound, ro := container(t), t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(bound, "here"), nil, 0o644), os.WriteFile(filepath.Join(ro, "file"), []byte("f"), 0o644),
		os.Mkdir(filepath.Join(ro, "in"), 0o755))
	tree := open(t, archive.Options{Root: root, ReadOnly: true, Mounts: []archive.Mount{
		{Destination: "/data", Source: bound}, {Destination: "/etc/file", Source: filepath.Join(ro, "file")},
		{Destination: "/gone"}, {Destination: "/ro", Source: ro, ReadOnly: true}, {Destination: "/ld/up/x", Source: bound},
		{Destination: "/data/deep/er", Source: ro},
	}})
	for _, p := range []string{"/data/here", "/etc/file", "/etc/x/here", "/data/deep/er/in"} {
		_, err := tree.Stat(p)
		assert.NilError(t, err, p)
	}
	_, err := tree.Stat("/gone")
	assert.Assert(t, errdefs.IsNotFound(err), "%v", err)
	b := entries(t, tar.Header{Name: "new", Typeflag: tar.TypeReg})
	unpack := func(path string) error {
		return tree.Unpack(t.Context(), bytes.NewReader(b), path, archive.UnpackOptions{})
	}
	must(t, unpack("/data"), unpack("/etc/x"))
	_, err = os.Stat(filepath.Join(bound, "new"))
	assert.NilError(t, err)
	for path, want := range map[string]string{
		"/d": "container rootfs is marked read-only", "/ro": "mounted volume is marked read-only", "/ro/in": "mounted volume is marked read-only",
	} {
		err := unpack(path)
		assert.Error(t, err, want)
		assert.Assert(t, errdefs.IsInvalidParameter(err))
	}
	_, err = archive.Open(archive.Options{Root: root, Mounts: []archive.Mount{{Destination: "/x", Source: bound + "/nope"}}})
	assert.ErrorContains(t, err, "has gone")
}

// The kernel takes a mount away with its mount point, if that is removed from outside of the mount's namespace.
func TestUnpackLeavesMounts(t *testing.T) {
	root, bound := container(t), t.TempDir()
	must(t, os.WriteFile(filepath.Join(bound, "file"), []byte("mine"), 0o644))
	tree := open(t, archive.Options{Root: root, Mounts: []archive.Mount{
		{Destination: "/etc/file", Source: filepath.Join(bound, "file")}, {Destination: "/ld/sub/bound", Source: bound},
	}})
	file := tar.Header{Typeflag: tar.TypeReg}
	for _, tc := range []struct{ path, name, mount string }{
		{"/etc", "file", "/etc/file"}, {"/", "etc/file", "/etc/file"}, {"/d/up", "file", "/etc/file"}, {"/", "etc", "/etc/file"},
		{"/d/sub", "bound", "/d/sub/bound"}, {"/", "d", "/d/sub/bound"}, {"/", "ld/sub", "/d/sub/bound"},
	} {
		file.Name = tc.name
		err := tree.Unpack(t.Context(), bytes.NewReader(entries(t, file)), tc.path, archive.UnpackOptions{})
		assert.ErrorContains(t, err, "device or resource busy: "+tc.mount+" is a mount of the container")
		assert.Assert(t, errdefs.IsInvalidParameter(err), "%v", err)
	}
	for _, p := range []string{"/etc/file", "/d/sub/bound/file"} {
		st, err := tree.Stat(p)
		assert.NilError(t, err)
		assert.Equal(t, st.Size, int64(len("mine")), p)
	}
	file.Name = "file" // below a mount it is replaced
	must(t, tree.Unpack(t.Context(), bytes.NewReader(entries(t, file)), "/d/sub/bound", archive.UnpackOptions{}))
	b, err := os.ReadFile(filepath.Join(bound, "file"))
	assert.NilError(t, err)
	assert.Assert(t, string(b) != "mine")
}
