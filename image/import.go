package image

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/decompress"
)

// Import makes an image with one layer out of a tar archive, plain or compressed, and returns its id. Something wrong
// with the options or the archive is an InvalidParameter and leaves nothing behind.
func (s *Service) Import(ctx context.Context, o imagetypes.ImportOptions, in io.Reader) (id string, err error) {
	name, err := newName(o.Ref)
	if err != nil {
		return "", err
	}
	config := &Config{}
	if err := applyChanges(config, o.Changes); err != nil {
		return "", err
	}
	ctx, w, err := s.begin(s.engine.Context(ctx))
	if err != nil {
		return "", err
	}
	defer func() { w.end(ctx, err != nil) }()
	layer, diffID, err := w.storeLayer(ctx, in)
	if err != nil {
		return "", err
	}
	target, err := w.storeImage(ctx, newDocument(o, config, diffID), layer)
	if err != nil {
		return "", err
	}
	if _, err := w.complete(ctx, target); err != nil {
		return "", err
	}
	return w.publishNew(ctx, "import", target, name, config.Labels)
}

// ImportURL is Import of what a web server has, through the proxy that registries are reached by. src without a scheme is
// http. tell is called with what clients show of it.
func (s *Service) ImportURL(
	ctx context.Context, o imagetypes.ImportOptions, src string, tell func(imagetypes.Message),
) (id string, err error) {
	if !strings.Contains(src, "://") {
		src = "http://" + src
	}
	u, err := url.Parse(src)
	if err != nil {
		return "", errdefs.InvalidParameter(err)
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", errdefs.InvalidParameterf("%q is no URL of a web server", src)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", errdefs.InvalidParameter(err)
	}
	registries := s.registries()
	resp, err := (&http.Client{Transport: &http.Transport{
		Proxy: registries.proxy, ResponseHeaderTimeout: responseWait, DisableKeepAlives: true, DisableCompression: true,
	}}).Do(req)
	if err != nil {
		return "", errdefs.System(fmt.Errorf("download what is to be imported: %w", err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		err := fmt.Errorf("failed to GET %s with status %s", u.Redacted(), resp.Status)
		if resp.StatusCode == http.StatusNotFound {
			return "", errdefs.NotFound(err)
		}
		return "", errdefs.System(err)
	}
	out := &progress{tell: tell}
	out.say("", "Downloading from "+u.Redacted())
	if o.Message == "" {
		o.Message = "Imported from " + u.Redacted()
	}
	return s.Import(ctx, o, &download{in: resp.Body, out: out, size: resp.ContentLength})
}

// download tells how far an import is.
type download struct {
	in       io.Reader
	out      *progress
	at, size int64
}

func (d *download) Read(b []byte) (int, error) {
	n, err := d.in.Read(b)
	d.at += int64(n)
	d.out.step("", "Importing", d.at, d.size)
	return n, err
}

// publishNew makes an image of target, named or not, and tells so.
func (w *work) publishNew(
	ctx context.Context, action string, target ocispec.Descriptor, name reference.Named, labels map[string]string,
) (id string, err error) {
	b := bundle{target: target}
	if name != nil {
		b.names = []reference.Named{name}
	}
	if err := w.nameAll(ctx, []bundle{b}); err != nil {
		return "", err
	}
	id = target.Digest.String()
	if action != "" {
		w.tell(action, id, id, labels)
	}
	if name != nil {
		w.tell("tag", id, reference.FamiliarString(name), labels)
	}
	return id, nil
}

// newName reads the name of an image that is to be made; none is nil.
func newName(ref string) (reference.Named, error) {
	if ref == "" {
		return nil, nil
	}
	name, err := parseName(ref)
	if err != nil {
		return nil, err
	}
	if _, ok := name.(reference.Digested); ok {
		return nil, errdefs.InvalidParameterf("a new image cannot be named by a digest: %s", ref)
	}
	return name, refuseAmbiguous(name)
}

// storeLayer stores the archive in as a compressed layer, and returns the digest of the plain archive with it.
func (w *work) storeLayer(ctx context.Context, in io.Reader) (ocispec.Descriptor, digest.Digest, error) {
	plain, err := decompress.Reader(in)
	if err != nil {
		return ocispec.Descriptor{}, "", errdefs.InvalidParameter(err)
	}
	defer func() { _ = plain.Close() }()
	diffID := digest.Canonical.Digester()
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip}
	desc, err = w.store(ctx, desc, func(to io.Writer) error {
		z := gzip.NewWriter(to)
		if _, err := io.Copy(io.MultiWriter(z, diffID.Hash()), plain); err != nil {
			return badArchive(err)
		}
		return z.Close()
	})
	return desc, diffID.Digest(), err
}

func newDocument(o imagetypes.ImportOptions, config *Config, diffID digest.Digest) *document {
	now := time.Now().UTC()
	p := platforms.DefaultSpec()
	if o.Platform != nil {
		p = platforms.Normalize(*o.Platform)
	}
	if o.Message == "" {
		o.Message = "Imported from -"
	}
	return &document{
		Created:  &now,
		Platform: ocispec.Platform{Architecture: p.Architecture, OS: p.OS, Variant: p.Variant},
		Config:   config,
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
		History:  []ocispec.History{{Created: &now, Comment: o.Message}},
	}
}

// storeImage stores config and manifest of an image.
func (w *work) storeImage(
	ctx context.Context, doc *document, layers ...ocispec.Descriptor,
) (ocispec.Descriptor, error) {
	config, err := w.storeDocument(ctx, ocispec.MediaTypeImageConfig, doc)
	if err != nil {
		return config, fmt.Errorf("store the image's config: %w", err)
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: layers,
	}
	return w.storeDocument(ctx, m.MediaType, m)
}
