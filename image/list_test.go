package image_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/api/types/filters"
	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/image"
	"github.com/berthd/berth/internal/testimage"
)

// listed returns the names of the images that the filters let through, "-" for one without a name.
func (e *env) listed(f filters.Args) []string {
	e.t.Helper()
	list, err := e.List(e.t.Context(), imagetypes.ListOptions{Filters: f})
	assert.NilError(e.t, err)
	out := []string{}
	for _, s := range list {
		name := strings.Join(s.RepoTags, " ")
		if name == "" {
			name = "-"
		}
		out = append(out, name)
	}
	return out
}

func TestListFilters(t *testing.T) {
	e := setup(t)
	made := func(day int, labels map[string]string, body string, tags ...string) testimage.Image {
		i := small(t, body, tags...)
		i.Created = time.Date(2021, 1, day, 0, 0, 0, 0, time.UTC)
		i.Config = ocispec.ImageConfig{Labels: labels}
		return i
	}
	e.mustLoad(testimage.DockerArchive(t,
		made(1, nil, "a", "a:1", "reg.example/team/a:2"),
		made(2, map[string]string{"k": "v"}, "b", "b:1"),
		made(3, map[string]string{"k": "w", "l": ""}, "c", "c:1"),
		made(4, nil, "d")))
	for _, c := range []struct {
		f    filters.Args
		want []string
	}{
		{nil, []string{"-", "c:1", "b:1", "a:1 reg.example/team/a:2"}},
		{filters.Args{"dangling": {"true"}}, []string{"-"}},
		{filters.Args{"dangling": {"false"}}, []string{"c:1", "b:1", "a:1 reg.example/team/a:2"}},
		{filters.Args{"label": {"k"}}, []string{"c:1", "b:1"}},
		{filters.Args{"label": {"k=v"}}, []string{"b:1"}},
		{filters.Args{"label": {"k", "l"}}, []string{"c:1"}},
		{filters.Args{"before": {"c:1"}}, []string{"b:1", "a:1 reg.example/team/a:2"}},
		{filters.Args{"since": {"a:1"}}, []string{"-", "c:1", "b:1"}},
		{filters.Args{"since": {"a:1"}, "before": {"c:1"}}, []string{"b:1"}},
		{filters.Args{"until": {"2021-01-02T12:00:00Z"}}, []string{"b:1", "a:1 reg.example/team/a:2"}},
		{filters.Args{"until": {"1h"}}, []string{"-", "c:1", "b:1", "a:1 reg.example/team/a:2"}},
		{filters.Args{"reference": {"a"}}, []string{"a:1"}},
		{filters.Args{"reference": {"a:1"}}, []string{"a:1"}},
		{filters.Args{"reference": {"reg.example/*/*"}}, []string{"reg.example/team/a:2"}},
		{filters.Args{"reference": {"?:1"}}, []string{"c:1", "b:1", "a:1"}},
		{filters.Args{"reference": {"b", "c:*"}}, []string{"c:1", "b:1"}},
		{filters.Args{"reference": {"nope"}}, []string{}},
	} {
		assert.Check(t, is.DeepEqual(e.listed(c.f), c.want), "%v", c.f)
	}
	for _, bad := range []filters.Args{
		{"nonsense": {"x"}}, {"dangling": {"maybe"}}, {"until": {"soon"}}, {"reference": {"[a"}},
	} {
		_, err := e.List(t.Context(), imagetypes.ListOptions{Filters: bad})
		assert.Check(t, errdefs.IsInvalidParameter(err), "%v: %v", bad, err)
	}
	_, err := e.List(t.Context(), imagetypes.ListOptions{Filters: filters.Args{"before": {"nope"}}})
	assert.Error(t, err, "No such image: nope:latest")
}

