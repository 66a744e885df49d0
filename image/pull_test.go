package image_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/image"
	"github.com/berthd/berth/internal/testimage"
)

// pull pulls and returns what a client would show: status messages, without how far each layer is.
func (e *env) pull(o imagetypes.PullOptions) (lines []string, err error) {
	err = e.Pull(e.t.Context(), o, func(m imagetypes.Message) {
		if m.Status != "Downloading" {
			lines = append(lines, strings.TrimPrefix(m.ID+": "+m.Status, ": "))
		}
	})
	return lines, err
}

func (e *env) mustPull(ref string) []string {
	e.t.Helper()
	lines, err := e.pull(imagetypes.PullOptions{Ref: ref})
	assert.NilError(e.t, err)
	return lines
}

// big is an image with layers of n incompressible bytes each.
func big(t *testing.T, n int, layers int) testimage.Image {
	t.Helper()
	rnd := rand.New(rand.NewPCG(uint64(n), uint64(layers)))
	var img testimage.Image
	for i := range layers {
		b := make([]byte, n)
		for j := range b {
			b[j] = byte(rnd.Uint32())
		}
		img.Layers = append(img.Layers, testimage.Layer(t, testimage.File{Name: fmt.Sprintf("f%d", i), Body: string(b)}))
	}
	return img
}

func TestPull(t *testing.T) {
	e, r := setup(t), newRegistry(t)
	e.speak(image.Registries{})
	desc := r.Manifest(small(t, "hello"))
	ref := r.push("team/app:1", desc)
	lines := e.mustPull(ref)
	layer := digest.FromBytes(small(t, "hello").Layers[0]).Encoded()[:12]
	assert.DeepEqual(t, lines, []string{
		"1: Pulling from team/app", layer + ": Pulling fs layer", layer + ": Verifying Checksum",
		layer + ": Download complete", layer + ": Extracting", layer + ": Pull complete", "Digest: " + desc.Digest.String(),
		"Status: Downloaded newer image for " + ref,
	})
	assert.Equal(t, e.id(ref), desc.Digest.String())
	assert.Equal(t, e.readFile(ref, "f"), "hello")
	assert.DeepEqual(t, e.told(), []string{"pull " + r.host + "/team/app"})

	lines = e.mustPull(ref)
	assert.DeepEqual(t, lines, []string{
		"1: Pulling from team/app", "Digest: " + desc.Digest.String(), "Status: Image is up to date for " + ref,
	})

	// Another image with that layer.
	same := small(t, "hello")
	same.Config.Labels = map[string]string{"other": "yes"}
	lines = e.mustPull(r.push("team/same:1", r.Manifest(same)))
	assert.Assert(t, slices.Contains(lines, layer+": Already exists"), "%q", lines)

	// The first is an image no more, although what it was made of is still here.
	assert.NilError(t, e.engine.Images().Delete(e.engine.Context(t.Context()), ref))
	lines = e.mustPull(ref)
	assert.Assert(t, slices.Contains(lines, layer+": Already exists"), "%q", lines)

	// The tag moves; the image that had it stays, without a name.
	newer := r.Manifest(small(t, "newer"))
	r.push("team/app:1", newer)
	e.mustPull(ref)
	e.collect()
	assert.Equal(t, e.readFile(ref, "f"), "newer")
	assert.Equal(t, e.readFile(desc.Digest.String(), "f"), "hello")

	// By digest: a name without a tag.
	byDigest := r.host + "/team/other@" + desc.Digest.String()
	e.mustPull(byDigest)
	list, err := e.List(t.Context(), imagetypes.ListOptions{})
	assert.NilError(t, err)
	i := slices.IndexFunc(list, func(s imagetypes.Summary) bool { return s.ID == desc.Digest.String() })
	assert.DeepEqual(t, list[i].RepoTags, []string{})
	assert.DeepEqual(t, list[i].RepoDigests, []string{byDigest})
	assert.Assert(t, !slices.ContainsFunc(e.stored(), isLease), "%q", e.stored())
}

