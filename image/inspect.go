package image

import (
	"context"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/api/types/container"
	imagetypes "github.com/berthd/berth/api/types/image"
)

// Inspect tells all about an image. All fields are filled; the API takes away what a version does not have. No image is
// a NotFound.
func (s *Service) Inspect(
	ctx context.Context, ref string, o imagetypes.InspectOptions,
) (*imagetypes.InspectResponse, error) {
	ctx = s.engine.Context(ctx)
	f, err := s.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	v, err := s.openFor(ctx, f.target, o.Platform)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", ref, missing(ref, err))
	}
	size, err := s.size(ctx, f.target, v)
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", ref, err)
	}
	comment, empty := v.doc.comment(), ""
	r := &imagetypes.InspectResponse{
		ID: f.id(), RepoTags: f.tags(), RepoDigests: f.digests(),
		Parent: &empty, Comment: &comment, DockerVersion: &v.doc.DockerVersion, Author: &v.doc.Author,
		Container: &empty, ContainerConfig: &container.Config{OnBuild: new([]string)},
		Config:       wireConfig(v.doc.Config),
		Architecture: v.doc.Architecture, Variant: v.doc.Variant, OS: v.doc.OS, OSVersion: v.doc.OSVersion,
		Size: size, VirtualSize: &size,
		GraphDriver: &container.DriverData{Name: s.engine.Driver()},
		RootFS:      rootFS(v.doc.RootFS),
		Metadata:    imagetypes.Metadata{LastTagTime: f.tagged},
		Descriptor:  &f.target,
	}
	if v.doc.Created != nil {
		created := v.doc.Created.Format(time.RFC3339Nano)
		r.Created = &created
	}
	if r.Identity, err = s.identity(ctx, f.target); err != nil {
		return nil, fmt.Errorf("inspect %s: %w", ref, missing(ref, err))
	}
	if o.Manifests {
		r.Manifests, err = s.manifests(ctx, f.entry, false)
	}
	return r, err
}

func rootFS(r ocispec.RootFS) imagetypes.RootFS {
	layers := make([]string, len(r.DiffIDs))
	for i, id := range r.DiffIDs {
		layers[i] = id.String()
	}
	return imagetypes.RootFS{Type: "layers", Layers: layers}
}

func wireConfig(c *Config) *imagetypes.Config {
	if c == nil {
		return nil
	}
	return &imagetypes.Config{
		Hostname: new(string), Domainname: new(string), Image: new(string),
		AttachStdin: new(bool), AttachStdout: new(bool), AttachStderr: new(bool),
		Tty: new(bool), OpenStdin: new(bool), StdinOnce: new(bool),
		User: &c.User, ExposedPorts: c.ExposedPorts, Env: &c.Env, Cmd: &c.Cmd, Healthcheck: c.Healthcheck,
		//lint:ignore SA1019 images of old builders have it, and inspect shows it
		ArgsEscaped: c.ArgsEscaped,
		Volumes:     &c.Volumes, WorkingDir: &c.WorkingDir, Entrypoint: &c.Entrypoint,
		OnBuild: &c.OnBuild, Labels: &c.Labels, StopSignal: c.StopSignal, Shell: c.Shell,
	}
}
