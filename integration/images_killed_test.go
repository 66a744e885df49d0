package integration

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/continuity/fs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/berthd/berth/integration/harness"
	"github.com/berthd/berth/internal/testimage"
	"github.com/berthd/berth/libcontainerd/embedded"
)

// killedImages are the images of TestSoakImagesKilled: what their containers see, by name.
type killedImages struct {
	*harness.Daemon
	files map[string]string
}

const (
	pulledImage    = "127.0.0.1:5000/team/pulled:1"
	loadedImage    = "loaded:1"
	committedImage = "committed:1"
)

// TestSoakImagesKilled kills the daemon at random moments of what changes images. After each restart every image is whole
// or absent, what no image needs has gone, and df tells what the disk has.
func TestSoakImagesKilled(t *testing.T) {
	t.Parallel()
	d := killedImages{harness.Start(t), map[string]string{}}
	startRegistry(t, d.Daemon, registryOptions{addr: "127.0.0.1:5000"})
	layers := [][]byte{testimage.BusyboxLayer(t)}
	for i := range 3 {
		var files []testimage.File
		for n := range 30 {
			body := make([]byte, 5_000)
			random := rand.NewChaCha8([32]byte{byte(i), byte(n)})
			_, _ = random.Read(body) // never fails
			files = append(files, testimage.File{Name: fmt.Sprintf("layer-%d-%d", i, n), Body: string(body)})
		}
		layers = append(layers, testimage.Layer(t, files...))
	}
	archive := func(name string, which ...int) []byte {
		img := testimage.BusyboxImage(t, name)
		for _, i := range which {
			img.Layers = append(img.Layers, layers[i])
		}
		return testimage.DockerArchive(t, img)
	}
	pulled, loaded := archive(pulledImage, 1, 2), archive(loadedImage, 1, 3)
	running := d.Run("running", "sh", "-c", "dd if=/dev/urandom of=/made bs=1k count=100; echo made; sleep 100000")
	d.Eventually("the container has changed something", func() bool { return strings.Contains(d.Log(running), "made\n") })

	post := func(path string, body []byte) func() error {
		return func() error {
			resp, err := d.Try("POST", path, bytes.NewReader(body))
			if err == nil && (resp.Status >= 300 || strings.Contains(resp.Body, `"errorDetail"`)) {
				return errors.New(resp.Body)
			}
			return err
		}
	}
	load := post("/images/load", loaded)
	remove := func(name string) func() error {
		return func() error {
			_, err := d.Try("DELETE", "/images/"+name, nil)
			return err
		}
	}
	nothing := func() error { return nil }
	operations := []struct {
		name         string
		prepare, run func() error
		took         time.Duration
	}{
		{"pull", remove(pulledImage), post("/images/create?fromImage="+pulledImage, nil), 0},
		{"load", remove(loadedImage), load, 0},
		{"commit", nothing, post("/commit?container="+running+"&repo=committed&tag=1", nil), 0},
		{"remove", load, remove(loadedImage), 0},
		{"prune", load, post(`/images/prune?filters={"dangling":["false"]}`, nil), 0},
	}
	assert.NilError(t, post("/images/load", pulled)())
	assert.NilError(t, post("/images/"+pulledImage+"/push", nil)())
	for i := range operations { // undisturbed, to know how long it takes and what comes of it
		op := &operations[i]
		assert.NilError(t, op.prepare())
		begin := time.Now()
		assert.NilError(t, op.run())
		op.took = time.Since(begin)
		d.check(t, op.name)
	}
	for n := range 20 * min(*soak, 10) {
		op := operations[n%len(operations)]
		assert.NilError(t, op.prepare())
		moment := time.Duration(rand.Int64N(int64(op.took)))
		done := make(chan error, 1)
		go func() { done <- op.run() }()
		select {
		case err := <-done:
			done <- err
		case <-time.After(moment):
		}
		d.Kill9()
		<-done
		d.Start()
		d.check(t, fmt.Sprintf("%s, killed after %v of about %v", op.name, moment, op.took))
		if op.name == "commit" {
			assert.Equal(t, d.Inspect(running).State.Status, "running")
			out, _ := d.Exec(running, "echo", "thawed")
			assert.Equal(t, out, "thawed\n")
		}
	}
	for _, op := range operations { // what was cut does not keep the next one from its end
		assert.NilError(t, op.prepare())
		assert.NilError(t, op.run())
		d.check(t, op.name)
	}
	assert.Equal(t, d.Stop(), 0)
	d.noLeases(t, running)
	d.Start()
}