func isLease(s string) bool { return strings.HasPrefix(s, "lease ") }

func TestPullOfOnePlatform(t *testing.T) {
	e, r := setup(t), newRegistry(t)
	e.speak(image.Registries{})
	other := "arm64"
	if runtime.GOARCH == other {
		other = "amd64"
	}
	variant := func(arch string) ocispec.Descriptor {
		img := small(t, arch)
		img.Arch = arch
		d := r.Manifest(img)
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		return d
	}
	mine, theirs := variant(runtime.GOARCH), variant(other)
	idx := r.Index(theirs, mine)
	ref := r.push("multi:1", idx)
	e.mustPull(ref)
	assert.Equal(t, e.id(ref), idx.Digest.String())
	assert.Equal(t, e.readFile(ref, "f"), runtime.GOARCH)
	assert.Equal(t, r.times(theirs), 0, "only the wanted platform is downloaded")

	_, err := e.pull(imagetypes.PullOptions{Ref: ref, Platform: theirs.Platform})
	assert.NilError(t, err)
	got, err := e.Inspect(t.Context(), ref, imagetypes.InspectOptions{Platform: theirs.Platform, Manifests: true})
	assert.NilError(t, err)
	assert.Equal(t, got.Architecture, other)
	assert.Equal(t, len(got.Manifests), 2)
	assert.Assert(t, got.Manifests[0].Available && got.Manifests[1].Available)

	_, err = e.pull(imagetypes.PullOptions{Ref: ref, Platform: &ocispec.Platform{OS: "linux", Architecture: "riscv64"}})
	assert.ErrorContains(t, err, "no matching manifest for linux/riscv64 in the manifest list entries")
	assert.Assert(t, errdefs.IsNotFound(err))
}

func TestPullAllTags(t *testing.T) {
	e, r := setup(t), newRegistry(t)
	e.speak(image.Registries{})
	r.page = 2
	for i := range 5 {
		r.push(fmt.Sprintf("many:v%d", i), r.Manifest(small(t, fmt.Sprint(i))))
	}
	e.mustPull(r.host + "/many")
	for i := range 5 {
		assert.Equal(t, e.readFile(fmt.Sprintf("%s/many:v%d", r.host, i), "f"), fmt.Sprint(i))
	}
}

func TestPullLogsIn(t *testing.T) {
	me := imagetypes.Auth{Username: "me", Password: "secret"}
	for name, c := range map[string]struct {
		scheme authScheme
		auth   imagetypes.Auth
	}{
		"basic": {basic, me}, "token by GET": {tokenGet, me}, "token by POST": {tokenPost, me},
		"identity token": {tokenPost, imagetypes.Auth{IdentityToken: "refresh"}},
		"registry token": {tokenPost, imagetypes.Auth{RegistryToken: "good"}},
	} {
		t.Run(name, func(t *testing.T) {
			e, r := setup(t), newRegistry(t)
			e.speak(image.Registries{})
			r.user, r.auth = "me:secret", c.scheme
			ref := r.push("private:1", r.Manifest(small(t, "secret")))
			for _, auth := range []imagetypes.Auth{{}, {Username: "me", Password: "wrong"}, {IdentityToken: "wrong"}, {RegistryToken: "wrong"}} {
				lines, err := e.pull(imagetypes.PullOptions{Ref: ref, Auth: auth})
				assert.ErrorContains(t, err, "pull access denied for "+r.host+"/private, repository does not exist or may "+
					"require 'docker login'")
				assert.Equal(t, strings.Count(err.Error(), "does not exist"), 1, "%v", err)
				assert.Assert(t, errdefs.IsNotFound(err))
				assert.Equal(t, len(lines), 0, "it can still become a status")
				auth.ServerAddress = r.host
				assert.Assert(t, errdefs.IsUnauthorized(e.Login(t.Context(), auth)), "%v", e.Login(t.Context(), auth))
			}
			_, err := e.pull(imagetypes.PullOptions{Ref: ref, Auth: c.auth})
			assert.NilError(t, err)
			assert.Equal(t, e.readFile(ref, "f"), "secret")
			d, err := e.Distribution(t.Context(), ref, c.auth)
			assert.NilError(t, err)
			assert.Equal(t, d.Descriptor.Digest.String(), e.id(ref))
			assert.DeepEqual(t, d.Platforms, []ocispec.Platform{{OS: "linux", Architecture: runtime.GOARCH}})
			if c.auth.ServerAddress = r.host; c.auth.RegistryToken == "" { // which is for one repository
				assert.NilError(t, e.Login(t.Context(), c.auth))
			}
		})
	}
}

