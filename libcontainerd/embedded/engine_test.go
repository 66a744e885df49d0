package embedded

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/sys/mount"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/testcontainerd"
)

func start(t *testing.T, cfg Config) *Engine {
	t.Helper()
	e, err := Start(t.Context(), cfg)
	assert.NilError(t, err)
	t.Cleanup(func() { assert.NilError(t, e.Close(context.WithoutCancel(t.Context()))) })
	return e
}

// put stores body and an image record that keeps it.
func put(t *testing.T, e *Engine, body string) ocispec.Descriptor {
	t.Helper()
	ctx := e.Context(t.Context())
	desc := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromString(body), Size: int64(len(body)),
	}
	_, err := e.Images().Create(ctx, images.Image{Name: body, Target: desc})
	assert.NilError(t, err)
	assert.NilError(t, content.WriteBlob(ctx, e.Content(), body, bytes.NewReader([]byte(body)), desc))
	return desc
}

func has(t *testing.T, e *Engine, desc ocispec.Descriptor) bool {
	t.Helper()
	_, err := e.Content().Info(e.Context(t.Context()), desc.Digest)
	assert.Assert(t, err == nil || cerrdefs.IsNotFound(err), "%v", err)
	return err == nil
}

func TestTwoEnginesInOneProcess(t *testing.T) {
	a, b := start(t, Config{Root: t.TempDir()}), start(t, Config{Root: t.TempDir(), Namespace: "other"})
	inA, inB := put(t, a, "a"), put(t, b, "b")
	assert.Assert(t, has(t, a, inA) && has(t, b, inB))
	assert.Assert(t, !has(t, a, inB) && !has(t, b, inA))
}

func TestRestartKeepsWhatIsNamed(t *testing.T) {
	root := t.TempDir()
	e, err := Start(t.Context(), Config{Root: root})
	assert.NilError(t, err)
	desc := put(t, e, "kept")
	assert.NilError(t, e.Close(t.Context()))
	moved := filepath.Join(t.TempDir(), "moved")
	assert.NilError(t, os.Rename(root, moved))
	assert.Assert(t, has(t, start(t, Config{Root: moved}), desc))
}

func TestSecondEngineOnOneRootIsRefusedAtOnce(t *testing.T) {
	root := t.TempDir()
	e, err := Start(t.Context(), Config{Root: root})
	assert.NilError(t, err)
	begin := time.Now()
	_, err = Start(t.Context(), Config{Root: root})
	assert.ErrorContains(t, err, fmt.Sprintf("is in use by another engine (process %d)", os.Getpid()))
	assert.Assert(t, errdefs.IsConflict(err))
	assert.Assert(t, time.Since(begin) < 10*time.Second)
	assert.NilError(t, e.Close(t.Context()))
	start(t, Config{Root: root})
}

func TestWhatNobodyHoldsIsCollected(t *testing.T) {
	e := start(t, Config{Root: t.TempDir()})
	l, err := e.Leases().Create(e.Context(t.Context()), leases.WithRandomID())
	assert.NilError(t, err)
	ctx := leases.WithLease(e.Context(t.Context()), l.ID)
	leased := ocispec.Descriptor{Digest: digest.FromString("leased"), Size: 6}
	assert.NilError(t, content.WriteBlob(ctx, e.Content(), "leased", bytes.NewReader([]byte("leased")), leased))

	for _, name := range []string{"one", "two"} { // the first may be freed by the collection at the start
		d := put(t, e, name)
		assert.NilError(t, e.Images().Delete(e.Context(t.Context()), name))
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			if has(t, e, d) {
				return poll.Continue("still there")
			}
			return poll.Success()
		})
	}
	assert.Assert(t, has(t, e, leased))
	assert.NilError(t, e.Leases().Delete(e.Context(t.Context()), l, leases.SynchronousDelete))
	assert.Assert(t, !has(t, e, leased))
}

func TestChooseSnapshotter(t *testing.T) {
	dir := t.TempDir()
	for wanted, want := range map[string]string{
		"": Overlayfs, "overlay2": Overlayfs, Overlayfs: Overlayfs, Native: Native,
	} {
		got, err := ChooseSnapshotter(t.Context(), dir, wanted)
		assert.NilError(t, err)
		assert.Equal(t, got, want)
	}
	_, err := ChooseSnapshotter(t.Context(), dir, "zfs")
	assert.ErrorContains(t, err, `storage driver "zfs" is not known; use overlayfs or native`)
	assert.Assert(t, errdefs.IsInvalidParameter(err))
}

