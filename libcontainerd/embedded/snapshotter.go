package embedded

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/containerd/log"

	"github.com/berthd/berth/errdefs"
)

// The snapshotters.
const (
	Overlayfs = "overlayfs"
	Native    = "native"
)

// ChooseSnapshotter returns the name of the snapshotter for storage on root. wanted may be overlayfs (or overlay2, its
// name in dockerd), native, or empty: then it is overlayfs wherever the file system of root can carry overlays, and
// native, which copies every layer, elsewhere. One that was asked for and does not work is an InvalidParameter.
func ChooseSnapshotter(ctx context.Context, root, wanted string) (string, error) {
	switch wanted {
	case Native:
		return Native, nil
	case "", "overlay2", Overlayfs:
	default:
		return "", errdefs.InvalidParameterf("storage driver %q is not known; use %s or %s", wanted, Overlayfs, Native)
	}
	err := overlayutils.Supported(root)
	if err == nil {
		return Overlayfs, nil
	}
	if wanted != "" {
		return "", errdefs.InvalidParameter(fmt.Errorf(
			"storage driver %s does not work on %s; use %s or another data-root: %w", Overlayfs, root, Native, err))
	}
	log.G(ctx).WithError(err).Warnf("%s cannot carry overlays: the storage driver is %s, which copies every layer",
		root, Native)
	return Native, nil
}