// What goes to a registry goes through the proxy.
func TestPullThroughAProxy(t *testing.T) {
	e, r := setup(t), newRegistry(t)
	var mu sync.Mutex
	asked := map[string]bool{}
	r.breakWith(func(_ http.ResponseWriter, q *http.Request) bool { // the registry plays the proxy, too
		mu.Lock()
		defer mu.Unlock()
		asked[q.URL.Scheme+"://"+q.Host] = true
		return false
	})
	proxy := &url.URL{Scheme: "http", Host: r.host}
	e.speak(image.Registries{
		Mirrors: []string{"http://mirror.invalid"}, Proxy: func(*url.URL) (*url.URL, error) { return proxy, nil },
	})
	r.push("library/box:1", r.Manifest(small(t, "proxied")))
	e.mustPull("box:1")
	assert.Equal(t, e.readFile("box:1", "f"), "proxied")
	assert.DeepEqual(t, asked, map[string]bool{"http://mirror.invalid": true})
}

// Layers are fetched side by side, no more than is allowed.
func TestPullLayersAtOnce(t *testing.T) {
	e, r := setup(t), newRegistry(t)
	e.speak(image.Registries{Downloads: 2})
	img := big(t, 1000, 6)
	layers := map[string]bool{}
	for _, l := range img.Layers {
		layers[digest.FromBytes(l).String()] = true
	}
	var mu sync.Mutex
	now, most := 0, 0
	two, three := make(chan struct{}), make(chan struct{})
	r.breakWith(func(_ http.ResponseWriter, q *http.Request) bool {
		if !layers[q.URL.Path[strings.LastIndexByte(q.URL.Path, '/')+1:]] {
			return false
		}
		mu.Lock()
		now++
		if now > most {
			most = now
			switch now {
			case 2:
				close(two)
			case 3:
				close(three)
			}
		}
		mu.Unlock()
		select {
		case <-two:
		case <-q.Context().Done():
		}
		select { // a registry slow enough for a third to come
		case <-three:
		case <-time.After(100 * time.Millisecond):
		}
		mu.Lock()
		now--
		mu.Unlock()
		return false
	})
	e.mustPull(r.push("many:1", r.Manifest(img)))
	assert.Equal(t, most, 2)
}

// How far a transfer is is not told at each step.
func TestProgressIsThrottled(t *testing.T) {
	e := setup(t)
	const size = 8 << 20
	layer := testimage.Layer(t, testimage.File{Name: "f", Body: strings.Repeat("x", size)})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(layer) }))
	defer srv.Close()
	var at []int64
	begin := time.Now()
	_, err := e.ImportURL(t.Context(), imagetypes.ImportOptions{}, srv.URL, func(m imagetypes.Message) {
		if m.Detail != nil {
			at = append(at, m.Detail.Current)
		}
	})
	assert.NilError(t, err)
	most := 2 + int(time.Since(begin)/(100*time.Millisecond)) // the first, the last, and ten a second
	assert.Assert(t, len(at) > 0 && len(at) <= most, "%d in %v", len(at), time.Since(begin))
	assert.Assert(t, slices.IsSorted(at))
}

