package versions

import (
	"slices"

	"github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/image"
)

func imageChanges() []Change {
	return slices.Concat(imageListChanges(), imageInspectChanges(), oldImageInspectChanges(), imageRequestChanges())
}

// imageRequestChanges are settings that versions before them do not know and so ignore, and what progress looks like.
func imageRequestChanges() []Change {
	return []Change{
		{Below: "1.42", What: "shared-size is ignored", Do: []effect{request(
			func(o *image.ListOptions) ([]string, error) { o.SharedSize = false; return nil, nil })}},
		{Below: "1.47", What: "manifests of the list is ignored", Do: []effect{request(
			func(o *image.ListOptions) ([]string, error) { o.Manifests = false; return nil, nil })}},
		{Below: "1.48", What: "manifests of inspect is ignored", Do: []effect{request(
			func(o *image.InspectOptions) ([]string, error) { o.Manifests = false; return nil, nil })}},
		{From: "1.52", What: "progress is numbers only", Do: []effect{response(
			func(m *image.Message) { m.Bar = "" })}},
		{Below: "1.54", What: "identity of the list is ignored", Do: []effect{request(
			func(o *image.ListOptions) ([]string, error) { o.Identity = false; return nil, nil })}},
	}
}

func images(f func(*image.Summary)) []effect { return []effect{response(f)} }

func imageInspect(f func(*image.InspectResponse)) []effect { return []effect{response(f)} }

func imageListChanges() []Change {
	return []Change{
		{From: "1.52", What: "labels are never null", Do: images(func(s *image.Summary) {
			if s.Labels == nil {
				s.Labels = map[string]string{}
			}
		})},
		{Below: "1.52", What: "no labels is null", Do: images(func(s *image.Summary) {
			if len(s.Labels) == 0 {
				s.Labels = nil
			}
		})},
		{Below: "1.52", What: "no descriptor", Do: images(func(s *image.Summary) { s.Descriptor = nil })},
		{Below: "1.51", What: "containers are not counted", Do: images(func(s *image.Summary) { s.Containers = -1 })},
		{From: "1.44", What: "no VirtualSize", Do: images(func(s *image.Summary) { s.VirtualSize = nil })},
		{Below: "1.44", What: "VirtualSize is Size", Do: images(func(s *image.Summary) { s.VirtualSize = &s.Size })},
		{From: "1.43", What: "names are never null", Do: images(func(s *image.Summary) {
			if s.RepoTags == nil {
				s.RepoTags = []string{}
			}
			if s.RepoDigests == nil {
				s.RepoDigests = []string{}
			}
		})},
		{Below: "1.43", What: "an image without a name has one that says so", Do: images(func(s *image.Summary) {
			switch {
			case len(s.RepoTags) == 0 && len(s.RepoDigests) == 0:
				s.RepoTags, s.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
			case len(s.RepoTags) == 0:
				s.RepoTags = nil
			case len(s.RepoDigests) == 0:
				s.RepoDigests = nil
			}
		})},
	}
}

