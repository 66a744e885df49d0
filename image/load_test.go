package image_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/testcontainerd"
	"github.com/berthd/berth/internal/testimage"
	"github.com/berthd/berth/libcontainerd/embedded"
)

func TestLoadDockerArchive(t *testing.T) {
	e := setup(t)
	lines := e.mustLoad(busybox(t, "busybox:latest", "localhost:5000/tools/bb:1"))
	assert.DeepEqual(t, lines, []string{"Loaded image: busybox:latest\n", "Loaded image: localhost:5000/tools/bb:1\n"})
	assert.DeepEqual(t, e.told(), []string{"load busybox:latest", "load localhost:5000/tools/bb:1"})
	assert.Equal(t, e.id("busybox"), e.id("localhost:5000/tools/bb:1"))
	assert.Assert(t, strings.HasPrefix(e.readFile("busybox", "etc/passwd"), "root:"))
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if leases := e.stored(); strings.Contains(strings.Join(leases, "\n"), "lease ") {
			return poll.Continue("%q", leases)
		}
		return poll.Success()
	})
}

func TestLoadOCIArchive(t *testing.T) {
	e := setup(t)
	archive := testimage.OCIArchive(t, small(t, "one", "one:1"), small(t, "two", "docker.io/library/two"),
		small(t, "three"))
	lines := e.mustLoad(archive)
	assert.Equal(t, len(lines), 3)
	assert.DeepEqual(t, lines[:2], []string{"Loaded image: one:1\n", "Loaded image: two:latest\n"})
	id := strings.TrimSpace(strings.TrimPrefix(lines[2], "Loaded image ID: "))
	assert.Equal(t, e.id(id), id)
	assert.DeepEqual(t, e.told(), []string{"load one:1", "load two:latest", "load <id>"})
	assert.Equal(t, e.readFile("one:1", "f"), "one")
	assert.Equal(t, e.readFile("two", "f"), "two")
	assert.Equal(t, e.readFile(id, "f"), "three")
}

func TestLoadTwice(t *testing.T) {
	e := setup(t)
	archive := busybox(t, "busybox")
	e.mustLoad(archive)
	e.collect()
	before := e.stored()
	e.mustLoad(archive)
	e.collect()
	assert.DeepEqual(t, e.stored(), before)
}

func TestLoadCompressed(t *testing.T) {
	plain := testimage.DockerArchive(t, small(t, "x", "x"))
	var gz, zst bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, err := w.Write(plain)
	assert.NilError(t, err)
	assert.NilError(t, w.Close())
	z, err := zstd.NewWriter(&zst)
	assert.NilError(t, err)
	_, err = z.Write(plain)
	assert.NilError(t, err)
	assert.NilError(t, z.Close())
	for name, archive := range map[string][]byte{"gzip": gz.Bytes(), "zstd": zst.Bytes()} {
		t.Run(name, func(t *testing.T) {
			e := setup(t)
			e.mustLoad(archive)
			assert.Equal(t, e.readFile("x", "f"), "x")
		})
	}
	t.Run("checksum", func(t *testing.T) {
		e := setup(t)
		bad := bytes.Clone(gz.Bytes())
		bad[len(bad)-6] ^= 1
		_, err := e.load(bad)
		assert.ErrorContains(t, err, "checksum")
		assert.Equal(t, len(e.stored()), 0)
	})
}

func TestLoadedLayersAreUnpackedAlready(t *testing.T) {
	e := setup(t)
	e.mustLoad(busybox(t, "busybox"))
	img, err := e.Resolve(t.Context(), "busybox")
	assert.NilError(t, err)
	_, err = e.engine.Snapshotter().Stat(e.engine.Context(t.Context()), img.ChainID)
	assert.NilError(t, err)
}

