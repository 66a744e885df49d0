package image_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/api/types/container"
	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/image"
	"github.com/berthd/berth/internal/testimage"
)

// mustImport imports a busybox and returns its id.
func (e *env) mustImport(ref string, changes ...string) string {
	e.t.Helper()
	f, err := os.Open(testimage.Busybox(e.t))
	assert.NilError(e.t, err)
	defer f.Close()
	id, err := e.Import(e.t.Context(), imagetypes.ImportOptions{Ref: ref, Changes: changes}, f)
	assert.NilError(e.t, err)
	return id
}

func (e *env) importSmall(o imagetypes.ImportOptions) (string, error) {
	return e.Import(e.t.Context(), o, bytes.NewReader(testimage.Layer(e.t, testimage.File{Name: "f", Body: "x"})))
}

func TestImport(t *testing.T) {
	e := setup(t)
	id := e.mustImport("bb:1", `CMD ["sh"]`, "LABEL a=b")
	assert.DeepEqual(t, e.told(), []string{"import <id>", "tag bb:1"})
	img, err := e.Resolve(t.Context(), "bb:1")
	assert.NilError(t, err)
	assert.Equal(t, img.ID, id)
	assert.Equal(t, img.Manifest.Digest.String(), id)
	assert.Equal(t, img.Manifest.MediaType, ocispec.MediaTypeImageManifest)
	assert.DeepEqual(t, *img.Manifest.Platform, ocispec.Platform{OS: "linux", Architecture: img.Architecture})
	assert.DeepEqual(t, img.Config.Cmd, []string{"sh"})
	assert.DeepEqual(t, img.Config.Labels, map[string]string{"a": "b"})
	assert.Assert(t, strings.HasPrefix(e.readFile("bb:1", "etc/passwd"), "root:"))
	e.collect()
	assert.Assert(t, e.readFile("bb:1", "bin/busybox") != "")
}

func TestImportFromAURL(t *testing.T) {
	e := setup(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/small.tar" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(testimage.Layer(t, testimage.File{Name: "f", Body: "far"})) // or the import fails
	}))
	defer srv.Close()
	var told []string
	from := func(src string) (string, error) {
		told = nil
		return e.ImportURL(t.Context(), imagetypes.ImportOptions{Ref: "far:1"}, src, func(m imagetypes.Message) {
			told = append(told, m.Status)
		})
	}
	id, err := from(strings.TrimPrefix(srv.URL, "http://") + "/small.tar")
	assert.NilError(t, err)
	assert.Equal(t, e.id("far:1"), id)
	assert.Equal(t, e.readFile("far:1", "f"), "far")
	assert.Equal(t, told[0], "Downloading from "+srv.URL+"/small.tar")
	assert.Equal(t, told[len(told)-1], "Importing")
	r, err := e.Inspect(t.Context(), id, imagetypes.InspectOptions{})
	assert.NilError(t, err)
	assert.Equal(t, *r.Comment, "Imported from "+srv.URL+"/small.tar")

	_, err = from(srv.URL + "/none")
	assert.ErrorContains(t, err, "failed to GET "+srv.URL+"/none with status 404 Not Found")
	assert.Assert(t, errdefs.IsNotFound(err))
	assert.Equal(t, len(told), 0, "it can still become a status")
	for _, bad := range []string{"ftp://host/file", "http://", "http://[", "a b"} {
		_, err = from(bad)
		assert.Assert(t, errdefs.IsInvalidParameter(err), "%s: %v", bad, err)
		assert.Equal(t, len(told), 0)
	}
}

func TestImportOptions(t *testing.T) {
	e := setup(t)
	id, err := e.importSmall(imagetypes.ImportOptions{
		Message: "hello", Platform: &ocispec.Platform{OS: "linux", Architecture: "aarch64"},
	})
	assert.NilError(t, err)
	r, err := e.Inspect(t.Context(), id, imagetypes.InspectOptions{})
	assert.NilError(t, err)
	assert.Equal(t, *r.Comment, "hello")
	assert.Equal(t, r.Architecture, "arm64")
	assert.Equal(t, len(r.RepoTags), 0)
}

func TestImportThatFailsLeavesNothing(t *testing.T) {
	e := setup(t)
	body := testimage.BusyboxLayer(t)
	for name, o := range map[string]imagetypes.ImportOptions{
		"UPPER": {Ref: "UPPER"}, "digest": {Ref: "x@sha256:" + strings.Repeat("a", 64)},
		"ambiguous": {Ref: "sha256:1"}, "change": {Changes: []string{"RUN true"}},
	} {
		_, err := e.Import(t.Context(), o, bytes.NewReader(body))
		assert.Check(t, errdefs.IsInvalidParameter(err), "%s: %v", name, err)
	}
	for name, in := range map[string][]byte{
		"cut off": body[:len(body)/2], "no tar": []byte(strings.Repeat("hello ", 1000)),
		"bad gzip": {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 1, 2},
	} {
		_, err := e.Import(t.Context(), imagetypes.ImportOptions{Ref: "x"}, bytes.NewReader(in))
		assert.Check(t, errdefs.IsInvalidParameter(err), "%s: %v", name, err)
		assert.Check(t, !strings.Contains(err.Error(), "mount"), "%s: how it was tried helps nobody: %v", name, err)
		left := e.stored()
		assert.Check(t, len(left) == 0, "%s left %q", name, left)
	}
	assert.Equal(t, len(e.told()), 0)
}

