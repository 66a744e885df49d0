package image

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/errdefs"
)

// Push sends an image to the registry that its name names, or all tags of a repository. tell is called with what
// clients show of it, one call at a time; until the first call the error can still become a status.
func (s *Service) Push(ctx context.Context, o imagetypes.PushOptions, tell func(imagetypes.Message)) error {
	name, err := reference.ParseNormalizedNamed(o.Ref)
	if err != nil {
		return errdefs.InvalidParameter(err)
	}
	if _, ok := name.(reference.Digested); ok {
		return errdefs.InvalidParameterf("cannot push a digest reference")
	}
	ctx = s.engine.Context(ctx)
	all, err := s.toPush(ctx, name)
	if err != nil {
		return err
	}
	registries := s.registries()
	out := &progress{tell: tell}
	out.say("", fmt.Sprintf("The push refers to repository [%s]", name.Name()))
	for _, x := range all {
		p := &push{Service: s, out: out, name: x.name, layers: map[digest.Digest]bool{}}
		p.resolver, p.tracker = registries.resolver(ctx, name, o.Auth)
		p.limit = semaphore.NewWeighted(int64(max(1, registries.Uploads)))
		if err := p.run(ctx, x.target, o.Platform); err != nil {
			return err
		}
	}
	return nil
}

// named is one name of an image.
type named struct {
	name   reference.Named
	target ocispec.Descriptor
}

// toPush finds the image with that name, or all in its repository.
func (s *Service) toPush(ctx context.Context, name reference.Named) (list []named, _ error) {
	all, err := s.entries(ctx)
	if err != nil {
		return nil, err
	}
	repository := false // there is one of that name
	for _, e := range all {
		for _, n := range e.names {
			_, tagged := n.(reference.Tagged)
			repository = repository || n.Name() == name.Name()
			if tagged && (n.String() == name.String() || reference.IsNameOnly(name) && n.Name() == name.Name()) {
				list = append(list, named{n, e.target})
			}
		}
	}
	if len(list) == 0 && repository {
		return nil, errdefs.NotFoundf("tag does not exist: %s", reference.FamiliarString(name))
	}
	if len(list) == 0 {
		return nil, errdefs.NotFoundf("An image does not exist locally with the tag: %s", reference.FamiliarName(name))
	}
	return list, nil
}

// pushAttempts are how often an upload is tried. What has arrived is not sent again.
const pushAttempts = 5

// push is the upload of one image.
type push struct {
	*Service
	out      *progress
	name     reference.Named
	resolver remotes.Resolver
	tracker  docker.StatusTracker
	limit    *semaphore.Weighted
	layers   map[digest.Digest]bool
}

func (p *push) run(ctx context.Context, target ocispec.Descriptor, platform *ocispec.Platform) error {
	target, v, err := p.choose(ctx, target, platform)
	if err != nil {
		return err
	}
	err = p.walk(ctx, target, func(desc ocispec.Descriptor, _ []ocispec.Descriptor) error {
		if images.IsLayerType(desc.MediaType) {
			p.layers[desc.Digest] = true
			p.out.say(shortID(desc.Digest.String()), "Preparing")
		}
		return nil
	})
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err = p.send(ctx, target)
		if err == nil || refused(err) || permanent(ctx, err) || attempt == pushAttempts || attempt == 1 && unreachable(err) {
			break
		}
		if err := p.out.pause(ctx, tagOf(p.name), time.Duration(attempt*attempt)*time.Second); err != nil {
			return err
		}
	}
	if refused(err) {
		return errdefs.Forbidden(fmt.Errorf("denied: requested access to the resource is denied: %w", err))
	}
	if err != nil {
		return errdefs.System(fmt.Errorf("push %s: %w", reference.FamiliarString(p.name), err))
	}
	p.noteSource(ctx, target)
	p.tellTransfer("push", p.name, v.labels())
	tag := tagOf(p.name)
	p.out.say("", fmt.Sprintf("%s: digest: %s size: %d", tag, target.Digest, target.Size))
	p.out.tell(imagetypes.Message{Detail: &imagetypes.Progress{}, Aux: map[string]any{
		"Tag": tag, "Digest": target.Digest.String(), "Size": target.Size,
	}})
	return nil
}

