package daemon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/network"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/image"
	"github.com/berthd/berth/internal/ids"
	"github.com/berthd/berth/internal/undo"
	"github.com/berthd/berth/oci"
)

// ContainerCreate makes a container out of an image, or finds the one that the same request made before. The request belongs
// to the daemon from now on.
func (d *Daemon) ContainerCreate(ctx context.Context, req containertypes.CreateRequest) (resp containertypes.CreateResponse, _ error) {
	id := ids.New()
	if req.Once != nil {
		if made, err := d.containers.Claim(ctx, *req.Once, id); err != nil {
			return resp, err
		} else if made != nil {
			return containertypes.CreateResponse{ID: made.ID, Warnings: slices.Clone(made.Once.Warnings)}, nil
		}
	}
	warnings, defaulted, err := d.prepareCreate(&req)
	if err != nil {
		d.containers.Unclaim(req.Once, id)
		return resp, err
	}
	err = d.run(ctx, func(ctx context.Context) error {
		warnings, err := d.create(ctx, id, req, defaulted, warnings)
		if err != nil {
			d.containers.Unclaim(req.Once, id)
			return err
		}
		resp = containertypes.CreateResponse{ID: id, Warnings: warnings}
		return nil
	})
	return resp, err
}

// prepareCreate checks a request and fills in what it leaves to the engine, which it tells.
func (d *Daemon) prepareCreate(req *containertypes.CreateRequest) (warnings []string, _ containertypes.Defaulted, _ error) {
	store := d.config.Load()
	if req.Config == nil {
		return nil, containertypes.Defaulted{}, errdefs.InvalidParameterf("config cannot be empty in order to create a container")
	}
	if req.HostConfig == nil {
		req.HostConfig, req.NoHostConfig = &containertypes.HostConfig{}, true
	}
	warnings, err := d.verify(store, *req)
	if err != nil {
		return nil, containertypes.Defaulted{}, err
	}
	if err := d.pinSharing(req.HostConfig); err != nil {
		return nil, containertypes.Defaulted{}, err
	}
	defaulted := leftOpen(req.HostConfig)
	defaulted.Runtime = req.NoHostConfig
	fillHostConfig(store, d.host, req.HostConfig)
	return warnings, defaulted, nil
}

// create takes lease, layer and name, in this order, and gives all back when a later step fails. It returns warnings with
// its own behind them.
func (d *Daemon) create(ctx context.Context, id string, req containertypes.CreateRequest, defaulted containertypes.Defaulted, warnings []string) (_ []string, err error) {
	var stack undo.Stack
	defer func() {
		if err != nil {
			err = stack.Run(ctx, err)
		}
	}()
	leased := d.layers.Leased(ctx, id)
	stack.Push("drop the lease", func(ctx context.Context) error { return d.layers.DropLease(ctx, id) })
	img, err := d.images.Resolve(leased, req.Config.Image)
	if err != nil {
		return nil, err
	}
	more, err := checkPlatform(req.Platform, img)
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, more...)
	if err := mergeImage(req.Config, img); err != nil {
		return nil, err
	}
	in, err := d.newIntent(id, req, img)
	if err != nil {
		return nil, err
	}
	in.Defaulted = defaulted
	if req.Once != nil {
		in.Once = &container.Once{Once: *req.Once, Warnings: warnings}
	}
	ms, err := d.parseMounts(req)
	if err != nil {
		return nil, err
	}
	if in.Name, err = d.reserveName(req.Name, id); err != nil {
		return nil, err
	}
	stack.Push("free the name", func(context.Context) error { d.containers.Unreserve(in.Name, id); return nil })
	if err := d.layers.Create(leased, id, in.Parent); err != nil {
		return nil, err
	}
	stack.Push("remove the layer", func(ctx context.Context) error { return d.layers.Release(ctx, id) })
	if err := d.takeVolumes(ctx, &in, ms, &stack); err != nil {
		return nil, err
	}
	if _, err := d.containers.Add(in, container.Event{Action: "create"}); err != nil {
		return nil, err
	}
	warn(ctx, "release the volumes of a new container", d.volumes.Release(ctx, id)) // its record refers to them now
	return warnings, nil
}

func (d *Daemon) newIntent(id string, req containertypes.CreateRequest, img *image.Image) (container.Intent, error) {
	cfg, hc := req.Config, req.HostConfig
	words := append(slices.Clone(cfg.Entrypoint), cfg.Cmd...)
	if len(words) == 0 || words[0] == "" {
		return container.Intent{}, errdefs.InvalidParameterf("no command specified")
	}
	if cfg.Hostname == "" {
		cfg.Hostname = ids.Short(id)
		if hc.NetworkMode.IsHost() {
			name, err := os.Hostname()
			if err != nil {
				return container.Intent{}, err
			}
			cfg.Hostname = name
		}
	}
	security, err := oci.ParseSecurityOptions(hc.SecurityOpt)
	if err != nil {
		return container.Intent{}, err
	}
	return container.Intent{
		AppArmorProfile: security.AppArmor, // until the first start, which knows the kernel
		ID:              id, Created: time.Now().UTC(), Path: words[0], Args: append([]string{}, words[1:]...),
		Config: cfg, HostConfig: hc,
		ImageID: img.ID, ImageManifest: img.Manifest, OS: img.OS, Driver: d.layers.Driver(), Parent: img.ChainID,
		Desired: container.Stopped,
		Network: network.Settings{Networks: endpoints(cfg, hc, req.NetworkingConfig)},
	}, nil
}

