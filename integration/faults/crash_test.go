package faults

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/berthd/berth/integration/harness"
)

var soak = flag.Int("soak", 1, "size of the soak tests; from 2 on daemons are killed at all steps")

// stepper is a daemon that can be told to kill itself at a step; see internal/step.
type stepper struct {
	*harness.Daemon
	t    *testing.T
	dir  string
	id   string   // of the container, where an operation needs it
	cut  func()   // what happens to the machine when the daemon dies; nil: nothing
	now  string   // what it is at, for the message of a failure
	bare []string // what there is while the daemon has nothing
}

func startStepper(t *testing.T, opts ...harness.Option) *stepper {
	dir := t.TempDir()
	s := &stepper{t: t, dir: dir, Daemon: harness.Start(t, append(opts, harness.Env("BERTH_STEPS="+dir))...)}
	s.Kill9() // what there is after a crash, not after the first start
	s.Start()
	runFull(s) // makes what stays, as the cgroup of all containers
	s.Remove("one")
	s.OK("DELETE", "/volumes/memory", nil, nil)
	var err error
	s.Eventually("the daemon is at rest", func() bool {
		s.bare, err = s.inventory()
		assert.NilError(t, err)
		all := strings.Join(s.bare, "\n")
		return !strings.Contains(all, "(berth-shim) Z") && // one that has ended and is about to be reaped
			strings.Count(all, "/e/shims/ID\n") == 1 && strings.Contains(all, "/e/shims/ID/attach.sock") &&
			strings.Count(all, "overlayfs/ID") == 2 // the image's and its mount points
	})
	return s
}

// operation is one that is cut at each of its steps.
type operation struct {
	name string
	// prepare makes what the operation needs.
	prepare func(s *stepper)
	// do does it and waits for all that comes of it; an error is for a daemon that has died meanwhile.
	do func(s *stepper) error
	// check tells whether the operation has happened; half of it fails the test.
	check func(s *stepper) (done bool)
	// runs says that a container runs meanwhile.
	runs bool
	// passes are parts of the names of some steps that the operation has for certain.
	passes []string
}

// everywhere does the operation once as it is, and then again and again, while the daemon dies at one of its steps: at each of
// them when all is true, else at one.
func (s *stepper) everywhere(op operation, all bool) {
	steps := s.once(op, 0)
	for _, want := range op.passes {
		assert.Assert(s.t, slices.ContainsFunc(steps, func(s string) bool { return strings.Contains(s, want) }),
			"%s passes no step %q: %q", op.name, want, steps)
	}
	s.t.Logf("%s has %d steps", op.name, len(steps))
	if !all {
		s.once(op, 1+rand.IntN(len(steps)))
		return
	}
	for n := 1; len(s.once(op, n)) >= n; n++ {
	}
}

// once does the operation, with a daemon that dies at step n, and returns the steps that it has passed.
func (s *stepper) once(op operation, n int) []string {
	die, passed := filepath.Join(s.dir, "die"), filepath.Join(s.dir, "passed")
	assert.NilError(s.t, os.WriteFile(passed, nil, 0o600))
	op.prepare(s)
	assert.NilError(s.t, os.WriteFile(die+".new", []byte(strconv.Itoa(n)), 0o600))
	assert.NilError(s.t, os.Rename(die+".new", die)) // the daemon may be at a step
	err := op.do(s)
	assert.NilError(s.t, os.Remove(die))
	b, rerr := os.ReadFile(passed)
	assert.NilError(s.t, rerr)
	steps := strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' })
	s.now = fmt.Sprintf("%s, with the daemon killed at step %d; it has passed:\n%s", op.name, n, b)
	died := n > 0 && len(steps) >= n
	if died {
		s.Ended()
	} else {
		assert.NilError(s.t, err, "%s failed although the daemon lives", op.name)
	}
	if s.cut != nil {
		if !died {
			s.Kill9()
		}
		s.cut()
	}
	if died || s.cut != nil {
		s.Start()
	}
	s.settle()
	done := op.check(s)
	assert.Assert(s.t, done || err != nil, "%s was answered, and is not done", op.name)
	s.clear()
	if s.t.Failed() {
		s.t.FailNow()
	}
	return steps
}

// settle waits until the daemon has restored all containers.
func (s *stepper) settle() {
	for _, id := range s.Containers() {
		s.Eventually("a container is restored", func() bool {
			resp := s.HTTP("GET", "/containers/"+id+"/json", nil)
			if resp.Status == 404 {
				return true
			}
			var c harness.Container
			assert.NilError(s.t, json.Unmarshal([]byte(resp.Body), &c))
			record, err := os.ReadFile(filepath.Join(s.Sandbox.Proc(1, "root"), s.File("d/containers", id, "record.json")))
			if err != nil || strings.Contains(string(record), `"Desired":"removed"`) {
				return false // it may show as running until its removal, which goes on, has come to that
			}
			// Who wants to give a container the name that it has waits for its restoration, and is refused.
			return c.State.Status != "removing" &&
				s.HTTP("POST", "/containers/"+id+"/rename?name="+c.Name[1:], nil).Status == 400
		})
	}
}