func TestLayersShadowEachOther(t *testing.T) {
	e := setup(t)
	layers := [][]byte{
		testimage.Layer(t, testimage.File{Name: "f", Body: "low"}, testimage.File{Name: "gone", Body: "x"},
			testimage.File{Name: "d/"}, testimage.File{Name: "d/low"}),
		testimage.Layer(t, testimage.File{Name: "f", Body: "high"}, testimage.File{Name: ".wh.gone"}),
		testimage.Layer(t, testimage.File{Name: "d/"}, testimage.File{Name: "d/.wh..wh..opq"},
			testimage.File{Name: "d/high"}),
	}
	e.mustLoad(testimage.OCIArchive(t, testimage.Image{Tags: []string{"x"}, Layers: layers}))
	e.readFile("x", "d/high")
	assert.Equal(t, e.readFile("x", "f"), "high")
	ctx := e.layers.Leased(t.Context(), "c")
	assert.NilError(t, e.layers.MakeLease(ctx))
	img, err := e.Resolve(ctx, "x")
	assert.NilError(t, err)
	assert.NilError(t, e.layers.Create(ctx, "c", img.ChainID))
	path, err := e.layers.Mount(ctx, "c")
	assert.NilError(t, err)
	defer func() { assert.NilError(t, e.layers.Release(ctx, "c")) }()
	assert.DeepEqual(t, names(t, path+"/d"), []string{"high"})
	assert.Assert(t, !strings.Contains(strings.Join(names(t, path), " "), "gone"))
}

// A lowest layer that deletes something deletes nothing, also for who looks at it alone.
func TestTheLowestLayerDeletesNothing(t *testing.T) {
	e := setup(t)
	layer := testimage.Layer(t, testimage.File{Name: "f", Body: "x"}, testimage.File{Name: ".wh.gone"})
	e.mustLoad(testimage.DockerArchive(t, testimage.Image{Tags: []string{"x"}, Layers: [][]byte{layer}}))
	e.collect()
	found := 0
	assert.NilError(t, filepath.WalkDir(e.root, func(path string, d fs.DirEntry, err error) error {
		assert.Assert(t, err != nil || d.Type()&fs.ModeCharDevice == 0, path)
		if filepath.Base(path) == "f" {
			found++
		}
		return err
	}))
	assert.Equal(t, found, 1)
}

func TestLoadSharedLayerLinks(t *testing.T) {
	e := setup(t)
	a := small(t, "shared", "a")
	config, layer := a.ConfigBlob(t), a.Layers[0]
	manifest := `[{"Config":"c.json","RepoTags":["a:1"],"Layers":["one/layer.tar"]},` +
		`{"Config":"c.json","RepoTags":["b:1"],"Layers":["two/layer.tar"]}]`
	e.mustLoad(testimage.Layer(t,
		testimage.File{Name: "one/layer.tar", Body: string(layer)},
		testimage.File{Name: "two/layer.tar", Link: "../one/layer.tar"},
		testimage.File{Name: "c.json", Body: string(config)}, testimage.File{Name: "manifest.json", Body: manifest}))
	assert.Equal(t, e.id("a:1"), e.id("b:1"))
	assert.Equal(t, e.readFile("b:1", "f"), "shared")
}

func TestLoadSeveralPlatforms(t *testing.T) {
	e := setup(t)
	mine, other, absent := small(t, "mine"), small(t, "other"), small(t, "absent")
	other.Arch, absent.Arch = "s390x", "riscv64"
	o := testimage.NewOCI(t)
	missing := testimage.NewOCI(t).Manifest(absent)
	about := o.Manifest(testimage.Image{Config: ocispec.ImageConfig{User: "attestation"}})
	about.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	idx := o.Index(about, o.Manifest(other), missing, o.Manifest(mine))
	idx.Annotations = map[string]string{ocispec.AnnotationRefName: "multi:1"}
	o.Name(idx)
	e.mustLoad(o.Archive())
	img, err := e.Resolve(t.Context(), "multi:1")
	assert.NilError(t, err)
	assert.Equal(t, img.ID, idx.Digest.String())
	assert.Equal(t, img.Architecture, runtime.GOARCH)
	assert.Equal(t, e.readFile("multi:1", "f"), "mine")
	e.collect()
	assert.Equal(t, e.readFile("multi:1", "f"), "mine")

	foreign := small(t, "foreign", "foreign:1")
	foreign.Arch = "s390x"
	e.mustLoad(testimage.OCIArchive(t, foreign))
	img, err = e.Resolve(t.Context(), "foreign:1")
	assert.NilError(t, err)
	assert.Equal(t, img.Architecture, "s390x")
}