func TestPullOfNothing(t *testing.T) {
	e, r := setup(t), newRegistry(t)
	e.speak(image.Registries{Attempts: 1})
	for _, c := range []struct {
		ref, text string
		is        func(error) bool
	}{
		{r.host + "/nope:1", "manifest for " + r.host + "/nope:1 not found: manifest unknown", errdefs.IsNotFound},
		{"UPPER", "invalid reference format", errdefs.IsInvalidParameter},
		{"scratch", "'scratch' is a reserved name", errdefs.IsForbidden},
		{"127.0.0.1:1/closed:1", "connection refused", func(err error) bool { return !errdefs.IsNotFound(err) }},
	} {
		lines, err := e.pull(imagetypes.PullOptions{Ref: c.ref})
		assert.ErrorContains(t, err, c.text)
		assert.Assert(t, c.is(err), "%v", err)
		assert.Equal(t, len(lines), 0)
	}
	assert.Equal(t, len(e.stored()), 0, "%q", e.stored())
}

// The mirror is asked first, and is no reason to fail.
func TestPullFromMirrors(t *testing.T) {
	e, r := setup(t), newRegistry(t)
	e.speak(image.Registries{Mirrors: []string{"http://127.0.0.1:1", "http://" + r.host}})
	r.push("library/box:1", r.Manifest(small(t, "mirrored")))
	e.mustPull("box:1")
	assert.Equal(t, e.readFile("docker.io/library/box:1", "f"), "mirrored")
}

// Each layer is cut off again and again; what came is not asked for twice.
func TestPullResumes(t *testing.T) {
	e, r := setup(t), newRegistry(t)
	e.speak(image.Registries{Attempts: 3})
	const size = 300_000
	desc := r.Manifest(big(t, size, 2))
	ref := r.push("big:1", desc)
	var mu sync.Mutex
	cuts, sent := map[string]int{}, 0
	r.breakWith(func(w http.ResponseWriter, q *http.Request) bool {
		if !strings.Contains(q.URL.Path, "/blobs/") {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		from := 0
		_, _ = fmt.Sscanf(q.Header.Get("Range"), "bytes=%d-", &from)
		for _, f := range r.Files {
			if !strings.HasSuffix(f.Name, strings.TrimPrefix(q.URL.Path[strings.LastIndex(q.URL.Path, "/")+1:], "sha256:")) {
				continue
			}
			if len(f.Body) < size || cuts[f.Name] > 0 {
				sent += len(f.Body) - from
				return false
			}
			cuts[f.Name]++
			sent += size / 2
			w.Header().Set("Content-Length", fmt.Sprint(len(f.Body)))
			_, _ = io.WriteString(w, f.Body[:size/2])
			return true // too short: the connection is cut
		}
		return false
	})
	e.mustPull(ref)
	assert.Equal(t, len(cuts), 2, "both layers were cut")
	assert.Assert(t, sent < 2*size+20_000, "%d bytes were sent", sent)
	assert.Assert(t, len(e.readFile(ref, "f1")) == size)
}

// A pull that is given up leaves the beginning of a layer; the next one goes on there.
func TestPullGivenUp(t *testing.T) {
	e, r := setup(t), newRegistry(t)
	e.speak(image.Registries{})
	const size = 4 << 20 // it is told how far it is once in a mebibyte
	img := big(t, size, 1)
	desc := r.Manifest(img)
	ref := r.push("big:1", desc)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	from := make(chan int, 10)
	r.breakWith(func(w http.ResponseWriter, q *http.Request) bool {
		if !strings.HasSuffix(q.URL.Path, digest.FromBytes(img.Layers[0]).String()) {
			return false
		}
		at := 0
		_, _ = fmt.Sscanf(q.Header.Get("Range"), "bytes=%d-", &at)
		from <- at
		if at > 0 {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(img.Layers[0])))
		_, _ = w.Write(img.Layers[0][:size/2])
		_ = http.NewResponseController(w).Flush()
		<-q.Context().Done()
		return true
	})
	err := e.Pull(ctx, imagetypes.PullOptions{Ref: ref}, func(m imagetypes.Message) {
		if m.Status == "Downloading" {
			cancel()
		}
	})
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, <-from, 0)
	assert.Assert(t, slices.ContainsFunc(e.stored(), func(s string) bool { return strings.HasPrefix(s, "ingest ") }))
	_, err = e.Resolve(t.Context(), ref)
	assert.Assert(t, errdefs.IsNotFound(err), "%v", err)

	e.restart("overlayfs")
	e.collect()
	e.mustPull(ref)
	assert.Assert(t, <-from > 0, "the second pull began anew")
	assert.Equal(t, len(e.readFile(ref, "f0")), size)
	assert.Assert(t, !slices.ContainsFunc(e.stored(), isLease), "%q", e.stored())
}

