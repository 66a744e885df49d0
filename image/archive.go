package image

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/decompress"
)

const (
	// maxFiles is how many files an archive of images may have: their names are held in memory.
	maxFiles = 100_000
	// maxPadding is how many bytes may follow the end of an archive, for tools that fill up blocks.
	maxPadding = 1 << 20
	// commitsAtOnce is how many blobs of an archive are put on the disk and unpacked while another one is read.
	commitsAtOnce = 4
)

// bundle is one image of an archive.
type bundle struct {
	target ocispec.Descriptor
	names  []reference.Named
}

// String is what the image is called: by its first name, or its id.
func (b bundle) String() string {
	if len(b.names) > 0 {
		return reference.FamiliarString(b.names[0])
	}
	return b.target.Digest.String()
}

// archive is what was found in the file of a load: an OCI layout, an archive of docker save, or both in one.
type archive struct {
	layout ocispec.ImageLayout
	index  *ocispec.Index
	docker []dockerImage
	blobs  map[string]blob   // by cleaned path
	links  map[string]string // by cleaned path: another one

	commits *errgroup.Group // puts blobs on the disk and unpacks them, while the next ones are read
	stage   *stage
}

type blob struct {
	ocispec.Descriptor
	compression compression.Compression
}

// dockerImage is one entry of manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// readArchive stores the blobs of the archive in and reads what says how they belong together. Paths in the archive are
// names and nothing else: nothing is written where they point.
func (w *work) readArchive(ctx context.Context, in io.Reader) (_ *archive, err error) {
	plain, err := decompress.Reader(in)
	if err != nil {
		return nil, errdefs.InvalidParameter(err)
	}
	defer func() { _ = plain.Close() }()
	a := &archive{blobs: map[string]blob{}, links: map[string]string{}}
	a.stage = &stage{work: w, layers: map[digest.Digest]stagedLayer{}}
	a.commits, ctx = errgroup.WithContext(ctx)
	a.commits.SetLimit(commitsAtOnce)
	defer func() {
		if cerr := a.commits.Wait(); cerr != nil && (err == nil || errors.Is(err, context.Canceled)) {
			err = cerr
		}
	}()
	tr := tar.NewReader(plain)
	for files := 0; ; files++ {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, badArchive(err)
		}
		if files == maxFiles {
			return nil, errdefs.InvalidParameterf("the archive has more than %d files", maxFiles)
		}
		if err := w.readFile(ctx, a, hdr, tr); err != nil {
			return nil, err
		}
	}
	// Read on to the end: a compressed stream has its checksum there.
	if _, err := io.CopyN(io.Discard, plain, maxPadding); err != nil && !errors.Is(err, io.EOF) {
		return nil, badArchive(err)
	}
	return a, nil
}

func badArchive(err error) error {
	return errdefs.InvalidParameter(fmt.Errorf("read the archive: %w", err))
}

