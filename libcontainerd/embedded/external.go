package embedded

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/api/services/introspection/v1"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins"
	cerrdefs "github.com/containerd/errdefs"

	"github.com/berthd/berth/errdefs"
)

// dialWait is how long an external containerd may take to be there and to answer the first questions.
const dialWait = 10 * time.Second

// connect takes the stores of the containerd that listens on cfg.Address.
func (e *Engine) connect(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	c, err := containerd.New(cfg.Address, containerd.WithDefaultNamespace(e.namespace))
	if err != nil {
		return errdefs.Unavailable(fmt.Errorf("reach containerd on %s: %w", cfg.Address, err))
	}
	e.closers = append(e.closers, c.Close)
	found, err := c.IntrospectionService().Plugins(ctx,
		fmt.Sprintf("type==%s,id==%s", plugins.SnapshotPlugin, e.driver))
	if err != nil {
		return errdefs.Unavailable(fmt.Errorf("ask containerd on %s for its snapshotters: %w", cfg.Address, err))
	}
	broken := func(p *introspection.Plugin) bool { return p.InitErr != nil }
	if len(found.Plugins) == 0 || slices.ContainsFunc(found.Plugins, broken) {
		return errdefs.InvalidParameterf("containerd on %s has no storage driver %s", cfg.Address, e.driver)
	}
	v, err := c.Version(ctx)
	if err != nil {
		return errdefs.Unavailable(fmt.Errorf("ask containerd on %s for its version: %w", cfg.Address, err))
	}
	e.version, e.revision = v.Version, v.Revision
	if err := claim(ctx, c.NamespaceService(), e.namespace, cfg.Root); err != nil {
		return err
	}
	e.content = c.ContentStore()
	e.images = c.ImageService()
	e.leases = c.LeasesService()
	e.snapshotter = c.SnapshotService(e.driver)
	e.applier, e.comparer = c.DiffService(), c.DiffService()
	return nil
}

// ownerLabel is on the namespace and holds the Root of the engine that it belongs to.
const ownerLabel = "io.berthd.root"

// claim makes the namespace, or takes it over where nobody owns it. Another engine's namespace is a Conflict: two
// engines that share one would each delete what only the other knows of.
func claim(ctx context.Context, ns namespaces.Store, name, root string) error {
	err := ns.Create(ctx, name, map[string]string{ownerLabel: root})
	if err == nil || !cerrdefs.IsAlreadyExists(err) {
		return err
	}
	labels, err := ns.Labels(ctx, name)
	if err != nil {
		return err
	}
	switch owner := labels[ownerLabel]; owner {
	case root:
		return nil
	case "":
		return ns.SetLabel(ctx, name, ownerLabel, root)
	default:
		return errdefs.Conflictf("containerd's namespace %s belongs to the engine on %s; use that data-root, or free "+
			"the namespace with: ctr namespaces label %s %s=", name, owner, name, ownerLabel)
	}
}
