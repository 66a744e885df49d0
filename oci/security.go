package oci

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/profiles/apparmor"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
)

// The seccomp profiles that have a name. Any other is given as JSON.
const (
	seccompBuiltin = "builtin"
	unconfined     = "unconfined"
)

// SecurityOptions are what HostConfig.SecurityOpt asks for.
type SecurityOptions struct {
	NoNewPrivileges *bool  // nil: as configured
	AppArmor        string // name of a profile, or "unconfined"; empty: the default
	Seccomp         string // "builtin", "unconfined", or a profile as JSON; empty: the default
	WritableCgroups bool   // the container may write below /sys/fs/cgroup
}

// ParseSecurityOptions reads HostConfig.SecurityOpt: key=value, or key:value as older clients write it. An option that
// cannot be understood is InvalidParameter. SELinux labels are accepted and have no effect.
func ParseSecurityOptions(opts []string) (SecurityOptions, error) {
	var so SecurityOptions
	for _, opt := range opts {
		if err := so.parse(opt); err != nil {
			return SecurityOptions{}, err
		}
	}
	return so, nil
}

func (so *SecurityOptions) parse(opt string) error {
	switch opt {
	case "no-new-privileges":
		opt = "no-new-privileges=true"
	case "disable": // of old, for label=disable
		return nil
	}
	key, value, ok := strings.Cut(opt, "=")
	if !ok {
		key, value, ok = strings.Cut(opt, ":")
	}
	if !ok {
		return errdefs.InvalidParameterf("invalid --security-opt 1: %q", opt)
	}
	switch key {
	case "label":
	case "apparmor":
		so.AppArmor = value
	case "seccomp":
		so.Seccomp = value
	case "no-new-privileges", "writable-cgroups":
		on, err := strconv.ParseBool(value)
		if err != nil {
			return errdefs.InvalidParameterf("invalid --security-opt 2: %q", opt)
		}
		if key == "writable-cgroups" {
			so.WritableCgroups = on
		} else {
			so.NoNewPrivileges = &on
		}
	default:
		return errdefs.InvalidParameterf("invalid --security-opt 2: %q", opt)
	}
	return nil
}

// LoadAppArmor loads the profile that confines containers by default, and returns its name. It is loaded anew by every
// engine of this machine.
func LoadAppArmor() (name string, _ error) {
	name = "berth-default"
	return name, errdefs.System(apparmor.InstallDefault(name))
}

// AppArmorProfile returns the profile of a container; empty when the kernel has no AppArmor.
func AppArmorProfile(hc *containertypes.HostConfig, h Host) (string, error) {
	so, err := ParseSecurityOptions(hc.SecurityOpt)
	return appArmorProfile(so, hc.Privileged, h), err
}

// appArmorProfile returns the profile of a process; empty when the kernel has no AppArmor.
func appArmorProfile(so SecurityOptions, privileged bool, h Host) string {
	switch {
	case !h.AppArmor:
		return ""
	case so.AppArmor != "":
		return so.AppArmor
	case privileged:
		return unconfined
	}
	return h.AppArmorProfile
}

// CheckSeccomp tells what is wrong with the text of a seccomp profile.
func CheckSeccomp(profile []byte) error {
	var p seccomp.Seccomp
	if err := json.Unmarshal(profile, &p); err != nil {
		return err
	}
	if slices.Contains(p.Syscalls, nil) { // package seccomp does not bear it
		return errors.New("one of its syscalls is null")
	}
	return nil
}

// seccompFilter returns the filter of a container whose capabilities stand in s already: the profiles depend on them.
func seccompFilter(so SecurityOptions, privileged bool, h Host, s *specs.Spec) (*specs.LinuxSeccomp, error) {
	profile := so.Seccomp
	switch {
	case profile == unconfined, profile == "" && privileged:
		return nil, nil
	case !h.Seccomp && profile != "" && profile != seccompBuiltin:
		return nil, errdefs.System(errors.New("seccomp is not enabled in your kernel, cannot run a custom seccomp profile"))
	case !h.Seccomp:
		return nil, nil
	case profile == "":
		profile = h.SeccompProfile
	}
	var (
		filter *specs.LinuxSeccomp
		err    error
	)
	switch profile {
	case unconfined:
	case "", seccompBuiltin:
		filter, err = seccomp.GetDefaultProfile(s)
	default:
		if err := CheckSeccomp([]byte(profile)); err != nil {
			return nil, errdefs.InvalidParameterf("Decoding seccomp profile failed: %w", err)
		}
		filter, err = seccomp.LoadProfile(profile, s)
	}
	return filter, errdefs.InvalidParameter(err)
}