func (w *work) readFile(ctx context.Context, a *archive, hdr *tar.Header, r io.Reader) error {
	name := cleanPath(hdr.Name)
	switch hdr.Typeflag {
	case tar.TypeReg:
	case tar.TypeSymlink:
		a.links[name] = cleanPath(path.Join(path.Dir(hdr.Name), hdr.Linkname))
		return nil
	case tar.TypeLink:
		a.links[name] = cleanPath(hdr.Linkname)
		return nil
	default:
		return nil
	}
	switch name {
	case ocispec.ImageLayoutFile:
		return readJSON(hdr, r, &a.layout)
	case ocispec.ImageIndexFile:
		return readJSON(hdr, r, &a.index)
	case "manifest.json":
		return readJSON(hdr, r, &a.docker)
	case "repositories":
		return nil // what archives had before manifest.json; those that have both say the same twice
	}
	if base := path.Base(name); base == "VERSION" || base == "json" {
		return nil
	}
	br := bufio.NewReaderSize(r, 1<<16)
	head, err := br.Peek(10)
	if err != nil && !errors.Is(err, io.EOF) {
		return badArchive(err)
	}
	desc := ocispec.Descriptor{Digest: pathDigest(name), Size: hdr.Size}
	desc, commit, err := w.write(ctx, desc, func(to io.Writer) error {
		if _, err := io.Copy(to, br); err != nil {
			return badArchive(err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	b := blob{desc, compression.DetectCompression(head)}
	a.blobs[name] = b
	a.commits.Go(func() error {
		fresh, err := commit()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if fresh && len(head) > 0 && head[0] != '{' {
			a.stage.add(ctx, b.asLayer())
		}
		return nil
	})
	return nil
}

// asLayer is the blob's descriptor as a layer of an image.
func (b blob) asLayer() ocispec.Descriptor {
	layer := b.Descriptor
	switch b.compression {
	case compression.Uncompressed:
		layer.MediaType = images.MediaTypeDockerSchema2Layer
	case compression.Zstd:
		layer.MediaType = images.MediaTypeDockerSchema2LayerZstd
	default:
		layer.MediaType = images.MediaTypeDockerSchema2LayerGzip
	}
	return layer
}

func cleanPath(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// pathDigest returns the digest that a blob of an OCI layout has by its path, "" if it is none.
func pathDigest(name string) digest.Digest {
	rest, ok := strings.CutPrefix(name, ocispec.ImageBlobsDir+"/")
	if !ok {
		return ""
	}
	alg, hex, _ := strings.Cut(rest, "/")
	dgst, err := digest.Parse(alg + ":" + hex)
	if err != nil || dgst.Algorithm() != digest.SHA256 {
		return ""
	}
	return dgst
}

func readJSON(hdr *tar.Header, r io.Reader, v any) error {
	if hdr.Size > maxDocument {
		return errdefs.InvalidParameterf("%s in the archive has %d bytes, more than the %d that are allowed",
			hdr.Name, hdr.Size, maxDocument)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return badArchive(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return errdefs.InvalidParameter(fmt.Errorf("%s in the archive is not valid: %w", hdr.Name, err))
	}
	return nil
}

// bundles returns the images of an archive. An OCI layout counts more than a manifest.json beside it, because it has
// the images as they were, with the same ids.
func (w *work) bundles(ctx context.Context, a *archive) ([]bundle, error) {
	switch {
	case a.layout.Version != "" && a.index != nil:
		if a.layout.Version != ocispec.ImageLayoutVersion {
			return nil, errdefs.InvalidParameterf("the archive is an OCI layout of version %s; only %s is known",
				a.layout.Version, ocispec.ImageLayoutVersion)
		}
		return a.ociBundles()
	case a.docker != nil:
		return w.dockerBundles(ctx, a)
	}
	return nil, errdefs.InvalidParameterf("unrecognized image format: the archive has neither index.json and " +
		"oci-layout nor manifest.json")
}

func (a *archive) ociBundles() ([]bundle, error) {
	var all []bundle
	for _, desc := range a.index.Manifests {
		if !images.IsManifestType(desc.MediaType) && !images.IsIndexType(desc.MediaType) {
			return nil, errdefs.InvalidParameterf("%s in index.json is of the type %q, not an image",
				desc.Digest, desc.MediaType)
		}
		if err := desc.Digest.Validate(); err != nil {
			return nil, errdefs.InvalidParameter(fmt.Errorf("digest %q in index.json: %w", desc.Digest, err))
		}
		b := bundle{target: ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}}
		name := desc.Annotations[images.AnnotationImageName]
		if name == "" {
			name = desc.Annotations[ocispec.AnnotationRefName]
		}
		if n, err := parseName(name); err == nil { // in OCI's words the annotation may be anything
			b.names = []reference.Named{n}
		}
		all = append(all, b)
	}
	return all, nil
}

func (w *work) dockerBundles(ctx context.Context, a *archive) ([]bundle, error) {
	var all []bundle
	for _, m := range a.docker {
		var b bundle
		for _, tag := range m.RepoTags {
			n, err := parseName(tag)
			if err != nil {
				return nil, fmt.Errorf("tag %q in manifest.json: %w", tag, err)
			}
			b.names = append(b.names, n)
		}
		config, err := a.blob(m.Config)
		if err != nil {
			return nil, err
		}
		config.MediaType = images.MediaTypeDockerSchema2Config
		manifest := dockerManifest{2, images.MediaTypeDockerSchema2Manifest, config.Descriptor, []ocispec.Descriptor{}}
		for _, l := range m.Layers {
			layer, err := a.blob(l)
			if err != nil {
				return nil, err
			}
			manifest.Layers = append(manifest.Layers, layer.asLayer())
		}
		if b.target, err = w.storeDocument(ctx, manifest.MediaType, manifest); err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

// dockerManifest is written as dockerd does it, field by field, so that the same archive gets the same id here and
// there.
type dockerManifest struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	Config        ocispec.Descriptor   `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
}

// blob finds a file that manifest.json names. Archives may have a link where two images share a layer.
func (a *archive) blob(name string) (blob, error) {
	name = cleanPath(name)
	if to, ok := a.links[name]; ok {
		name = to
	}
	b, ok := a.blobs[name]
	if !ok {
		return blob{}, errdefs.InvalidParameterf("the archive lacks %s, which its manifest.json names", name)
	}
	return b, nil
}