// reserveName takes the name that was asked for, or finds one. The result has a leading slash.
func (d *Daemon) reserveName(name, id string) (string, error) {
	if name != "" {
		if err := container.CheckName(name); err != nil {
			return "", err
		}
		name = "/" + trimName(name)
		return name, d.containers.Reserve(name, id)
	}
	for range 8 {
		name = "/" + container.RandomName()
		if d.containers.Reserve(name, id) == nil {
			return name, nil
		}
	}
	name = "/" + ids.Short(id)
	return name, d.containers.Reserve(name, id)
}

// mergeImage fills what the request leaves open with what the image says.
func mergeImage(cfg *containertypes.Config, img *image.Image) error {
	ic := img.Config
	if cfg.User == "" {
		cfg.User = ic.User
	}
	if len(ic.ExposedPorts) > 0 {
		ports, err := parsePorts(ic.ExposedPorts)
		if err != nil {
			return err
		}
		maps.Copy(ports, cfg.ExposedPorts)
		cfg.ExposedPorts = ports
	}
	if len(cfg.ExposedPorts) == 0 {
		cfg.ExposedPorts = nil
	}
	cfg.Env = mergeEnv(cfg.Env, ic.Env)
	cfg.Labels = mergeMaps(cfg.Labels, ic.Labels)
	if cfg.Labels == nil {
		cfg.Labels = map[string]string{}
	}
	if len(cfg.Entrypoint) == 0 {
		if len(cfg.Cmd) == 0 {
			cfg.Cmd = ic.Cmd
			//lint:ignore SA1019 images of old builders have it, and inspect shows it
			cfg.ArgsEscaped = ic.ArgsEscaped
		}
		if cfg.Entrypoint == nil {
			cfg.Entrypoint = ic.Entrypoint
		}
	}
	if len(cfg.Entrypoint) == 1 && cfg.Entrypoint[0] == "" { // how a client asks for none
		cfg.Entrypoint = nil
	}
	if cfg.WorkingDir == "" {
		cfg.WorkingDir = ic.WorkingDir
	}
	if cfg.Volumes = mergeMaps(cfg.Volumes, ic.Volumes); len(cfg.Volumes) == 0 {
		cfg.Volumes = nil
	}
	if cfg.StopSignal == "" {
		cfg.StopSignal = ic.StopSignal
	}
	cfg.Healthcheck = mergeHealth(cfg.Healthcheck, ic.Healthcheck)
	return nil
}

func mergeMaps[V any](mine, base map[string]V) map[string]V {
	if len(base) == 0 {
		return mine
	}
	all := maps.Clone(base)
	maps.Copy(all, mine)
	return all
}

// leftOpen tells what a client leaves to the engine: old versions show that as it was sent.
func leftOpen(hc *containertypes.HostConfig) containertypes.Defaulted {
	return containertypes.Defaulted{
		NetworkMode: hc.NetworkMode == "" || hc.NetworkMode == "default", RestartPolicy: hc.RestartPolicy.Name == "",
		PortBindings: hc.PortBindings == nil,
	}
}

// mergeEnv puts before mine those variables of the image that mine does not set. "NAME" alone unsets a variable later.
func mergeEnv(mine, base []string) []string {
	if len(mine) == 0 {
		return slices.Clone(base)
	}
	set := map[string]bool{}
	for _, e := range mine {
		name, _, _ := strings.Cut(e, "=")
		set[name] = true
	}
	var env []string
	for _, e := range base {
		if name, _, _ := strings.Cut(e, "="); !set[name] {
			env = append(env, e)
		}
	}
	return append(mine, env...)
}

func mergeHealth(mine, base *containertypes.HealthConfig) *containertypes.HealthConfig {
	if base == nil || mine == nil {
		if mine == nil {
			return base
		}
		return mine
	}
	h := *mine
	if len(h.Test) == 0 {
		h.Test = base.Test
	}
	h.Interval = cmp.Or(h.Interval, base.Interval)
	h.Timeout = cmp.Or(h.Timeout, base.Timeout)
	h.StartPeriod = cmp.Or(h.StartPeriod, base.StartPeriod)
	h.StartInterval = cmp.Or(h.StartInterval, base.StartInterval)
	h.Retries = cmp.Or(h.Retries, base.Retries)
	return &h
}

// checkPlatform compares the image with the platform that was asked for, else with this machine's.
func checkPlatform(want string, img *image.Image) (warnings []string, _ error) {
	have := img.OS + "/" + img.Architecture
	if want != "" {
		p, err := platforms.Parse(want)
		if err != nil {
			return nil, errdefs.InvalidParameter(err)
		}
		is := platforms.Normalize(ocispec.Platform{OS: img.OS, Architecture: img.Architecture, Variant: img.Variant})
		if !platforms.OnlyStrict(p).Match(is) {
			return nil, errdefs.NotFoundf("image with reference %s was found but does not provide the specified platform (%s)",
				img.Ref, platforms.Format(p))
		}
		return nil, nil
	}
	if host := "linux/" + hostArch; have != host {
		return []string{fmt.Sprintf("The requested image's platform (%s) does not match the detected host platform (%s) "+
			"and no specific platform was requested", have, host)}, nil
	}
	return nil, nil
}
