package image

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	imagetypes "github.com/berthd/berth/api/types/image"
)

// Commit makes an image of a container's layer on top of the image that the container was made of, and returns its id.
// base is that image's manifest; command is what the history tells of the step. Something wrong with the options is an
// InvalidParameter. The caller keeps the container's layer from being removed meanwhile.
func (s *Service) Commit(
	ctx context.Context, containerID string, base ocispec.Descriptor, config Config, command string,
	o imagetypes.CommitOptions,
) (id string, err error) {
	name, err := newName(o.Ref)
	if err != nil {
		return "", err
	}
	if err := applyChanges(&config, o.Changes); err != nil {
		return "", err
	}
	ctx, w, err := s.begin(s.engine.Context(ctx))
	if err != nil {
		return "", err
	}
	defer func() { w.end(ctx, err != nil) }()
	v, err := s.openManifest(ctx, base)
	if err != nil {
		return "", fmt.Errorf("the image of container %s: %w", containerID, err)
	}
	layer, diffID, err := w.storeChanges(ctx, containerID)
	if err != nil {
		return "", fmt.Errorf("pack the changes of container %s: %w", containerID, err)
	}
	now := time.Now().UTC()
	doc := v.doc
	doc.Created, doc.Author, doc.Config = &now, o.Author, &config
	doc.RootFS.DiffIDs = append(doc.RootFS.DiffIDs, diffID)
	doc.History = append(doc.History, ocispec.History{
		Created: &now, CreatedBy: command, Author: o.Author, Comment: o.Comment,
	})
	target, err := w.storeImage(ctx, &doc, append(v.manifest.Layers, layer)...)
	if err != nil {
		return "", err
	}
	if _, err := w.complete(ctx, target); err != nil {
		return "", err
	}
	return w.publishNew(ctx, "create", target, name, config.Labels)
}

// storeChanges stores what a container has changed as a compressed layer, and returns the digest of the plain archive
// with it.
func (w *work) storeChanges(ctx context.Context, containerID string) (ocispec.Descriptor, digest.Digest, error) {
	desc, err := rootfs.CreateDiff(ctx, containerID, w.engine.Snapshotter(), w.engine.Comparer(),
		diff.WithMediaType(ocispec.MediaTypeImageLayerGzip), diff.WithReference(w.lease.ID+"-changes"))
	if err != nil {
		return desc, "", err
	}
	info, err := w.engine.Content().Info(ctx, desc.Digest)
	if err != nil {
		return desc, "", err
	}
	diffID, err := digest.Parse(info.Labels[labels.LabelUncompressed])
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}, diffID, err
}
