package image_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/api/types/filters"
	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/testimage"
)

func TestWaysToNameAnImage(t *testing.T) {
	e := setup(t)
	e.mustLoad(testimage.OCIArchive(t, small(t, "a", "a:latest"), small(t, "b", "reg.example/b:1")))
	a, b := e.id("a"), e.id("reg.example/b:1")
	hexA := strings.TrimPrefix(a, "sha256:")
	for ref, want := range map[string]struct{ id, ref string }{
		"a": {a, "a:latest"}, "a:latest": {a, "a:latest"}, "docker.io/library/a": {a, "a:latest"},
		"a@" + a: {a, "a:latest"}, "a:latest@" + a: {a, "a:latest"},
		a: {a, ""}, hexA: {a, ""}, hexA[:12]: {a, ""}, a[:20]: {a, ""},
		"reg.example/b:1": {b, "reg.example/b:1"}, "reg.example/b@" + b: {b, "reg.example/b:1"},
	} {
		img, err := e.Resolve(t.Context(), ref)
		assert.NilError(t, err, "%s", ref)
		assert.Equal(t, img.ID, want.id, "%s", ref)
		assert.Equal(t, img.Ref, want.ref, "%s", ref)
	}
	gone := "sha256:" + strings.Repeat("0", 64)
	for ref, text := range map[string]string{
		"nope":            "No such image: nope:latest",
		"nope:1":          "No such image: nope:1",
		"a:2":             "No such image: a:2",
		"reg.example/b":   "No such image: reg.example/b:latest",
		gone:              "No such image: " + gone,
		"a@" + gone:       "No such image: a@" + gone,
		"a:other@" + a:    "No such image: a:other@" + a,
		"b@" + b:          "No such image: b@" + b,
		"library/a/a":     "No such image: library/a/a:latest",
		"x-" + hexA[:12]:  "No such image: x-" + hexA[:12] + ":latest",
		"sha256:zz" + "z": "No such image: sha256:zzz",
	} {
		_, err := e.Resolve(t.Context(), ref)
		assert.Error(t, err, text)
		assert.Assert(t, errdefs.IsNotFound(err), "%s", ref)
	}
	for _, ref := range []string{"UPPER", "a b", "", "a:b:c", ":x"} {
		_, err := e.Resolve(t.Context(), ref)
		assert.ErrorContains(t, err, "invalid reference format", "%q", ref)
		assert.Assert(t, errdefs.IsInvalidParameter(err), "%q", ref)
	}
}

func TestAmbiguousPrefix(t *testing.T) {
	e := setup(t)
	var images []testimage.Image
	for i := range 17 { // of 17 ids, two begin with the same digit
		images = append(images, small(t, fmt.Sprint(i), fmt.Sprintf("i:%d", i)))
	}
	e.mustLoad(testimage.OCIArchive(t, images...))
	first := map[byte]int{}
	for i := range images {
		first[e.id(fmt.Sprintf("i:%d", i))[len("sha256:")]]++
	}
	for digit, n := range first {
		_, err := e.Resolve(t.Context(), "sha256:"+string(digit))
		if n == 1 {
			assert.NilError(t, err)
			continue
		}
		assert.ErrorContains(t, err, "several images begin with it")
		assert.Assert(t, errdefs.IsNotFound(err))
	}
}

func TestANameGoesBeforeAPrefix(t *testing.T) {
	e := setup(t)
	e.mustLoad(testimage.OCIArchive(t, small(t, "a", "a"), small(t, "b", "b")))
	prefix := strings.TrimPrefix(e.id("a"), "sha256:")[:12]
	assert.NilError(t, e.Tag(t.Context(), "b", prefix))
	assert.Equal(t, e.id(prefix), e.id("b"))
}

func TestTag(t *testing.T) {
	e := setup(t)
	e.mustLoad(testimage.OCIArchive(t, small(t, "a", "a"), small(t, "b", "b")))
	e.told()
	a, b := e.id("a"), e.id("b")
	assert.NilError(t, e.Tag(t.Context(), a[:20], "reg.example:5000/x/y:1"))
	assert.DeepEqual(t, e.told(), []string{"tag reg.example:5000/x/y:1"})
	assert.Equal(t, e.id("reg.example:5000/x/y:1"), a)
	assert.NilError(t, e.Tag(t.Context(), "a", "a"))

	assert.NilError(t, e.Tag(t.Context(), "a", "b"))
	assert.Equal(t, e.id("b"), a)
	assert.Equal(t, e.id(b), b) // stays, without a name
	assert.NilError(t, e.Tag(t.Context(), b, "again"))
	list, err := e.List(t.Context(), imagetypes.ListOptions{Filters: filters.Args{"dangling": {"true"}}})
	assert.NilError(t, err)
	assert.Equal(t, len(list), 0)
	e.collect()
	assert.Equal(t, e.readFile("again", "f"), "b")

	err = e.Tag(t.Context(), "nope", "x")
	assert.Error(t, err, "No such image: nope:latest")
	for _, bad := range []string{"UPPER", "a b", "x@" + a, strings.Repeat("a", 64), "sha256:1"} {
		err := e.Tag(t.Context(), "a", bad)
		assert.Assert(t, errdefs.IsInvalidParameter(err), "%s: %v", bad, err)
	}
}

func TestNamesMovedAtOnce(t *testing.T) {
	e := setup(t)
	e.mustLoad(testimage.OCIArchive(t, small(t, "a", "a"), small(t, "b", "b")))
	a, b := e.id("a"), e.id("b")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 15 {
				src := []string{a, b}[(i+j)%2]
				assert.Check(t, e.Tag(t.Context(), src, "moving"))
				_, err := e.Delete(t.Context(), "moving", false)
				assert.Check(t, err == nil || errdefs.IsNotFound(err), "%v", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	readers := sync.WaitGroup{}
	readers.Go(func() {
		for ctx.Err() == nil {
			list, err := e.List(t.Context(), imagetypes.ListOptions{})
			assert.Check(t, err)
			assert.Check(t, len(list) == 2, "%d images", len(list))
			_, err = e.Inspect(t.Context(), a, imagetypes.InspectOptions{})
			assert.Check(t, err)
		}
	})
	wg.Wait()
	cancel()
	readers.Wait()
	e.collect()
	assert.Equal(t, e.readFile("a", "f"), "a")
	assert.Equal(t, e.readFile("b", "f"), "b")
}

func TestLeasedImageOutlivesItsRemoval(t *testing.T) {
	e := setup(t)
	e.mustLoad(testimage.OCIArchive(t, small(t, "a", "a")))
	ctx := e.layers.Leased(t.Context(), "c")
	assert.NilError(t, e.layers.MakeLease(ctx))
	img, err := e.Resolve(ctx, "a")
	assert.NilError(t, err)
	_, err = e.Delete(t.Context(), "a", true)
	assert.NilError(t, err)
	e.collect()
	assert.NilError(t, e.layers.Create(ctx, "c", img.ChainID))
	e.collect()
	path, err := e.layers.Mount(ctx, "c")
	assert.NilError(t, err)
	assert.Assert(t, strings.Contains(strings.Join(names(t, path), " "), "f"))
	_, err = e.engine.Content().Info(e.engine.Context(ctx), img.Manifest.Digest)
	assert.NilError(t, err)
	assert.NilError(t, e.layers.Release(ctx, "c"))
	assert.NilError(t, e.layers.DropLease(ctx, "c"))
	e.collect()
	assert.Equal(t, len(e.stored()), 0, "%q", e.stored())
}
