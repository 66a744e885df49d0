package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/labels"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// stage unpacks layers while the rest of their archive still comes in: what they stand on is known at its end only. It is
// for speed alone: a layer that could not be staged is unpacked afterwards, and what was staged in vain goes with the work.
type stage struct {
	*work
	mu     sync.Mutex
	layers map[digest.Digest]stagedLayer
}

type stagedLayer struct {
	key    string // of the snapshot
	dir    string // of its files
	diffID digest.Digest
}

// add unpacks one layer. ctx has the lease of the work.
func (s *stage) add(ctx context.Context, layer ocispec.Descriptor) {
	if !s.engine.Parallel() || s.unpacks.Acquire(ctx, 1) != nil {
		return
	}
	defer s.unpacks.Release(1)
	l := stagedLayer{key: fmt.Sprintf("%s-%s", s.lease.ID, layer.Digest)}
	err := func() error {
		mounts, err := s.engine.Snapshotter().Prepare(ctx, l.key, "")
		if err != nil {
			return err
		}
		if len(mounts) != 1 || mounts[0].Type != "bind" {
			return fmt.Errorf("the layer is to be mounted by %v", mounts)
		}
		l.dir = mounts[0].Source
		// Said to be the upper part of an overlay, it gets whiteouts in the form that overlays have.
		upper := []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{"upperdir=" + l.dir}}}
		diff, err := s.engine.Applier().Apply(ctx, layer, upper)
		l.diffID = diff.Digest
		return err
	}()
	if err != nil {
		log.G(ctx).WithError(err).Debugf("layer %s cannot be unpacked yet", layer.Digest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.layers[layer.Digest] = l
}

// commit makes snapshots of v's layers out of what was staged, from the lowest up to the first that was not.
func (s *stage) commit(ctx context.Context, v *variant) error {
	ids := v.doc.RootFS.DiffIDs
	if len(ids) != len(v.manifest.Layers) {
		return nil
	}
	chain := identity.ChainIDs(slices.Clone(ids))
	for i, layer := range v.manifest.Layers {
		_, err := s.engine.Snapshotter().Stat(ctx, chain[i].String())
		if err == nil {
			continue
		}
		l, ok := s.layers[layer.Digest]
		if !cerrdefs.IsNotFound(err) || !ok || l.diffID != ids[i] {
			return ignoreMissing(err)
		}
		delete(s.layers, layer.Digest)
		label := map[string]string{
			snapshots.LabelSnapshotRef: chain[i].String(), snapshots.LabelSnapshotDiffID: ids[i].String(),
		}
		opts := []snapshots.Opt{snapshots.WithLabels(label)}
		if i > 0 {
			opts = append(opts, snapshots.WithParent(chain[i-1].String()))
		} else if deletes(l.dir) {
			return nil
		}
		err = s.engine.Snapshotter().Commit(ctx, chain[i].String(), l.key, opts...)
		if err != nil && !cerrdefs.IsAlreadyExists(err) {
			return ignoreMissing(err)
		}
		info := content.Info{Digest: layer.Digest, Labels: map[string]string{labels.LabelUncompressed: ids[i].String()}}
		if _, err := s.engine.Content().Update(ctx, info, "labels."+labels.LabelUncompressed); err != nil {
			return err
		}
	}
	return nil
}

// ignoreMissing is for snapshots that go while they are looked at: then the unpacking does all that is left.
func ignoreMissing(err error) error {
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// deletes tells whether a layer deletes something of those below it. In the lowest one that means nothing, and whoever
// looks at that one alone must not see it.
func deletes(dir string) bool {
	found := errors.New("found")
	return filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type()&fs.ModeCharDevice != 0 {
			return found
		}
		return err
	}) != nil
}
