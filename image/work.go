package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/unpack"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/berthd/berth/errdefs"
)

const (
	// workLabel is on the leases of loads and imports. What they hold is of no use once the engine has gone.
	workLabel = "io.berthd.work"
	// pullLabel is on the leases of pulls, with the name that is pulled.
	pullLabel = "io.berthd.pull"
	// workExpiry is when such a lease ends by itself, in case this engine never comes back to the storage.
	workExpiry = 24 * time.Hour
	// cleanupWait is how long giving up unfinished work may take.
	cleanupWait = time.Minute
)

// work is a load or an import in progress. What it stores is leased: it stays until end, and after that only if an
// image refers to it. It is used by one goroutine.
type work struct {
	*Service
	lease  leases.Lease
	blobs  int
	wanted []ocispec.Platform // those that images are stored for; nil: all that they have
}

// begin starts work and returns the context to do it with.
func (s *Service) begin(ctx context.Context) (context.Context, *work, error) {
	l, err := s.engine.Leases().Create(ctx, leases.WithRandomID(), leases.WithExpiration(workExpiry),
		leases.WithLabels(map[string]string{workLabel: "image"}))
	if err != nil {
		return nil, nil, fmt.Errorf("make a lease: %w", err)
	}
	return leases.WithLease(ctx, l.ID), &work{Service: s, lease: l}, nil
}

// end gives the lease back. With collect, what was stored and no image needs is gone when end returns.
func (w *work) end(ctx context.Context, collect bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupWait)
	defer cancel()
	var opts []leases.DeleteOpt
	if collect {
		opts = append(opts, leases.SynchronousDelete)
	}
	if err := w.engine.Leases().Delete(ctx, w.lease, opts...); err != nil && !cerrdefs.IsNotFound(err) {
		warnLeft(ctx, err)
	}
}

func warnLeft(ctx context.Context, err error) {
	log.G(ctx).WithError(err).Warnf("cannot free what an unfinished image left; it goes in %v", workExpiry)
}

// dropStaleWork gives up what the last engine did not live to end.
func (s *Service) dropStaleWork(ctx context.Context) error {
	stale, err := s.engine.Leases().List(ctx, fmt.Sprintf("labels.%q", workLabel))
	if err != nil {
		return fmt.Errorf("list unfinished loads of images: %w", err)
	}
	for _, l := range stale {
		if err := s.engine.Leases().Delete(ctx, l); err != nil && !cerrdefs.IsNotFound(err) {
			return fmt.Errorf("give up an unfinished load of images: %w", err)
		}
	}
	return nil
}

// store makes a blob of what fill writes. desc may say what to expect: then bytes that differ are an InvalidParameter,
// and fill is not called if the blob is here already.
func (w *work) store(
	ctx context.Context, desc ocispec.Descriptor, fill func(io.Writer) error,
) (ocispec.Descriptor, error) {
	desc, commit, err := w.write(ctx, desc, fill)
	if err == nil {
		_, err = commit()
	}
	return desc, err
}

// write is store without the last step, which the caller has to take, in any goroutine: commit puts the blob on the disk
// and tells whether it was not here before.
func (w *work) write(
	ctx context.Context, desc ocispec.Descriptor, fill func(io.Writer) error,
) (_ ocispec.Descriptor, commit func() (fresh bool, err error), err error) {
	w.blobs++
	ref := w.lease.ID + "-" + strconv.Itoa(w.blobs)
	cw, err := content.OpenWriter(ctx, w.engine.Content(), content.WithRef(ref), content.WithDescriptor(desc))
	if cerrdefs.IsAlreadyExists(err) {
		return desc, func() (bool, error) { return false, nil }, nil
	}
	if err != nil {
		return desc, nil, fmt.Errorf("store a blob: %w", err)
	}
	giveUp := func() {
		_ = cw.Close()
		_ = w.engine.Content().Abort(context.WithoutCancel(ctx), ref) // if this fails, the end of the lease does it
	}
	counted := &countingWriter{ctx: ctx, w: cw}
	if err := fill(counted); err != nil {
		giveUp()
		return desc, nil, err
	}
	expected := desc.Digest
	desc.Size, desc.Digest = counted.n, cw.Digest()
	if expected != "" && expected != desc.Digest {
		giveUp()
		return desc, nil, errdefs.InvalidParameterf("the bytes of %s have the digest %s", expected, desc.Digest)
	}
	return desc, func() (bool, error) {
		err := cw.Commit(ctx, desc.Size, desc.Digest)
		if err != nil && !cerrdefs.IsAlreadyExists(err) {
			giveUp()
			return false, fmt.Errorf("store %s: %w", desc.Digest, err)
		}
		return err == nil, cw.Close()
	}, nil
}

