//go:build vm

package faults

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

// journal is the file of the lines that the machine has written so far: those that begin with "@".
var journal = flag.String("journal", "", "for TestMachine: what the machine said in its earlier lives")

// TestMachine is one life of the machine that scripts/vm-kill kills. Its first one makes what all need, and ends. Each
// later one checks what the one before has left, removes it, checks that nothing is left of it, and then does operations
// until the machine is killed.
func TestMachine(t *testing.T) {
	defer func() {
		if t.Failed() { // before its daemon's containers are removed: who is killed meanwhile would seem to have lost them
			say(t, "@ failed")
		}
	}()
	const dir = "/disk"
	assert.NilError(t, os.MkdirAll(dir, 0o755))
	// so that nothing is written because time has passed
	assert.NilError(t, unix.Mount("/dev/vda", dir, "ext4", 0, "commit=300,noauto_da_alloc"))
	onDisk := func(d *harness.Daemon) {
		d.Sandbox.Dir = dir
		assert.NilError(t, os.MkdirAll(d.File("e"), 0o711))
		assert.NilError(t, unix.Mount("run", d.File("e"), "tmpfs", 0, "")) // as /run is
	}
	said, first := readJournal(t)
	if first {
		s := startStepper(t, onDisk)
		b, err := json.Marshal(s.bare)
		assert.NilError(t, err)
		assert.NilError(t, os.WriteFile(s.File("bare"), b, 0o600))
		say(t, "@ prepared")
		return // the machine is shut down in order
	}
	s := &stepper{t: t, Daemon: harness.Start(t, onDisk, harness.NoImage())}
	b, err := os.ReadFile(s.File("bare"))
	assert.NilError(t, err)
	assert.NilError(t, json.Unmarshal(b, &s.bare))
	s.settle()
	for w, done := range said {
		s.checkLife(w, done)
	}
	say(t, "@ clear")
	s.HTTP("DELETE", "/containers/one?force=1", nil) // of a life that was cut at this point
	runFull(s)
	s.clear()
	say(t, "@ ready")
	var workers sync.WaitGroup
	for w := range said {
		workers.Go(func() { s.work(w) })
	}
	workers.Wait()
}

// say writes a line to the machine's console, and returns when it is out.
func say(t *testing.T, line string) {
	_, err := fmt.Println(line)
	assert.Check(t, err)
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.IoctlSetInt(int(os.Stdout.Fd()), unix.TCSBRK, 1)
	}
	assert.Check(t, err)
}

const workers = 2

// readJournal returns how many operations each worker has done; -1: nobody knows, for all was being cleared away.
func readJournal(t *testing.T) (done [workers]int, first bool) {
	f, err := os.Open(*journal)
	assert.NilError(t, err)
	defer f.Close()
	first = true
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var w, n int
		switch line := lines.Text(); {
		case line == "@ prepared":
			first = false
		case line == "@ clear":
			done = [workers]int{-1, -1}
		case line == "@ ready":
			done = [workers]int{}
		default:
			if _, err := fmt.Sscanf(line, "@ %d %d.", &w, &n); err == nil {
				done[w] = n
			}
		}
	}
	return done, first
}

// life is what there is of a worker.
type life struct {
	Volume, Network bool
	Name            string // of its container; empty: there is none
	Memory          int64
	Networks        int // that the container is in
	Runs            bool
}

// turn is an operation and what it makes of a life.
type turn struct {
	name   string
	do     func(s *stepper, w string) error
	change func(l *life)
}

