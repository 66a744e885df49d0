package image_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/api/types/filters"
	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/image"
	"github.com/berthd/berth/internal/testimage"
)

// What is saved is loaded again as it was: the same ids, the same names.
func TestSaveAndLoad(t *testing.T) {
	from, to := setup(t), setup(t)
	from.mustLoad(testimage.DockerArchive(t, small(t, "one", "app:1", "app:2"), small(t, "two", "app:3")))
	from.mustLoad(testimage.DockerArchive(t, small(t, "three", "other:1")))
	unnamed := from.id("other:1")
	for _, c := range []struct {
		refs []string
		want []string
	}{
		{[]string{"app:1"}, []string{"app:1"}},
		{[]string{"app"}, []string{"app:1", "app:2", "app:3"}},
		{[]string{"app:3", "other:1"}, []string{"app:3", "other:1"}},
	} {
		var b bytes.Buffer
		assert.NilError(t, from.Save(t.Context(), c.refs, nil, &b))
		to.mustLoad(b.Bytes())
		for _, name := range c.want {
			assert.Equal(t, to.id(name), from.id(name), name)
		}
	}
	assert.Equal(t, to.readFile("app:1", "f"), "one")

	var b bytes.Buffer
	assert.NilError(t, from.Save(t.Context(), []string{unnamed}, nil, &b))
	assert.DeepEqual(t, to.mustLoad(b.Bytes()), []string{"Loaded image ID: " + unnamed + "\n"})

	b.Reset()
	err := from.Save(t.Context(), []string{"app:1", "nope:1"}, nil, &b)
	assert.Assert(t, errdefs.IsNotFound(err), "%v", err)
	assert.Equal(t, b.Len(), 0, "nothing is written before all is known to be there")
}

func TestHistory(t *testing.T) {
	e := setup(t)
	img := small(t, "body", "app:1")
	img.Layers = append(img.Layers, testimage.Layer(t, testimage.File{Name: "g", Body: strings.Repeat("x", 8192)}))
	e.mustLoad(testimage.DockerArchive(t, img))
	items, err := e.History(t.Context(), "app:1", nil)
	assert.NilError(t, err)
	assert.Equal(t, len(items), 2)
	assert.Equal(t, items[0].ID, e.id("app:1"))
	assert.DeepEqual(t, items[0].Tags, []string{"app:1"})
	assert.Equal(t, items[1].ID, "<missing>")
	assert.Equal(t, items[1].CreatedBy, "test")
	assert.Assert(t, items[0].Size >= 8192 && items[1].Size > 0, "%+v", items)
	_, err = e.History(t.Context(), "app:1", &ocispec.Platform{OS: "linux", Architecture: "riscv64"})
	assert.Assert(t, errdefs.IsNotFound(err))
	_, err = e.History(t.Context(), "nope", nil)
	assert.Assert(t, errdefs.IsNotFound(err))
}

func TestPrune(t *testing.T) {
	e := setup(t)
	labelled := small(t, "labelled", "keep:1")
	labelled.Config.Labels = map[string]string{"keep": "yes"}
	e.mustLoad(testimage.DockerArchive(t, small(t, "old", "app:1"), small(t, "used", "used:1"), labelled))
	old, used := e.id("app:1"), e.id("used:1")
	e.mustLoad(testimage.DockerArchive(t, small(t, "new", "app:1")))
	e.use(used, image.Use{ContainerID: "c"})
	e.told()

	resp, err := e.Prune(t.Context(), nil)
	assert.NilError(t, err)
	assert.DeepEqual(t, resp.ImagesDeleted, []imagetypes.DeleteResponse{{Deleted: old}})
	assert.Assert(t, resp.SpaceReclaimed > 0)
	assert.DeepEqual(t, e.told(), []string{"delete <id>", "prune <id>"})

	all := filters.Args{"dangling": {"false"}, "label!": {"keep"}}
	resp, err = e.Prune(t.Context(), all)
	assert.NilError(t, err)
	assert.Equal(t, len(resp.ImagesDeleted), 2, "%v", resp)
	assert.DeepEqual(t, resp.ImagesDeleted[0], imagetypes.DeleteResponse{Untagged: "app:1"})
	assert.Equal(t, e.readFile("used:1", "f"), "used")
	assert.Equal(t, e.readFile("keep:1", "f"), "labelled")

	resp, err = e.Prune(t.Context(), filters.Args{"dangling": {"false"}, "until": {"2019-01-01"}})
	assert.NilError(t, err)
	assert.Assert(t, resp.ImagesDeleted == nil)
	for _, bad := range []filters.Args{{"nope": {"1"}}, {"dangling": {"perhaps"}}, {"until": {"then"}}} {
		_, err := e.Prune(t.Context(), bad)
		assert.Assert(t, errdefs.IsInvalidParameter(err), "%v", bad)
	}
}

// Two images share a layer of a known size.
func TestSharedSize(t *testing.T) {
	e := setup(t)
	common := testimage.Layer(t, testimage.File{Name: "common", Body: strings.Repeat("c", 100_000)})
	with := func(body, tag string) testimage.Image {
		img := small(t, body, tag)
		img.Layers = append([][]byte{common}, img.Layers...)
		return img
	}
	e.mustLoad(testimage.DockerArchive(t, with("a", "a:1"), with("b", "b:1"), small(t, "alone", "c:1")))
	list, err := e.List(t.Context(), imagetypes.ListOptions{SharedSize: true})
	assert.NilError(t, err)
	for _, s := range list {
		if s.RepoTags[0] == "c:1" {
			assert.Equal(t, s.SharedSize, int64(0))
		} else {
			assert.Assert(t, s.SharedSize > 2*100_000 && s.SharedSize < s.Size, "%+v", s) // the blob and its files
		}
	}
	list, err = e.List(t.Context(), imagetypes.ListOptions{})
	assert.NilError(t, err)
	assert.Equal(t, list[0].SharedSize, int64(-1))
}

func TestSearch(t *testing.T) {
	e, r := setup(t), newRegistry(t)
	e.speak(image.Registries{})
	r.breakWith(func(w http.ResponseWriter, q *http.Request) bool {
		assert.Equal(t, q.URL.Path+"?"+q.URL.RawQuery, "/v1/search?q=box&n=7")
		assert.Check(t, json.NewEncoder(w).Encode(imagetypes.SearchResults{
			NumResults: 1, Results: []imagetypes.SearchResult{{Name: "busybox", StarCount: 3, IsOfficial: true}},
		}))
		return true
	})
	got, err := e.Search(t.Context(), r.host+"/box", 7, imagetypes.Auth{})
	assert.NilError(t, err)
	assert.DeepEqual(t, got.Results, []imagetypes.SearchResult{{Name: "busybox", StarCount: 3, IsOfficial: true}})
}
