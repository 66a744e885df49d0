package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/errdefs"
)

// Pull gets an image from its registry, or all tags of a repository. tell is called with what clients show of it, one
// call at a time; until the first call the error can still become a status. What a pull that fails has downloaded stays
// for a day, and the next pull goes on from there.
func (s *Service) Pull(ctx context.Context, o imagetypes.PullOptions, tell func(imagetypes.Message)) error {
	name, err := reference.ParseNormalizedNamed(o.Ref)
	if err != nil {
		return errdefs.InvalidParameter(err)
	}
	if reference.FamiliarName(name) == "scratch" {
		return errdefs.Forbiddenf("'scratch' is a reserved name")
	}
	registries := s.registries()
	p := &pull{Service: s, registries: &registries, options: o, out: &progress{tell: tell}}
	p.resolver, _ = registries.resolver(ctx, name, o.Auth)
	ctx = s.engine.Context(ctx)
	if !reference.IsNameOnly(name) {
		return p.one(ctx, name)
	}
	tags, err := registries.tags(ctx, name, o.Auth)
	if err != nil {
		return pullError(name, err)
	}
	for _, tag := range tags {
		tagged, err := reference.WithTag(name, tag)
		if err != nil {
			return pullError(name, fmt.Errorf("the registry has a tag that is none: %w", err))
		}
		if err := p.one(ctx, tagged); err != nil {
			return err
		}
	}
	return nil
}

// pull is one request to pull.
type pull struct {
	*Service
	registries *Registries
	options    imagetypes.PullOptions
	out        *progress
	resolver   remotes.Resolver
	known      bool // what is being pulled is an image already
}

// one pulls one tag or digest.
func (p *pull) one(ctx context.Context, name reference.Named) error {
	ref := name.String()
	if d, ok := name.(reference.Digested); ok { // what a tag beside a digest says does not count
		ref = reference.TrimNamed(name).String() + "@" + d.Digest().String()
	}
	_, desc, err := p.resolver.Resolve(ctx, ref)
	if err != nil {
		return pullError(name, err)
	}
	desc.Annotations, desc.Platform = nil, nil
	all, err := p.entries(ctx)
	if err != nil {
		return err
	}
	p.known = all[desc.Digest] != nil
	p.out.say(tagOf(name), "Pulling from "+reference.Path(name))
	leased, w, err := p.beginPull(ctx, ref)
	if err != nil {
		return err
	}
	done := false
	defer func() { w.endPull(leased, ref, done) }()
	layers, err := p.fetch(ctx, leased, ref, desc)
	if err != nil {
		return pullError(name, err)
	}
	v, err := w.complete(leased, desc)
	if err != nil {
		return err
	}
	for _, l := range layers {
		p.out.say(l, "Pull complete")
	}
	news, err := p.name(leased, name, desc)
	if err != nil {
		return err
	}
	done = true
	p.tellTransfer("pull", name, v.labels())
	p.out.say("", "Digest: "+desc.Digest.String())
	if news {
		p.out.say("", "Status: Downloaded newer image for "+reference.FamiliarString(name))
	} else {
		p.out.say("", "Status: Image is up to date for "+reference.FamiliarString(name))
	}
	return nil
}

// tellTransfer tells that an image came from a registry or went to one. The event is about the name.
func (s *Service) tellTransfer(action string, name reference.Named, labels map[string]string) {
	s.tell(action, reference.FamiliarString(name), reference.FamiliarName(name), labels)
}

// tagOf is the tag or the digest of a name.
func tagOf(name reference.Named) string {
	if t, ok := name.(reference.Tagged); ok {
		return t.Tag()
	}
	if d, ok := name.(reference.Digested); ok {
		return d.Digest().String()
	}
	return ""
}

