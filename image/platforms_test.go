package image_test

import (
	"bytes"
	"runtime"
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"

	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/image"
	"github.com/berthd/berth/internal/testimage"
)

var (
	mine  = ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	other = ocispec.Platform{OS: "linux", Architecture: "s390x"}
	third = ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}
)

// severalPlatforms returns an archive with the image multi:1 for mine, other and third, each with an attestation, and the
// manifests' digests. Its index may leave out what platform one of them is for.
func severalPlatforms(t *testing.T, leaveOut ocispec.Platform) (archive []byte, manifests map[string]string) {
	t.Helper()
	o, manifests := testimage.NewOCI(t), map[string]string{}
	var all []ocispec.Descriptor
	for _, p := range []ocispec.Platform{other, mine, third} {
		img := small(t, p.Architecture)
		img.Arch = p.Architecture
		desc := o.Manifest(img)
		if p.Architecture != leaveOut.Architecture {
			desc.Platform = &p
		}
		manifests[p.Architecture] = desc.Digest.String()
		about := o.Manifest(testimage.Image{Config: ocispec.ImageConfig{User: p.Architecture}})
		about.Annotations = map[string]string{
			"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": desc.Digest.String(),
		}
		all = append(all, desc, about)
	}
	idx := o.Index(all...)
	idx.Annotations = map[string]string{ocispec.AnnotationRefName: "multi:1"}
	o.Name(idx)
	return o.Archive(), manifests
}

// here lists which platforms of an image are here.
func (e *env) here(ref string) (archs []string) {
	e.t.Helper()
	r, err := e.Inspect(e.t.Context(), ref, imagetypes.InspectOptions{Manifests: true})
	assert.NilError(e.t, err)
	for _, m := range r.Manifests {
		if m.Available && m.Kind == "attestation" {
			archs = append(archs, "about")
		} else if m.Available {
			archs = append(archs, m.ImageData.Platform.Architecture)
		}
	}
	return archs
}

func TestLoadForPlatforms(t *testing.T) {
	archive, _ := severalPlatforms(t, other)
	e := setup(t)
	load := func(wanted ...ocispec.Platform) error {
		return e.Load(t.Context(), bytes.NewReader(archive), wanted, func(string) {})
	}
	err := load(mine, ocispec.Platform{OS: "linux", Architecture: "riscv64"})
	assert.Error(t, err, "load multi:1: the image doesn't provide the requested platform (linux/riscv64)")
	assert.Equal(t, len(e.stored()), 0, "%q", e.stored())

	assert.NilError(t, load(other))
	assert.DeepEqual(t, e.here("multi:1"), []string{"s390x", "about"})
	assert.Equal(t, e.readFile("multi:1", "f"), "s390x")
	img, err := e.Resolve(t.Context(), "multi:1")
	assert.NilError(t, err)
	assert.Equal(t, img.Architecture, "s390x", "what was not wanted is not what a container gets")

	// What is here already stays, and what comes on top is kept as well.
	assert.NilError(t, load(mine))
	e.collect()
	assert.DeepEqual(t, e.here("multi:1"), []string{"s390x", "about", runtime.GOARCH, "about"})
	assert.Equal(t, e.readFile("multi:1", "f"), runtime.GOARCH)
	assert.NilError(t, load(third, other))
	e.collect()
	assert.Equal(t, len(e.here("multi:1")), 6)

	single := testimage.DockerArchive(t, small(t, "single", "single:1"))
	assert.NilError(t, e.Load(t.Context(), bytes.NewReader(single), []ocispec.Platform{mine}, func(string) {}))
	err = e.Load(t.Context(), bytes.NewReader(single), []ocispec.Platform{other}, func(string) {})
	assert.ErrorContains(t, err, "doesn't provide the requested platform (linux/s390x)")
}

func TestSaveForPlatforms(t *testing.T) {
	archive, manifests := severalPlatforms(t, ocispec.Platform{})
	from := setup(t)
	from.mustLoad(archive)
	var b bytes.Buffer
	err := from.Save(t.Context(), []string{"multi:1"}, []ocispec.Platform{mine, {OS: "linux", Architecture: "riscv64"}}, &b)
	assert.Error(t, err, "image with reference multi:1 was found but does not provide the specified platform (linux/riscv64)")
	assert.Assert(t, errdefs.IsNotFound(err))
	assert.Equal(t, b.Len(), 0)

	one, two := setup(t), setup(t)
	assert.NilError(t, from.Save(t.Context(), []string{"multi:1"}, []ocispec.Platform{other}, &b))
	one.mustLoad(b.Bytes())
	assert.Equal(t, one.id("multi:1"), manifests["s390x"], "an image for one platform")
	assert.Equal(t, one.readFile("multi:1", "f"), "s390x")

	b.Reset()
	assert.NilError(t, from.Save(t.Context(), []string{"multi:1"}, []ocispec.Platform{mine, third}, &b))
	two.mustLoad(b.Bytes())
	assert.Equal(t, two.id("multi:1"), from.id("multi:1"))
	archs := slices.DeleteFunc(two.here("multi:1"), func(s string) bool { return s == "about" })
	assert.DeepEqual(t, archs, []string{runtime.GOARCH, "arm"})
}