func TestLoadImageWithoutLayers(t *testing.T) {
	e := setup(t)
	e.mustLoad(testimage.DockerArchive(t, testimage.Image{Tags: []string{"scratchy"}}))
	img, err := e.Resolve(t.Context(), "scratchy")
	assert.NilError(t, err)
	assert.Equal(t, img.ChainID, "")
	ctx := e.layers.Leased(t.Context(), "c")
	assert.NilError(t, e.layers.MakeLease(ctx))
	_, err = e.Resolve(ctx, "scratchy")
	assert.NilError(t, err)
	assert.NilError(t, e.layers.Create(ctx, "c", img.ChainID))
	_, err = e.Inspect(t.Context(), "scratchy", imagetypes.InspectOptions{})
	assert.NilError(t, err)
}

func TestLoadReplacesATagAndKeepsTheOldImage(t *testing.T) {
	e := setup(t)
	e.mustLoad(testimage.DockerArchive(t, small(t, "old", "x")))
	old := e.id("x")
	e.mustLoad(testimage.DockerArchive(t, small(t, "new", "x")))
	assert.Assert(t, e.id("x") != old)
	r, err := e.Inspect(t.Context(), old, imagetypes.InspectOptions{})
	assert.NilError(t, err)
	assert.Equal(t, len(r.RepoTags), 0)
	e.collect()
	assert.Equal(t, e.readFile(old, "f"), "old")
}

func TestTruncatedArchivesLeaveNothing(t *testing.T) {
	e := setup(t)
	for name, archive := range map[string][]byte{
		"docker": testimage.DockerArchive(t, small(t, "a", "a"), small(t, strings.Repeat("b", 5000), "b")),
		"oci":    testimage.OCIArchive(t, small(t, "a", "a"), small(t, strings.Repeat("b", 5000), "b")),
	} {
		end := len(bytes.TrimRight(archive, "\x00"))
		for at := 0; at < end; at += 331 {
			_, err := e.load(archive[:at])
			assert.Assert(t, err != nil, "%s cut at %d of %d", name, at, end)
			assert.Assert(t, errdefs.IsInvalidParameter(err), "%s cut at %d: %v", name, at, err)
			left := e.stored()
			assert.Equal(t, len(left), 0, "%s cut at %d left %q", name, at, left)
		}
	}
	assert.Equal(t, len(e.told()), 0)
}