func TestChanges(t *testing.T) {
	e := setup(t)
	config := func(changes ...string) image.Config {
		t.Helper()
		id, err := e.importSmall(imagetypes.ImportOptions{Changes: changes})
		assert.NilError(t, err, "%q", changes)
		img, err := e.Resolve(t.Context(), id)
		assert.NilError(t, err)
		return img.Config
	}
	with := func(fn func(*image.Config)) image.Config {
		var c image.Config
		fn(&c)
		return c
	}
	for _, c := range []struct {
		changes []string
		want    image.Config
	}{
		{[]string{`CMD ["a","b c"]`}, with(func(c *image.Config) { c.Cmd = []string{"a", "b c"} })},
		{[]string{`cmd echo $HOME`}, with(func(c *image.Config) { c.Cmd = []string{"/bin/sh", "-c", "echo $HOME"} })},
		{[]string{`SHELL ["ash","-e","-c"]`, `ENTRYPOINT run it`}, with(func(c *image.Config) {
			c.Shell, c.Entrypoint = []string{"ash", "-e", "-c"}, []string{"ash", "-e", "-c", "run it"}
		})},
		{[]string{`ENV a=1 b="two words" c=d\ e`, `ENV a=2`, `ENV f g h`}, with(func(c *image.Config) {
			c.Env = []string{"b=two words", "c=d e", "a=2", "f=g h"}
		})},
		{[]string{`LABEL x='y z' w=""`, `LABEL "quoted name"=v`}, with(func(c *image.Config) {
			c.Labels = map[string]string{"x": "y z", "w": "", "quoted name": "v"}
		})},
		{[]string{`EXPOSE 80 53/udp 8000-8001`}, with(func(c *image.Config) {
			c.ExposedPorts = map[string]struct{}{"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}}
		})},
		{[]string{`VOLUME /a /b`, `VOLUME ["/c d"]`}, with(func(c *image.Config) {
			c.Volumes = map[string]struct{}{"/a": {}, "/b": {}, "/c d": {}}
		})},
		{[]string{`WORKDIR /srv`, `WORKDIR app`, `USER nobody:nogroup`, `STOPSIGNAL SIGINT`, `ONBUILD RUN true`},
			with(func(c *image.Config) {
				c.WorkingDir, c.User, c.StopSignal = "/srv/app", "nobody:nogroup", "SIGINT"
				c.OnBuild = []string{"RUN true"}
			})},
		{[]string{`HEALTHCHECK --interval=5s --timeout=2s --start-period=1m --start-interval=1s --retries=2 CMD test /a`},
			with(func(c *image.Config) {
				c.Healthcheck = &container.HealthConfig{Test: []string{"CMD-SHELL", "test /a"}, Interval: 5 * time.Second,
					Timeout: 2 * time.Second, StartPeriod: time.Minute, StartInterval: time.Second, Retries: 2}
			})},
		{[]string{`HEALTHCHECK CMD ["true"]`}, with(func(c *image.Config) {
			c.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "true"}}
		})},
		{[]string{`HEALTHCHECK NONE`, ``}, with(func(c *image.Config) {
			c.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
		})},
	} {
		assert.Check(t, is.DeepEqual(config(c.changes...), c.want), "%q", c.changes)
	}
	for change, want := range map[string]string{
		"RUN true":                           "RUN is not a valid change command",
		"CMD":                                "CMD requires at least one argument",
		"ENV a":                              "ENV: a must have two arguments",
		"ENV a=1 b":                          `ENV: can't find = in "b"`,
		"ENV =1":                             "names can not be blank",
		`LABEL a="b`:                         "ends within a quote",
		"EXPOSE x":                           "EXPOSE: ",
		"SHELL sh":                           "JSON form",
		`VOLUME [""]`:                        "can not be an empty string",
		"ONBUILD ONBUILD RUN x":              "chaining ONBUILD",
		"ONBUILD from x":                     "FROM isn't allowed",
		"HEALTHCHECK x":                      `unknown type "x"`,
		"HEALTHCHECK CMD":                    "missing command",
		"HEALTHCHECK NONE x":                 "takes no arguments",
		"HEALTHCHECK --bad=1 CMD x":          "unknown flag: bad",
		"HEALTHCHECK --interval=1us CMD x":   "cannot be less than 1ms",
		"HEALTHCHECK --interval=often CMD x": "invalid duration",
		"HEALTHCHECK --retries=-1 CMD x":     "cannot be negative",
	} {
		_, err := e.importSmall(imagetypes.ImportOptions{Changes: []string{change}})
		assert.Check(t, is.ErrorContains(err, want), "%s", change)
		assert.Check(t, errdefs.IsInvalidParameter(err), "%s: %v", change, err)
	}
}
