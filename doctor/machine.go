package doctor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/daemon"
	"github.com/berthd/berth/daemon/config"
)

// kernel looks for what every container needs.
func (r *report) kernel() {
	var missing []string
	for _, ns := range []string{"ipc", "mnt", "net", "pid", "uts"} {
		if _, err := os.Stat("/proc/self/ns/" + ns); err != nil {
			missing = append(missing, ns+" namespaces")
		}
	}
	if fd, err := unix.PidfdOpen(os.Getpid(), 0); err != nil {
		missing = append(missing, "pidfd_open (Linux 5.3)")
	} else {
		unix.Close(fd)
	}
	status, _ := os.ReadFile("/proc/self/status") // without it there is no seccomp to be seen
	var uts unix.Utsname
	release := "unknown"
	if unix.Uname(&uts) == nil {
		release = unix.ByteSliceToString(uts.Release[:])
	}
	switch {
	case len(missing) > 0:
		r.add(Problem, "kernel", release+" lacks "+strings.Join(missing, ", "), "boot a kernel that has them: 5.3 or later")
	case !strings.Contains(string(status), "\nSeccomp:"):
		r.add(Warning, "kernel", release+" has no seccomp: containers may call the whole kernel",
			"boot a kernel with CONFIG_SECCOMP_FILTER")
	default:
		r.ok("kernel", "%s", release)
	}
}

// cgroups wants the controllers that limits of containers need.
func (r *report) cgroups(cfg config.Config) {
	const top = "/sys/fs/cgroup"
	wanted := []string{"cpu", "cpuset", "memory", "pids"}
	var have []string
	version := "v1"
	if b, err := os.ReadFile(top + "/cgroup.controllers"); err == nil {
		version, have = "v2", strings.Fields(string(b))
	} else {
		wanted = append(wanted, "devices", "freezer")
		for _, c := range wanted {
			if _, err := os.Stat(filepath.Join(top, c, "tasks")); err == nil {
				have = append(have, c)
			}
		}
	}
	var missing []string
	for _, c := range wanted {
		if !slices.Contains(have, c) {
			missing = append(missing, c)
		}
	}
	systemd := slices.Contains(cfg.ExecOpts, "native.cgroupdriver=systemd")
	_, err := os.Stat("/run/systemd/system")
	switch {
	case len(have) == 0:
		r.add(Problem, "cgroups", "no cgroup controllers are mounted at "+top, "mount cgroup2 there, as systemd does")
	case systemd && err != nil:
		r.add(Problem, "cgroups", "exec-opts name the cgroup driver of systemd, which does not run here",
			"take native.cgroupdriver=systemd out of exec-opts")
	case len(missing) > 0:
		r.add(Warning, "cgroups", version+" without "+strings.Join(missing, ", ")+": limits of these kinds are not held",
			"enable them at boot, such as with cgroup_enable=memory")
	default:
		r.ok("cgroups", "%s: %s", version, strings.Join(wanted, ", "))
	}
}

// runtimes runs each OCI runtime once, and looks for the init process.
func (r *report) runtimes(ctx context.Context, cfg config.Config) {
	paths := map[string]string{}
	for name, rt := range cfg.Runtimes {
		if rt.Path != "" {
			paths[name] = rt.Path
		}
	}
	paths[config.StockRuntime] = config.StockRuntime
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		level := Warning
		if name == cfg.DefaultRuntime || cfg.DefaultRuntime == "" && name == config.StockRuntime {
			level = Problem
		}
		path, err := exec.LookPath(paths[name])
		if err != nil {
			r.add(level, "runtime", fmt.Sprintf("%s: there is no program %s", name, paths[name]),
				"install it, or change runtimes and default-runtime in the configuration")
			continue
		}
		out, err := exec.CommandContext(ctx, path, "--version").Output()
		if err != nil {
			r.add(level, "runtime", fmt.Sprintf("%s: %s --version: %v", name, path, err),
				"see whether it can run on this machine")
			continue
		}
		first, _, _ := strings.Cut(string(out), "\n")
		r.ok("runtime", "%s: %s, %s", name, path, first)
	}
	if daemon.InitProgram(cfg.InitPath) == "" {
		r.add(Warning, "runtime", fmt.Sprintf("there is no %s: containers with --init cannot start",
			cmp.Or(cfg.InitPath, "docker-init or tini-static")),
			"install tini (Debian has it), or name an init process with init-path")
	}
}

// The least space that a data root should have.
const (
	leastSpace  = 1 << 30
	leastInodes = 10000
)

// storage tries whether the file system of the data root takes overlays, in a folder of its own.
func (r *report) storage(cfg config.Config) {
	dir := cfg.DataRoot
	for dir != "/" {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		r.add(Problem, "storage", fmt.Sprintf("%s: %v", dir, err), "choose another data-root")
		return
	}
	free := fs.Bavail * uint64(fs.Bsize)
	switch {
	case fs.Flags&unix.ST_RDONLY != 0:
		r.add(Problem, "storage", dir+" is mounted read-only", "choose another data-root, or mount it for writing")
		return
	case free < leastSpace:
		r.add(Warning, "storage", fmt.Sprintf("%s has %s left", dir, units.BytesSize(float64(free))),
			"make room, or choose another data-root")
	case fs.Files > 0 && fs.Ffree < leastInodes:
		r.add(Warning, "storage", fmt.Sprintf("%s has %d inodes left", dir, fs.Ffree),
			"remove small files, or choose another data-root")
	}
	trial, err := os.MkdirTemp(dir, "berth-doctor-")
	if err != nil {
		r.add(Problem, "storage", err.Error(), "choose a data-root that can be written to")
		return
	}
	defer os.RemoveAll(trial)
	err = overlayutils.Supported(trial)
	switch {
	case err != nil && cfg.StorageDriver != "" && cfg.StorageDriver != "native":
		r.add(Problem, "storage", fmt.Sprintf("%s cannot carry overlays: %v", dir, err),
			"set storage-driver to native, or put data-root on ext4, or xfs with ftype=1")
	case err != nil:
		r.add(Warning, "storage", fmt.Sprintf("%s cannot carry overlays, so every layer is copied: %v", dir, err),
			"put data-root on ext4, or xfs with ftype=1")
	default:
		r.ok("storage", "%s carries overlays and has %s left", dir, units.BytesSize(float64(free)))
	}
}

// leastFiles is how many files a daemon should be able to have open: each container, client and download takes some.
const leastFiles = 65536

func (r *report) limits() {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		r.add(Warning, "limits", err.Error(), "see getrlimit(2)")
		return
	}
	if files.Max < leastFiles {
		r.add(Warning, "limits", fmt.Sprintf("a process may open %d files", files.Max),
			"raise it where berthd is started from: LimitNOFILE=1048576 in its unit, or ulimit -n 1048576")
		return
	}
	r.ok("limits", "%d open files", files.Max)
}
