package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/internal/pidfd"
)

// inside is what bench does in a sandbox: it starts engines there, tells how much memory they use, and is the floor: it runs
// containers by runc alone and answers as a bare handler does.
type inside struct {
	dir     string // $SANDBOX
	env     []string
	handler *http.ServeMux

	mu      sync.Mutex
	running map[int]chan struct{} // closed at the end, by pid
	answers sync.Map              // path → bytes
}

// spawnRequest asks for a program that goes on.
type spawnRequest struct {
	Args []string
	Log  string
}

// diskRequest asks for a file system.
type diskRequest struct{ Dir string }

// floorRequest asks for bundles out of a spec that an engine has written.
type floorRequest struct {
	Spec  string   // path of a config.json
	Args  []string // what to run instead
	Slots int      // how many of them run at once
}

// runInside serves until its standard input ends, and with it the sandbox.
func runInside() error {
	in := &inside{dir: os.Getenv("SANDBOX"), env: os.Environ(), handler: http.NewServeMux(), running: map[int]chan struct{}{}}
	// podman numbers the locks of its containers there, and has 2,048: what an ended sandbox left would count.
	if err := syscall.Mount("shm", "/dev/shm", "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	l, err := net.Listen("unix", filepath.Join(in.dir, "inside"))
	if err != nil {
		return err
	}
	for pattern, fn := range map[string]func(*http.Request) (any, error){
		"POST /spawn": in.spawn, "POST /end": in.end, "POST /memory": in.memory, "POST /floor": in.floor,
		"POST /life": in.life, "POST /exec": in.exec, "POST /output": in.output, "POST /forget": in.forget,
		"POST /answer": in.setAnswer, "POST /peak": in.peak, "POST /disk": in.disk,
	} {
		in.handler.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			a, err := fn(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_ = json.NewEncoder(w).Encode(a)
		})
	}
	in.handler.HandleFunc("GET /", in.answer)
	go func() { _ = http.Serve(l, in.handler) }()
	fmt.Println(in.dir)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func body[T any](r *http.Request) (v T, err error) {
	return v, json.NewDecoder(r.Body).Decode(&v)
}

func (in *inside) spawn(r *http.Request) (any, error) {
	req, err := body[spawnRequest](r)
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(req.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(req.Args[0], req.Args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	in.mu.Lock()
	in.running[cmd.Process.Pid] = ended
	in.mu.Unlock()
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	return cmd.Process.Pid, nil
}

// end ends a program in order and returns when it has gone.
func (in *inside) end(r *http.Request) (any, error) {
	pid, err := body[int](r)
	if err != nil {
		return nil, err
	}
	in.mu.Lock()
	ended := in.running[pid]
	in.mu.Unlock()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return nil, err
	}
	<-ended
	return nil, nil
}

// memory adds up what all processes of the sandbox use, in KiB, PSS: shared pages count in parts. Not counted are this
// process, the shell of the sandbox, and those whose command line is one that the request names.
func (in *inside) memory(r *http.Request) (any, error) {
	except, err := body[[]string](r)
	if err != nil {
		return nil, err
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	total := 0
	for _, p := range procs {
		pid, _ := strconv.Atoi(filepath.Base(p))
		line, err := os.ReadFile(filepath.Join(p, "cmdline"))
		cmd := strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		if err != nil || pid == 1 || pid == os.Getpid() || slices.Contains(except, cmd) {
			continue
		}
		n, err := pss(p)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			return nil, err
		}
		total += n
	}
	return total, nil
}

func pss(proc string) (int, error) {
	return kibibytes(filepath.Join(proc, "smaps_rollup"), "Pss:")
}

// peak tells what a process had resident at most since it was asked last, in KiB.
func (in *inside) peak(r *http.Request) (any, error) {
	pid, err := body[int](r)
	if err != nil {
		return nil, err
	}
	proc := fmt.Sprintf("/proc/%d", pid)
	kib, err := kibibytes(filepath.Join(proc, "status"), "VmHWM:")
	if err != nil {
		return nil, err
	}
	return kib, os.WriteFile(filepath.Join(proc, "clear_refs"), []byte("5"), 0o600)
}

// disk mounts a new file system on a directory.
func (in *inside) disk(r *http.Request) (any, error) {
	req, err := body[diskRequest](r)
	if err != nil {
		return nil, err
	}
	const script = `mkdir "$1" && truncate -s 4G "$1.disk" && mkfs.ext4 -q -F "$1.disk" && mount -o loop "$1.disk" "$1"`
	if out, err := exec.Command("sh", "-c", script, "sh", req.Dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make a file system: %w: %s", err, out)
	}
	return nil, nil
}

// kibibytes finds a line "NAME N kB" of a file.
func kibibytes(file, name string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			return strconv.Atoi(f[1])
		}
	}
	return 0, nil
}

