package mounts

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mount"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

// parseMount reads one entry of HostConfig.Mounts. exists says that the source of a bind has to exist.
func parseMount(m containertypes.Mount, exists bool) (*Mount, error) {
	out, err := fromSpec(m, exists)
	if err != nil {
		return nil, errdefs.InvalidParameterf("invalid mount config for type %q: %w", m.Type, err)
	}
	return out, err
}

func fromSpec(m containertypes.Mount, exists bool) (*Mount, error) {
	if m.Target == "" {
		return nil, errors.New("field Target must not be empty")
	}
	if err := checkDestination(m.Target); err != nil {
		return nil, err
	}
	out := &Mount{MountPoint: container.MountPoint{
		Type: m.Type, Source: m.Source, Destination: path.Clean(m.Target), RW: !m.ReadOnly,
	}}
	var err error
	switch m.Type {
	case "bind":
		err = fillBind(out, m, exists)
	case "volume":
		err = fillVolume(out, m)
	case "tmpfs":
		err = fillTmpfs(out, m)
	case "image":
		err = fillImage(out, m)
	default:
		err = errors.New("mount type unknown")
	}
	return out, err
}

func checkDestination(dest string) error {
	if !path.IsAbs(dest) {
		return fmt.Errorf("invalid mount path: '%s' mount path must be absolute", dest)
	}
	if path.Clean(dest) == "/" {
		return errors.New("invalid specification: destination can't be '/'")
	}
	return nil
}

// only refuses options that belong to another type of mount.
func only(m containertypes.Mount) error {
	for _, o := range []struct {
		set         bool
		typ, option string
	}{
		{m.BindOptions != nil, "bind", "BindOptions"},
		{m.VolumeOptions != nil, "volume", "VolumeOptions"},
		{m.TmpfsOptions != nil, "tmpfs", "TmpfsOptions"},
		{m.ImageOptions != nil, "image", "ImageOptions"},
		{m.ClusterOptions != nil, "cluster", "ClusterOptions"},
	} {
		if o.set && o.typ != m.Type {
			return fmt.Errorf("field %s must not be specified", o.option)
		}
	}
	return nil
}

func fillBind(out *Mount, m containertypes.Mount, exists bool) error {
	if m.Source == "" {
		return errors.New("field Source must not be empty")
	}
	if o := m.BindOptions; o != nil {
		if o.Propagation != "" && !slices.Contains(propagations, o.Propagation) {
			return fmt.Errorf("invalid propagation mode: %s", o.Propagation)
		}
		out.Propagation, out.NonRecursive = o.Propagation, o.NonRecursive
		out.ReadOnlyNonRecursive, out.CreateSource = o.ReadOnlyNonRecursive, o.CreateMountpoint
	}
	if err := only(m); err != nil {
		return err
	}
	if !filepath.IsAbs(m.Source) {
		return fmt.Errorf("invalid mount path: '%s' mount path must be absolute", m.Source)
	}
	out.Source = filepath.Clean(m.Source)
	if _, err := os.Stat(out.Source); errors.Is(err, os.ErrNotExist) && exists && !out.CreateSource {
		return fmt.Errorf("bind source path does not exist: %s", m.Source)
	}
	return nil
}

func fillVolume(out *Mount, m containertypes.Mount) error {
	if err := only(m); err != nil {
		return err
	}
	out.Name, out.Source, out.Anonymous, out.Copy = m.Source, "", m.Source == "", true
	if m.Source == "" && m.ReadOnly {
		return errors.New("must not set ReadOnly mode when using anonymous volumes")
	}
	o := m.VolumeOptions
	if o == nil {
		return nil
	}
	if o.Subpath != "" {
		if m.Source == "" {
			return errors.New("must not set Subpath when using anonymous volumes")
		}
		if !filepath.IsLocal(o.Subpath) {
			return errors.New("subpath must be a relative path within the volume")
		}
	}
	// What lies below a subpath is there already: nothing is copied to a place that has to exist.
	out.Subpath, out.Labels, out.Copy = o.Subpath, o.Labels, !o.NoCopy && o.Subpath == ""
	if o.DriverConfig != nil {
		out.Driver, out.Options = o.DriverConfig.Name, o.DriverConfig.Options
	}
	return nil
}

// fillImage is for what an image has: it is always read-only.
func fillImage(out *Mount, m containertypes.Mount) error {
	if m.Source == "" {
		return errors.New("field Source must not be empty")
	}
	if err := only(m); err != nil {
		return err
	}
	out.RW = false
	if o := m.ImageOptions; o != nil && o.Subpath != "" {
		if !filepath.IsLocal(o.Subpath) {
			return errors.New("subpath must be a relative path within the image")
		}
		out.Subpath = o.Subpath
	}
	return nil
}

func fillTmpfs(out *Mount, m containertypes.Mount) error {
	if err := only(m); err != nil {
		return err
	}
	if m.Source != "" {
		return errors.New("field Source must not be specified")
	}
	out.Tmpfs = m.TmpfsOptions
	if m.TmpfsOptions == nil {
		return nil
	}
	if m.TmpfsOptions.SizeBytes < 0 {
		return fmt.Errorf("invalid tmpfs size %d: it must not be negative", m.TmpfsOptions.SizeBytes)
	}
	var options []string
	for _, o := range m.TmpfsOptions.Options {
		options = append(options, strings.Join(o, "="))
	}
	_, err := mount.MergeTmpfsOptions(options)
	return err
}

// checkTmpfs checks an entry of HostConfig.Tmpfs.
func checkTmpfs(dest, options string) error {
	if err := checkDestination(dest); err != nil {
		return errdefs.InvalidParameter(err)
	}
	words := slices.DeleteFunc(strings.Split(options, ","), func(o string) bool { return o == "" })
	_, err := mount.MergeTmpfsOptions(words)
	return errdefs.InvalidParameter(err)
}
