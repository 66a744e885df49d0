package mounts

import (
	"path/filepath"
	"slices"
	"strings"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
)

var propagations = []string{"private", "rprivate", "slave", "rslave", "shared", "rshared"}

// mode is what stands behind the second colon of a bind.
type mode struct {
	readOnly, nocopy bool
	propagation      string
}

// parseMode reads words with commas between them, at most one of each kind.
func parseMode(s string) (m mode, ok bool) {
	if s == "" {
		return m, true
	}
	seen := map[string]bool{}
	for word := range strings.SplitSeq(s, ",") {
		kind := ""
		switch {
		case word == "ro", word == "rw":
			kind, m.readOnly = "access", word == "ro"
		case word == "z", word == "Z":
			kind = "label"
		case word == "nocopy":
			kind, m.nocopy = "copy", true
		case word == "consistent", word == "cached", word == "delegated":
			kind = "consistency"
		case slices.Contains(propagations, word):
			kind, m.propagation = "propagation", word
		default:
			return m, false
		}
		if seen[kind] {
			return m, false
		}
		seen[kind] = true
	}
	return m, true
}

// parseBind reads "[source:]destination[:mode]". A source that is no absolute path is the name of a volume; none asks
// for an anonymous one.
func parseBind(spec, driver string) (*Mount, error) {
	bad := func() error { return errdefs.InvalidParameterf("invalid volume specification: '%s'", spec) }
	parts := strings.Split(spec, ":")
	if parts[0] == "" || len(parts) > 3 {
		return nil, bad()
	}
	var source, target, text string
	switch len(parts) {
	case 1:
		target = parts[0]
	case 2:
		if _, ok := parseMode(parts[1]); ok { // /path:ro
			return nil, bad()
		}
		source, target = parts[0], parts[1]
	case 3:
		source, target, text = parts[0], parts[1], parts[2]
	}
	mode, ok := parseMode(text)
	if !ok {
		return nil, errdefs.InvalidParameterf("invalid mode: %s", text)
	}
	m := containertypes.Mount{Type: "volume", Source: source, Target: target, ReadOnly: mode.readOnly}
	if filepath.IsAbs(source) {
		m.Type, m.Source = "bind", filepath.Clean(source)
	}
	if mode.nocopy || driver != "" && m.Type == "volume" {
		m.VolumeOptions = &containertypes.VolumeOptions{
			NoCopy: mode.nocopy, DriverConfig: &containertypes.VolumeDriver{Name: driver},
		}
	}
	if mode.propagation != "" {
		m.BindOptions = &containertypes.BindOptions{Propagation: mode.propagation}
	}
	out, err := parseMount(m, false)
	if err != nil {
		return nil, errdefs.InvalidParameterf("invalid volume specification: '%s': %w", spec, err)
	}
	out.Mode, out.CreateSource = text, out.Type == "bind"
	return out, nil
}