// Images of the same second have an order too.
func TestListOfOneSecond(t *testing.T) {
	e := setup(t)
	var all []testimage.Image
	for n := range 5 {
		i := small(t, strconv.Itoa(n), "a:"+strconv.Itoa(n))
		i.Created = time.Date(2021, 1, 1, 0, 0, 0, n, time.UTC)
		all = append(all, i)
	}
	e.mustLoad(testimage.DockerArchive(t, all...))
	assert.DeepEqual(t, e.listed(nil), []string{"a:4", "a:3", "a:2", "a:1", "a:0"})
	assert.DeepEqual(t, e.listed(filters.Args{"since": {"a:2"}}), []string{"a:4", "a:3"})
	assert.DeepEqual(t, e.listed(filters.Args{"before": {"a:2"}}), []string{"a:1", "a:0"})
}

func TestListOfADamagedStore(t *testing.T) {
	e := setup(t)
	e.mustLoad(testimage.DockerArchive(t, small(t, "a", "a"), small(t, "b", "b")))
	img, err := e.Resolve(t.Context(), "a")
	assert.NilError(t, err)
	blob := filepath.Join(e.root, "containerd/io.containerd.content.v1.content/blobs/sha256",
		img.Manifest.Digest.Encoded())
	assert.NilError(t, os.WriteFile(blob, []byte("{"), 0o600))
	assert.Equal(t, len(e.listed(nil)), 2)
	_, err = e.Inspect(t.Context(), "a", imagetypes.InspectOptions{})
	assert.Assert(t, err != nil)
	_, err = e.Delete(t.Context(), "a", false)
	assert.NilError(t, err)
	assert.DeepEqual(t, e.listed(nil), []string{"b:latest"})
}

// TestRecordedAnswers compares with what dockerd 29 answered about an imported busybox (oracle/golden/image.json).
func TestRecordedAnswers(t *testing.T) {
	e := setup(t)
	id := e.mustImport("busybox:latest", `CMD ["sh"]`)
	e.use(id, image.Use{ContainerID: "c1"})
	p := versions.For("1.55")

	r, err := e.Inspect(t.Context(), "busybox", imagetypes.InspectOptions{})
	assert.NilError(t, err)
	assert.Assert(t, r.Size > 1<<20)
	assert.Assert(t, time.Since(r.Metadata.LastTagTime) < time.Minute)
	_, err = time.Parse(time.RFC3339Nano, *r.Created)
	assert.NilError(t, err)
	created, tagged, layer := *r.Created, r.Metadata.LastTagTime.Format(time.RFC3339Nano), r.RootFS.Layers[0]
	assert.Equal(t, canonical(t, versions.Response(p, r)), canonical(t, json.RawMessage(fmt.Sprintf(
		`{"Architecture":"amd64","Comment":"Imported from -","Config":{"Cmd":["sh"]},"Created":%q,
		"Descriptor":{"digest":%[2]q,"mediaType":"application/vnd.oci.image.manifest.v1+json","size":405},"Id":%[2]q,
		"Metadata":{"LastTagTime":%[3]q},"Os":"linux","RepoDigests":["busybox@%[2]s"],"RepoTags":["busybox:latest"],
		"RootFS":{"Layers":[%[4]q],"Type":"layers"},"Size":%[5]d}`, created, id, tagged, layer, r.Size))))

	list, err := e.List(t.Context(), imagetypes.ListOptions{})
	assert.NilError(t, err)
	assert.Equal(t, len(list), 1)
	assert.Equal(t, list[0].Size, r.Size)
	assert.Assert(t, time.Since(time.Unix(list[0].Created, 0)) < time.Minute)
	assert.Equal(t, canonical(t, versions.Response(p, &list[0])), canonical(t, json.RawMessage(fmt.Sprintf(
		`{"Containers":1,"Created":%d,"Descriptor":{"digest":%[2]q,"mediaType":"application/vnd.oci.image.manifest.v1+json",
		"size":405},"Id":%[2]q,"Labels":{},"ParentId":"","RepoDigests":["busybox@%[2]s"],"RepoTags":["busybox:latest"],
		"SharedSize":-1,"Size":%d}`, list[0].Created, id, r.Size))))
}

// canonical returns v as JSON with sorted keys.
func canonical(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	assert.NilError(t, err)
	var x any
	assert.NilError(t, json.Unmarshal(b, &x))
	b, err = json.MarshalIndent(x, "", " ")
	assert.NilError(t, err)
	return string(b)
}