// storeDocument makes a blob of v as JSON.
func (w *work) storeDocument(ctx context.Context, mediaType string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	return w.store(ctx, desc, func(to io.Writer) error {
		_, err := io.Copy(to, bytes.NewReader(b))
		return err
	})
}

// countingWriter counts what it passes on, until its context ends.
type countingWriter struct {
	ctx context.Context
	w   io.Writer
	n   int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// complete checks that target and all that it refers to is here, ties it together for the garbage collector, and
// unpacks the variant that this machine uses. An image of which something is missing or wrong is an InvalidParameter.
func (w *work) complete(ctx context.Context, target ocispec.Descriptor) (*variant, error) {
	return w.completeWith(ctx, target, func(context.Context, *variant) error { return nil })
}

// completeWith is complete with something to be done before the unpacking.
func (w *work) completeWith(
	ctx context.Context, target ocispec.Descriptor, before func(context.Context, *variant) error,
) (*variant, error) {
	store := w.engine.Content()
	err := walk(ctx, target, w.children, func(desc ocispec.Descriptor, children []ocispec.Descriptor) error {
		info, err := store.Info(ctx, desc.Digest)
		if err != nil {
			return err
		}
		if info.Size != desc.Size {
			return errdefs.InvalidParameterf("%s has %d bytes, not %d", desc.Digest, info.Size, desc.Size)
		}
		if len(children) == 0 {
			return nil
		}
		known := func(context.Context, ocispec.Descriptor) ([]ocispec.Descriptor, error) { return children, nil }
		_, err = images.SetChildrenLabels(store, known)(ctx, desc)
		return err
	})
	var all []*variant
	if err == nil {
		all, err = w.toUnpack(ctx, target)
	}
	if cerrdefs.IsNotFound(err) || errdefs.IsNotFound(err) {
		return nil, errdefs.InvalidParameter(fmt.Errorf("the image is not complete: %w", err))
	}
	if err != nil {
		return nil, err
	}
	for _, v := range all {
		if err := before(ctx, v); err != nil {
			return nil, err
		}
		if err := w.unpack(ctx, v); err != nil {
			var system syscall.Errno // the disk's fault, say; everything else is the image's
			if ctx.Err() != nil || errors.As(err, &system) {
				return nil, err
			}
			return nil, errdefs.InvalidParameter(badLayer(err))
		}
	}
	return all[0], nil
}

// badLayer says what is wrong with a layer that is no archive. In which way that was found out helps nobody.
func badLayer(err error) error {
	for _, known := range []error{tar.ErrHeader, io.ErrUnexpectedEOF} {
		if errors.Is(err, known) {
			return fmt.Errorf("unpack a layer: %w", known)
		}
	}
	return err
}

// unpack makes the snapshots of v's layers, as far as they are not here.
func (s *Service) unpack(ctx context.Context, v *variant) error {
	err := s.unpackWhile(ctx, nil, s.engine.Applier(), func(wrap func(images.Handler) images.Handler) error {
		return images.Dispatch(ctx, wrap(images.HandlerFunc(s.children)), nil, v.desc)
	})
	if err != nil {
		return fmt.Errorf("unpack %s: %w", v.desc.Digest, err)
	}
	return nil
}

// unpackWhile unpacks the layers of an image that fn walks with a handler of its own, wrapped: each as soon as that has
// brought it here. limit bounds how many layers are brought at once; nil: it does not matter.
func (s *Service) unpackWhile(
	ctx context.Context, limit *semaphore.Weighted, applier diff.Applier,
	fn func(wrap func(images.Handler) images.Handler) error,
) error {
	p := unpack.Platform{
		SnapshotterKey: s.engine.Driver(), Snapshotter: s.engine.Snapshotter(), Applier: applier,
	}
	opts := []unpack.UnpackerOpt{unpack.WithFetchAllContent()}
	if s.engine.Parallel() {
		p.SnapshotterCapabilities = []string{snapshots.RebaseCap}
		opts = append(opts, unpack.WithUnpackLimiter(s.unpacks))
	}
	if limit != nil {
		opts = append(opts, unpack.WithLimiter(limit))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	u, err := unpack.NewUnpacker(ctx, s.engine.Content(), append(opts, unpack.WithUnpackPlatform(p))...)
	if err != nil {
		return err
	}
	err = fn(u.Unpack)
	if err != nil {
		cancel()
	}
	if _, waitErr := u.Wait(); err == nil {
		err = waitErr
	}
	return err
}
