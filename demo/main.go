// Command demo is a tour of Berth: it starts the berthd that stands beside it and shows what it does. It is meant to
// run in a sandbox (scripts/sandbox), which takes away everything at its end, however it ends.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/berthd/berth/internal/testimage"
)

// tour is the engine that is shown, and the steps share what they found.
type tour struct {
	*engine
	first, second int // process ids of the two containers
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dir := os.Getenv("SANDBOX")
	if dir == "" {
		return errors.New("run it by `make demo`: it needs a sandbox")
	}
	e, err := startEngine(ctx, dir, object{"labels": []string{"guide=tour"}})
	if err != nil {
		return err
	}
	t := &tour{engine: e}
	for i, step := range []struct {
		title string
		show  func(context.Context) error
	}{
		{"A daemon", t.daemon},
		{"An image, made out of busybox", t.image},
		{"A container", t.container},
		{"One container, three shapes", t.shapes},
		{"A runtime with arguments, by SIGHUP", t.addRuntime},
		{"The runtime is dropped, its container is not", t.dropRuntime},
		{"The end, in order", t.end},
	} {
		fmt.Printf("\n\033[1m%d. %s\033[0m\n\n", i+1, step.title)
		if err := step.show(ctx); err != nil {
			log, _ := os.ReadFile(e.path("berthd.log"))
			return fmt.Errorf("%s: %w\nthe daemon's log:\n%s", step.title, err, log)
		}
	}
	return nil
}