// name makes name point to what was pulled and reports whether it did not before.
func (p *pull) name(ctx context.Context, name reference.Named, desc ocispec.Descriptor) (news bool, err error) {
	unlock, err := p.lockChange(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	old, err := p.engine.Images().Get(ctx, name.String())
	if err != nil && !cerrdefs.IsNotFound(err) {
		return false, err
	}
	return old.Target.Digest != desc.Digest, p.setName(ctx, name, desc)
}

// fetch downloads desc and what it refers to, for one platform. It returns the short ids of the layers that were not
// here. ctx has no lease: parts of blobs are kept for a day whatever becomes of the pull; leased has one.
func (p *pull) fetch(ctx, leased context.Context, ref string, desc ocispec.Descriptor) ([]string, error) {
	fetcher, err := p.resolver.Fetcher(ctx, ref)
	if err != nil {
		return nil, err
	}
	match := platforms.Default()
	want := platforms.DefaultSpec()
	if p.options.Platform != nil {
		want = *p.options.Platform
		match = platforms.Only(want)
	}
	store := p.engine.Content()
	source, err := docker.AppendDistributionSourceLabel(store, ref)
	if err != nil {
		return nil, err
	}
	f := &fetch{pull: p, unleased: ctx, fetcher: fetcher}
	children := images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		all, err := images.Children(ctx, store, desc)
		if err == nil && images.IsManifestType(desc.MediaType) {
			p.announce(ctx, all)
		}
		return all, err
	})
	one := images.LimitManifests(images.FilterPlatforms(children, match), match, 1)
	limit := semaphore.NewWeighted(int64(max(1, p.registries.Downloads)))
	err = p.unpackWhile(leased, limit, f, func(wrap func(images.Handler) images.Handler) error {
		return images.Dispatch(leased, wrap(images.Handlers(images.HandlerFunc(f.handle), source, one)), limit, desc)
	})
	if cerrdefs.IsNotFound(err) && images.IsIndexType(desc.MediaType) && !f.manifests.Load() {
		return nil, errdefs.NotFoundf("no matching manifest for %s in the manifest list entries", platforms.Format(want))
	}
	return f.layers, err
}

// announce tells of the layers, unless it is an image that is all here.
func (p *pull) announce(ctx context.Context, descs []ocispec.Descriptor) {
	missing := func(d ocispec.Descriptor) bool {
		_, err := p.engine.Content().Info(ctx, d.Digest)
		return err != nil
	}
	if p.known && !slices.ContainsFunc(descs, missing) {
		return
	}
	for _, d := range descs {
		if images.IsLayerType(d.MediaType) {
			what := "Already exists"
			if missing(d) {
				what = "Pulling fs layer"
			}
			p.out.say(shortID(d.Digest.String()), what)
		}
	}
}

// beginPull is begin for a pull. What earlier pulls of the same name have left is not given back before this one ends.
func (s *Service) beginPull(ctx context.Context, ref string) (context.Context, *work, error) {
	l, err := s.engine.Leases().Create(ctx, leases.WithRandomID(), leases.WithExpiration(workExpiry),
		leases.WithLabels(map[string]string{pullLabel: ref}))
	if err != nil {
		return nil, nil, fmt.Errorf("make a lease: %w", err)
	}
	s.pullsMu.Lock()
	s.pulls = append(s.pulls, l.ID)
	s.pullsMu.Unlock()
	return leases.WithLease(ctx, l.ID), &work{Service: s, lease: l}, nil
}

// endPull gives back what a pull that is done, and those of the same name before it, had leased. One that failed leaves
// its lease until it expires.
func (w *work) endPull(ctx context.Context, ref string, done bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupWait)
	defer cancel()
	w.pullsMu.Lock()
	w.pulls = slices.DeleteFunc(w.pulls, func(id string) bool { return id == w.lease.ID })
	w.pullsMu.Unlock()
	if done {
		w.dropPulls(ctx, fmt.Sprintf("labels.%q==%q", pullLabel, ref))
	}
}

// dropPulls gives back what pulls that do not run any more have leased.
func (s *Service) dropPulls(ctx context.Context, filter string) {
	all, err := s.engine.Leases().List(ctx, filter)
	if err != nil {
		warnLeft(ctx, err)
		return
	}
	for _, l := range all {
		s.pullsMu.Lock()
		active := slices.Contains(s.pulls, l.ID)
		s.pullsMu.Unlock()
		if active {
			continue
		}
		if err := s.engine.Leases().Delete(ctx, l); err != nil && !cerrdefs.IsNotFound(err) {
			warnLeft(ctx, err)
		}
	}
}

