package oci

import (
	"cmp"
	"slices"
	"strings"

	units "github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/container"
)

// defaultPath is PATH where neither image nor container sets it.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// command is what the main process and an exec have each of their own.
type command struct {
	args   []string
	env    []string // over the container's
	cwd    string
	user   User
	tty    bool
	height uint
	width  uint
}

// Process returns the process of exec x, as user, in the container of rec. What x does not say it has from the
// container. A privileged exec has all capabilities, but the AppArmor profile of the container, as with dockerd.
func Process(rec *container.Record, x container.Exec, user User, h Host) (*specs.Process, error) {
	cmd := command{
		args: append([]string{x.Entrypoint}, x.Args...), env: x.Env, cwd: cmp.Or(x.WorkingDir, rec.Config.WorkingDir),
		user: user, tty: x.Tty,
	}
	if x.ConsoleSize != nil {
		cmd.height, cmd.width = x.ConsoleSize[0], x.ConsoleSize[1]
	}
	so, err := ParseSecurityOptions(rec.HostConfig.SecurityOpt)
	if err != nil {
		return nil, err
	}
	p, err := process(rec, cmd, so, h)
	if err != nil {
		return nil, err
	}
	if x.Privileged {
		p.Capabilities = processCapabilities(slices.Clone(h.Capabilities), user.UID)
	}
	return p, nil
}

// process returns a process of the container of rec.
func process(rec *container.Record, cmd command, so SecurityOptions, h Host) (*specs.Process, error) {
	caps, err := containerCapabilities(rec.HostConfig, h)
	if err != nil {
		return nil, err
	}
	p := &specs.Process{
		Terminal:        cmd.tty,
		User:            specs.User{UID: cmd.user.UID, GID: cmd.user.GID, AdditionalGids: slices.Clone(cmd.user.Groups)},
		Args:            cmd.args,
		Env:             environment(rec, cmd),
		Cwd:             cmp.Or(cmd.cwd, "/"),
		Capabilities:    processCapabilities(caps, cmd.user.UID),
		Rlimits:         rlimits(rec.HostConfig.Ulimits, h.Ulimits),
		NoNewPrivileges: h.NoNewPrivileges,
		ApparmorProfile: appArmorProfile(so, rec.HostConfig.Privileged, h),
		OOMScoreAdj:     new(rec.HostConfig.OomScoreAdj),
		SelinuxLabel:    rec.ProcessLabel,
	}
	if so.NoNewPrivileges != nil {
		p.NoNewPrivileges = *so.NoNewPrivileges
	}
	if cmd.tty && (cmd.height != 0 || cmd.width != 0) {
		p.ConsoleSize = &specs.Box{Height: cmd.height, Width: cmd.width}
	}
	return p, nil
}

// environment returns the variables of a process. The later word wins: what every container has, the container's, the
// command's own. One without "=" takes the variable away. HOME comes last, from the user, unless it was set: runtimes
// do the same, but each from a look of its own at the passwd file.
func environment(rec *container.Record, cmd command) []string {
	env := []string{"PATH=" + defaultPath, "HOSTNAME=" + rec.Config.Hostname}
	if cmd.tty {
		env = append(env, "TERM=xterm")
	}
	env = override(override(append(env, rec.LinkEnv...), rec.Config.Env), cmd.env)
	home := slices.IndexFunc(env, func(v string) bool { return strings.HasPrefix(v, "HOME=") })
	switch {
	case home < 0:
		env = append(env, "HOME="+cmd.user.Home)
	case env[home] == "HOME=":
		env[home] += cmd.user.Home
	}
	return env
}

// override returns env with the variables of over set, in place where they are there already.
func override(env, over []string) []string {
	for _, v := range over {
		name, _, set := strings.Cut(v, "=")
		i := slices.IndexFunc(env, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		switch {
		case set && i >= 0:
			env[i] = v
		case set:
			env = append(env, v)
		case i >= 0:
			env = slices.Delete(env, i, i+1)
		}
	}
	return env
}

// rlimits returns the ulimits of the container in its order, then those configured that it does not set, by name.
func rlimits(own []*units.Ulimit, configured map[string]units.Ulimit) []specs.POSIXRlimit {
	var out []specs.POSIXRlimit
	set := map[string]bool{}
	add := func(u units.Ulimit) {
		out = append(out, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard),
		})
	}
	for _, u := range own {
		if u != nil {
			set[strings.ToLower(u.Name)] = true
			add(*u)
		}
	}
	names := make([]string, 0, len(configured))
	for name := range configured {
		if !set[strings.ToLower(name)] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		u := configured[name]
		u.Name = name
		add(u)
	}
	return out
}
