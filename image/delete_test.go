package image_test

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/image"
	"github.com/berthd/berth/internal/testimage"
)

// steps are what a deletion answers.
type steps = []imagetypes.DeleteResponse

func untagged(s string) imagetypes.DeleteResponse { return imagetypes.DeleteResponse{Untagged: s} }
func deleted(s string) imagetypes.DeleteResponse  { return imagetypes.DeleteResponse{Deleted: s} }

const (
	runningID = "aaaaaaaaaaaabbbb"
	stoppedID = "ccccccccccccdddd"
)

func TestDelete(t *testing.T) {
	running := image.Use{ContainerID: runningID, Running: true, Ref: "a"}
	stopped := image.Use{ContainerID: stoppedID, Ref: "a"}
	const id12 = "<id12>"
	for _, c := range []struct {
		name   string
		tags   []string
		uses   []image.Use
		ref    string // <id> stands for the image's id
		force  bool
		want   steps
		err    string
		events []string
		left   []string // names; nil: the image has gone
	}{
		{name: "last name", tags: []string{"a"}, ref: "a",
			want:   steps{untagged("a:latest"), deleted("<id>")},
			events: []string{"untag a:latest", "delete <id>"}},
		{name: "one of two names", tags: []string{"a", "b:1"}, ref: "b:1",
			want: steps{untagged("b:1")}, events: []string{"untag b:1"}, left: []string{"a:latest"}},
		{name: "id", tags: []string{"a"}, ref: "<id>",
			want:   steps{untagged("a:latest"), deleted("<id>")},
			events: []string{"untag a:latest", "delete <id>"}},
		{name: "id without names", ref: "<id>", want: steps{deleted("<id>")},
			events: []string{"delete <id>"}},
		{name: "id with two names", tags: []string{"a", "b"}, ref: "<id>", left: []string{"a:latest", "b:latest"},
			err: "conflict: unable to delete " + id12 + " (must be forced) - " +
				"image is referenced in multiple repositories"},
		{name: "id with two names by force", tags: []string{"a", "b"}, ref: "<id>", force: true,
			want:   steps{untagged("a:latest"), untagged("b:latest"), deleted("<id>")},
			events: []string{"untag a:latest", "untag b:latest", "delete <id>"}},
		{name: "name and digest", tags: []string{"a"}, ref: "a@<id>",
			want:   steps{untagged("a:latest"), deleted("<id>")},
			events: []string{"untag a:latest", "delete <id>"}},

		{name: "id running", tags: []string{"a"}, uses: []image.Use{stopped, running}, ref: "<id>",
			left: []string{"a:latest"},
			err: "conflict: unable to delete " + id12 + " (cannot be forced) - " +
				"image is being used by running container aaaaaaaaaaaa"},
		{name: "id running by force", tags: []string{"a"}, uses: []image.Use{running}, ref: "<id>", force: true,
			left: []string{"a:latest"},
			err: "conflict: unable to delete " + id12 + " (cannot be forced) - " +
				"image is being used by running container aaaaaaaaaaaa"},
		{name: "id stopped", tags: []string{"a"}, uses: []image.Use{stopped}, ref: "<id>",
			left: []string{"a:latest"},
			err: "conflict: unable to delete " + id12 + " (must be forced) - " +
				"image is being used by stopped container cccccccccccc"},
		{name: "id stopped by force", tags: []string{"a"}, uses: []image.Use{stopped}, ref: "<id>", force: true,
			want:   steps{untagged("a:latest"), deleted("<id>")},
			events: []string{"untag a:latest", "delete <id>"}},
		{name: "last name used", tags: []string{"a"}, uses: []image.Use{stopped}, ref: "a", left: []string{"a:latest"},
			err: `conflict: unable to remove repository reference "a" (must force) - ` +
				`container cccccccccccc is using its referenced image ` + id12},
		{name: "last name stopped by force", tags: []string{"a"}, uses: []image.Use{stopped}, ref: "a", force: true,
			want:   steps{untagged("a:latest"), deleted("<id>")},
			events: []string{"untag a:latest", "delete <id>"}},
		{name: "last name running by force", tags: []string{"a"}, uses: []image.Use{running}, ref: "a", force: true,
			want: steps{untagged("a:latest")}, events: []string{"untag a:latest"}, left: []string{}},
		{name: "one of two names running", tags: []string{"a", "b"}, uses: []image.Use{running}, ref: "a",
			want: steps{untagged("a:latest")}, events: []string{"untag a:latest"}, left: []string{"b:latest"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := setup(t)
			lines := e.mustLoad(testimage.DockerArchive(t, small(t, "x", c.tags...)))
			e.told()
			id := strings.TrimSpace(strings.TrimPrefix(lines[0], "Loaded image ID: "))
			if len(c.tags) > 0 {
				id = e.id(c.tags[0])
			}
			e.use(id, c.uses...)
			got, err := e.Delete(t.Context(), strings.ReplaceAll(c.ref, "<id>", id), c.force)
			if c.err != "" {
				assert.Error(t, err, strings.ReplaceAll(c.err, id12, id[7:19]))
				assert.Assert(t, errdefs.IsConflict(err))
			} else {
				assert.NilError(t, err)
			}
			for i := range c.want {
				c.want[i].Deleted = strings.ReplaceAll(c.want[i].Deleted, "<id>", id)
			}
			assert.DeepEqual(t, got, c.want)
			assert.DeepEqual(t, e.told(), c.events)
			e.collect()
			if c.left == nil {
				assert.Equal(t, len(e.stored()), 0, "%q", e.stored())
				return
			}
			r, err := e.Inspect(t.Context(), id, imagetypes.InspectOptions{})
			assert.NilError(t, err)
			assert.DeepEqual(t, r.RepoTags, c.left)
		})
	}
}

func TestDeleteWhatIsNotThere(t *testing.T) {
	e := setup(t)
	_, err := e.Delete(t.Context(), "nope", true)
	assert.Error(t, err, "No such image: nope:latest")
	assert.Assert(t, errdefs.IsNotFound(err))
}

func TestDeleteSparesSharedLayers(t *testing.T) {
	e := setup(t)
	shared := testimage.Layer(t, testimage.File{Name: "f", Body: "shared"})
	a := testimage.Image{Tags: []string{"a"}, Layers: [][]byte{shared}}
	own := testimage.Layer(t, testimage.File{Name: "g", Body: "own"})
	b := testimage.Image{Tags: []string{"b"}, Layers: [][]byte{shared, own}}
	e.mustLoad(testimage.DockerArchive(t, a, b))
	_, err := e.Delete(t.Context(), "a", false)
	assert.NilError(t, err)
	e.collect()
	assert.Equal(t, e.readFile("b", "f"), "shared")
	assert.Equal(t, e.readFile("b", "g"), "own")
}
