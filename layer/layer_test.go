package layer_test

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
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/moby/sys/mountinfo"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/testimage"
	"github.com/berthd/berth/layer"
	"github.com/berthd/berth/libcontainerd/embedded"
)

func setup(t *testing.T, driver string) (*layer.Service, *embedded.Engine) {
	t.Helper()
	root := t.TempDir()
	e, err := embedded.Start(t.Context(), embedded.Config{Root: filepath.Join(root, "containerd"), Snapshotter: driver})
	assert.NilError(t, err)
	t.Cleanup(func() { assert.NilError(t, e.Close(context.WithoutCancel(t.Context()))) })
	s, err := layer.New(e, root)
	assert.NilError(t, err)
	return s, e
}

// image commits a snapshot named key with files on parent. The gc label keeps it, as an image would.
func image(t *testing.T, e *embedded.Engine, key, parent string, files ...testimage.File) {
	t.Helper()
	ctx := e.Context(t.Context())
	keep := snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "now"})
	mounts, err := e.Snapshotter().Prepare(ctx, key+"-active", parent, keep)
	assert.NilError(t, err)
	assert.NilError(t, mount.WithTempMount(ctx, mounts, func(root string) error {
		tr := tar.NewReader(bytes.NewReader(testimage.Layer(t, files...)))
		for {
			h, err := tr.Next()
			if err == io.EOF {
				return nil
			}
			path := filepath.Join(root, h.Name)
			body, err := io.ReadAll(tr)
			assert.NilError(t, err)
			switch h.Typeflag {
			case tar.TypeDir:
				err = os.Mkdir(path, 0o755)
			case tar.TypeSymlink:
				err = os.Symlink(h.Linkname, path)
			default:
				err = os.WriteFile(path, body, 0o644)
			}
			assert.NilError(t, err)
		}
	}))
	assert.NilError(t, e.Snapshotter().Commit(ctx, key, key+"-active", keep))
}

func create(t *testing.T, s *layer.Service, id, parent string) {
	t.Helper()
	ctx := s.Leased(t.Context(), id)
	assert.NilError(t, s.MakeLease(ctx))
	assert.NilError(t, s.Create(ctx, id, parent))
	t.Cleanup(func() { assert.NilError(t, s.Release(context.WithoutCancel(t.Context()), id)) })
}

func mounted(t *testing.T, path string) int {
	t.Helper()
	list, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != path, false })
	assert.NilError(t, err)
	return len(list)
}

func TestLifeOfALayer(t *testing.T) {
	for _, driver := range []string{embedded.Overlayfs, embedded.Native} {
		t.Run(driver, func(t *testing.T) {
			s, e := setup(t, driver)
			image(t, e, "base", "", testimage.File{Name: "hello", Body: "from the image"})
			create(t, s, "c1", "base")
			path, err := s.Mount(t.Context(), "c1")
			assert.NilError(t, err)
			assert.Equal(t, path, s.Path("c1"))
			assert.Assert(t, strings.HasSuffix(path, "/rootfs/"+driver+"/c1"))
			b, err := os.ReadFile(filepath.Join(path, "hello"))
			assert.NilError(t, err)
			assert.Equal(t, string(b), "from the image")
			assert.NilError(t, os.WriteFile(filepath.Join(path, "own"), []byte("x"), 0o644))

			assert.NilError(t, s.Unmount(t.Context(), "c1"))
			assert.Equal(t, mounted(t, path), 0)
			_, err = os.Stat(path)
			assert.ErrorIs(t, err, os.ErrNotExist)
			assert.NilError(t, s.Unmount(t.Context(), "c1"))

			_, err = s.Mount(t.Context(), "c1")
			assert.NilError(t, err)
			_, err = os.Stat(filepath.Join(path, "own"))
			assert.NilError(t, err)
			assert.NilError(t, s.Release(t.Context(), "c1"))
			assert.NilError(t, s.Release(t.Context(), "c1"))
			assert.Equal(t, mounted(t, path), 0)
			_, err = s.Mount(t.Context(), "c1")
			assert.Assert(t, errdefs.IsNotFound(err), "%v", err)
			_, err = os.Stat(path)
			assert.ErrorIs(t, err, os.ErrNotExist)
		})
	}
}

func TestMountingAtOnceMountsOnce(t *testing.T) {
	s, _ := setup(t, "")
	create(t, s, "c1", "")
	for range 20 {
		var wg sync.WaitGroup
		begin := make(chan struct{})
		errs := make([]error, 16)
		for i := range errs {
			wg.Go(func() {
				<-begin
				_, errs[i] = s.Mount(t.Context(), "c1")
			})
		}
		close(begin)
		wg.Wait()
		for _, err := range errs {
			assert.NilError(t, err)
		}
		assert.Equal(t, mounted(t, s.Path("c1")), 1)
		assert.NilError(t, s.Unmount(t.Context(), "c1"))
	}
}

