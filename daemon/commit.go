package daemon

import (
	"cmp"
	"context"
	"strings"

	containertypes "github.com/berthd/berth/api/types/container"
	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/image"
)

// ContainerCommit makes an image of a container and returns its id. What cfg leaves out is taken from the container;
// cfg may be nil.
func (d *Daemon) ContainerCommit(
	ctx context.Context, name string, cfg *containertypes.Config, o imagetypes.CommitOptions,
) (id string, _ error) {
	c, err := d.containers.Get(name)
	if err != nil {
		return "", err
	}
	if err := canCommit(c.Snapshot()); err != nil {
		return "", err
	}
	err = d.operate(ctx, c, func(ctx context.Context) error {
		rec := c.Snapshot()
		if err := canCommit(rec); err != nil {
			return err
		}
		commit := func() (err error) {
			command := strings.Join(append([]string{rec.Path}, rec.Args...), " ")
			id, err = d.images.Commit(ctx, rec.ID, *rec.ImageManifest, commitConfig(rec.Config, cfg), command, o)
			return err
		}
		if o.Pause && rec.State.Live() && !rec.State.Paused {
			return d.whileFrozen(ctx, c, commit)
		}
		return commit()
	})
	if err != nil {
		return "", err
	}
	d.containers.Tell(c, container.Event{Action: "commit", Attributes: map[string]string{
		"comment": o.Comment, "imageID": id, "imageRef": o.Ref,
	}})
	return id, nil
}

func canCommit(rec *container.Record) error {
	switch {
	case rec.State.Dead:
		return errdefs.Conflictf("You cannot commit container %s which is Dead", rec.ID)
	case rec.Removed, rec.State.RemovalInProgress:
		return errdefs.Conflictf("You cannot commit container %s which is being removed", rec.ID)
	case rec.ImageManifest == nil:
		return errdefs.Conflictf("container %s cannot be committed: the image that it was made of is not known", rec.ID)
	}
	return nil
}

// commitConfig is what an image presets that is made of a container with the configuration own, where cfg says nothing
// else.
func commitConfig(own, cfg *containertypes.Config) image.Config {
	if cfg == nil {
		cfg = &containertypes.Config{}
	}
	var c image.Config
	c.User, c.WorkingDir = cmp.Or(cfg.User, own.User), cmp.Or(cfg.WorkingDir, own.WorkingDir)
	c.StopSignal = cmp.Or(cfg.StopSignal, own.StopSignal)
	c.Env = mergeEnv(cfg.Env, own.Env)
	c.Entrypoint, c.Cmd, c.Shell = own.Entrypoint, own.Cmd, own.Shell
	if len(cfg.Entrypoint) > 0 {
		c.Entrypoint, c.Cmd = cfg.Entrypoint, cfg.Cmd
	} else if len(cfg.Cmd) > 0 {
		c.Cmd = cfg.Cmd
	}
	if len(cfg.Shell) > 0 {
		c.Shell = cfg.Shell
	}
	c.Healthcheck = mergeHealth(cfg.Healthcheck, own.Healthcheck)
	c.Labels = mergeMaps(cfg.Labels, own.Labels)
	c.Volumes = mergeMaps(cfg.Volumes, own.Volumes)
	for _, ports := range []map[string]struct{}{portNames(own), portNames(cfg)} {
		c.ExposedPorts = mergeMaps(ports, c.ExposedPorts)
	}
	if cfg.OnBuild != nil {
		c.OnBuild = *cfg.OnBuild
	}
	return c
}

func portNames(cfg *containertypes.Config) map[string]struct{} {
	names := make(map[string]struct{}, len(cfg.ExposedPorts))
	for p := range cfg.ExposedPorts {
		names[string(p)] = struct{}{}
	}
	return names
}
