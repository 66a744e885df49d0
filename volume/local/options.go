// Package local is the volume driver "local": a volume is a directory of this machine, or a file system that is mounted
// over it while a container runs.
package local

import (
	"maps"
	"regexp"
	"slices"

	units "github.com/docker/go-units"

	"github.com/berthd/berth/errdefs"
)

// Name is what the driver is called.
const Name = "local"

const (
	nameChars = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
	maxName   = 240 // bytes: names of files are made of it
)

var reName = regexp.MustCompile("^" + nameChars + "+$")

// CheckName tells whether a volume can be called so; if not, the error says why.
func CheckName(name string) error {
	switch {
	case len(name) == 1:
		return errdefs.InvalidParameterf("volume name is too short, names should be at least two alphanumeric characters")
	case len(name) > maxName:
		return errdefs.InvalidParameterf("volume name is too long, names should be at most %d characters", maxName)
	case !reName.MatchString(name):
		return errdefs.InvalidParameterf("%q includes invalid characters for a local volume name, only %q are allowed. "+
			"If you intended to pass a host directory, use absolute path", name, nameChars)
	}
	return nil
}

// CheckOptions tells whether options are those of a mount: type and device, and o if it has any.
func CheckOptions(options map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		switch key {
		case "type", "device", "o":
		case "size":
			if _, err := units.RAMInBytes(options[key]); err != nil {
				return errdefs.InvalidParameterf("invalid size: '%s'", options[key])
			}
			return errdefs.InvalidParameterf("quota size requested but no quota support")
		default:
			return errdefs.InvalidParameterf("invalid option: %q", key)
		}
	}
	if len(options) == 0 {
		return nil
	}
	for _, key := range []string{"device", "type"} {
		if _, ok := options[key]; !ok {
			return errdefs.InvalidParameterf("missing required option: %q", key)
		}
	}
	return nil
}
