package daemon

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/sys/signal"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/logger/drivers"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/oci"
)

// verify checks what a create request asks for, before anything is filled in, and returns what the user should know. The
// sentences are those that clients know from dockerd.
func (d *Daemon) verify(store *configStore, req containertypes.CreateRequest) (warnings []string, _ error) {
	warnings = []string{}
	if req.Name != "" {
		if err := container.CheckName(req.Name); err != nil {
			return nil, err
		}
	}
	if req.Platform != "" {
		if _, err := platforms.Parse(req.Platform); err != nil {
			return nil, errdefs.InvalidParameter(fmt.Errorf("invalid platform %q: %w", req.Platform, err))
		}
	}
	for _, check := range []func() error{
		func() error { return verifyConfig(req.Config) },
		func() error { return oci.CheckLimits(&req.HostConfig.Resources, false) },
		func() error { return verifySharing(req.Config, req.HostConfig) },
		func() error { return verifyRestart(req.HostConfig.RestartPolicy, req.HostConfig.AutoRemove) },
		func() error { return d.verifyHostConfig(store, req.HostConfig) },
		func() error { return verifyNetworks(req) },
		func() error { _, err := d.parseMounts(req); return err }, // again when the image's volumes are known
		func() error { return d.verifyLinks(req.HostConfig) },
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	if req.HostConfig.NetworkMode.IsHost() && len(req.HostConfig.PortBindings) > 0 {
		warnings = append(warnings, "Published ports are discarded when using host network mode")
	}
	limited, err := oci.FitLimits(&req.HostConfig.Resources, d.host.oci.CanLimit)
	return append(warnings, limited...), err
}

func verifyConfig(cfg *containertypes.Config) error {
	if cfg.WorkingDir != "" && !filepath.IsAbs(cfg.WorkingDir) {
		return errdefs.InvalidParameterf("the working directory '%s' is invalid, it needs to be an absolute path", cfg.WorkingDir)
	}
	if cfg.StopSignal != "" {
		if _, err := signal.ParseSignal(cfg.StopSignal); err != nil {
			return errdefs.InvalidParameter(err)
		}
	}
	for _, e := range cfg.Env {
		if e == "" || strings.HasPrefix(e, "=") {
			return errdefs.InvalidParameterf("invalid environment variable: %s", e)
		}
	}
	return errdefs.InvalidParameter(cfg.Healthcheck.Validate())
}

func verifyRestart(p containertypes.RestartPolicy, autoRemove bool) error {
	bad := errdefs.InvalidParameterf
	const prefix = "invalid restart policy: "
	switch p.Name {
	case "": // clients may leave any count beside it
	case "no", "always", "unless-stopped":
		if p.MaximumRetryCount != 0 {
			more := ""
			if p.MaximumRetryCount < 0 {
				more = " and cannot be negative"
			}
			return bad(prefix + "maximum retry count can only be used with 'on-failure'" + more)
		}
	case "on-failure":
		if p.MaximumRetryCount < 0 {
			return bad(prefix + "maximum retry count cannot be negative")
		}
	default:
		return bad(prefix+"unknown policy '%s'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'", p.Name)
	}
	if autoRemove && p.Name != "" && p.Name != "no" {
		return bad("can't create 'AutoRemove' container with restart policy")
	}
	return nil
}

func (d *Daemon) verifyHostConfig(store *configStore, hc *containertypes.HostConfig) error {
	if hc.Runtime != "" {
		if _, err := store.runtimes.Get(hc.Runtime); err != nil {
			return err
		}
	}
	log := mergedLog(store, hc.LogConfig)
	drv, err := drivers.Get(log.Type)
	if err != nil {
		return err
	}
	if err := drv.Validate(log.Config); err != nil {
		return errdefs.InvalidParameter(err)
	}
	if hc.ShmSize < 0 {
		return errdefs.InvalidParameterf("SHM size can not be less than 0")
	}
	if hc.OomScoreAdj < -1000 || hc.OomScoreAdj > 1000 {
		return errdefs.InvalidParameterf("Invalid value %d, range for oom score adj is [-1000, 1000]", hc.OomScoreAdj)
	}
	if err := oci.CheckCapabilities(hc, d.host.oci); err != nil {
		return err
	}
	if _, err := oci.ParseSecurityOptions(hc.SecurityOpt); err != nil {
		return err
	}
	if err := oci.CheckDeviceRules(hc.DeviceCgroupRules); err != nil {
		return err
	}
	if (hc.CPURealtimePeriod != 0 || hc.CPURealtimeRuntime != 0) && !d.host.oci.CanLimit.CPURealtime {
		return errdefs.InvalidParameterf("kernel does not support CPU real-time scheduler")
	}
	if hc.CgroupParent != "" && store.CgroupDriver() == "systemd" && !strings.HasSuffix(hc.CgroupParent, ".slice") {
		return errdefs.InvalidParameterf(`cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"`)
	}
	if len(hc.StorageOpt) > 0 {
		return errdefs.InvalidParameterf("--storage-opt is not supported: the layer of a container takes no options in Berth")
	}
	for _, r := range hc.DeviceRequests {
		return errdefs.InvalidParameterf("could not select device driver %q with capabilities: %v: Berth has no drivers of "+
			"devices (GPUs, CDI); name the device's files instead", r.Driver, r.Capabilities)
	}
	if _, empty := hc.Annotations[""]; empty {
		return errdefs.InvalidParameterf("invalid Annotation: the empty string is not permitted as an annotation key")
	}
	if err := verifyNames(hc); err != nil {
		return err
	}
	return verifyModes(hc)
}

// verifyNames checks what a container is told about names of others.
func verifyNames(hc *containertypes.HostConfig) error {
	for _, addr := range hc.DNS {
		if _, err := netip.ParseAddr(addr); err != nil {
			return errdefs.InvalidParameterf("invalid IP address: %s", addr)
		}
	}
	for _, h := range hc.ExtraHosts {
		name, addr, ok := strings.Cut(h, ":")
		if !ok || name == "" {
			return errdefs.InvalidParameterf("bad format for add-host: %q", h)
		}
		if _, err := netip.ParseAddr(strings.Trim(addr, "[]")); err != nil && addr != hostGateway {
			return errdefs.InvalidParameterf("invalid IP address in add-host: %q", addr)
		}
	}
	return nil
}

// verifyModes checks how the container is to share namespaces.
func verifyModes(hc *containertypes.HostConfig) error {
	const other = "container:"
	for _, m := range []struct {
		what, mode string
		valid      []string // beside the default
	}{
		{"PID mode", hc.PidMode, []string{"host", other}},
		{"IPC mode", hc.IpcMode, []string{"none", "private", "shareable", "host", other}},
		{"UTS mode", hc.UTSMode, []string{"host"}},
		{"userns mode", hc.UsernsMode, []string{"host"}},
		{"cgroup namespace mode", hc.CgroupnsMode, []string{"host", "private"}},
		{"isolation", hc.Isolation, []string{"default"}},
	} {
		mode := m.mode
		if ref, isOther := otherContainer(mode); isOther && ref != "" {
			mode = other
		}
		if mode != "" && !slices.Contains(m.valid, mode) {
			return errdefs.InvalidParameterf("invalid %s: %s", m.what, m.mode)
		}
	}
	return nil
}

// verifySharing refuses what a container cannot have of its own because it has that of the host or of another one.
func verifySharing(cfg *containertypes.Config, hc *containertypes.HostConfig) error {
	ref, joined := otherContainer(string(hc.NetworkMode))
	if joined && ref == "" {
		return errdefs.InvalidParameterf("invalid network mode: invalid container format container:<name|id>")
	}
	const undefined = "can't be used with links. This would result in undefined behavior"
	for _, c := range []struct {
		conflict bool
		what     string
	}{
		{hc.UTSMode == "host" && cfg.Hostname != "", "hostname and the UTS mode"},
		{hc.NetworkMode.IsHost() && len(hc.Links) > 0, "host type networking " + undefined},
		{joined && cfg.Hostname != "", "hostname and the network mode"},
		{joined && len(hc.Links) > 0, "container type network " + undefined},
		{joined && len(hc.DNS) > 0, "dns and the network mode"},
		{joined && len(hc.ExtraHosts) > 0, "custom host-to-IP mapping and the network mode"},
		{joined && (len(hc.PortBindings) > 0 || hc.PublishAllPorts), "port publishing and the container type network mode"},
		{joined && len(cfg.ExposedPorts) > 0, "port exposing and the container type network mode"},
	} {
		if c.conflict {
			return errdefs.InvalidParameterf("conflicting options: %s", c.what)
		}
	}
	return nil
}

// probes reports whether h asks for a command to be run, rather than for none or for what the image has.
func probes(h *containertypes.HealthConfig) bool {
	return h != nil && len(h.Test) > 0 && h.Test[0] != "NONE"
}
