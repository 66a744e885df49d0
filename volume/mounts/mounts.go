// Package mounts works out the mounts of a container from what a create request says of them in its many forms.
package mounts

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

// Mount is a mount point of a container that is being made, with what is needed once, to make its volume. For a volume,
// Name is empty if it is to be anonymous, and Driver is the one that was asked for.
type Mount struct {
	container.MountPoint
	Labels, Options map[string]string
	Copy            bool // the volume gets what the image has at the mount point
	Existing        bool // it is another container's: the volume has to be there
}

// Host is what a request is read against.
type Host struct {
	// DataRoot is the engine's own directory. What is mounted into a container from there has to follow the host's
	// mounts, or it would keep other containers' file systems busy.
	DataRoot string
	// Container finds a container that mounts are taken from.
	Container func(ref string) (*container.Record, error)
}

// Parse returns the mounts that a request asks for, by destination. Those of HostConfig.Tmpfs are not among them: they
// are only checked. What is wrong is an InvalidParameter with the sentence that clients know.
func Parse(req containertypes.CreateRequest, h Host) ([]*Mount, error) {
	hc := req.HostConfig
	p := parser{host: h, all: map[string]*Mount{}, tmpfs: map[string]bool{}}
	for _, dest := range slices.Sorted(maps.Keys(hc.Tmpfs)) {
		if err := checkTmpfs(dest, hc.Tmpfs[dest]); err != nil {
			return nil, err
		}
		p.tmpfs[path.Clean(dest)] = true
	}
	if err := p.takeOver(hc.VolumesFrom); err != nil {
		return nil, err
	}
	asked := map[string]bool{} // by Binds and Mounts: they go before mounts of other containers, not before each other
	add := func(m *Mount) error {
		if asked[m.Destination] || p.tmpfs[m.Destination] {
			return errdefs.InvalidParameterf("Duplicate mount point: %s", m.Destination)
		}
		asked[m.Destination] = true
		p.all[m.Destination] = m
		return p.followHost(m)
	}
	for _, bind := range hc.Binds {
		m, err := parseBind(bind, hc.VolumeDriver)
		if err != nil {
			return nil, err
		}
		m.ReadOnlyNonRecursive = req.ReadOnlyNonRecursive && m.Type == "bind"
		if err := add(m); err != nil {
			return nil, err
		}
	}
	for _, spec := range hc.Mounts {
		m, err := parseMount(spec, true)
		if err != nil {
			return nil, err
		}
		m.ReadOnlyNonRecursive = m.ReadOnlyNonRecursive || req.ReadOnlyNonRecursive && m.Type == "bind"
		if err := add(m); err != nil {
			return nil, err
		}
	}
	if err := p.declared(req.Config.Volumes, hc.VolumeDriver); err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(p.all), func(a, b *Mount) int {
		return cmp.Compare(a.Destination, b.Destination)
	}), nil
}

type parser struct {
	host  Host
	all   map[string]*Mount // by destination
	tmpfs map[string]bool   // destinations of HostConfig.Tmpfs
}

// takeOver adds the mounts of other containers: "container" or "container:mode". A tmpfs cannot be shared.
func (p *parser) takeOver(specs []string) error {
	for _, spec := range specs {
		if spec == "" {
			return errdefs.InvalidParameterf("volumes-from specification cannot be an empty string")
		}
		ref, text, _ := strings.Cut(spec, ":")
		mode, ok := parseMode(text)
		if !ok || mode.propagation != "" || mode.nocopy {
			return errdefs.InvalidParameterf("invalid mode: %s", text)
		}
		rec, err := p.host.Container(ref)
		if err != nil {
			return errdefs.InvalidParameter(err) // not NotFound: clients would pull the image
		}
		for dest, mp := range rec.MountPoints {
			if mp.Type == "tmpfs" || p.tmpfs[dest] {
				continue
			}
			m := &Mount{MountPoint: *mp, Existing: true}
			m.Mode, m.RW = "", mp.RW && !mode.readOnly
			p.all[dest] = m
		}
	}
	return nil
}

// declared adds anonymous volumes for those destinations of Config.Volumes that nothing is mounted at.
func (p *parser) declared(volumes map[string]struct{}, driver string) error {
	for spec := range volumes {
		dest := path.Join("/", spec)
		if err := checkDestination(dest); err != nil {
			return errdefs.InvalidParameterf("invalid volume specification: '%s': %w", spec, err)
		}
		if p.all[dest] != nil || p.tmpfs[dest] {
			continue
		}
		p.all[dest] = &Mount{Copy: true, MountPoint: container.MountPoint{
			Type: "volume", Destination: dest, Driver: driver, RW: true, Anonymous: true, Declared: true,
		}}
	}
	return nil
}

// followHost settles the propagation of a bind: that of something of the engine's own follows the mounts of the host.
func (p *parser) followHost(m *Mount) error {
	if m.Type != "bind" {
		return nil
	}
	own := within(m.Source, p.host.DataRoot) || within(p.host.DataRoot, m.Source)
	switch {
	case m.Propagation == "" && own:
		m.Propagation, m.PropagationByDefault = "rslave", true
	case m.Propagation == "":
		m.Propagation = "rprivate"
	case own && m.Propagation != "rslave" && m.Propagation != "rshared":
		return errdefs.InvalidParameterf("invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" "+
			"when mount source is within the daemon root, daemon root: %q, bind mount source: %q, propagation: %q",
			p.host.DataRoot, m.Source, m.Propagation)
	}
	return nil
}

func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