// say prints a line of the tour.
func say(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

func (t *tour) daemon(ctx context.Context) error {
	var v struct{ Version, APIVersion, MinAPIVersion string }
	if err := t.call(ctx, "GET", "/version", nil, &v); err != nil {
		return err
	}
	say("berthd %s listens on %s, in a sandbox that has no network but loopback.", v.Version, t.path("berth.sock"))
	say("It speaks the Docker Engine API, every version from %s to %s.", v.MinAPIVersion, v.APIVersion)
	return nil
}

func (t *tour) image(ctx context.Context) error {
	archive, err := testimage.BusyboxTar()
	if err != nil {
		return err
	}
	path := "/images/create?fromSrc=-&repo=busybox&changes=" + url.QueryEscape(`CMD ["sh"]`)
	if err := t.call(ctx, "POST", path, bytes.NewReader(archive), new(string)); err != nil {
		return err
	}
	var images []struct {
		RepoTags []string
		ID       string
		Size     int64
	}
	if err := t.call(ctx, "GET", "/images/json", nil, &images); err != nil {
		return err
	}
	for _, i := range images {
		say("%s  %s  %.1f MB", strings.Join(i.RepoTags, " "), i.ID[:19], float64(i.Size)/1e6)
	}
	return nil
}

func (t *tour) container(ctx context.Context) (err error) {
	begin := time.Now()
	const script = `echo "hello from $(hostname), pid $$"; trap "exit 3" TERM; while :; do sleep 0.1; done`
	if t.first, err = t.run(ctx, "first", "", script); err != nil {
		return err
	}
	say("`first` runs, created and started in %d ms; outside it is process %d.", time.Since(begin).Milliseconds(), t.first)
	// a terminal-less log is framed: eight bytes before each piece
	var log string
	for len(log) < 8 {
		if err := t.call(ctx, "GET", "/containers/first/logs?stdout=1", nil, &log); err != nil {
			return err
		}
	}
	say("It says: %s", strings.TrimSpace(log[8:]))
	say("")
	say("Its shim writes the log and waits for it, so that it outlives even `kill -9` of berthd.")
	return nil
}

// shapes asks for one container as clients of different times do.
func (t *tour) shapes(ctx context.Context) error {
	versions := []string{"1.19", "1.20", "newest"}
	answers := map[string]object{}
	for _, v := range versions {
		path, answer := "/containers/first/json", object{}
		if v != "newest" {
			path = "/v" + v + path
		}
		if err := t.call(ctx, "GET", path, nil, &answer); err != nil {
			return err
		}
		answers[v] = answer
	}
	say("%-34s %8s %8s %8s", "GET /containers/first/json", versions[0], versions[1], versions[2])
	for _, field := range []string{
		"Volumes", "Config.Memory", "Config.VolumeDriver", "Mounts", "State.Status", "NetworkSettings.IPAddress",
		"NetworkSettings.Networks", "HostConfig.Runtime", "ImageManifestDescriptor",
	} {
		row := fmt.Sprintf("%-34s", field)
		for _, v := range versions {
			mark := "-"
			if has(answers[v], strings.Split(field, ".")...) {
				mark = "yes"
			}
			row += fmt.Sprintf(" %8s", mark)
		}
		say("%s", row)
	}
	say("")
	say("Each client gets the shape that it was written for; equal records are equal bytes.")
	return nil
}

func has(o object, path ...string) bool {
	v, ok := o[path[0]]
	if !ok || len(path) == 1 {
		return ok
	}
	inner, ok := v.(object)
	return ok && has(inner, path[1:]...)
}

func (t *tour) addRuntime(ctx context.Context) (err error) {
	config := object{
		"labels":   []string{"guide=tour", "stop=5"},
		"runtimes": object{"chatty": object{"path": "runc", "runtimeArgs": []string{"--debug"}}},
	}
	now, err := t.reload(ctx, config)
	if err != nil {
		return err
	}
	say("daemon.json now has a runtime `chatty`, runc with the argument --debug, and one label more.")
	say("SIGHUP. The event that follows says what holds now:")
	say("")
	for _, key := range []string{"runtimes", "labels", "default-runtime", "live-restore"} {
		say("   %-16s %s", key, now[key])
	}
	scripts, err := filepath.Glob(t.path("data/runtimes/chatty.*"))
	if err != nil {
		return err
	}
	for _, s := range scripts {
		b, err := os.ReadFile(s)
		if err != nil {
			return err
		}
		say("")
		say("Its wrapper script has a name made of its content, and never changes:")
		say("   %s", filepath.Base(s))
		for line := range strings.Lines(string(b)) {
			say("   | %s", strings.TrimSuffix(line, "\n"))
		}
	}
	if t.second, err = t.run(ctx, "second", "chatty", `trap "exit 4" TERM; while :; do sleep 0.1; done`); err != nil {
		return err
	}
	still, err := t.pid(ctx, "first")
	if err != nil {
		return err
	}
	say("")
	say("`second` runs on it as process %d, and `first` still runs: process %d, as before.", t.second, still)
	return nil
}

func (t *tour) dropRuntime(ctx context.Context) error {
	if _, err := t.reload(ctx, object{"labels": []string{"guide=tour"}}); err != nil {
		return err
	}
	say("The file is as it was at first. SIGHUP. A new container cannot have `chatty` any more:")
	_, err := t.run(ctx, "third", "chatty", "true")
	var refused *refusal
	if !errors.As(err, &refused) {
		return fmt.Errorf("a container was made on a runtime that is gone: %v", err)
	}
	say("   %s", refused)
	say("")
	say("But what runs keeps what it was started with, so an exec works in both:")
	for _, name := range []string{"first", "second"} {
		out, err := t.exec(ctx, name, "sh", "-c", `echo "I am $(hostname), and my first process is $(cat /proc/1/comm)"`)
		if err != nil {
			return err
		}
		say("   %-7s %s", name, strings.TrimSpace(out))
	}
	return nil
}

func (t *tour) end(ctx context.Context) error {
	for _, name := range []string{"first", "second"} {
		if err := t.call(ctx, "POST", "/containers/"+name+"/stop", nil, nil); err != nil {
			return err
		}
		var c struct {
			State struct {
				Status   string
				ExitCode int
			}
		}
		if err := t.call(ctx, "GET", "/containers/"+name+"/json", nil, &c); err != nil {
			return err
		}
		if err := t.call(ctx, "DELETE", "/containers/"+name, nil, nil); err != nil {
			return err
		}
		say("`%s` %s with its own code, %d, and is removed.", name, c.State.Status, c.State.ExitCode)
	}
	if err := t.stop(); err != nil {
		return err
	}
	say("berthd has stopped. Left of it: %s.", t.left())
	say("")
	say("Next: `make run` starts a daemon for use, and README.md says what it can do.")
	return nil
}

// left is what is still there of the daemon in the sandbox: mounts and processes that name its folder.
func (t *tour) left() string {
	var found []string
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err.Error()
	}
	if n := strings.Count(string(mounts), t.dir+"/"); n > 0 {
		found = append(found, fmt.Sprintf("%d mounts", n))
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err.Error()
	}
	for _, p := range processes {
		if line, err := os.ReadFile(p); err == nil && bytes.Contains(line, []byte("berth-shim")) {
			found = append(found, "a shim")
		}
	}
	if len(found) == 0 {
		return "no process, no mount, nothing"
	}
	return strings.Join(found, ", ")
}
