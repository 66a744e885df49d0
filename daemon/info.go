package daemon

import (
	"bufio"
	"cmp"
	"context"
	"io"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/api/types/events"
	"github.com/berthd/berth/api/types/system"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/config"
	ring "github.com/berthd/berth/daemon/events"
	"github.com/berthd/berth/daemon/logger/drivers"
	"github.com/berthd/berth/daemon/runtimes"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/libnetwork"
)

// SystemPing tells what the headers of _ping say.
func (d *Daemon) SystemPing() system.Ping { return system.Ping{BuilderVersion: "1", Swarm: "inactive"} }

// SystemVersion tells what this engine is.
func (d *Daemon) SystemVersion(context.Context) (*system.Version, error) {
	kernel, err := kernelVersion()
	if err != nil {
		return nil, err
	}
	cfg := d.Config()
	v := &system.Version{
		Platform: system.Platform{Name: "Berth"},
		Version:  d.host.version, APIVersion: versions.Max, MinAPIVersion: cfg.MinAPIVersion, GitCommit: d.host.commit,
		GoVersion: runtime.Version(), OS: "linux", Arch: hostArch, KernelVersion: kernel, Experimental: cfg.Experimental, BuildTime: d.host.built,
	}
	v.Components = append([]system.Component{{Name: "Engine", Version: v.Version, Details: map[string]string{
		"BuildTime": v.BuildTime, "ApiVersion": v.APIVersion, "MinAPIVersion": v.MinAPIVersion, "GitCommit": v.GitCommit, "GoVersion": v.GoVersion,
		"Os": v.OS, "Arch": v.Arch, "KernelVersion": v.KernelVersion, "Experimental": strconv.FormatBool(v.Experimental),
	}}}, d.components(d.config.Load())...)
	return v, nil
}

// components are what the engine is made of beside itself: containerd, the default runtime, the init process. It shows what
// was found out at the start or at the last reload.
func (d *Daemon) components(store *configStore) (all []system.Component) {
	version, revision := d.storage.Version()
	for _, c := range []struct {
		name string
		runtimes.Version
	}{
		{"containerd", runtimes.Version{Version: version, Commit: revision}},
		{store.runtimes.Default(), store.runtimes.Version()},
		{"docker-init", store.init},
	} {
		all = append(all, system.Component{
			Name: c.name, Version: c.Version.Version, Details: map[string]string{"GitCommit": c.Commit},
		})
	}
	return all
}

func kernelVersion() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", errors.Wrap(err, "ask the kernel for its version")
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// SystemInfo tells about this engine and the machine.
func (d *Daemon) SystemInfo(ctx context.Context) (*system.Info, error) {
	store := d.config.Load()
	kernel, err := kernelVersion()
	if err != nil {
		return nil, err
	}
	images, err := d.images.Count(ctx)
	if err != nil {
		return nil, err
	}
	no, can := false, d.host.oci.CanLimit
	_, containerd := d.storage.Version()
	proxies := store.Masked().Proxies
	i := &system.Info{
		ID: d.host.id, Name: d.host.name, Images: images, Driver: d.layers.Driver(), DriverStatus: [][2]string{
			{"driver-type", "io.containerd.snapshotter.v1"},
		},
		Plugins:     system.Plugins{Volume: []string{"local"}, Network: libnetwork.Drivers(), Log: logDrivers()},
		MemoryLimit: can.Memory, SwapLimit: can.Swap, KernelMemory: &no, CPUCfsPeriod: can.CPUQuota, CPUCfsQuota: can.CPUQuota,
		CPUShares: can.CPUShares, CPUSet: can.Cpuset, PidsLimit: can.Pids,
		IPv4Forwarding:   readFlag("/proc/sys/net/ipv4/ip_forward"),
		BridgeNfIptables: &no, BridgeNfIP6tables: &no, OomKillDisable: can.OOMKillDisable,
		Debug: store.Debug || store.LogLevel == "debug", NFd: openFiles(), NGoroutines: runtime.NumGoroutine(),
		SystemTime: time.Now().Format(time.RFC3339Nano), LoggingDriver: store.LogDriver,
		CgroupDriver: store.CgroupDriver(), CgroupVersion: "1", KernelVersion: kernel, OSType: "linux",
		Architecture: machine(), IndexServerAddress: "https://index.docker.io/v1/", NCPU: hostCPUs, MemTotal: totalMemory(),
		RegistryConfig: registryConfig(&store.Config),
		HTTPProxy:      proxies.HTTP, HTTPSProxy: proxies.HTTPS, NoProxy: proxies.No,
		DockerRootDir: store.DataRoot, Labels: append([]string{}, store.Labels...), ExperimentalBuild: store.Experimental,
		ServerVersion: d.host.version, Runtimes: d.infoRuntimes(store), DefaultRuntime: store.DefaultRuntime,
		FirewallBackend: &system.Firewall{Driver: "nftables"},
		Swarm:           system.Swarm{LocalNodeState: "inactive"}, LiveRestoreEnabled: store.LiveRestore, InitBinary: cmp.Or(store.InitPath, "docker-init"),
		ContainerdCommit: system.Commit{ID: containerd}, RuncCommit: system.Commit{ID: store.runtimes.Version().Commit},
		InitCommit:      system.Commit{ID: store.init.Commit},
		SecurityOptions: d.securityOptions(store), CDISpecDirs: &[]string{},
		Containerd: &system.Containerd{Address: store.Containerd, Namespaces: system.Namespaces{Containers: "berth"}},
	}
	if can.CgroupV2 {
		i.CgroupVersion = "2"
	}
	i.OperatingSystem, i.OSVersion = osRelease()
	d.countContainers(i)
	return i, nil
}