// clear checks what holds of every daemon, removes everything, and checks that nothing is left of it.
func (s *stepper) clear() {
	owners := map[string]string{}
	for _, id := range s.Containers() {
		c := s.Inspect(id)
		assert.Check(s.t, owners[c.Name] == "", "%s and %s have the same name %s", id, owners[c.Name], c.Name)
		owners[c.Name] = id
		resp := s.HTTP("POST", "/containers/create?name="+c.Name[1:], harness.Spec("true"))
		assert.Check(s.t, resp.Status == 409, "the name %s of a container can be had: %d %s", c.Name, resp.Status, resp.Body)
		s.Remove(id)
	}
	s.RemoveNetworks()
	var list struct{ Volumes []struct{ Name string } }
	s.OK("GET", "/volumes", nil, &list)
	for _, v := range list.Volumes {
		s.OK("DELETE", "/volumes/"+v.Name, nil, nil)
	}
	for _, name := range []string{"one", "two"} {
		s.Remove(s.Create(name, harness.Spec("true"))) // no name is lost
	}
	poll.WaitOn(s.t, func(poll.LogT) poll.Result {
		now, err := s.inventory()
		if err != nil {
			return poll.Error(err)
		}
		if left := differ(s.bare, now); left != "" {
			return poll.Continue("since the daemon had nothing:\n%s", left)
		}
		return poll.Success()
	}, poll.WithTimeout(2*time.Minute), poll.WithDelay(20*time.Millisecond))
}

func differ(before, now []string) string {
	var out []string
	before = slices.Clone(before)
	for _, line := range now {
		if i := slices.Index(before, line); i >= 0 {
			before = slices.Delete(before, i, i+1)
		} else {
			out = append(out, "+ "+line)
		}
	}
	for _, line := range before {
		out = append(out, "- "+line)
	}
	return strings.Join(out, "\n")
}

var changing = regexp.MustCompile(`[0-9a-f]{64}|[0-9a-f]{12}|^process [0-9]+ |snapshots/[0-9]+|mounts? [0-9]+`)

// inventory lists what there is in the daemon's sandbox and folders, with what differs from time to time left out.
func (s *stepper) inventory() ([]string, error) {
	st, err := s.Sandbox.State()
	if err != nil {
		return nil, err
	}
	var all []string
	for kind, list := range map[string][]string{
		"process": st.Processes, "mount": st.Mounts, "device": st.Links, "cgroup": st.Cgroups,
	} {
		for _, x := range list {
			if kind != "mount" || strings.HasPrefix(x, s.Sandbox.Dir) { // others are not the sandbox's
				all = append(all, kind+" "+x)
			}
		}
	}
	root := s.Sandbox.Proc(1, "root") // as the daemon sees it
	for _, dir := range []string{"d", "e"} {
		if err := filepath.WalkDir(filepath.Join(root, s.File(dir)), func(path string, d fs.DirEntry, err error) error {
			switch {
			case os.IsNotExist(err):
				return nil
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "execs" || filepath.Base(filepath.Dir(path)) == "snapshots"):
				all = append(all, "file "+strings.TrimPrefix(path, root))
				return fs.SkipDir
			}
			all = append(all, "file "+strings.TrimPrefix(path, root))
			return nil
		}); err != nil {
			return nil, err
		}
	}
	nft, err := s.Sandbox.Command("nft", "list", "ruleset").Output()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(nft)) {
		all = append(all, "firewall "+strings.TrimSpace(line))
	}
	for i := range all {
		all[i] = changing.ReplaceAllString(all[i], "ID")
	}
	slices.Sort(all)
	return all, nil
}

// try is a request whose answer may be missing, for the daemon may die; a refusal fails the test.
func (s *stepper) try(method, path string, body any) error {
	resp, err := s.Try(method, path, body)
	if err == nil && resp.Status >= 300 {
		s.t.Errorf("%s %s: %d %s", method, path, resp.Status, resp.Body)
	}
	return err
}

func (s *stepper) each(ops []operation) {
	for _, op := range ops {
		s.t.Run(op.name, func(t *testing.T) {
			mine := *s
			mine.t, mine.Daemon = t, s.For(t)
			t.Cleanup(func() {
				if t.Failed() {
					t.Log(mine.now)
				}
			})
			mine.everywhere(op, *soak > 1)
		})
	}
}

// A daemon that is killed at any step of any operation leaves what can be gone on with: each container is old or new, each
// name has one owner, and nothing is left over.
func TestSoakKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	startStepper(t, func(d *harness.Daemon) {
		out, err := d.Sandbox.Command("ip", "link", "add", "cable", "type", "veth", "peer", "name", "end").CombinedOutput()
		assert.NilError(t, err, "%s", out)
	}).each(operations)
}

// A power cut at any step leaves what the daemon has synced, and no more: what was answered has happened, and the rest is
// old or new. The data-root is a disk of its own; at the cut, what of it has reached the disk is all that there is.
func TestSoakPowerCut(t *testing.T) {
	t.Parallel()
	var disk string
	run := func(d *harness.Daemon, name string, args ...string) {
		out, err := d.Sandbox.Command(name, args...).CombinedOutput()
		assert.NilError(t, err, "%s %q: %s", name, args, out)
	}
	mount := func(d *harness.Daemon) { // so that nothing is written because time has passed
		run(d, "mount", "-o", "loop,commit=300,noauto_da_alloc", disk, d.File("d"))
	}
	s := startStepper(t, func(d *harness.Daemon) {
		disk = d.File("disk")
		assert.NilError(t, os.Mkdir(d.File("d"), 0o710))
		assert.NilError(t, os.WriteFile(disk, nil, 0o600))
		assert.NilError(t, os.Truncate(disk, 256<<20))
		run(d, "mkfs.ext4", "-q", disk)
		mount(d)
		t.Cleanup(func() { run(d, "umount", "-l", d.File("d")) })
	})
	run(s.Daemon, "sync", "-f", s.File("d"))
	s.cut = func() {
		run(s.Daemon, "cp", "--sparse=always", disk, disk+".cut")
		run(s.Daemon, "umount", "-l", s.File("d"))
		assert.NilError(t, os.Rename(disk+".cut", disk))
		mount(s.Daemon)
	}
	s.each(slices.DeleteFunc(slices.Clone(operations), func(op operation) bool { return op.runs }))
}
