package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// engine is one of the engines that are compared, in a sandbox of its own. With its own image store and network it starts
// from nothing each time.
type engine struct {
	*client
	name    string
	box     *sandbox
	prepare []string // a program that the daemon needs; it stays when the daemon is started again
	daemon  []string
	pid     int
}

const sleepForever = "sleep 1000000"

// engines by name. All run containers with the same runc: Debian's crun does not run on all cgroup set-ups.
var engines = map[string]func(*sandbox) *engine{
	"berth": func(b *sandbox) *engine {
		return &engine{daemon: []string{
			"bin/berthd", "--config-file", b.path("daemon.json"), "--data-root", b.path("d"), "--exec-root", runDir("e"),
			"--pidfile", b.path("p"), "--host", "unix://" + b.path("s"),
		}}
	},
	"dockerd": func(b *sandbox) *engine {
		proxy := absolute("bin/tools/dockerd/usr/sbin/docker-proxy")
		return &engine{
			prepare: []string{
				"bin/tools/dockerd/usr/bin/containerd", "--root", b.path("c"), "--state", runDir("cs"), "--address", b.path("c.sock"),
			},
			daemon: []string{
				"bin/tools/dockerd/usr/sbin/dockerd", "--config-file", b.path("daemon.json"), "--data-root", b.path("d"),
				"--userland-proxy-path", proxy,
				"--exec-root", runDir("e"), "--pidfile", b.path("p"), "--host", "unix://" + b.path("s"),
				"--containerd", b.path("c.sock"), "--storage-driver", "overlay2",
			},
		}
	},
	"podman": func(b *sandbox) *engine {
		return &engine{daemon: []string{
			"podman", "--root", b.path("d"), "--runroot", runDir("e"), "--tmpdir", runDir("t"), "--cgroup-manager", "cgroupfs",
			"--events-backend", "file", "--runtime", "runc", "--storage-driver", "overlay", "system", "service", "--time", "0",
			"unix://" + b.path("s"),
		}}
	},
}

// absolute is path for a program that has another working directory.
func absolute(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	return abs
}

// startEngine starts an engine and gives it the image that all containers are of. It may have a disk of its own, where
// nobody else's work gets in the way.
func startEngine(ctx context.Context, name string, image []byte, ownDisk bool) (_ *engine, err error) {
	b, err := newSandbox()
	if err != nil {
		return nil, err
	}
	e := engines[name](b)
	e.name, e.box, e.client = name, b, newClient(b.path("s"))
	defer func() {
		if err != nil {
			err = fmt.Errorf("start %s: %w; its log:\n%s", name, err, e.log())
			b.close()
		}
	}()
	if ownDisk {
		if err := b.inside.call(ctx, "POST", "/disk", diskRequest{b.path("d")}, nil); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(b.path("daemon.json"), []byte("{}"), 0o600); err != nil {
		return nil, err
	}
	if err := writeLines(b.path("lines")); err != nil {
		return nil, err
	}
	if e.prepare != nil {
		if _, err := b.spawn(ctx, e.prepare...); err != nil {
			return nil, err
		}
	}
	if err := e.start(ctx); err != nil {
		return nil, err
	}
	resp, err := e.open(ctx, "POST", "/images/create?fromSrc=-&repo="+imageName+"&tag=latest", image)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return e, err
}

func (e *engine) log() string {
	b, _ := os.ReadFile(e.box.path(filepath.Base(e.daemon[0]) + ".log"))
	return string(b[max(0, len(b)-2000):])
}

// start starts the daemon and returns when it has listed its containers.
func (e *engine) start(ctx context.Context) (err error) {
	if e.pid, err = e.box.spawn(ctx, e.daemon...); err != nil {
		return err
	}
	return e.await(ctx, "/containers/json?all=1")
}

func (e *engine) stop(ctx context.Context) error {
	e.http.CloseIdleConnections()
	return e.box.inside.call(ctx, "POST", "/end", e.pid, nil)
}

// create makes a container and returns its id.
func (e *engine) create(ctx context.Context, network string, cmd ...string) (string, error) {
	var c struct{ ID string }
	err := e.call(ctx, "POST", "/v1.41/containers/create", map[string]any{
		"Image": imageName, "Cmd": cmd, "Env": []string{"A=1", "B=2"}, "Labels": map[string]string{"bench": "1"},
		"HostConfig": map[string]any{"NetworkMode": network, "Binds": []string{e.box.path("lines") + ":/lines:ro"}},
	}, &c)
	return c.ID, err
}

func (e *engine) run(ctx context.Context, network string, cmd ...string) (string, error) {
	id, err := e.create(ctx, network, cmd...)
	if err != nil {
		return "", err
	}
	return id, e.call(ctx, "POST", "/v1.41/containers/"+id+"/start", nil, nil)
}

func (e *engine) wait(ctx context.Context, id string) error {
	var exit struct{ StatusCode int }
	if err := e.call(ctx, "POST", "/v1.41/containers/"+id+"/wait", nil, &exit); err != nil {
		return err
	}
	if exit.StatusCode == 0 {
		return nil
	}
	var c struct{ State struct{ Error string } }
	err := e.call(ctx, "GET", inspectPath(id), nil, &c)
	return errors.Join(fmt.Errorf("container %s ended with %d: %s", id, exit.StatusCode, c.State.Error), err)
}

func (e *engine) remove(ctx context.Context, id string) error {
	return e.call(ctx, "DELETE", "/v1.41/containers/"+id+"?force=1", nil, nil)
}

// life is a whole life: create, start, wait for the end of `true`, remove.
func (e *engine) life(ctx context.Context, network string) error {
	id, err := e.run(ctx, network, "true")
	if err != nil {
		return err
	}
	if err := e.wait(ctx, id); err != nil {
		return err
	}
	return e.remove(ctx, id)
}

// exec runs `true` in a container and reads its output to the end.
func (e *engine) exec(ctx context.Context, id string) error {
	var x struct{ ID string }
	err := e.call(ctx, "POST", "/v1.41/containers/"+id+"/exec", map[string]any{
		"Cmd": []string{"true"}, "AttachStdout": true, "AttachStderr": true,
	}, &x)
	if err != nil {
		return err
	}
	_, err = e.read(ctx, "POST", "/v1.41/exec/"+x.ID+"/start", map[string]any{"Detach": false})
	return err
}

// version tells what is measured.
func (e *engine) version(ctx context.Context) (string, error) {
	var v struct {
		Version    string
		Components []struct{ Name, Version string }
	}
	err := e.call(ctx, "GET", "/version", nil, &v)
	text := e.name + " " + v.Version
	for _, name := range []string{"containerd", "runc"} {
		i := slices.IndexFunc(v.Components, func(c struct{ Name, Version string }) bool { return c.Name == name })
		if i >= 0 && v.Components[i].Version != "" {
			text += ", " + name + " " + v.Components[i].Version
		}
	}
	return text, err
}

// floor has the sandbox of Berth run what Berth's spec for such a container says, by runc alone.
func (e *engine) floor(ctx context.Context, network string, slots int, args ...string) (forget func() error, _ error) {
	id, err := e.run(ctx, network, "sleep", "1000000") // the spec names its files, so it stays meanwhile
	if err != nil {
		return nil, err
	}
	err = e.box.inside.call(ctx, "POST", "/floor", floorRequest{
		Spec: filepath.Join(runDir("e"), "bundles", id, "config.json"), Args: args, Slots: slots,
	}, nil)
	return func() error { return e.remove(ctx, id) }, err
}