func TestBadArchives(t *testing.T) {
	x := small(t, "x", "x")
	config, layer := string(x.ConfigBlob(t)), string(x.Layers[0])
	docker := func(manifest string, files ...testimage.File) []byte {
		return testimage.Layer(t, append(files, testimage.File{Name: "manifest.json", Body: manifest})...)
	}
	oci := func(change func(o *testimage.OCI)) []byte {
		o := testimage.NewOCI(t)
		o.Name(o.Manifest(x))
		change(o)
		return o.Archive()
	}
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"empty":            {nil, "unrecognized image format"},
		"no tar":           {[]byte(strings.Repeat("this is no archive ", 100)), "read the archive"},
		"no image":         {testimage.Layer(t, testimage.File{Name: "readme"}), "unrecognized image format"},
		"xz":               {[]byte("\xfd7zXZ\x00 and so on"), "compressed with xz"},
		"manifest no JSON": {docker(`{"no`), "manifest.json in the archive is not valid"},
		"huge manifest":    {docker(strings.Repeat(" ", 5<<20)), "more than the 4194304"},
		"lacks config":     {docker(`[{"Config":"c.json"}]`), "lacks c.json"},
		"lacks layer": {docker(`[{"Config":"c","Layers":["l"]}]`, testimage.File{Name: "c", Body: config}),
			"lacks l"},
		"climbs out": {docker(`[{"Config":"../../../../etc/passwd","Layers":["l"]}]`), "lacks etc/passwd"},
		"bad tag":    {docker(`[{"Config":"c","RepoTags":["UPPER case"]}]`), `tag "UPPER case"`},
		"config is no config": {docker(`[{"Config":"c","RepoTags":["x"]}]`, testimage.File{Name: "c", Body: "[]"}),
			"is not valid"},
		"huge config": {docker(`[{"Config":"c"}]`, testimage.File{Name: "c", Body: strings.Repeat(" ", 5<<20)}),
			"more than the 4194304"},
		"wrong layer": {docker(`[{"Config":"c","Layers":["l"]}]`, testimage.File{Name: "c", Body: config},
			testimage.File{Name: "l", Body: string(testimage.Layer(t, testimage.File{Name: "f", Body: "other"}))}),
			"wrong diff id"},
		"layer is no tar": {docker(`[{"Config":"c","Layers":["l"]}]`, testimage.File{Name: "c", Body: config},
			testimage.File{Name: "l", Body: strings.Repeat("no tar", 500)}), "unpack"},
		"too many layers": {docker(`[{"Config":"c","Layers":["l","l"]}]`, testimage.File{Name: "c", Body: config},
			testimage.File{Name: "l", Body: layer}), "number of layers and diffIDs don't match"},
		"wrong digest": {oci(func(o *testimage.OCI) {
			path := "blobs/sha256/" + digest.FromString("right").Encoded()
			o.Files = append(o.Files, testimage.File{Name: path, Body: "wrong"})
		}), "have the digest"},
		"lacks a blob": {oci(func(o *testimage.OCI) { o.Files = o.Files[:len(o.Files)-1] }), "not complete"},
		"wrong size": {oci(func(o *testimage.OCI) {
			d := o.Manifest(small(t, "y"))
			d.Size++
			o.Name(d)
		}), "bytes, not"},
		"no image in the index": {oci(func(o *testimage.OCI) { o.Name(o.Blob("text/plain", []byte("x"))) }), "not an image"},
		"empty index":           {oci(func(o *testimage.OCI) { o.Name(o.Index()) }), "has no manifest of an image"},
		"bad index digest": {oci(func(o *testimage.OCI) {
			o.Name(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: "sha256:../../x"})
		}), "in index.json"},
		"later version": {testimage.Layer(t, testimage.File{Name: "oci-layout", Body: `{"imageLayoutVersion":"9.0.0"}`},
			testimage.File{Name: "index.json", Body: "{}"}), "version 9.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			e := setup(t)
			_, err := e.load(c.archive)
			assert.ErrorContains(t, err, c.want)
			left := e.stored()
			assert.Equal(t, len(left), 0, "left: %q", left)
			assert.Equal(t, len(e.told()), 0)
		})
	}
}

// endless repeats a part of an archive for ever.
type endless struct {
	part []byte
	at   int
}

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, e.part[e.at:])
	e.at = (e.at + n) % len(e.part)
	return n, nil
}

func TestEndlessArchive(t *testing.T) {
	e := setup(t)
	part := testimage.Layer(t, testimage.File{Name: "some/VERSION", Body: "1.0"})[:1024]
	err := e.Load(t.Context(), &endless{part: part}, nil, func(string) {})
	assert.ErrorContains(t, err, "more than 100000 files")
	assert.Equal(t, len(e.stored()), 0)
}

func TestAFailedLoadSparesWhatWasThere(t *testing.T) {
	e := setup(t)
	a, b := small(t, "a", "a"), small(t, "b", "b")
	e.mustLoad(testimage.OCIArchive(t, a))
	before := e.stored()
	o := testimage.NewOCI(t)
	o.Name(o.Manifest(a))
	o.Name(o.Manifest(b))
	o.Files = o.Files[:len(o.Files)-2]
	_, err := e.load(o.Archive())
	assert.ErrorContains(t, err, "not complete")
	assert.DeepEqual(t, e.stored(), before)
	assert.Equal(t, e.readFile("a", "f"), "a")
}