func TestOverlayOnOverlayFallsBackToNative(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		assert.NilError(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	merged := filepath.Join(dir, "merged")
	assert.NilError(t, mount.Mount("overlay", merged, "overlay",
		fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", dir, dir, dir)))
	t.Cleanup(func() { assert.NilError(t, mount.Unmount(merged)) })
	got, err := ChooseSnapshotter(t.Context(), merged, "")
	assert.NilError(t, err)
	assert.Equal(t, got, Native)
	_, err = ChooseSnapshotter(t.Context(), merged, "overlay2")
	assert.ErrorContains(t, err, "storage driver overlayfs does not work on "+merged)
	assert.Assert(t, errdefs.IsInvalidParameter(err))
}

func TestBothSnapshottersAfterAChange(t *testing.T) {
	root := t.TempDir()
	e, err := Start(t.Context(), Config{Root: root, Snapshotter: Native})
	assert.NilError(t, err)
	_, err = e.Snapshotter().Prepare(e.Context(t.Context()), "old", "")
	assert.NilError(t, err)
	assert.NilError(t, e.Close(t.Context()))
	snapshotDirs := filepath.Join(root, "io.containerd.snapshotter.v1.native", "snapshots", "*")
	left, err := filepath.Glob(snapshotDirs)
	assert.NilError(t, err)
	assert.Equal(t, len(left), 1)

	start(t, Config{Root: root, Snapshotter: Overlayfs})
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if left, err := filepath.Glob(snapshotDirs); err != nil || len(left) > 0 {
			return poll.Continue("%v, %v", left, err)
		}
		return poll.Success()
	})
}

func TestExternalContainerd(t *testing.T) {
	dir := t.TempDir()
	sock := testcontainerd.Start(t)
	root := filepath.Join(dir, "mine")
	e, err := Start(t.Context(), Config{Root: root, Address: sock})
	assert.NilError(t, err)
	desc := put(t, e, "outside")
	assert.NilError(t, e.Close(t.Context()))

	again := start(t, Config{Root: root, Address: sock})
	assert.Assert(t, has(t, again, desc))
	_, err = Start(t.Context(), Config{Root: filepath.Join(dir, "other"), Address: sock})
	assert.ErrorContains(t, err, "containerd's namespace berth belongs to the engine on "+root)
	assert.Assert(t, errdefs.IsConflict(err))
	other := start(t, Config{Root: filepath.Join(dir, "other"), Address: sock, Namespace: "second"})
	assert.Assert(t, !has(t, other, desc))
}

func TestExternalContainerdThatIsNotThere(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := Start(ctx, Config{Root: t.TempDir(), Address: filepath.Join(t.TempDir(), "none.sock")})
	assert.Assert(t, errdefs.IsUnavailable(err), "%v", err)
}

func TestMountsOfAKilledEngineAreDropped(t *testing.T) {
	mine, other := t.TempDir(), t.TempDir()
	bind := func(root string) string {
		src := filepath.Join(root, "io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs")
		assert.NilError(t, os.MkdirAll(src, 0o755))
		at, err := os.MkdirTemp("", "containerd-mount")
		assert.NilError(t, err)
		assert.NilError(t, mount.Mount(src, at, "none", "bind"))
		return at
	}
	view := func(root string) string {
		dir := filepath.Join(root, "io.containerd.snapshotter.v1.overlayfs/snapshots")
		for _, id := range []string{"1", "2"} {
			assert.NilError(t, os.MkdirAll(filepath.Join(dir, id, "fs"), 0o755))
		}
		at, err := os.MkdirTemp("", "containerd-mount")
		assert.NilError(t, err)
		assert.NilError(t, mount.Mount("overlay", at, "overlay", fmt.Sprintf("lowerdir=%s/2/fs:%s/1/fs", dir, dir)))
		return at
	}
	left, foreign := bind(mine), bind(other)
	leftView := view(mine)
	t.Cleanup(func() {
		assert.NilError(t, mount.Unmount(foreign))
		assert.NilError(t, os.Remove(foreign))
	})
	start(t, Config{Root: mine})
	for _, at := range []string{left, leftView} {
		_, err := os.Stat(at)
		assert.ErrorIs(t, err, os.ErrNotExist)
	}
	is, err := mountinfo.Mounted(foreign)
	assert.NilError(t, err)
	assert.Assert(t, is)
}

// A killed engine may have made things that its database does not know of: they are no obstacle, and go.
func TestWhatAKilledEngineHadNotNotedGoes(t *testing.T) {
	for _, driver := range []string{Overlayfs, Native} {
		t.Run(driver, func(t *testing.T) {
			root := t.TempDir()
			e, err := Start(t.Context(), Config{Root: root, Snapshotter: driver})
			assert.NilError(t, err)
			_, err = e.Snapshotter().Prepare(e.Context(t.Context()), "first", "")
			assert.NilError(t, err)
			assert.NilError(t, e.Close(t.Context()))

			blobs := filepath.Join(root, "io.containerd.content.v1.content")
			unknown := filepath.Join(blobs, "blobs/sha256", digest.FromString("unknown").Encoded())
			assert.NilError(t, os.MkdirAll(filepath.Dir(unknown), 0o755))
			assert.NilError(t, os.WriteFile(unknown, []byte("unknown"), 0o600))
			nameless := filepath.Join(blobs, "ingest", "nameless")
			assert.NilError(t, os.MkdirAll(nameless, 0o755))
			ended := filepath.Join(blobs, "ingest", "ended")
			assert.NilError(t, os.MkdirAll(ended, 0o755))
			assert.NilError(t, os.WriteFile(filepath.Join(ended, "ref"), []byte("ended"), 0o600))
			snapshots := filepath.Join(root, snapshotterDir+driver, "snapshots")
			for _, dir := range []string{"2/fs", "3/fs", "4/fs", "new-1/fs", "rm-1/fs"} {
				assert.NilError(t, os.MkdirAll(filepath.Join(snapshots, dir), 0o755))
			}
			assert.NilError(t, os.WriteFile(filepath.Join(root, "lock"), []byte("123\n"), 0o600))

			e = start(t, Config{Root: root, Snapshotter: driver})
			lease, err := e.Leases().Create(e.Context(t.Context()), leases.WithRandomID())
			assert.NilError(t, err)
			_, err = e.Snapshotter().Prepare(leases.WithLease(e.Context(t.Context()), lease.ID), "second", "")
			assert.NilError(t, err)
			poll.WaitOn(t, func(poll.LogT) poll.Result {
				dirs, err := os.ReadDir(snapshots)
				if err != nil || len(dirs) != 1 { // the first has no lease
					return poll.Continue("%v, %v", dirs, err)
				}
				for _, path := range []string{unknown, nameless, ended} {
					if _, err := os.Stat(path); err == nil {
						return poll.Continue("%s is still there", path)
					}
				}
				return poll.Success()
			}, poll.WithTimeout(30*time.Second))
		})
	}
}