// check asserts that all is well with the images, as soon as the daemon had the time to free what is not needed.
func (d killedImages) check(t *testing.T, what string) {
	t.Helper()
	d.OK("POST", "/images/prune", nil, nil) // a pull that was cut leaves what the next one can use
	var list []struct {
		ID       string `json:"Id"`
		RepoTags []string
	}
	d.OK("GET", "/images/json", nil, &list)
	blobs, chains, tops := map[string]bool{}, map[string]bool{}, map[string]bool{}
	need := func(dgst digest.Digest, v any) {
		t.Helper()
		b, err := os.ReadFile(d.blob(dgst.Encoded()))
		assert.NilError(t, err, what)
		assert.Equal(t, digest.FromBytes(b), dgst, what)
		blobs[dgst.Encoded()] = true
		if v != nil {
			assert.NilError(t, json.Unmarshal(b, v), what)
		}
	}
	for _, img := range list {
		var m ocispec.Manifest
		need(digest.Digest(img.ID), &m)
		var config ocispec.Image
		need(m.Config.Digest, &config)
		for _, l := range m.Layers {
			need(l.Digest, nil)
		}
		for _, id := range identity.ChainIDs(slices.Clone(config.RootFS.DiffIDs)) {
			chains[id.String()] = true
		}
		tops[identity.ChainID(config.RootFS.DiffIDs).String()] = true // containers are made on them, below
		for _, name := range img.RepoTags {
			d.checkFiles(t, name, what)
		}
	}
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if left := slices.DeleteFunc(d.names(t, d.blob()), func(s string) bool { return blobs[s] }); len(left) > 0 {
			return poll.Continue("%s: blobs that no image needs: %v", what, left)
		}
		if have, want := d.names(t, d.snapshots()), len(chains)+len(tops)+len(d.Containers()); len(have) != want {
			return poll.Continue("%s: not %d snapshots: %v", what, want, have)
		}
		return poll.Success()
	}, poll.WithTimeout(time.Minute))
	var df struct{ LayersSize int64 }
	d.OK("GET", "/v1.51/system/df?type=image", nil, &df)
	assert.Equal(t, df.LayersSize, d.imagesOnDisk(t), what)
}

// checkFiles asserts that a container of the image sees what it saw before.
func (d killedImages) checkFiles(t *testing.T, name, what string) {
	t.Helper()
	spec := harness.Spec("true")
	spec["Image"] = name
	id := d.Create("", spec)
	tr := tar.NewReader(strings.NewReader(d.HTTP("GET", "/containers/"+id+"/export", nil).Body))
	sum := sha256.New()
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		assert.NilError(t, err, what)
		fmt.Fprintln(sum, hdr.Name, hdr.Typeflag, hdr.Mode, hdr.Size, hdr.Linkname)
		_, err = io.Copy(sum, tr)
		assert.NilError(t, err, what)
	}
	d.Remove(id)
	files := fmt.Sprintf("%x", sum.Sum(nil))
	if d.files[name] == "" {
		d.files[name] = files
	}
	assert.Equal(t, files, d.files[name], "%s: the files of %s", what, name)
}

func (d killedImages) blob(name ...string) string {
	return filepath.Join(append([]string{d.File("d/containerd/io.containerd.content.v1.content/blobs/sha256")}, name...)...)
}

func (d killedImages) snapshots(name ...string) string {
	return filepath.Join(append([]string{d.File("d/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots")}, name...)...)
}

func (d killedImages) names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	assert.NilError(t, err)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// imagesOnDisk adds up what is on the disk and is no container's, without mount points, which have no content.
func (d killedImages) imagesOnDisk(t *testing.T) (size int64) {
	t.Helper()
	own := map[string]bool{}
	for _, id := range d.Containers() {
		var c struct {
			GraphDriver struct{ Data map[string]string }
		}
		d.OK("GET", "/v1.48/containers/"+id+"/json", nil, &c)
		own[c.GraphDriver.Data["UpperDir"]] = true
	}
	for _, name := range d.names(t, d.snapshots()) {
		dir := d.snapshots(name, "fs")
		if _, err := os.Stat(filepath.Join(dir, ".dockerenv")); err != nil && !own[dir] {
			u, err := fs.DiskUsage(t.Context(), dir)
			assert.NilError(t, err)
			size += u.Size
		}
	}
	for _, name := range d.names(t, d.blob()) {
		st, err := os.Stat(d.blob(name))
		assert.NilError(t, err)
		size += st.Size()
	}
	return size
}

// noLeases asserts that a daemon that has stopped has no lease left but that of its container.
func (d killedImages) noLeases(t *testing.T, container string) {
	t.Helper()
	e, err := embedded.Start(t.Context(), embedded.Config{Root: d.File("d/containerd")})
	assert.NilError(t, err)
	defer func() { assert.NilError(t, e.Close(t.Context())) }()
	all, err := e.Leases().List(e.Context(t.Context()))
	assert.NilError(t, err)
	assert.Equal(t, len(all), 1, "%v", all)
	assert.Assert(t, strings.HasSuffix(all[0].ID, container))
}