// unreachable reports whether there was no connection at all, or none that both sides trust.
func unreachable(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && (op.Op == "dial" || op.Op == "remote error") // the second is TLS's
}

// noteSource notes that the registry has what was pushed, for identity, and so that it need not be sent to another
// repository of the same registry. A push that is done does not fail for it.
func (p *push) noteSource(ctx context.Context, target ocispec.Descriptor) {
	note, err := docker.AppendDistributionSourceLabel(p.engine.Content(), p.name.String())
	if err == nil {
		err = p.walk(ctx, target, func(desc ocispec.Descriptor, _ []ocispec.Descriptor) error {
			_, err := note(ctx, desc)
			return err
		})
	}
	if err != nil {
		log.G(ctx).WithError(err).Warnf("cannot note where %s was pushed to", p.name)
	}
}

// send uploads what the registry does not have yet.
func (p *push) send(ctx context.Context, target ocispec.Descriptor) error {
	inner, err := p.resolver.Pusher(ctx, p.name.String())
	if err != nil {
		return err
	}
	pusher := remotes.PusherFunc(func(ctx context.Context, d ocispec.Descriptor) (content.Writer, error) {
		return p.open(ctx, inner, d)
	})
	return remotes.PushContent(ctx, pusher, target, p.engine.Content(), p.limit, platforms.All, nil)
}

// choose returns what is to be pushed of target: the manifest for a platform that was asked for, or all of it. Of an
// index that is not here as a whole it is the one manifest that is.
func (p *push) choose(
	ctx context.Context, target ocispec.Descriptor, platform *ocispec.Platform,
) (ocispec.Descriptor, *variant, error) {
	v, err := p.openFor(ctx, target, platform)
	if err != nil || !images.IsIndexType(target.MediaType) {
		return target, v, err
	}
	single := v.desc
	single.Platform = nil
	if platform != nil {
		return single, v, nil
	}
	var idx ocispec.Index
	if err := p.readDocument(ctx, target, &idx); err != nil {
		return target, nil, err
	}
	here, err := p.children(ctx, target)
	if err != nil {
		return target, nil, err
	}
	if len(here) < len(idx.Manifests) {
		return single, v, nil
	}
	return target, v, nil
}

// open begins the upload of one blob.
func (p *push) open(ctx context.Context, inner remotes.Pusher, desc ocispec.Descriptor) (content.Writer, error) {
	w, err := inner.Push(ctx, desc)
	if !p.layers[desc.Digest] {
		return w, err
	}
	id := shortID(desc.Digest.String())
	switch {
	case cerrdefs.IsAlreadyExists(err):
		st, serr := p.tracker.GetStatus(remotes.MakeRefKey(ctx, desc))
		if serr == nil && st.MountedFrom != "" {
			from := st.MountedFrom
			if n, err := reference.ParseNormalizedNamed(from); err == nil {
				from = reference.Path(n)
			}
			p.out.say(id, "Mounted from "+from)
		} else {
			p.out.say(id, "Layer already exists")
		}
		return nil, err
	case err != nil:
		return nil, err
	}
	return &uploadWriter{Writer: w, out: p.out, layer: id, size: desc.Size}, nil
}

// uploadWriter tells how far an upload is.
type uploadWriter struct {
	content.Writer
	out      *progress
	layer    string
	size, at int64
}

func (w *uploadWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	w.at += int64(n)
	w.out.step(w.layer, "Pushing", w.at, w.size)
	return n, err
}

// Truncate implements content.Writer.
func (w *uploadWriter) Truncate(size int64) error {
	w.at = size
	return w.Writer.Truncate(size)
}

// Commit implements content.Writer.
func (w *uploadWriter) Commit(ctx context.Context, size int64, d digest.Digest, opts ...content.Opt) error {
	err := w.Writer.Commit(ctx, size, d, opts...)
	if err == nil || cerrdefs.IsAlreadyExists(err) {
		w.out.say(w.layer, "Pushed")
	}
	return err
}
