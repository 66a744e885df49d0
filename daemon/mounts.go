package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

// parseMounts works out the mounts of a container, by destination. Binds and tmpfs are built; volumes are not yet.
func parseMounts(req containertypes.CreateRequest) (map[string]*container.MountPoint, error) {
	cfg, hc := req.Config, req.HostConfig
	mps := map[string]*container.MountPoint{}
	add := func(mp *container.MountPoint) error {
		if mps[mp.Destination] != nil {
			return errdefs.InvalidParameterf("Duplicate mount point: %s", mp.Destination)
		}
		mps[mp.Destination] = mp
		return nil
	}
	for _, b := range hc.Binds {
		mp, err := parseBind(b)
		if err != nil {
			return nil, err
		}
		mp.ReadOnlyNonRecursive = req.ReadOnlyNonRecursive
		if err := add(mp); err != nil {
			return nil, err
		}
	}
	for _, m := range hc.Mounts {
		mp, err := parseMount(m)
		if err != nil {
			return nil, err
		}
		mp.ReadOnlyNonRecursive = mp.ReadOnlyNonRecursive || req.ReadOnlyNonRecursive && m.Type == "bind"
		if err := add(mp); err != nil {
			return nil, err
		}
	}
	for dest := range hc.Tmpfs {
		if err := checkDestination(dest); err != nil {
			return nil, err
		}
		if mps[filepath.Clean(dest)] != nil {
			return nil, errdefs.InvalidParameterf("Duplicate mount point: %s", dest)
		}
	}
	for dest := range cfg.Volumes {
		if _, tmpfs := hc.Tmpfs[dest]; mps[filepath.Clean(dest)] == nil && !tmpfs {
			return nil, errdefs.NotImplementedf("volumes are not built into Berth yet: mount a directory of the host, "+
				"or a tmpfs, at %s (-v /path:%s or --tmpfs %s)", dest, dest, dest)
		}
	}
	return mps, nil
}

var propagations = []string{"private", "rprivate", "slave", "rslave", "shared", "rshared"}

// parseBind reads source:destination[:mode,mode].
func parseBind(spec string) (*container.MountPoint, error) {
	bad := func() error { return errdefs.InvalidParameterf("invalid volume specification: '%s'", spec) }
	parts := strings.Split(spec, ":")
	if len(parts) > 3 || slices.Contains(parts[:min(len(parts), 2)], "") {
		return nil, bad()
	}
	if len(parts) == 1 || !filepath.IsAbs(parts[0]) {
		if len(parts) == 1 && !filepath.IsAbs(parts[0]) {
			return nil, errdefs.InvalidParameterf("invalid volume specification: '%s': invalid mount config for type \"volume\": "+
				"invalid mount path: '%s' mount path must be absolute", spec, parts[0])
		}
		return nil, errdefs.NotImplementedf("volumes are not built into Berth yet: give the path of a directory on the host instead of %q", parts[0])
	}
	mp := &container.MountPoint{
		Type: "bind", Source: filepath.Clean(parts[0]), Destination: filepath.Clean(parts[1]), RW: true,
		Propagation: "rprivate", CreateSource: true,
	}
	if err := checkDestination(parts[1]); err != nil {
		return nil, errdefs.InvalidParameterf("invalid volume specification: '%s': invalid mount config for type \"bind\": %w", spec, err)
	}
	if len(parts) == 3 {
		mp.Mode = parts[2]
		for _, o := range strings.Split(parts[2], ",") {
			switch {
			case o == "ro":
				mp.RW = false
			case slices.Contains(propagations, o):
				mp.Propagation = o
			case o == "rw", o == "z", o == "Z", o == "cached", o == "delegated", o == "consistent", o == "nocopy":
			default:
				return nil, errdefs.InvalidParameterf("invalid mode: %s", parts[2])
			}
		}
	}
	return mp, nil
}

func checkDestination(path string) error {
	if !filepath.IsAbs(path) {
		return errdefs.InvalidParameterf("invalid mount path: '%s' mount path must be absolute", path)
	}
	if filepath.Clean(path) == "/" {
		return errdefs.InvalidParameterf("invalid specification: destination can't be '/'")
	}
	return nil
}

// parseMount reads one entry of HostConfig.Mounts.
func parseMount(m containertypes.Mount) (*container.MountPoint, error) {
	bad := func(format string, a ...any) error {
		return errdefs.InvalidParameterf("invalid mount config for type %q: "+format, append([]any{m.Type}, a...)...)
	}
	if m.Target == "" {
		return nil, bad("field Target must not be empty")
	}
	if err := checkDestination(m.Target); err != nil {
		return nil, bad("%w", err)
	}
	mp := &container.MountPoint{Type: m.Type, Source: m.Source, Destination: filepath.Clean(m.Target), RW: !m.ReadOnly}
	switch m.Type {
	case "bind":
		return mp, fillBind(mp, m, bad)
	case "tmpfs":
		if m.Source != "" {
			return nil, bad("field Source must not be specified")
		}
		if m.BindOptions != nil {
			return nil, bad("field BindOptions must not be specified")
		}
		mp.Tmpfs = m.TmpfsOptions
		return mp, nil
	case "volume", "image", "npipe", "cluster":
		return nil, errdefs.NotImplementedf("mounts of type %s are not built into Berth yet: use a bind or a tmpfs", m.Type)
	}
	return nil, bad("mount type unknown")
}

func fillBind(mp *container.MountPoint, m containertypes.Mount, bad func(string, ...any) error) error {
	mp.Propagation = "rprivate"
	switch {
	case m.Source == "":
		return bad("field Source must not be empty")
	case m.VolumeOptions != nil:
		return bad("field VolumeOptions must not be specified")
	case m.TmpfsOptions != nil:
		return bad("field TmpfsOptions must not be specified")
	case !filepath.IsAbs(m.Source):
		return bad("invalid mount path: '%s' mount path must be absolute", m.Source)
	}
	mp.Source = filepath.Clean(m.Source)
	if o := m.BindOptions; o != nil {
		if o.Propagation != "" {
			if !slices.Contains(propagations, o.Propagation) {
				return bad("invalid propagation mode: %s", o.Propagation)
			}
			mp.Propagation = o.Propagation
		}
		mp.NonRecursive, mp.ReadOnlyNonRecursive, mp.CreateSource = o.NonRecursive, o.ReadOnlyNonRecursive, o.CreateMountpoint
	}
	if _, err := os.Stat(mp.Source); errors.Is(err, os.ErrNotExist) && !mp.CreateSource {
		return bad("bind source path does not exist: %s", m.Source)
	}
	return nil
}

// makeSources makes the directories that binds are missing. It is no undo's business to remove them: dockerd's users rely
// on finding them.
func makeSources(mps map[string]*container.MountPoint) error {
	for _, mp := range mps {
		if mp.Type != "bind" {
			continue
		}
		_, err := os.Stat(mp.Source)
		if errors.Is(err, os.ErrNotExist) && mp.CreateSource {
			err = os.MkdirAll(mp.Source, 0o755)
		}
		if errors.Is(err, os.ErrNotExist) {
			return errdefs.InvalidParameterf("invalid mount config for type \"bind\": bind source path does not exist: %s", mp.Source)
		}
		if err != nil {
			return errdefs.Systemf("error while creating mount source path '%s': %w", mp.Source, err)
		}
	}
	return nil
}
