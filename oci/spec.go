package oci

import (
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

// version is what specs say they are. Runtimes refuse a version that is newer than they are, and nothing in our specs
// is newer than this one.
const version = "1.0.2"

// Input is all that a container's spec depends on.
type Input struct {
	Record  *container.Record
	Rootfs  string // absolute path of the mounted root
	User    User   // by ResolveUser
	Devices Devices
	Host    Host
	// Features is what the runtime answers to "features"; empty: nothing is known of it.
	Features string
	// NetNS is the path of the network namespace; empty: that of the host.
	NetNS string
	// PIDNS and IPCNS are the paths of another container's namespaces, for the modes "container:<id>".
	PIDNS string
	IPCNS string
	// ShmPath is a tmpfs of the host for /dev/shm: where IpcMode is shareable, or for "container:<id>" that of the other
	// container. Empty: one of the container's own.
	ShmPath string
	// Sources are, by destination, the paths of mounts that are not to be mounted from the Source that their record shows.
	Sources map[string]string
}

// Spec returns the runtime spec. It looks nothing up: the same input gives the same spec, and the same bytes of JSON.
// It shares no memory with the record. What cannot be done is InvalidParameter.
func Spec(in Input) (*specs.Spec, error) {
	rec, hc := in.Record, in.Record.HostConfig
	so, err := ParseSecurityOptions(hc.SecurityOpt)
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:     version,
		Root:        &specs.Root{Path: in.Rootfs, Readonly: hc.ReadonlyRootfs},
		Annotations: maps.Clone(hc.Annotations),
		Linux: &specs.Linux{
			CgroupsPath:       CgroupPath(rec, in.Host),
			Devices:           in.Devices.Nodes,
			RootfsPropagation: rootPropagation(rec.MountPoints),
			MountLabel:        rec.MountLabel,
		},
	}
	if !hc.Privileged {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = slices.Clone(hc.MaskedPaths), slices.Clone(hc.ReadonlyPaths)
	}
	if hc.UTSMode != "host" {
		s.Hostname = rec.Config.Hostname
	}
	s.Linux.Sysctl = sysctls(in)
	if s.Linux.Namespaces, err = namespaces(in); err != nil {
		return nil, err
	}
	if s.Linux.Resources, err = resources(hc, in.Devices); err != nil {
		return nil, err
	}
	if s.Mounts, err = mounts(in, so); err != nil {
		return nil, err
	}
	if s.Process, err = mainProcess(in, so); err != nil {
		return nil, err
	}
	s.Linux.Seccomp, err = seccompFilter(so, hc.Privileged, in.Host, s)
	return s, err
}

func mainProcess(in Input, so SecurityOptions) (*specs.Process, error) {
	rec := in.Record
	args := append([]string{rec.Path}, rec.Args...)
	if withInit(in) {
		if in.Host.InitPath == "" {
			return nil, errdefs.Systemf("an init process is asked for, but there is none on this machine: " +
				"install docker-init (Debian's package tini has it as tini-static), or set init-path")
		}
		args = append([]string{initInside, "--"}, args...)
	}
	return process(rec, command{
		args: args, cwd: rec.Config.WorkingDir, user: in.User, tty: rec.Config.Tty,
		height: rec.HostConfig.ConsoleSize[0], width: rec.HostConfig.ConsoleSize[1],
	}, so, in.Host)
}

// withInit reports whether an init process runs the command. In the processes of the host, or of another container,
// there is one already.
func withInit(in Input) bool {
	asked := in.Host.Init
	if in.Record.HostConfig.Init != nil {
		asked = *in.Record.HostConfig.Init
	}
	return asked && in.Record.HostConfig.PidMode == ""
}

// namespaces returns the namespaces that the container does not share with the host.
func namespaces(in Input) ([]specs.LinuxNamespace, error) {
	hc := in.Record.HostConfig
	out := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	if in.NetNS != "" {
		out = append(out, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: in.NetNS})
	}
	if hc.UTSMode != "host" {
		out = append(out, specs.LinuxNamespace{Type: specs.UTSNamespace})
	}
	for _, ns := range []struct {
		kind       specs.LinuxNamespaceType
		mode, path string
	}{{specs.PIDNamespace, hc.PidMode, in.PIDNS}, {specs.IPCNamespace, hc.IpcMode, in.IPCNS}} {
		if ns.mode == "host" {
			continue
		}
		joined := strings.HasPrefix(ns.mode, "container:")
		if joined != (ns.path != "") {
			return nil, errdefs.Systemf("the %s namespace %q does not go with the mode %q", ns.kind, ns.path, ns.mode)
		}
		out = append(out, specs.LinuxNamespace{Type: ns.kind, Path: ns.path})
	}
	if hc.CgroupnsMode == "private" {
		out = append(out, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return out, nil
}

// sysctls returns the kernel parameters: presets, then what the container says. Presets of the network are for a
// namespace that is the container's own.
func sysctls(in Input) map[string]string {
	rec, out := in.Record, map[string]string{}
	joined := strings.HasPrefix(string(rec.HostConfig.NetworkMode), "container:")
	if in.NetNS != "" && !joined {
		maps.Copy(out, in.Host.NetSysctls)
	}
	if rec.Config.Domainname != "" && rec.HostConfig.UTSMode != "host" {
		out["kernel.domainname"] = rec.Config.Domainname
	}
	maps.Copy(out, rec.HostConfig.Sysctls)
	return out
}
