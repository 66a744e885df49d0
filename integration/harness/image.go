package harness

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"gotest.tools/v3/assert"
)

// AddBusybox puts busybox:latest, with the command "sh", into the daemon's store.
func (a *API) AddBusybox() {
	a.t.Helper()
	a.Import("busybox", `CMD ["sh"]`)
}

// Import makes an image of busybox, with changes as in a Dockerfile.
func (a *API) Import(name, changes string) {
	a.t.Helper()
	path := "/images/create?fromSrc=-&repo=" + name + "&tag=latest&changes=" + url.QueryEscape(changes)
	resp := a.HTTP("POST", path, bytes.NewReader(a.Rootfs()))
	assert.Equal(a.t, resp.Status, 200, resp.Body)
	assert.Assert(a.t, !strings.Contains(resp.Body, "errorDetail"), resp.Body)
}

// DockerArchive is an image of busybox as `docker save` writes it.
func (a *API) DockerArchive(tags ...string) []byte {
	layer := a.Rootfs()
	config := mustJSON(imageConfig(layer))
	name := digest(config) + ".json"
	return archive([]file{
		{name: name, data: config},
		{name: "layer/layer.tar", data: layer},
		{name: "manifest.json", data: mustJSON([]M{{
			"Config": name, "RepoTags": tags, "Layers": []string{"layer/layer.tar"},
		}})},
	})
}

// OCIArchive is an image of busybox as an OCI image layout. Its config differs from DockerArchive's by a label.
func (a *API) OCIArchive(tag string) []byte {
	layer := a.Rootfs()
	c := imageConfig(layer)
	c["config"].(M)["Labels"] = M{"layout": "oci"}
	config := mustJSON(c)
	manifest := mustJSON(M{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": descriptor("application/vnd.oci.image.config.v1+json", config),
		"layers": []M{descriptor("application/vnd.oci.image.layer.v1.tar", layer)},
	})
	d := descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
	_, short, _ := strings.Cut(tag, ":")
	d["annotations"] = M{"io.containerd.image.name": "docker.io/library/" + tag,
		"org.opencontainers.image.ref.name": short}
	return archive([]file{
		{name: "oci-layout", data: mustJSON(M{"imageLayoutVersion": "1.0.0"})},
		{name: "blobs/sha256/" + digest(layer), data: layer},
		{name: "blobs/sha256/" + digest(config), data: config},
		{name: "blobs/sha256/" + digest(manifest), data: manifest},
		{name: "index.json", data: mustJSON(M{
			"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []M{d},
		})},
	})
}

// Rootfs is a file system with busybox, all its commands, and the users root and daemon (1).
func (a *API) Rootfs() []byte {
	path, err := exec.LookPath("busybox")
	assert.NilError(a.t, err)
	busybox, err := os.ReadFile(path)
	assert.NilError(a.t, err)
	commands, err := exec.Command(path, "--list").Output()
	assert.NilError(a.t, err)
	files := []file{
		{name: "bin/"}, {name: "etc/"}, {name: "root/"}, {name: "tmp/"},
		{name: "bin/busybox", data: busybox},
		{name: "etc/passwd", data: []byte("root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\n")},
		{name: "etc/group", data: []byte("root:x:0:\ndaemon:x:1:\n")},
	}
	for _, c := range strings.Fields(string(commands)) {
		if c != "busybox" {
			files = append(files, file{name: "bin/" + c, link: "busybox"})
		}
	}
	return archive(files)
}

func imageConfig(layer []byte) M {
	return M{
		"architecture": runtime.GOARCH, "os": "linux", "created": "2026-01-02T03:04:05Z",
		"config":  M{"Cmd": []string{"sh"}},
		"rootfs":  M{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
		"history": []M{{"created": "2026-01-02T03:04:05Z", "created_by": "busybox"}},
	}
}

type file struct {
	name string // a folder ends in "/"
	data []byte
	link string
}

// archive has times and owners of zero, so that equal contents are equal bytes.
func archive(files []file) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.data)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		switch {
		case f.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag = tar.TypeDir
		case strings.HasPrefix(f.name, "etc/"):
			h.Mode = 0o644
		}
		if f.name == "tmp/" {
			h.Mode = 0o1777
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := w.Write(f.data); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func descriptor(mediaType string, data []byte) M {
	return M{"mediaType": mediaType, "digest": "sha256:" + digest(data), "size": len(data)}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func mustJSON(x any) []byte {
	b, err := json.Marshal(x)
	if err != nil {
		panic(err)
	}
	return b
}
