package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/errdefs"
)

// gcRef begins the labels by which an index keeps those of its manifests that belong to an image here.
const gcRef = "containerd.io/gc.ref.content."

// kept returns these labels of an index.
func (s *Service) kept(ctx context.Context, index ocispec.Descriptor) (map[string]digest.Digest, error) {
	info, err := s.engine.Content().Info(ctx, index.Digest)
	if err != nil {
		return nil, err
	}
	kept := map[string]digest.Digest{}
	for k, v := range info.Labels {
		if strings.HasPrefix(k, gcRef) {
			kept[k] = digest.Digest(v)
		}
	}
	return kept, nil
}

// children is Service.children without the manifests of an index for platforms that are not wanted. What was here before
// stays.
func (w *work) children(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	all, err := w.Service.children(ctx, desc)
	if err != nil || len(w.wanted) == 0 || !images.IsIndexType(desc.MediaType) {
		return all, err
	}
	kept, err := w.kept(ctx, desc)
	if err != nil {
		return nil, err
	}
	keep := map[digest.Digest]bool{}
	for _, dgst := range kept {
		keep[dgst] = true
	}
	for _, d := range all {
		if d.Annotations[attestation] != "" {
			continue
		}
		if d.Platform == nil && images.IsManifestType(d.MediaType) {
			v, err := w.openManifest(ctx, d)
			if err != nil {
				return nil, err
			}
			d = v.desc
		}
		if d.Platform == nil || slices.ContainsFunc(w.wanted, func(p ocispec.Platform) bool {
			return platforms.OnlyStrict(p).Match(*d.Platform)
		}) {
			keep[d.Digest] = true
		}
	}
	return slices.DeleteFunc(all, func(d ocispec.Descriptor) bool {
		return !keep[d.Digest] && !keep[digest.Digest(d.Annotations[attested])]
	}), nil
}

// toUnpack reads the variants of target that are wanted; if it does not matter, the one that this machine uses.
func (w *work) toUnpack(ctx context.Context, target ocispec.Descriptor) (all []*variant, _ error) {
	if len(w.wanted) == 0 {
		v, err := w.open(ctx, target)
		return []*variant{v}, err
	}
	for _, p := range w.wanted {
		v, err := w.openFor(ctx, target, &p)
		if errdefs.IsNotFound(err) {
			return nil, errdefs.InvalidParameterf("the image doesn't provide the requested platform (%s)",
				platforms.FormatAll(p))
		}
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// DeleteVariants removes what is here of an image for some platforms. Every image that has the same manifests loses them,
// so it has to be forced. A variant that a container uses, or that is all that is here of an image, is a Conflict.
func (s *Service) DeleteVariants(
	ctx context.Context, ref string, wanted []ocispec.Platform, force bool,
) (done []imagetypes.DeleteResponse, err error) {
	if !force {
		return nil, errdefs.InvalidParameterf("Content will be removed from all images referencing this variant. " +
			"Use --force to force delete.")
	}
	ctx = s.engine.Context(ctx)
	unlock, err := s.lockChange(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	f, err := s.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	gone := map[digest.Digest]bool{}
	for _, p := range wanted {
		v, err := s.openFor(ctx, f.target, &p)
		if err != nil {
			return nil, fmt.Errorf("remove %s for %s: %w", ref, platforms.FormatAll(p), err)
		}
		if !gone[v.desc.Digest] {
			gone[v.desc.Digest] = true
			done = append(done, imagetypes.DeleteResponse{Deleted: v.desc.Digest.String()})
		}
	}
	all, err := s.entries(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if err := s.refuseVariants(ctx, e, gone); err != nil {
			return nil, err
		}
	}
	ctx, w, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { w.end(ctx, true) }() // which collects what is not kept any more
	for _, e := range all {
		if err := s.letGo(ctx, e.target, gone); err != nil {
			return nil, err
		}
	}
	return done, nil
}

// refuseVariants says why the manifests must not go, as far as they are e's.
func (s *Service) refuseVariants(ctx context.Context, e *entry, gone map[digest.Digest]bool) error {
	var lost digest.Digest
	left := false
	err := s.walk(ctx, e.target, func(desc ocispec.Descriptor, _ []ocispec.Descriptor) error {
		switch {
		case !images.IsManifestType(desc.MediaType) || desc.Annotations[attestation] != "":
		case gone[desc.Digest]:
			lost = desc.Digest
		default:
			left = true
		}
		return nil
	})
	if lost == "" {
		if cerrdefs.IsNotFound(err) { // it is damaged, and has nothing to lose
			return nil
		}
		return err
	}
	if !left {
		return errdefs.Conflictf("conflict: unable to delete %s (cannot be forced) - it is all that is here of image %s; "+
			"remove that", shortID(lost.String()), shortID(e.id()))
	}
	for _, u := range s.inUse(e.id()) {
		if gone[digest.Digest(u.Manifest)] {
			state := "stopped"
			if u.Running {
				state = "running"
			}
			return errdefs.Conflictf("conflict: unable to delete %s (cannot be forced) - image is being used by %s "+
				"container %s", shortID(u.Manifest), state, shortID(u.ContainerID))
		}
	}
	return nil
}

// letGo has the indexes below target not keep the manifests any more.
func (s *Service) letGo(ctx context.Context, target ocispec.Descriptor, gone map[digest.Digest]bool) error {
	err := s.walk(ctx, target, func(desc ocispec.Descriptor, _ []ocispec.Descriptor) error {
		if !images.IsIndexType(desc.MediaType) {
			return nil
		}
		kept, err := s.kept(ctx, desc)
		if err != nil {
			return err
		}
		info := content.Info{Digest: desc.Digest, Labels: map[string]string{}}
		var fields []string
		for label, dgst := range kept {
			if gone[dgst] {
				info.Labels[label] = ""
				fields = append(fields, "labels."+label)
			}
		}
		if len(fields) > 0 {
			_, err = s.engine.Content().Update(ctx, info, fields...)
		}
		return err
	})
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	return err
}