func TestMountOutlivesTheServiceThatMadeIt(t *testing.T) {
	s, e := setup(t, "")
	create(t, s, "c1", "")
	path, err := s.Mount(t.Context(), "c1")
	assert.NilError(t, err)
	again, err := layer.New(e, filepath.Dir(filepath.Dir(filepath.Dir(path))))
	assert.NilError(t, err)
	_, err = again.Mount(t.Context(), "c1")
	assert.NilError(t, err)
	assert.Equal(t, mounted(t, path), 1)
}

func TestMountPoints(t *testing.T) {
	s, e := setup(t, "")
	image(t, e, "base", "", testimage.File{Name: "etc/"}, testimage.File{Name: "etc/hosts", Body: "mine"})
	create(t, s, "c1", "base")
	path, err := s.Mount(t.Context(), "c1")
	assert.NilError(t, err)
	for _, f := range []string{"etc/hostname", "etc/resolv.conf", "dev/console", ".dockerenv"} {
		fi, err := os.Lstat(filepath.Join(path, f))
		assert.NilError(t, err)
		assert.Assert(t, fi.Mode().IsRegular() && fi.Size() == 0, "%s is %v", f, fi.Mode())
	}
	for _, d := range []string{"dev/pts", "dev/shm", "proc", "sys"} {
		fi, err := os.Lstat(filepath.Join(path, d))
		assert.NilError(t, err)
		assert.Assert(t, fi.IsDir(), "%s is %v", d, fi.Mode())
	}
	b, err := os.ReadFile(filepath.Join(path, "etc/hosts"))
	assert.NilError(t, err)
	assert.Equal(t, string(b), "mine")
	to, err := os.Readlink(filepath.Join(path, "etc/mtab"))
	assert.NilError(t, err)
	assert.Equal(t, to, "/proc/mounts")
}

func TestMountPointsStayInsideTheImage(t *testing.T) {
	s, e := setup(t, "")
	outside := t.TempDir()
	image(t, e, "evil", "",
		testimage.File{Name: "etc", Link: outside}, testimage.File{Name: "dev", Link: "../../../.." + outside},
		testimage.File{Name: "proc", Link: "proc"}, testimage.File{Name: "sys", Body: "a file"},
		testimage.File{Name: ".dockerenv", Link: filepath.Join(outside, "env")})
	create(t, s, "c1", "evil")
	path, err := s.Mount(t.Context(), "c1")
	assert.NilError(t, err)
	left, err := os.ReadDir(outside)
	assert.NilError(t, err)
	assert.Equal(t, len(left), 0)
	_, err = os.Lstat(filepath.Join(path, outside, "resolv.conf"))
	assert.NilError(t, err)
}

// The mount points of an image are made for its first container, and stay for the next ones until the image goes.
func TestMountPointsStayWithTheImage(t *testing.T) {
	for _, driver := range []string{embedded.Overlayfs, embedded.Native} {
		s, e := setup(t, driver)
		image(t, e, "base", "", testimage.File{Name: "hello"})
		var made []time.Time
		for _, id := range []string{"c1", "c2"} {
			for _, on := range []string{"base", ""} {
				create(t, s, id+on, on)
				info, err := e.Snapshotter().Stat(e.Context(t.Context()), id+on)
				assert.NilError(t, err)
				below, err := e.Snapshotter().Stat(e.Context(t.Context()), info.Parent)
				assert.NilError(t, err)
				made = append(made, below.Created)
				assert.NilError(t, s.Release(t.Context(), id+on))
				assert.NilError(t, s.DropLease(t.Context(), id+on))
				collect(t, e)
			}
		}
		assert.Assert(t, made[0].Equal(made[2]) && made[1].Equal(made[3]), "%v", made)

		ctx := e.Context(t.Context())
		base, err := e.Snapshotter().Stat(ctx, "base")
		assert.NilError(t, err)
		delete(base.Labels, "containerd.io/gc.root")
		_, err = e.Snapshotter().Update(ctx, base, "labels")
		assert.NilError(t, err)
		collect(t, e)
		assert.NilError(t, e.Snapshotter().Walk(ctx, func(_ context.Context, i snapshots.Info) error {
			assert.Assert(t, i.Parent == "" && i.Name != "base", "%s is left on %q", i.Name, i.Parent)
			return nil
		}))
	}
}

// Several containers at once may be the first of an image.
func TestFirstContainersAtOnce(t *testing.T) {
	s, e := setup(t, "")
	image(t, e, "base", "", testimage.File{Name: "hello"})
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			ctx := s.Leased(t.Context(), fmt.Sprint("c", i))
			if errs[i] = s.MakeLease(ctx); errs[i] == nil {
				errs[i] = s.Create(ctx, fmt.Sprint("c", i), "base")
			}
		})
	}
	wg.Wait()
	assert.NilError(t, errors.Join(errs...))
	names := map[string]bool{}
	assert.NilError(t, e.Snapshotter().Walk(e.Context(t.Context()), func(_ context.Context, i snapshots.Info) error {
		names[i.Name] = true
		return nil
	}))
	assert.Equal(t, len(names), len(errs)+2, "%v", names)
}

