// Package testimage makes small images out of this machine's busybox, as the archives that image tools write.
package testimage

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
)

// Image is an image to be written into an archive.
type Image struct {
	// Tags are the names. An OCI layout has the first one only.
	Tags []string
	// Layers are tar archives, lowest first.
	Layers [][]byte
	Config ocispec.ImageConfig
	// Arch is that of this machine if empty.
	Arch string
	// Created is the first of January 2020 if zero, so that equal images have equal digests.
	Created time.Time
}

// File is a file of an archive: a directory if Name ends with a slash, a symbolic link if Link is set.
type File struct {
	Name string
	Body string
	Link string
	Mode int64 // default: 0755
}

// Tar returns a tar archive with files.
func Tar(files ...File) ([]byte, error) {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, f := range files {
		hdr := &tar.Header{Name: f.Name, Mode: f.Mode, Typeflag: tar.TypeReg, Linkname: f.Link}
		hdr.Size = int64(len(f.Body))
		switch {
		case f.Link != "":
			hdr.Typeflag = tar.TypeSymlink
		case strings.HasSuffix(f.Name, "/"):
			hdr.Typeflag = tar.TypeDir
		}
		if hdr.Mode == 0 {
			hdr.Mode = 0o755
		}
		if err := tw.WriteHeader(hdr); err != nil {
			return nil, err
		}
		if _, err := tw.Write([]byte(f.Body)); err != nil {
			return nil, err
		}
	}
	err := tw.Close() // which writes the end
	return b.Bytes(), err
}

// Layer is Tar for tests.
func Layer(t testing.TB, files ...File) []byte {
	t.Helper()
	b, err := Tar(files...)
	assert.NilError(t, err)
	return b
}

// BusyboxTar returns a root file system with busybox, all its commands, and a little around them. The busybox has to be
// static: there is no library.
func BusyboxTar() ([]byte, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	commands, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, err
	}
	files := []File{
		{Name: "bin/"}, {Name: "etc/"}, {Name: "root/", Mode: 0o700}, {Name: "tmp/", Mode: 0o1777}, {Name: "var/"},
		{Name: "etc/passwd", Body: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", Mode: 0o644},
		{Name: "etc/group", Body: "root:x:0:\nnogroup:x:65534:\n", Mode: 0o644},
		{Name: "bin/busybox", Body: string(body)},
	}
	for _, c := range strings.Fields(string(commands)) {
		if c != "busybox" {
			files = append(files, File{Name: "bin/" + c, Link: "busybox"})
		}
	}
	return Tar(files...)
}

// BusyboxLayer is BusyboxTar for tests.
func BusyboxLayer(t testing.TB) []byte {
	t.Helper()
	b, err := BusyboxTar()
	assert.NilError(t, err)
	return b
}

// Busybox writes BusyboxLayer into a file and returns its path.
func Busybox(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rootfs.tar")
	assert.NilError(t, os.WriteFile(path, BusyboxLayer(t), 0o600))
	return path
}

// BusyboxImage is an image with BusyboxLayer and the command sh.
func BusyboxImage(t testing.TB, tags ...string) Image {
	t.Helper()
	return Image{Tags: tags, Layers: [][]byte{BusyboxLayer(t)}, Config: ocispec.ImageConfig{Cmd: []string{"sh"}}}
}

// ConfigBlob returns the config of the image as it is in archives.
func (i Image) ConfigBlob(t testing.TB) []byte {
	t.Helper()
	created := i.Created
	if created.IsZero() {
		created = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	doc := ocispec.Image{
		Created: &created, Platform: ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"}, Config: i.Config,
		RootFS: ocispec.RootFS{Type: "layers"},
	}
	if i.Arch != "" {
		doc.Architecture = i.Arch
	}
	for _, l := range i.Layers {
		doc.RootFS.DiffIDs = append(doc.RootFS.DiffIDs, digest.FromBytes(l))
		doc.History = append(doc.History, ocispec.History{Created: &created, CreatedBy: "test"})
	}
	return marshal(t, doc)
}

// DockerArchive returns what docker save writes of the images.
func DockerArchive(t testing.TB, images ...Image) []byte {
	t.Helper()
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var files []File
	var manifest []entry
	written := map[string]bool{}
	add := func(name string, body []byte) string {
		if !written[name] {
			written[name] = true
			files = append(files, File{Name: name, Body: string(body), Mode: 0o644})
		}
		return name
	}
	for _, i := range images {
		config := i.ConfigBlob(t)
		e := entry{Config: add(digest.FromBytes(config).Encoded()+".json", config), RepoTags: i.Tags}
		for _, l := range i.Layers {
			e.Layers = append(e.Layers, add(digest.FromBytes(l).Encoded()+"/layer.tar", l))
		}
		manifest = append(manifest, e)
	}
	add("manifest.json", marshal(t, manifest))
	return Layer(t, files...)
}

// OCIArchive returns an OCI layout of the images in a tar archive, without compression.
func OCIArchive(t testing.TB, images ...Image) []byte {
	t.Helper()
	o := NewOCI(t)
	for _, i := range images {
		desc := o.Manifest(i)
		if len(i.Tags) > 0 {
			desc.Annotations = map[string]string{ocispec.AnnotationRefName: i.Tags[0]}
		}
		o.Name(desc)
	}
	return o.Archive()
}

// OCI builds an OCI layout step by step, for tests that want something unusual in it.
type OCI struct {
	t     testing.TB
	Files []File
	index ocispec.Index
	have  map[digest.Digest]bool
}

// NewOCI begins an empty layout.
func NewOCI(t testing.TB) *OCI {
	t.Helper()
	return &OCI{
		t: t, have: map[digest.Digest]bool{},
		Files: []File{{Name: ocispec.ImageLayoutFile, Body: `{"imageLayoutVersion":"1.0.0"}`, Mode: 0o644}},
	}
}

// Blob adds a blob and returns its descriptor.
func (o *OCI) Blob(mediaType string, body []byte) ocispec.Descriptor {
	d := digest.FromBytes(body)
	if !o.have[d] {
		o.have[d] = true
		o.Files = append(o.Files, File{Name: "blobs/sha256/" + d.Encoded(), Body: string(body), Mode: 0o644})
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
}

// Manifest adds an image's manifest, config and layers and returns the manifest's descriptor.
func (o *OCI) Manifest(i Image) ocispec.Descriptor {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: o.Blob(ocispec.MediaTypeImageConfig, i.ConfigBlob(o.t)), Layers: []ocispec.Descriptor{},
	}
	for _, l := range i.Layers {
		m.Layers = append(m.Layers, o.Blob(ocispec.MediaTypeImageLayer, l))
	}
	return o.Blob(m.MediaType, marshal(o.t, m))
}

// Index adds an index of manifests and returns its descriptor.
func (o *OCI) Index(manifests ...ocispec.Descriptor) ocispec.Descriptor {
	idx := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests}
	idx.SchemaVersion = 2
	return o.Blob(idx.MediaType, marshal(o.t, idx))
}

// Name makes desc one of the layout's images. Its annotations may hold a name.
func (o *OCI) Name(desc ocispec.Descriptor) { o.index.Manifests = append(o.index.Manifests, desc) }

// Archive returns the layout as a tar archive.
func (o *OCI) Archive() []byte {
	o.index.SchemaVersion = 2
	index := File{Name: ocispec.ImageIndexFile, Body: string(marshal(o.t, o.index)), Mode: 0o644}
	return Layer(o.t, append(o.Files, index)...)
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	assert.NilError(t, err)
	return b
}