// setAnswer keeps what a GET of the path in ?path= answers from now on.
func (in *inside) setAnswer(r *http.Request) (any, error) {
	b, err := io.ReadAll(r.Body)
	in.answers.Store(r.URL.Query().Get("path"), b)
	return nil, err
}

// answer is the bare handler.
func (in *inside) answer(w http.ResponseWriter, r *http.Request) {
	b, ok := in.answers.Load(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b.([]byte))
}

func (in *inside) slot(r *http.Request) (id, bundle string) {
	id = "floor-" + r.URL.Query().Get("slot")
	return id, filepath.Join(in.dir, id)
}

// floor makes the bundles floor-0, floor-1 …: the engine's spec with another command and a cgroup of its own.
func (in *inside) floor(r *http.Request) (any, error) {
	req, err := body[floorRequest](r)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(req.Spec)
	if err != nil {
		return nil, err
	}
	var spec specs.Spec
	if err := json.Unmarshal(b, &spec); err != nil {
		return nil, err
	}
	spec.Process.Args = req.Args
	for i := range req.Slots {
		id := fmt.Sprintf("floor-%d", i)
		spec.Linux.CgroupsPath = "/bench/" + id
		if b, err = json.Marshal(spec); err != nil {
			return nil, err
		}
		process, err := json.Marshal(withArgs(spec.Process, "true"))
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(in.dir, id)
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, "process.json"), process, 0o600); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func withArgs(p *specs.Process, args ...string) *specs.Process {
	q := *p
	q.Args = args
	return &q
}

// runc runs the OCI runtime that Berth runs too, with a state directory of its own.
func (in *inside) runc(stdout *os.File, args ...string) error {
	cmd := exec.Command("runc", append([]string{"--root", runDir("runc")}, args...)...)
	if stdout != nil {
		cmd.Stdout = stdout
	}
	log, err := os.CreateTemp(in.dir, "stderr-")
	if err != nil {
		return err
	}
	defer log.Close()
	defer os.Remove(log.Name())
	cmd.Stderr = log
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%v: %w: %s", cmd.Args, err, text)
	}
	return nil
}

// life creates, starts, waits for and deletes a container. With ?start it is left running.
func (in *inside) life(r *http.Request) (any, error) {
	id, bundle := in.slot(r)
	p, err := in.create(id, bundle, nil)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if err := in.runc(nil, "start", id); err != nil || r.URL.Query().Has("start") {
		return nil, err
	}
	<-p.Gone()
	return nil, in.runc(nil, "delete", id)
}

// create creates a container and returns its process.
func (in *inside) create(id, bundle string, stdout *os.File) (*pidfd.Process, error) {
	file := filepath.Join(bundle, "pid")
	if err := in.runc(stdout, "create", "--bundle", bundle, "--pid-file", file, id); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(string(b))
	if err != nil {
		return nil, err
	}
	return pidfd.Open(pid)
}

func (in *inside) exec(r *http.Request) (any, error) {
	id, bundle := in.slot(r)
	return nil, in.runc(nil, "exec", "--process", filepath.Join(bundle, "process.json"), id)
}

func (in *inside) forget(r *http.Request) (any, error) {
	id, _ := in.slot(r)
	return nil, in.runc(nil, "delete", "--force", id)
}

// output runs a container, copies what it writes into a file, through a pipe, and answers how many milliseconds that took.
func (in *inside) output(r *http.Request) (any, error) {
	id, bundle := in.slot(r)
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	file, err := os.Create(filepath.Join(bundle, "output"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	ms, err := milliseconds(func() error {
		p, err := in.create(id, bundle, write)
		write.Close()
		if err != nil {
			return err
		}
		defer p.Close()
		if err := in.runc(nil, "start", id); err != nil {
			return err
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{file}, struct{ io.Reader }{read}, make([]byte, 64<<10))
		<-p.Gone()
		if err == nil && n != outputLine*outputLines {
			err = fmt.Errorf("the container wrote %d bytes of %d", n, outputLine*outputLines)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return ms, in.runc(nil, "delete", id)
}