// logDrivers are those that clients are told of: none is always there.
func logDrivers() []string {
	return slices.DeleteFunc(drivers.Names(), func(name string) bool { return name == "none" })
}

func (d *Daemon) countContainers(i *system.Info) {
	recs, _ := d.containers.List()
	for _, rec := range recs {
		i.Containers++
		switch rec.State.Word() {
		case container.WordPaused:
			i.ContainersPaused++
		case container.WordRunning, container.WordRestarting:
			i.ContainersRunning++
		default:
			i.ContainersStopped++
		}
	}
}

func (d *Daemon) infoRuntimes(store *configStore) map[string]system.Runtime {
	m := map[string]system.Runtime{}
	for _, name := range store.runtimes.Names() {
		r := system.Runtime{}
		if c, configured := store.Runtimes[name]; configured {
			r.Path, r.Args = c.Path, append([]string(nil), c.Args...)
		} else if rt, err := store.runtimes.Get(name); err == nil {
			r.Path = rt.Path
		}
		if f := store.runtimes.Features(name); f != "" {
			r.Status = map[string]string{"org.opencontainers.runtime-spec.features": f}
		}
		m[name] = r
	}
	return m
}

func (d *Daemon) securityOptions(store *configStore) []string {
	opts := []string{}
	if d.host.oci.AppArmor {
		opts = append(opts, "name=apparmor")
	}
	if d.host.oci.Seccomp {
		opts = append(opts, "name=seccomp,profile="+store.SeccompProfile)
	}
	if d.host.oci.CanLimit.CgroupV2 {
		opts = append(opts, "name=cgroupns")
	}
	if store.NoNewPrivileges {
		opts = append(opts, "name=no-new-privileges")
	}
	return opts
}

func readFlag(path string) bool {
	b, err := os.ReadFile(path)
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

func machine() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return hostArch
	}
	return unix.ByteSliceToString(u.Machine[:])
}

func totalMemory() int64 {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return 0
	}
	return int64(si.Totalram) * int64(si.Unit)
}

// osRelease returns the name and version of the distribution; empty when they are unknown.
func osRelease() (name, version string) {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return "", ""
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		k, v, _ := strings.Cut(sc.Text(), "=")
		switch v = strings.Trim(v, `"'`); k {
		case "PRETTY_NAME":
			name = v
		case "VERSION_ID":
			version = v
		}
	}
	return name, version
}

// SystemEvents gives send the events that are wanted, first those that have happened and are still known, until ctx ends or
// the time that was asked for. Before the first it calls begin: no event behind that revision is left out without a gap
// event.
func (d *Daemon) SystemEvents(ctx context.Context, o events.Options, begin func(revision uint64) error, send func(events.Message) error) error {
	now, err := d.reached(o.After)
	if err != nil {
		return err
	}
	if o.After == 0 && o.Since.IsZero() && o.Until.IsZero() {
		o.After = now
	}
	d.events.Subscribers.Add(1)
	defer d.events.Subscribers.Add(-1)
	cursor := d.events.Subscribe(ring.Options{After: o.After, Since: o.Since, Until: o.Until, Filters: o.Filters})
	if err := begin(cmp.Or(o.After, now)); err != nil {
		return err
	}
	for {
		m, err := cursor.Next(ctx)
		switch {
		case errors.Is(err, io.EOF), ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if err := send(events.Message{
			Type: string(m.Type), Action: string(m.Action), Actor: events.Actor{ID: m.Actor.ID, Attributes: m.Actor.Attributes},
			Scope: m.Scope, Time: m.Time, TimeNano: m.TimeNano, Revision: m.Revision,
		}); err != nil {
			return err
		}
	}
}

// reached returns the engine's revision. That a client names a later one is an error: it is of another engine.
func (d *Daemon) reached(after uint64) (uint64, error) {
	now := d.containers.Revision()
	if after > now {
		return 0, errdefs.InvalidParameterf("revision %d has not been reached: this engine is at %d; list again, and go on from there",
			after, now)
	}
	return now, nil
}

// registryConfig shows how registries are spoken to. The loopback is always insecure.
func registryConfig(cfg *config.Config) *system.RegistryConfig {
	none, mirrors := []string{}, append([]string{}, cfg.RegistryMirrors...)
	r := &system.RegistryConfig{
		AllowNondistributableArtifactsCIDRs: &none, AllowNondistributableArtifactsHostnames: &none,
		InsecureRegistryCIDRs: []string{"::1/128", "127.0.0.0/8"}, Mirrors: mirrors,
		IndexConfigs: map[string]system.IndexConfig{
			"docker.io": {Name: "docker.io", Mirrors: mirrors, Secure: true, Official: true},
		},
	}
	for _, host := range cfg.InsecureRegistries {
		if _, err := netip.ParsePrefix(host); err == nil {
			r.InsecureRegistryCIDRs = append(r.InsecureRegistryCIDRs, host)
		} else {
			r.IndexConfigs[host] = system.IndexConfig{Name: host, Mirrors: []string{}}
		}
	}
	return r
}
