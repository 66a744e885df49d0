package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/containerd/log"

	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/daemon/runtimes"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/files"
	"github.com/berthd/berth/internal/ids"
	"github.com/berthd/berth/oci"
)

var (
	hostCPUs = runtime.NumCPU()
	hostArch = runtime.GOARCH
)

// host is what an engine finds out once about itself and the machine.
type host struct {
	id                     string // of the engine, for the life of its data-root
	name                   string
	bootID                 string
	version, commit, built string
	oci                    oci.Host
}

func detectHost(cfg config.Config, o Options) (h host, err error) {
	h.version, h.commit, h.built = o.Version, o.Commit, o.BuildTime
	if h.id, err = engineID(filepath.Join(cfg.DataRoot, "engine-id")); err != nil {
		return h, err
	}
	if h.name, err = os.Hostname(); err != nil {
		return h, err
	}
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return h, err
	}
	h.bootID = strings.TrimSpace(string(b))
	if h.oci, err = oci.DetectHost(); err != nil {
		return h, fmt.Errorf("find out about this machine: %w", err)
	}
	if h.oci.AppArmor {
		if h.oci.AppArmorProfile, err = oci.LoadAppArmor(); err != nil {
			log.L.WithError(err).Errorf("only containers with a security option for AppArmor can start")
		}
	}
	return h, nil
}

// checkDataRoot refuses the directory of another engine: its containers would look damaged.
func checkDataRoot(root string) error {
	path := filepath.Join(root, "engine-id")
	id, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) { // dockerd before 23 keeps its id elsewhere
		path = filepath.Join(root, "image")
		_, err = os.Stat(path)
	}
	if err == nil && len(id) != 64 {
		return &config.KeyError{Key: "data-root", Err: errdefs.InvalidParameterf("%s is not Berth's: "+
			"the data-root belongs to another engine, such as dockerd; give Berth one of its own", path)}
	}
	return nil
}

// engineID reads the engine's id, or makes one.
func engineID(path string) (string, error) {
	b, err := os.ReadFile(path)
	if !errors.Is(err, os.ErrNotExist) {
		return string(b), err
	}
	if err := files.Sweep(filepath.Dir(path)); err != nil {
		return "", err
	}
	id := ids.New()
	return id, files.Write(path, []byte(id), 0o600, files.Durable)
}

// InitProgram finds the init process on the host, by the configuration's key init-path; empty: there is none. Its usual names
// are those of Debian's docker.io and tini. Both are linked statically, or they would not run in an image.
func InitProgram(configured string) string {
	for _, name := range []string{cmp.Or(configured, "docker-init"), cmp.Or(configured, "tini-static")} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// initVersion asks the init process, if there is one.
func initVersion(ctx context.Context, configured string) runtimes.Version {
	path := InitProgram(configured)
	if path == "" {
		return runtimes.Unknown
	}
	return runtimes.AskVersion(ctx, path)
}

// ociHost is what specs depend on, under a configuration.
func (d *Daemon) ociHost(cfg *config.Config) (oci.Host, error) {
	h := d.host.oci
	h.SystemdCgroup, h.CgroupParent = cfg.CgroupDriver() == "systemd", cfg.CgroupParent
	h.NoNewPrivileges, h.Ulimits = cfg.NoNewPrivileges, cfg.DefaultUlimits
	h.SeccompProfile = cfg.SeccompProfile
	h.Init, h.InitPath = cfg.Init, InitProgram(cfg.InitPath)
	if filepath.IsAbs(cfg.SeccompProfile) {
		b, err := os.ReadFile(cfg.SeccompProfile)
		if err != nil {
			return h, errdefs.Systemf("read the seccomp profile that the configuration names: %w", err)
		}
		h.SeccompProfile = string(b)
	}
	return h, nil
}
