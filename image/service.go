// Package image keeps the engine's images: names for manifests or indexes in a content store, with their layers
// unpacked so that a container can be made at once.
package image

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"golang.org/x/sync/semaphore"

	"github.com/berthd/berth/layer"
)

// Engine is where images are kept. Its stores expect a context that came out of Context.
type Engine interface {
	Context(ctx context.Context) context.Context
	// Driver is the name of Snapshotter.
	Driver() string
	// Parallel reports whether layers of one image may be unpacked side by side.
	Parallel() bool
	Content() content.Store
	Images() images.Store
	Leases() leases.Manager
	// Together makes one write to the disk of what fn changes of leases, content and images, with the context that it gets.
	Together(ctx context.Context, fn func(context.Context) error) error
	Snapshotter() snapshots.Snapshotter
	Applier() diff.Applier
	Comparer() diff.Comparer
}

// Use is a container that was made of an image.
type Use struct {
	ContainerID string
	Running     bool
	Ref         string // as the container's creator named the image
	Manifest    string // digest of the manifest that was chosen
}

// Options are what New needs.
type Options struct {
	Engine Engine
	Layers *layer.Service
	// InUse tells which containers use an image. It answers from memory.
	InUse func(imageID string) []Use
	// Publish tells of an event of type image. It does not wait for whoever listens.
	Publish func(action, id string, attributes map[string]string)
	// Registries tells how registries are spoken to; each operation asks once. Nil: without any settings.
	Registries func() Registries
}

// Service is the image service. Its methods may be called from everywhere at once; asking never waits for a change.
type Service struct {
	engine  Engine
	layers  *layer.Service
	inUse   func(imageID string) []Use
	publish func(action, id string, attributes map[string]string)

	registries func() Registries

	// change is a slot that is taken while names are moved, so that what a change decides on still holds when it is
	// done. Whoever only reads does not take it.
	change chan struct{}
	// unpacks bounds how many layers are unpacked at once.
	unpacks *semaphore.Weighted

	pullsMu sync.Mutex
	pulls   []string // leases of the pulls that run
}

// unpackWorkers is how many layers are unpacked at once, over all images. More gains little: the disk is the limit.
const unpackWorkers = 4

// New returns the service. It gives up what a load or import left that the last engine did not live to end.
func New(ctx context.Context, o Options) (*Service, error) {
	s := &Service{
		engine: o.Engine, layers: o.Layers, inUse: o.InUse, publish: o.Publish, registries: o.Registries,
		change: make(chan struct{}, 1), unpacks: semaphore.NewWeighted(unpackWorkers),
	}
	if s.registries == nil {
		s.registries = func() Registries { return Registries{} }
	}
	return s, s.dropStaleWork(s.engine.Context(ctx))
}

// lockChange takes the slot for changes, or gives up with ctx.
func (s *Service) lockChange(ctx context.Context) (unlock func(), err error) {
	select {
	case s.change <- struct{}{}:
		return func() { <-s.change }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for another change of images: %w", context.Cause(ctx))
	}
}

// tell publishes an event about the image id (or what stands for it), which is called name. The labels of the image go with it.
func (s *Service) tell(action, id, name string, labels map[string]string) {
	attrs := maps.Clone(labels)
	if attrs == nil {
		attrs = map[string]string{}
	}
	attrs["name"] = name
	s.publish(action, id, attrs)
}