func imageInspectChanges() []Change {
	return []Change{
		{From: "1.52", What: "what is empty is absent", Do: imageInspect(func(r *image.InspectResponse) {
			for _, s := range []**string{&r.Parent, &r.Comment, &r.DockerVersion, &r.Author} {
				absentIf(s, *s != nil && **s == "")
			}
			c := copyConfig(r)
			for _, s := range []**string{&c.User, &c.WorkingDir} {
				absentIf(s, *s != nil && **s == "")
			}
			for _, l := range []**[]string{&c.Env, &c.Cmd, &c.Entrypoint, &c.OnBuild} {
				absentIf(l, *l != nil && len(**l) == 0)
			}
			absentIf(&c.Volumes, c.Volumes != nil && len(*c.Volumes) == 0)
			absentIf(&c.Labels, c.Labels != nil && len(*c.Labels) == 0)
		})},
		{Below: "1.52", What: "what is empty is present", Do: imageInspect(func(r *image.InspectResponse) {
			for _, s := range []**string{&r.Parent, &r.Comment, &r.DockerVersion, &r.Author} {
				present(s)
			}
			c := copyConfig(r)
			present(&c.User)
			present(&c.WorkingDir)
			for _, l := range []**[]string{&c.Env, &c.Cmd, &c.Entrypoint, &c.OnBuild} {
				present(l)
			}
			present(&c.Volumes)
			present(&c.Labels)
		})},
		{From: "1.52", What: "no GraphDriver", Do: imageInspect(func(r *image.InspectResponse) { r.GraphDriver = nil })},
		{Below: "1.52", What: "the overlay driver is called overlay2", Do: imageInspect(func(r *image.InspectResponse) {
			r.GraphDriver = overlay2(r.GraphDriver)
		})},
		{Below: "1.53", What: "no identity", Do: imageInspect(func(r *image.InspectResponse) { r.Identity = nil })},
		{Below: "1.52", What: "no descriptor", Do: imageInspect(func(r *image.InspectResponse) { r.Descriptor = nil })},
		{From: "1.50", What: "no fields that belong to containers in Config", Do: imageInspect(
			func(r *image.InspectResponse) {
				c := copyConfig(r)
				c.Hostname, c.Domainname, c.Image = nil, nil, nil
				c.AttachStdin, c.AttachStdout, c.AttachStderr = nil, nil, nil
				c.Tty, c.OpenStdin, c.StdinOnce = nil, nil, nil
			})},
		{Below: "1.50", What: "Config has the fields of containers", Do: imageInspect(func(r *image.InspectResponse) {
			if r.Config == nil {
				r.Config = &image.Config{
					User: new(string), WorkingDir: new(string), Env: new([]string), Cmd: new([]string),
					Entrypoint: new([]string), OnBuild: new([]string),
					Volumes: new(map[string]struct{}), Labels: new(map[string]string),
				}
			}
			c := copyConfig(r)
			for _, s := range []**string{&c.Hostname, &c.Domainname, &c.Image} {
				present(s)
			}
			for _, b := range []**bool{
				&c.AttachStdin, &c.AttachStdout, &c.AttachStderr, &c.Tty, &c.OpenStdin, &c.StdinOnce,
			} {
				present(b)
			}
		})},
	}
}

// oldImageInspectChanges follow imageInspectChanges: they are about what left before 1.50.
func oldImageInspectChanges() []Change {
	return []Change{
		{From: "1.45", What: "no container that the image comes from", Do: imageInspect(func(r *image.InspectResponse) {
			r.Container, r.ContainerConfig = nil, nil
		})},
		{Below: "1.45", What: "the container that the image comes from", Do: imageInspect(func(r *image.InspectResponse) {
			if r.ContainerConfig == nil {
				r.ContainerConfig = &container.Config{OnBuild: new([]string)}
			}
		})},
		{From: "1.24", What: "Container is absent when empty", Do: imageInspect(func(r *image.InspectResponse) {
			absentIf(&r.Container, r.Container != nil && *r.Container == "")
		})},
		{Below: "1.24", What: "Container is always present", Do: imageInspect(func(r *image.InspectResponse) {
			present(&r.Container)
		})},
		{From: "1.44", What: "no VirtualSize", Do: imageInspect(func(r *image.InspectResponse) { r.VirtualSize = nil })},
		{Below: "1.44", What: "VirtualSize is Size", Do: imageInspect(func(r *image.InspectResponse) {
			r.VirtualSize = &r.Size
		})},
		{Below: "1.44", What: "an unknown time of creation is the zero time", Do: imageInspect(
			func(r *image.InspectResponse) {
				if r.Created == nil {
					zero := "0001-01-01T00:00:00Z"
					r.Created = &zero
				}
			})},
	}
}

// copyConfig makes the image's configuration r's own and returns it. An image without one keeps none; what is then
// written goes nowhere.
func copyConfig(r *image.InspectResponse) *image.Config {
	c := new(image.Config)
	if r.Config != nil {
		*c = *r.Config
		r.Config = c
	}
	return c
}

// present fills a field that is absent with its zero value.
func present[T any](p **T) {
	if *p == nil {
		*p = new(T)
	}
}

// absentIf takes a field away.
func absentIf[T any](p **T, yes bool) {
	if yes {
		*p = nil
	}
}