func TestDeleteForPlatforms(t *testing.T) {
	archive, manifests := severalPlatforms(t, ocispec.Platform{})
	e := setup(t)
	e.mustLoad(archive)
	assert.NilError(t, e.Tag(t.Context(), "multi:1", "again:1"))
	id := e.id("multi:1")
	remove := func(force bool, wanted ...ocispec.Platform) error {
		_, err := e.DeleteVariants(t.Context(), "multi:1", wanted, force)
		return err
	}
	before := e.stored()
	assert.Assert(t, errdefs.IsInvalidParameter(remove(false, other)))
	assert.ErrorContains(t, remove(false, other), "Use --force to force delete")
	missing := remove(true, other, ocispec.Platform{OS: "linux", Architecture: "riscv64"})
	assert.Assert(t, errdefs.IsNotFound(missing), "%v", missing)
	assert.Assert(t, errdefs.IsConflict(remove(true, mine, other, third)), "nothing would be left")
	e.use(id, image.Use{ContainerID: stoppedID, Manifest: manifests["s390x"]})
	assert.Error(t, remove(true, other), "conflict: unable to delete "+manifests["s390x"][7:19]+
		" (cannot be forced) - image is being used by stopped container cccccccccccc")
	assert.DeepEqual(t, e.stored(), before)

	got, err := e.DeleteVariants(t.Context(), "multi:1", []ocispec.Platform{mine, third, third}, true)
	assert.NilError(t, err)
	assert.DeepEqual(t, got, steps{deleted(manifests[runtime.GOARCH]), deleted(manifests["arm"])})
	assert.DeepEqual(t, e.here("again:1"), []string{"s390x", "about", "about", "about"})
	assert.Equal(t, e.readFile("multi:1", "f"), "s390x")
	assert.Assert(t, len(e.stored()) < len(before)-6, "two manifests, configs, layers and a snapshot: %q", e.stored())
	e.use(id)
	assert.Assert(t, errdefs.IsConflict(remove(true, other)), "the last one goes with the image")

	// It can come back, and another image that is one of the manifests is not taken apart.
	e.mustLoad(archive)
	assert.Equal(t, len(e.here("multi:1")), 6)
	var b bytes.Buffer
	assert.NilError(t, e.Save(t.Context(), []string{"multi:1"}, []ocispec.Platform{other}, &b))
	assert.NilError(t, e.Tag(t.Context(), "multi:1", "whole:1"))
	e.mustLoad(b.Bytes()) // multi:1 is one manifest now
	_, err = e.DeleteVariants(t.Context(), "whole:1", []ocispec.Platform{other}, true)
	assert.ErrorContains(t, err, "it is all that is here of image "+manifests["s390x"][7:19])
}

// An image knows the repositories that it came from and went to, whatever it is called.
func TestIdentity(t *testing.T) {
	e, r := setup(t), newRegistry(t)
	e.speak(image.Registries{})
	ref := r.push("team/app:1", r.Manifest(small(t, "pulled")))
	e.mustPull(ref)
	assert.NilError(t, e.Tag(t.Context(), ref, "mine:1"))
	got, err := e.Inspect(t.Context(), "mine:1", imagetypes.InspectOptions{})
	assert.NilError(t, err)
	assert.DeepEqual(t, got.Identity, &imagetypes.Identity{Pull: []imagetypes.PullIdentity{{Repository: "127.0.0.1/team/app"}}})
	list, err := e.List(t.Context(), imagetypes.ListOptions{Manifests: true, Identity: true})
	assert.NilError(t, err)
	assert.DeepEqual(t, list[0].Manifests[0].ImageData.Identity, got.Identity)
	e.mustLoad(testimage.DockerArchive(t, small(t, "loaded", "loaded:1")))
	got, err = e.Inspect(t.Context(), "loaded:1", imagetypes.InspectOptions{})
	assert.NilError(t, err)
	assert.Assert(t, got.Identity == nil)
}