func TestMetadata(t *testing.T) {
	s, e := setup(t, embedded.Overlayfs)
	image(t, e, "base", "", testimage.File{Name: "a"})
	image(t, e, "top", "base", testimage.File{Name: "b"})
	create(t, s, "c1", "top")
	data, err := s.Metadata(t.Context(), "c1")
	assert.NilError(t, err)
	assert.Equal(t, len(data), 5)
	assert.Equal(t, data["ID"], "c1")
	assert.Equal(t, data["MergedDir"], s.Path("c1"))
	assert.Equal(t, len(strings.Split(data["LowerDir"], ":")), 3) // the mount points, too
	path, err := s.Mount(t.Context(), "c1")
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(filepath.Join(path, "new"), nil, 0o644))
	_, err = os.Stat(filepath.Join(data["UpperDir"], "new"))
	assert.NilError(t, err)
	_, err = os.Stat(data["WorkDir"])
	assert.NilError(t, err)
	_, err = s.Metadata(t.Context(), "nobody")
	assert.Assert(t, errdefs.IsNotFound(err), "%v", err)
}

func TestSize(t *testing.T) {
	const kib = 1 << 10
	for _, driver := range []string{embedded.Overlayfs, embedded.Native} {
		t.Run(driver, func(t *testing.T) {
			s, e := setup(t, driver)
			image(t, e, "base", "", testimage.File{Name: "a", Body: strings.Repeat("x", 256*kib)})
			image(t, e, "top", "base", testimage.File{Name: "b", Body: strings.Repeat("y", 128*kib)})
			create(t, s, "c1", "top")
			path, err := s.Mount(t.Context(), "c1")
			assert.NilError(t, err)
			assert.NilError(t, os.WriteFile(filepath.Join(path, "own"), bytes.Repeat([]byte("z"), 64*kib), 0o644))
			assert.NilError(t, os.Link(filepath.Join(path, "own"), filepath.Join(path, "again")))
			assert.NilError(t, os.Remove(filepath.Join(path, "b")))
			rw, rootfs, err := s.Size(t.Context(), "c1")
			assert.NilError(t, err)
			assert.Equal(t, rw, int64(64*kib))
			// The directories of the image take some blocks of their own.
			assert.Assert(t, rootfs >= 448*kib && rootfs < 448*kib+150*kib, "rootfs %d", rootfs)
			below, err := s.ChainSize(t.Context(), "top")
			assert.NilError(t, err)
			assert.Equal(t, rootfs-rw, below)
			_, _, err = s.Size(t.Context(), "nobody")
			assert.Assert(t, errdefs.IsNotFound(err), "%v", err)
		})
	}
}

func TestLeases(t *testing.T) {
	s, e := setup(t, "")
	_, err := e.Leases().Create(e.Context(t.Context()), leases.WithID("somebody-else's"))
	assert.NilError(t, err)
	for _, id := range []string{"c2", "c1", "c2"} {
		err := s.MakeLease(s.Leased(t.Context(), id))
		assert.NilError(t, err)
	}
	ids, err := s.Leases(t.Context())
	assert.NilError(t, err)
	assert.DeepEqual(t, ids, []string{"c1", "c2"})
	assert.NilError(t, s.DropLease(t.Context(), "c1"))
	assert.NilError(t, s.DropLease(t.Context(), "c1"))
	ids, err = s.Leases(t.Context())
	assert.NilError(t, err)
	assert.DeepEqual(t, ids, []string{"c2"})
}

func TestALayerNeedsItsLease(t *testing.T) {
	s, _ := setup(t, "")
	err := s.Create(t.Context(), "c1", "")
	assert.Assert(t, errdefs.IsNotFound(err), "%v", err)
}

func collect(t *testing.T, e *embedded.Engine) {
	t.Helper()
	ctx := e.Context(t.Context())
	l, err := e.Leases().Create(ctx, leases.WithRandomID())
	assert.NilError(t, err)
	assert.NilError(t, e.Leases().Delete(ctx, l, leases.SynchronousDelete))
}

func TestCollectingSparesLeasedLayers(t *testing.T) {
	s, e := setup(t, "")
	create(t, s, "c1", "")
	collect(t, e)
	_, err := s.Metadata(t.Context(), "c1")
	assert.NilError(t, err)
	assert.NilError(t, s.DropLease(t.Context(), "c1"))
	collect(t, e)
	_, err = s.Metadata(t.Context(), "c1")
	assert.Assert(t, errdefs.IsNotFound(err), "%v", err)
}
