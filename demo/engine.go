package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/berthd/berth/internal/enginehttp"
)

// object is an object of JSON.
type object = map[string]any

// engine is a berthd in a folder of its own, and a client of it.
type engine struct {
	dir    string
	cmd    *exec.Cmd
	client *http.Client
}

// startEngine starts the berthd that stands beside this program and waits until it answers.
func startEngine(ctx context.Context, dir string, config object) (*engine, error) {
	e := &engine{dir: dir}
	e.client = &http.Client{Transport: enginehttp.Transport(e.path("berth.sock"))}
	if err := e.configure(config); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log, err := os.Create(e.path("berthd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	e.cmd = exec.CommandContext(ctx, filepath.Join(filepath.Dir(self), "berthd"),
		"--config-file", e.path("daemon.json"), "--data-root", e.path("data"), "--exec-root", e.path("exec"),
		"--pidfile", e.path("pid"), "--host", "unix://"+e.path("berth.sock"))
	e.cmd.Stdout, e.cmd.Stderr = log, log
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	for begin := time.Now(); ; {
		err := e.call(ctx, "GET", "/_ping", nil, nil)
		if err == nil {
			return e, nil
		}
		if time.Since(begin) > 20*time.Second {
			said, _ := os.ReadFile(e.path("berthd.log"))
			return nil, fmt.Errorf("berthd does not answer: %w\n%s", err, said)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (e *engine) path(name string) string { return filepath.Join(e.dir, name) }

// configure writes the configuration file.
func (e *engine) configure(config object) error {
	b, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(e.path("daemon.json"), b, 0o600)
}

// reload writes the configuration file, sends SIGHUP and waits for the event that follows. It returns the event's
// attributes.
func (e *engine) reload(ctx context.Context, config object) (map[string]string, error) {
	resp, err := e.open(ctx, "GET", `/events?filters={"type":["daemon"],"event":["reload"]}`, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := e.configure(config); err != nil {
		return nil, err
	}
	if err := e.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return nil, err
	}
	var event struct {
		Actor struct{ Attributes map[string]string }
	}
	err = json.NewDecoder(resp.Body).Decode(&event)
	return event.Actor.Attributes, err
}

// stop stops the daemon in order.
func (e *engine) stop() error {
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return e.cmd.Wait()
}

// open sends a request; the body of its answer is still to be read.
func (e *engine) open(ctx context.Context, method, path string, body any) (*http.Response, error) {
	req, err := enginehttp.NewRequest(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	return e.client.Do(req)
}

// call sends a request and decodes the answer into out, which may be nil, or a *string for the text as it is.
func (e *engine) call(ctx context.Context, method, path string, body, out any) error {
	resp, err := e.open(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 400 {
		var refused struct{ Message string }
		if json.Unmarshal(b, &refused) != nil || refused.Message == "" {
			refused.Message = string(b)
		}
		return &refusal{resp.StatusCode, refused.Message}
	}
	switch o := out.(type) {
	case nil:
		return nil
	case *string:
		*o = string(b)
		return nil
	}
	return json.Unmarshal(b, out)
}

// refusal is an answer that says no.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return fmt.Sprintf("%d: %s", r.status, r.message) }

// run makes and starts a container of busybox and returns its process id.
func (e *engine) run(ctx context.Context, name, runtime, script string) (pid int, err error) {
	spec := object{
		"Image": "busybox", "Cmd": []string{"sh", "-c", script}, "Labels": object{"tour": "yes"},
		"HostConfig": object{
			"NetworkMode": "none", "Memory": 64 << 20, "Runtime": runtime, "Binds": []string{"/etc:/host-etc:ro"},
		},
	}
	if err := e.call(ctx, "POST", "/containers/create?name="+name, spec, nil); err != nil {
		return 0, err
	}
	if err := e.call(ctx, "POST", "/containers/"+name+"/start", nil, nil); err != nil {
		return 0, err
	}
	return e.pid(ctx, name)
}

// pid is the process id of a container that has to run.
func (e *engine) pid(ctx context.Context, name string) (int, error) {
	var c struct{ State struct{ Pid int } }
	err := e.call(ctx, "GET", "/containers/"+name+"/json", nil, &c)
	if err == nil && c.State.Pid == 0 {
		err = errors.New(name + " does not run")
	}
	return c.State.Pid, err
}

// exec runs a command in a container and returns what it printed.
func (e *engine) exec(ctx context.Context, name string, cmd ...string) (string, error) {
	var x struct{ ID string }
	err := e.call(ctx, "POST", "/containers/"+name+"/exec", object{"Cmd": cmd, "AttachStdout": true, "Tty": true}, &x)
	if err != nil {
		return "", err
	}
	var out string
	err = e.call(ctx, "POST", "/exec/"+x.ID+"/start", object{"Tty": true}, &out)
	return out, err
}
