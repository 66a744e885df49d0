package task

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/log"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/priority"
	"github.com/berthd/berth/internal/step"
	"github.com/berthd/berth/libcontainerd/shim"
)

const (
	// patience is how long Reap waits for a shim that may be stopped.
	patience = 500 * time.Millisecond
	// pollInterval is how often Reap looks whether killed processes have gone.
	pollInterval = 5 * time.Millisecond
)

// Load reconnects to a container that an earlier daemon has created. ErrGone means that its shim has died: see Reap.
// Another errdefs.NotFound means that the shim does not have this container; it is for Reap as well. A shim that says
// nothing until ctx ends is not dead: the error is ctx's.
func (s *Service) Load(ctx context.Context, shimID, containerID string) (*Task, error) {
	c, err := s.conn(shimID)
	if err != nil {
		return nil, err
	}
	resp, err := call(ctx, c, api.Connect, &taskapi.ConnectRequest{ID: containerID})
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", containerID, err)
	}
	if resp.TaskPid == 0 {
		return nil, errdefs.NotFoundf("shim %s does not have container %s", shimID, containerID)
	}
	return newTask(s, shimID, c, containerID, int(resp.TaskPid)), nil
}

// ReapRequest tells what a shim has. Empty means that the shim's directory tells it.
type ReapRequest struct {
	ContainerID string
	Bundle      string
	Runtime     Runtime // as in the CreateRequest
}

// Reap ends a shim and its container for good, whatever state they are in: it may be dead, stopped, running, or have
// nothing, and Reap may have been cut off before. A container that has ended is deleted through its shim, so that
// attachers get the rest of its output; all others are killed, the shim first. Then nothing is left but the bundle, the
// mounts and the log.
func (s *Service) Reap(ctx context.Context, shimID string, r ReapRequest) error {
	dir, err := s.dir(shimID)
	if err != nil {
		return err
	}
	if r.ContainerID == "" {
		if r, err = readContainer(dir); err != nil {
			return err
		}
	}
	if r.Runtime.Root == "" {
		r.Runtime.Root = s.runtimeRoot()
	}
	if s.deleteEnded(ctx, shimID, r.ContainerID) {
		return nil
	}
	if err := killShim(ctx, dir); err != nil {
		return fmt.Errorf("kill shim %s: %w", shimID, err)
	}
	if r.Runtime.Shim != "" {
		if err := shim.KillForeign(ctx, r.Bundle); err != nil {
			return fmt.Errorf("kill the shim %s of container %s: %w", r.Runtime.Shim, r.ContainerID, err)
		}
	}
	if r.ContainerID != "" {
		cgErr := killCgroup(ctx, r.Bundle)
		step.Reached("killed what is in the cgroup")
		if err := deleteContainer(ctx, &r); err != nil {
			return fmt.Errorf("kill what is left of container %s: %w", r.ContainerID, errors.Join(err, cgErr))
		}
		if cgErr != nil {
			return fmt.Errorf("kill what is left of container %s: %w", r.ContainerID, cgErr)
		}
	}
	return s.forget(shimID)
}

// deleteEnded deletes a container that has ended by means of its shim, and reports whether that worked.
func (s *Service) deleteEnded(ctx context.Context, shimID, containerID string) bool {
	if containerID == "" {
		return false
	}
	quick, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t, err := s.Load(quick, shimID, containerID)
	if err != nil {
		return false
	}
	if st, err := t.Status(quick); err != nil || st != Stopped {
		return false
	}
	if err := t.Delete(ctx); err != nil {
		log.G(ctx).WithError(err).Warnf("container %s cannot be deleted the usual way", containerID)
		return false
	}
	return true
}

