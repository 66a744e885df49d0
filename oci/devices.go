package oci

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
)

// Devices are the devices of the host that a container has to do with, as they were when they were looked up.
type Devices struct {
	Nodes     []specs.LinuxDevice
	Rules     []specs.LinuxDeviceCgroup // for Nodes
	Weights   []specs.LinuxWeightDevice
	ReadBps   []specs.LinuxThrottleDevice
	WriteBps  []specs.LinuxThrottleDevice
	ReadIOps  []specs.LinuxThrottleDevice
	WriteIOps []specs.LinuxThrottleDevice
}

// ResolveDevices looks up the devices that hc names, and all of the host's for a privileged container. One that is
// missing is InvalidParameter.
func ResolveDevices(hc *containertypes.HostConfig) (Devices, error) {
	var d Devices
	if hc.Privileged {
		var err error
		if d.Nodes, err = oci.HostDevices(); err != nil {
			return Devices{}, errdefs.Systemf("look for the devices of the host: %w", err)
		}
	}
	for _, m := range hc.Devices {
		m.PathInContainer = cmp.Or(m.PathInContainer, m.PathOnHost)
		// A privileged container has everything below /dev already.
		if hc.Privileged && m.PathInContainer == m.PathOnHost && strings.HasPrefix(m.PathOnHost, "/dev/") {
			continue
		}
		if err := d.add(m); err != nil {
			return Devices{}, err
		}
	}
	return d, d.resolveBlkio(&hc.Resources)
}

// add adds the device that m names, or all devices below the directory that it names.
func (d *Devices) add(m containertypes.DeviceMapping) error {
	fail := func(err error) error {
		return errdefs.InvalidParameterf("error gathering device information while adding custom device %q: %w",
			m.PathOnHost, err)
	}
	access := cmp.Or(m.CgroupPermissions, "rwm")
	if strings.Trim(access, "rwm") != "" {
		return fail(fmt.Errorf("invalid permissions %q: use a mixture of r, w and m", access))
	}
	path, err := filepath.EvalSymlinks(m.PathOnHost)
	if err != nil {
		return fail(plain(err))
	}
	add := func(path, inside string) error {
		node, err := oci.DeviceFromPath(path)
		if err == nil && node.Type == "p" {
			err = oci.ErrNotADevice
		}
		if err != nil {
			return err
		}
		node.Path = inside
		d.Nodes = append(d.Nodes, *node)
		d.Rules = append(d.Rules, deviceRule(node.Type, &node.Major, &node.Minor, access))
		return nil
	}
	if err = add(path, m.PathInContainer); !errors.Is(err, oci.ErrNotADevice) {
		if err != nil {
			return fail(plain(err))
		}
		return nil
	}
	before := len(d.Nodes)
	if err := filepath.WalkDir(path, func(sub string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		err = add(sub, filepath.Join(m.PathInContainer, strings.TrimPrefix(sub, path)))
		// What is no device, or went away meanwhile, is no concern of the container's.
		if errors.Is(err, oci.ErrNotADevice) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}); err != nil {
		return fail(plain(err))
	}
	if len(d.Nodes) == before {
		return fail(err)
	}
	return nil
}

// plain returns the errno of a failed call, without the path, which the caller names.
func plain(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// resolveBlkio looks up the devices that have a weight or a rate.
func (d *Devices) resolveBlkio(r *containertypes.Resources) error {
	for _, w := range r.BlkioWeightDevice {
		if w == nil {
			continue
		}
		var dev specs.LinuxWeightDevice
		var err error
		if dev.Major, dev.Minor, err = deviceNumber(w.Path); err != nil {
			return err
		}
		dev.Weight = new(w.Weight)
		d.Weights = append(d.Weights, dev)
	}
	for _, t := range []struct {
		from []*containertypes.ThrottleDevice
		to   *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioDeviceReadBps, &d.ReadBps},
		{r.BlkioDeviceWriteBps, &d.WriteBps},
		{r.BlkioDeviceReadIOps, &d.ReadIOps},
		{r.BlkioDeviceWriteIOps, &d.WriteIOps},
	} {
		for _, from := range t.from {
			if from == nil {
				continue
			}
			dev := specs.LinuxThrottleDevice{Rate: from.Rate}
			var err error
			if dev.Major, dev.Minor, err = deviceNumber(from.Path); err != nil {
				return err
			}
			*t.to = append(*t.to, dev)
		}
	}
	return nil
}

func deviceNumber(path string) (major, minor int64, _ error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, errdefs.InvalidParameterf("block device %q of the I/O limits: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, errdefs.InvalidParameterf("block device %q of the I/O limits: it is not a block device", path)
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}

func deviceRule(kind string, major, minor *int64, access string) specs.LinuxDeviceCgroup {
	return specs.LinuxDeviceCgroup{Allow: true, Type: kind, Major: major, Minor: minor, Access: access}
}

// defaultDeviceRules allow what every container has: zero, null, urandom, random, tty and console.
func defaultDeviceRules() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, n := range [][2]int64{{1, 5}, {1, 3}, {1, 9}, {1, 8}, {5, 0}, {5, 1}} {
		rules = append(rules, deviceRule("c", &n[0], &n[1], "rwm"))
	}
	return rules
}

var deviceRuleFormat = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// deviceRules returns the rules of the devices cgroup, in the order in which the kernel is to apply them.
func deviceRules(hc *containertypes.HostConfig, d Devices) ([]specs.LinuxDeviceCgroup, error) {
	if hc.Privileged {
		return []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, nil
	}
	own, err := parseDeviceRules(hc.DeviceCgroupRules)
	return slices.Concat(defaultDeviceRules(), d.Rules, own), err
}

// CheckDeviceRules returns InvalidParameter for a rule of HostConfig.DeviceCgroupRules that cannot be understood.
func CheckDeviceRules(rules []string) error {
	_, err := parseDeviceRules(rules)
	return err
}

func parseDeviceRules(texts []string) (rules []specs.LinuxDeviceCgroup, _ error) {
	for _, text := range texts {
		m := deviceRuleFormat.FindStringSubmatch(text)
		if m == nil {
			return nil, errdefs.InvalidParameterf("invalid device cgroup rule format: '%s'", text)
		}
		major, err := ruleNumber(m[2])
		if err != nil {
			return nil, errdefs.InvalidParameterf("invalid major value in device cgroup rule format: '%s'", text)
		}
		minor, err := ruleNumber(m[3])
		if err != nil {
			return nil, errdefs.InvalidParameterf("invalid minor value in device cgroup rule format: '%s'", text)
		}
		rules = append(rules, deviceRule(m[1], major, minor, m[4]))
	}
	return rules, nil
}

// ruleNumber reads a number of a device rule. nil means all.
func ruleNumber(s string) (*int64, error) {
	if s == "*" {
		return nil, nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	return &n, err
}