// Two pulls of the same layer download it once.
func TestPullsShareLayers(t *testing.T) {
	e, r := setup(t), newRegistry(t)
	e.speak(image.Registries{})
	img := big(t, 200_000, 1)
	layer := ocispec.Descriptor{Digest: digest.FromBytes(img.Layers[0])}
	var refs []string
	for i := range 4 {
		img.Config.Labels = map[string]string{"i": fmt.Sprint(i)}
		refs = append(refs, r.push(fmt.Sprintf("shared:%d", i), r.Manifest(img)))
	}
	var wg sync.WaitGroup
	for _, ref := range refs {
		wg.Go(func() {
			_, err := e.pull(imagetypes.PullOptions{Ref: ref})
			assert.Check(t, err)
		})
	}
	wg.Wait()
	assert.Equal(t, r.times(layer), 1)
	e.collect()
	for _, ref := range refs {
		assert.Equal(t, len(e.readFile(ref, "f0")), 200_000)
	}
}

// A registry that does not play by the rules gets an error, and nothing of it becomes an image.
func TestHostileRegistry(t *testing.T) {
	body := func(send func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, q *http.Request) bool {
			if !strings.Contains(q.URL.Path, "/blobs/") {
				return false
			}
			send(w)
			return true
		}
	}
	manifest := func(text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, q *http.Request) bool {
			if !strings.Contains(q.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			w.Header().Set("Docker-Content-Digest", digest.FromString(text).String())
			_, _ = io.WriteString(w, text)
			return true
		}
	}
	endless := func(w http.ResponseWriter) {
		chunk := make([]byte, 1<<20)
		for range 1 << 10 { // an end, in case nobody cuts it
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
		t.Error("a gigabyte was taken")
	}
	for _, c := range []struct {
		name  string
		fault func(w http.ResponseWriter, q *http.Request) bool
		text  string
	}{
		{"wrong bytes", body(func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 10)) }), ""},
		{"endless bytes", body(endless), "verification failed"},
		{"no JSON", manifest("{"), ""},
		{"a manifest of nothing", manifest(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `"}`), ""},
		{"another manifest than it says", func(w http.ResponseWriter, q *http.Request) bool {
			if !strings.Contains(q.URL.Path, "/manifests/") || q.Method != http.MethodGet {
				return false
			}
			_, _ = io.WriteString(w, strings.Repeat(" ", 300))
			return true
		}, ""},
		{"a redirect loop", func(w http.ResponseWriter, q *http.Request) bool {
			http.Redirect(w, q, q.URL.Path, http.StatusTemporaryRedirect)
			return true
		}, "stopped after 10 redirects"},
		{"a huge config", manifest(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"size":%d,`+
			`"digest":"sha256:%064d"},"layers":[]}`, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, 1<<40, 1)),
			"more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, r := setup(t), newRegistry(t)
			e.speak(image.Registries{Attempts: 1})
			ref := r.push("bad:1", r.Manifest(small(t, "good")))
			r.breakWith(c.fault)
			_, err := e.pull(imagetypes.PullOptions{Ref: ref})
			assert.Assert(t, err != nil)
			assert.Assert(t, cmp.Contains(err.Error(), c.text))
			n, err := e.Count(t.Context())
			assert.NilError(t, err)
			assert.Equal(t, n, 0)

			// What is right afterwards is not spoilt by it.
			r.breakWith(nil)
			e.mustPull(ref)
			assert.Equal(t, e.readFile(ref, "f"), "good")
		})
	}
}
