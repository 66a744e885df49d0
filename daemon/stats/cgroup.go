// Package stats measures what containers use, by their cgroups and not by their shims, so that asking never waits for
// one.
package stats

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
)

// Read measures container id, whose main process is pid: all but the network, at this moment. A container whose process
// has ended is NotFound.
func Read(id string, pid int) (containertypes.StatsResponse, error) {
	h, err := readHost()
	if err != nil {
		return containertypes.StatsResponse{}, errdefs.System(err)
	}
	var s containertypes.StatsResponse
	if cgroups.Mode() == cgroups.Unified {
		g, err := unified(id, pid)
		if err != nil {
			return s, err
		}
		m, err := g.Stat()
		if err != nil {
			return s, errdefs.Systemf("read the cgroup of container %s: %w", id, err)
		}
		s = fromV2(m, h)
	} else {
		g, err := cgroup1.Load(hierarchies(id, pid))
		if err != nil {
			return s, gone(id, err)
		}
		m, err := g.Stat(cgroup1.IgnoreNotExist)
		if err != nil {
			return s, errdefs.Systemf("read the cgroups of container %s: %w", id, err)
		}
		s = fromV1(m, h)
	}
	s.Read = time.Now().UTC()
	return s, nil
}

// processes returns the ids of all processes of container id, whose main process is pid.
func processes(id string, pid int) (pids []int, _ error) {
	if cgroups.Mode() == cgroups.Unified {
		g, err := unified(id, pid)
		if err != nil {
			return nil, err
		}
		ps, err := g.Procs(true)
		for _, p := range ps {
			pids = append(pids, int(p))
		}
		return pids, err
	}
	g, err := cgroup1.Load(hierarchies(id, pid))
	if err != nil {
		return nil, gone(id, err)
	}
	ps, err := g.Processes(cgroup1.Devices, true)
	for _, p := range ps {
		pids = append(pids, p.Pid)
	}
	return pids, err
}

func gone(id string, err error) error {
	return errdefs.NotFound(fmt.Errorf("container %s has no cgroup any more: %w", id, err))
}

var errForeign = errors.New("its process has left it")

func unified(id string, pid int) (*cgroup2.Manager, error) {
	path, err := cgroup2.PidGroupPath(pid)
	if err != nil {
		return nil, gone(id, err)
	}
	own, ok := whole(path, id)
	if !ok {
		return nil, gone(id, errForeign)
	}
	return cgroup2.Load(own)
}

// hierarchies tells where the container is in each hierarchy of cgroup v1; where it is not, there is none for it.
func hierarchies(id string, pid int) cgroup1.Path {
	of := cgroup1.PidPath(pid)
	return func(name cgroup1.Name) (string, error) {
		path, err := of(name)
		if err != nil {
			return "", err
		}
		if own, ok := whole(path, id); ok {
			return own, nil
		}
		return "", cgroup1.ErrControllerNotActive
	}
}

// whole returns the path of the container's cgroup out of that of its process, which may be in one below. A process that
// has ended is in the root.
func whole(path, id string) (string, bool) {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if !strings.Contains(p, id) {
			continue
		}
		// crun limits a cgroup of its own in the scope that systemd made.
		if i+1 < len(parts) && parts[i+1] == "container" && strings.HasSuffix(p, ".scope") {
			i++
		}
		return strings.Join(parts[:i+1], "/"), true
	}
	return "", false
}