func TestALoadThatIsCancelledLeavesNothing(t *testing.T) {
	e := setup(t)
	archive := busybox(t, "busybox")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		defer r.Close()
		done <- e.Load(ctx, r, nil, func(string) {})
	}()
	_, err := w.Write(archive[:len(archive)/2])
	assert.NilError(t, err)
	cancel()
	_, err = w.Write(archive[len(archive)/2:])
	_ = w.CloseWithError(errors.New("the client has gone"))
	assert.ErrorIs(t, <-done, context.Canceled)
	assert.Equal(t, len(e.stored()), 0, "%q, %v", e.stored(), err)
}

func TestAskingDoesNotWaitForALoad(t *testing.T) {
	e := setup(t)
	e.mustLoad(testimage.DockerArchive(t, small(t, "a", "a")))
	archive := busybox(t, "busybox")
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		defer r.Close()
		done <- e.Load(t.Context(), r, nil, func(string) {})
	}()
	_, err := w.Write(archive[:len(archive)/2])
	assert.NilError(t, err)
	list, err := e.List(t.Context(), imagetypes.ListOptions{})
	assert.NilError(t, err)
	assert.Equal(t, len(list), 1)
	_, err = e.Inspect(t.Context(), "a", imagetypes.InspectOptions{})
	assert.NilError(t, err)
	assert.NilError(t, e.Tag(t.Context(), "a", "b"))
	_, err = e.Delete(t.Context(), "a", false)
	assert.NilError(t, err)
	_, err = w.Write(archive[len(archive)/2:])
	assert.NilError(t, err)
	assert.NilError(t, w.Close())
	assert.NilError(t, <-done)
	e.collect()
	assert.Assert(t, e.readFile("busybox", "etc/passwd") != "")
}

func TestRestartKeepsImagesAndDropsUnfinishedLoads(t *testing.T) {
	e := setup(t)
	e.mustLoad(testimage.DockerArchive(t, small(t, "a", "a")))
	id := e.id("a")
	e.collect()
	before := e.stored()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		defer r.Close()
		done <- e.Load(ctx, r, nil, func(string) {})
	}()
	archive := busybox(t, "busybox")
	_, err := w.Write(archive[:len(archive)/2])
	assert.NilError(t, err)
	// The engine ends first, so that the load cannot clean up, as after a crash.
	e.restart(embedded.Overlayfs)
	cancel()
	_ = w.Close()
	assert.Assert(t, <-done != nil)
	e.collect()
	assert.DeepEqual(t, e.stored(), before)
	assert.Equal(t, e.id("a"), id)
	assert.Equal(t, e.readFile("a", "f"), "a")
}

func TestImagesAreUnpackedAnewForAnotherDriver(t *testing.T) {
	e := setup(t)
	e.mustLoad(testimage.DockerArchive(t, small(t, "a", "a")))
	e.restart(embedded.Native)
	assert.Equal(t, e.readFile("a", "f"), "a")
	e.collect()
	assert.Equal(t, e.readFile("a", "f"), "a")
}

func TestImagesInAnExternalContainerd(t *testing.T) {
	e := setup(t)
	assert.NilError(t, e.engine.Close(t.Context()))
	e.address = testcontainerd.Start(t)
	e.start(embedded.Overlayfs)
	_, err := e.load(testimage.DockerArchive(t, small(t, "x", "x"))[:3000])
	assert.Assert(t, errdefs.IsInvalidParameter(err), "%v", err)
	assert.Equal(t, len(e.stored()), 0, "%q", e.stored())

	e.mustLoad(testimage.OCIArchive(t, small(t, "a", "a")))
	id := e.mustImport("busybox")
	assert.Equal(t, e.id("busybox"), id)
	assert.Equal(t, e.readFile("a", "f"), "a")
	assert.NilError(t, e.Tag(t.Context(), "a", "b"))
	_, err = e.Delete(t.Context(), "a", false)
	assert.NilError(t, err)
	e.restart(embedded.Overlayfs)
	assert.Equal(t, e.readFile("b", "f"), "a")
	_, err = e.Delete(t.Context(), "b", false)
	assert.NilError(t, err)
	_, err = e.Delete(t.Context(), "busybox", false)
	assert.NilError(t, err)
	e.collect()
	assert.Equal(t, len(e.stored()), 0, "%q", e.stored())
}