// turns are done again and again.
var turns = []turn{
	{"volume create", func(s *stepper, w string) error {
		return s.try("POST", "/volumes/create", harness.M{"Name": "volume" + w})
	}, func(l *life) { l.Volume = true }},
	{"network create", func(s *stepper, w string) error {
		return s.try("POST", "/networks/create", harness.M{"Name": "another" + w})
	}, func(l *life) { l.Network = true }},
	{"create", func(s *stepper, w string) error {
		policy := ""
		if w == "1" {
			policy = "unless-stopped"
		}
		return s.try("POST", "/containers/create?name=one"+w, harness.M{
			"Image": "busybox", "Cmd": []string{"sleep", "1000"}, "Volumes": harness.M{"/anonymous": harness.M{}},
			"HostConfig": harness.M{
				"Memory": 64 << 20, "RestartPolicy": harness.M{"Name": policy}, "Binds": []string{"volume" + w + ":/data"},
			},
		})
	}, func(l *life) { l.Name, l.Memory, l.Networks = "/one", 64<<20, 1 }},
	{"start", func(s *stepper, w string) error { return s.try("POST", "/containers/one"+w+"/start", nil) },
		func(l *life) { l.Runs = true }},
	{"update", func(s *stepper, w string) error {
		return s.try("POST", "/containers/one"+w+"/update", harness.M{"Memory": 96 << 20, "MemorySwap": 192 << 20})
	}, func(l *life) { l.Memory = 96 << 20 }},
	{"rename", func(s *stepper, w string) error {
		return s.try("POST", "/containers/one"+w+"/rename?name=two"+w, nil)
	}, func(l *life) { l.Name = "/two" }},
	{"connect", func(s *stepper, w string) error {
		return s.try("POST", "/networks/another"+w+"/connect", harness.M{"Container": "two" + w})
	}, func(l *life) { l.Networks = 2 }},
	{"disconnect", func(s *stepper, w string) error {
		return s.try("POST", "/networks/another"+w+"/disconnect", harness.M{"Container": "two" + w})
	}, func(l *life) { l.Networks = 1 }},
	{"stop", func(s *stepper, w string) error { return s.try("POST", "/containers/two"+w+"/stop?t=0", nil) },
		func(l *life) { l.Runs = false }},
	{"start again", func(s *stepper, w string) error { return s.try("POST", "/containers/two"+w+"/start", nil) },
		func(l *life) { l.Runs = true }},
	{"remove", func(s *stepper, w string) error { return s.try("DELETE", "/containers/two"+w+"?force=1&v=1", nil) },
		func(l *life) { l.Name, l.Memory, l.Networks, l.Runs = "", 0, 0, false }},
	{"network remove", func(s *stepper, w string) error { return s.try("DELETE", "/networks/another"+w, nil) },
		func(l *life) { l.Network = false }},
	{"volume remove", func(s *stepper, w string) error { return s.try("DELETE", "/volumes/volume"+w, nil) },
		func(l *life) { l.Volume = false }},
}

func (s *stepper) work(w int) {
	for n := 0; ; n++ {
		turn := turns[n%len(turns)]
		if err := turn.do(s, fmt.Sprint(w)); err != nil || s.t.Failed() {
			s.t.Errorf("%s: %v", turn.name, err)
			return
		}
		say(s.t, fmt.Sprintf("@ %d %d.", w, n+1))
	}
}

// after is what there is after n turns.
func after(w, n int) (l life) {
	for _, turn := range turns[:n%len(turns)] {
		turn.change(&l)
	}
	l.Runs = l.Runs && w == 1 // who has no restart policy has ended with the machine
	return l
}

// checkLife checks that what there is of a worker is what there was after the turns that it has done, or after the next.
func (s *stepper) checkLife(w, done int) {
	if done < 0 {
		return
	}
	old, next := after(w, done), after(w, done+1)
	s.t.Logf("worker %d was at %q: there is %+v or %+v", w, turns[done%len(turns)].name, old, next)
	var was life
	s.Eventually("there is one of them", func() bool {
		is := s.life(w)
		if is != was {
			s.t.Logf("there is %+v", is)
			was = is
		}
		return is == old || is == next
	})
}

func (s *stepper) life(w int) (l life) {
	suffix := fmt.Sprint(w)
	l.Volume = slices.Contains(s.volumes(), "volume"+suffix)
	l.Network = slices.Contains(s.networkNames(), "another"+suffix)
	for _, id := range s.Containers() {
		var c struct {
			Name            string
			State           struct{ Running, Dead bool }
			HostConfig      struct{ Memory int64 }
			NetworkSettings struct{ Networks map[string]any }
		}
		resp := s.HTTP("GET", "/containers/"+id+"/json", nil)
		assert.Assert(s.t, resp.Status == 200 && json.Unmarshal([]byte(resp.Body), &c) == nil, "%d %s", resp.Status, resp.Body)
		assert.Check(s.t, !c.State.Dead, "%s", resp.Body)
		name, mine := strings.CutSuffix(c.Name, suffix)
		if !mine {
			continue
		}
		assert.Check(s.t, l.Name == "", "worker %d has two containers", w)
		l.Name, l.Memory, l.Networks, l.Runs = name, c.HostConfig.Memory, len(c.NetworkSettings.Networks), c.State.Running
	}
	return l
}