func readContainer(dir string) (r ReapRequest, err error) {
	b, err := os.ReadFile(filepath.Join(dir, containerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil // there was no Create
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, fmt.Errorf("find out which container a shim has: %w", err)
	}
	return r, nil
}

// killShim kills the shim, and the runtime commands that it runs, which are in its process group, and waits for its
// end.
func killShim(ctx context.Context, dir string) error {
	p, pid, err := find(dir)
	if err != nil || p == nil {
		return err
	}
	defer p.Close()
	if err := unix.Kill(-pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	select {
	case <-p.Gone():
		step.Reached("killed the shim")
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// deleteContainer has the runtime kill and forget a container. It is no error if the runtime does not know it.
func deleteContainer(ctx context.Context, r *ReapRequest) error {
	if r.Runtime.Shim != "" {
		return deleteForeign(ctx, r)
	}
	root := filepath.Join(r.Runtime.Root, shim.Namespace)
	args := []string{"--root", root}
	if r.Runtime.SystemdCgroup {
		args = append(args, "--systemd-cgroup")
	}
	bin := r.Runtime.Binary
	if bin == "" {
		bin = "runc"
	}
	cmd := exec.CommandContext(ctx, bin, append(args, "delete", "--force", r.ContainerID)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := priority.Ordinary(cmd.Run)
	step.Reached("had the runtime delete the container")
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	if _, serr := os.Stat(filepath.Join(root, r.ContainerID)); errors.Is(serr, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%s delete: %w: %s", bin, err, bytes.TrimSpace(out.Bytes()))
}

// deleteForeign has a shim of another kind forget a container. Without the bundle it has forgotten it.
func deleteForeign(ctx context.Context, r *ReapRequest) error {
	if _, err := os.Stat(r.Bundle); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return shim.DeleteForeign(ctx, shim.Foreign{Binary: r.Runtime.Shim, Container: r.ContainerID, Bundle: r.Bundle})
}

// killCgroup kills all processes in the container's cgroup and waits for their end: the runtime does not know all of
// them if it was killed while it created the container.
func killCgroup(ctx context.Context, bundle string) error {
	path, err := cgroupPath(bundle)
	if err != nil || path == "" {
		return err
	}
	for {
		n, err := killIn(path)
		if err != nil || n == 0 {
			return err
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// killIn kills what is in a cgroup, removes the cgroup if nothing is, and returns how many processes there were.
func killIn(path string) (int, error) {
	if cgroups.Mode() == cgroups.Unified {
		return killInV2(path)
	}
	cg, err := cgroup1.Load(cgroup1.StaticPath(path))
	if errors.Is(err, cgroup1.ErrCgroupDeleted) {
		return 0, removeUnified(path)
	}
	if err != nil {
		return 0, err
	}
	pids := map[int]bool{}
	for _, sub := range cg.Subsystems() {
		procs, err := cg.Processes(sub.Name(), true)
		if err != nil && !cgroupGone(err) {
			return 0, err
		}
		for _, p := range procs {
			pids[p.Pid] = true
			_ = unix.Kill(p.Pid, unix.SIGKILL)
		}
	}
	if len(pids) == 0 {
		return 0, errors.Join(cg.Delete(), removeUnified(path))
	}
	// A frozen process dies when it is thawed.
	err = cg.Thaw()
	if errors.Is(err, cgroup1.ErrFreezerNotSupported) || cgroupGone(err) {
		err = nil
	}
	return len(pids), err
}

// removeUnified removes the empty cgroup that runtimes make in a v2 hierarchy beside those of v1: they leave it when
// they are killed at the end of their delete.
func removeUnified(path string) error {
	err := os.Remove(filepath.Join("/sys/fs/cgroup/unified", path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func killInV2(path string) (int, error) {
	cg, err := cgroup2.Load(path)
	if err != nil {
		return 0, err
	}
	pids, err := cg.Procs(true)
	switch {
	case err != nil:
	case len(pids) == 0:
		err = cg.Delete()
	default:
		err = cg.Kill()
	}
	if cgroupGone(err) {
		return 0, nil
	}
	return len(pids), err
}

// cgroupGone tells whether an error is that a runtime or systemd has removed the cgroup meanwhile. Who has one of its
// files open already gets ENODEV.
func cgroupGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

// cgroupPath returns the cgroup of a bundle's container below the cgroup file system; empty if there is none to know
// of.
func cgroupPath(bundle string) (string, error) {
	b, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var spec specs.Spec
	if err := json.Unmarshal(b, &spec); err != nil {
		return "", fmt.Errorf("read the bundle: %w", err)
	}
	if spec.Linux == nil {
		return "", nil
	}
	path := spec.Linux.CgroupsPath
	// With systemd it is slice:prefix:name.
	if part := strings.Split(path, ":"); len(part) == 3 {
		return filepath.Join("/", slicePath(part[0]), part[1]+"-"+part[2]+".scope"), nil
	}
	if !filepath.IsAbs(path) {
		return "", nil // below the runtime's own cgroup; the runtime has to find it
	}
	return path, nil
}

// slicePath is where systemd puts a slice: a-b.slice is in a.slice.
func slicePath(slice string) string {
	if slice == "" {
		slice = "system.slice"
	}
	name := strings.TrimSuffix(slice, ".slice")
	if name == "-" {
		return ""
	}
	path, prefix := "", ""
	for _, part := range strings.Split(name, "-") {
		prefix += part
		path = filepath.Join(path, prefix+".slice")
		prefix += "-"
	}
	return path
}