// fetch is the download of one image.
type fetch struct {
	*pull
	unleased  context.Context
	fetcher   remotes.Fetcher
	manifests atomic.Bool // a manifest was reached

	mu     sync.Mutex
	layers []string // short ids of those that were downloaded
}

// handle downloads one blob, as often as it takes.
func (f *fetch) handle(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	layer := images.IsLayerType(desc.MediaType)
	if !layer && desc.Size > maxDocument {
		return nil, errdefs.InvalidParameterf("%s is a document of %d bytes, more than the %d that are allowed",
			desc.Digest, desc.Size, maxDocument)
	}
	if images.IsManifestType(desc.MediaType) {
		f.manifests.Store(true)
	}
	id := ""
	if layer {
		id = shortID(desc.Digest.String())
	}
	for attempt := 1; ; attempt++ {
		in := &ingester{fetch: f, layer: id, size: desc.Size}
		err := remotes.Fetch(ctx, in, f.fetcher, desc)
		switch {
		case err == nil:
			f.downloaded(id)
			return nil, nil
		case cerrdefs.IsAlreadyExists(err):
			return nil, f.keep(ctx, desc)
		case cerrdefs.IsFailedPrecondition(err): // more bytes than there should be, or others
			// What was stored is no beginning of the right ones.
			aerr := f.engine.Content().Abort(context.WithoutCancel(ctx), remotes.MakeRefKey(ctx, desc))
			if in.resumed && aerr == nil {
				continue // perhaps what was there before was wrong already
			}
			return nil, errdefs.System(fmt.Errorf("filesystem layer verification failed for digest %s: %w",
				desc.Digest, errors.Join(err, aerr)))
		case attempt >= f.registries.Attempts || permanent(ctx, err):
			return nil, err
		}
		if err := f.out.pause(ctx, id, time.Duration(attempt*attempt)*time.Second); err != nil {
			return nil, err
		}
	}
}

// Apply implements diff.Applier: it is the engine's, and tells that the layer is unpacked.
func (f *fetch) Apply(
	ctx context.Context, desc ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt,
) (ocispec.Descriptor, error) {
	f.out.say(shortID(desc.Digest.String()), "Extracting")
	return f.engine.Applier().Apply(ctx, desc, mounts, opts...)
}

// downloaded notes that a blob is here; layer is empty for what is none.
func (f *fetch) downloaded(layer string) {
	if layer == "" {
		return
	}
	f.out.say(layer, "Verifying Checksum")
	f.out.say(layer, "Download complete")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.layers = append(f.layers, layer)
}

// keep puts a blob that was here already under the pull's lease.
func (f *fetch) keep(ctx context.Context, desc ocispec.Descriptor) error {
	id, _ := leases.FromContext(ctx)
	return f.engine.Leases().AddResource(ctx, leases.Lease{ID: id},
		leases.Resource{ID: desc.Digest.String(), Type: "content"})
}

// permanent reports whether the same request would fail again.
func permanent(ctx context.Context, err error) bool {
	return ctx.Err() != nil || cerrdefs.IsNotFound(err) || cerrdefs.IsInvalidArgument(err) ||
		errdefs.IsInvalidParameter(err) || errors.Is(err, docker.ErrInvalidAuthorization)
}

// ingester opens blobs without the pull's lease, so that what is only begun does not go with it; a blob that is whole
// is committed with it.
type ingester struct {
	*fetch
	layer   string
	size    int64
	resumed bool // a part was here already
}

// Writer implements content.Ingester.
func (i *ingester) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w, err := i.engine.Content().Writer(i.unleased, opts...)
	if err != nil {
		return nil, err
	}
	st, err := w.Status()
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	i.resumed = st.Offset > 0
	return &blobWriter{Writer: w, out: i.out, layer: i.layer, size: i.size, at: st.Offset}, nil
}

// blobWriter tells how far a download is.
type blobWriter struct {
	content.Writer
	out      *progress
	layer    string // empty: not to be told of
	size, at int64
}

func (w *blobWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	w.at += int64(n)
	if w.layer != "" {
		w.out.step(w.layer, "Downloading", w.at, w.size)
	}
	return n, err
}

// Truncate implements content.Writer.
func (w *blobWriter) Truncate(size int64) error {
	w.at = size
	return w.Writer.Truncate(size)
}
