package faults

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
	"github.com/berthd/berth/internal/testimage"
)

// full is a container with everything that a start has to take and give back.
func full() harness.M {
	return harness.M{
		"Image": "busybox", "Cmd": []string{"sleep", "1000"}, "ExposedPorts": harness.M{"80/tcp": harness.M{}},
		"Volumes": harness.M{"/anonymous": harness.M{}},
		"HostConfig": harness.M{
			"IpcMode":      "shareable",
			"Memory":       64 << 20,
			"PortBindings": harness.M{"80/tcp": []harness.M{{"HostPort": "8080"}}},
			"Mounts": []harness.M{{"Type": "volume", "Source": "memory", "Target": "/memory", "VolumeOptions": harness.M{
				"DriverConfig": harness.M{"Name": "local", "Options": harness.M{"type": "tmpfs", "device": "tmpfs"}},
			}}},
		},
	}
}

func runFull(s *stepper) {
	s.id = s.Create("one", full())
	s.API.Start(s.id)
}

// alive tells whether the container runs, once the daemon shows what is so.
func (s *stepper) alive(name string) bool {
	s.t.Helper()
	var running bool
	s.Eventually("what is shown of the process is so", func() bool {
		state := s.Inspect(name).State
		running = state.Running
		if !running {
			return !slices.ContainsFunc(s.processes(), func(p string) bool { return strings.HasSuffix(p, " sleep 1000") })
		}
		_, err := os.Stat(s.Sandbox.Proc(state.Pid))
		return err == nil
	})
	return running
}

func (s *stepper) processes() []string {
	st, err := s.Sandbox.State()
	assert.NilError(s.t, err)
	return st.Processes
}

// checkRuns checks that a container of runFull can be used: its port leads to it, its volumes are mounted, its limit is as
// shown, it has the interfaces that are shown, their addresses in its hosts file, and the right default route.
func (s *stepper) checkRuns(name string) {
	s.t.Helper()
	out, code := s.Exec(name, "sh", "-c", "nc -l -p 80 -e echo hello >/dev/null 2>&1 & "+
		"grep -c -e ' /memory ' -e ' /anonymous ' /proc/mounts; ls /sys/class/net; "+
		"grep -c $(hostname) /etc/hosts; ip route | grep default | cut -d ' ' -f 3; "+
		"cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max")
	assert.Check(s.t, code == 0, "%q", out)
	s.Eventually("the published port leads to the container", func() bool {
		answer, err := s.Sandbox.Machine().Ask("tcp", "127.0.0.1:8080")
		return err == nil && answer == "hello\n"
	})
	var c struct {
		HostConfig      struct{ Memory int64 }
		NetworkSettings struct {
			Networks map[string]struct{ Gateway string }
		}
	}
	s.OK("GET", "/containers/"+name+"/json", nil, &c)
	networks := c.NetworkSettings.Networks
	links := []string{"eth0", "eth1"}[:len(networks)]
	want := strings.Join(slices.Concat([]string{"2"}, links, []string{
		"lo", fmt.Sprint(len(networks)), networks[slices.Min(slices.Collect(maps.Keys(networks)))].Gateway,
		fmt.Sprint(c.HostConfig.Memory),
	}), "\n")
	assert.Check(s.t, strings.TrimSpace(out) == want, "it has %q; shown is %q", out, want)
}

func (s *stepper) volumes() (names []string) {
	var list struct{ Volumes []struct{ Name string } }
	s.OK("GET", "/volumes", nil, &list)
	for _, v := range list.Volumes {
		names = append(names, v.Name)
	}
	return names
}

func (s *stepper) networkNames() (names []string) {
	var list []struct{ Name string }
	s.OK("GET", `/networks?filters={"type":["custom"]}`, nil, &list)
	for _, n := range list {
		names = append(names, n.Name)
	}
	return names
}

func (s *stepper) makeNetwork() error {
	return s.try("POST", "/networks/create", harness.M{"Name": "another", "IPAM": harness.M{"Config": []harness.M{
		{"Subnet": "172.30.0.0/24"},
	}}})
}

var operations = []operation{
	{
		name:    "create",
		prepare: func(*stepper) {},
		do:      func(s *stepper) error { return s.try("POST", "/containers/create?name=one", full()) },
		check: func(s *stepper) bool {
			if ids := s.Containers(); len(ids) > 0 {
				assert.Check(s.t, len(ids) == 1 && s.Inspect("one").State.Status == "created")
				assert.Check(s.t, len(s.volumes()) == 2, "%v", s.volumes())
				return true
			}
			s.Eventually("the anonymous volume goes", func() bool {
				return !slices.ContainsFunc(s.volumes(), func(name string) bool { return name != "memory" })
			})
			return false
		},
		passes: []string{"the lease", "made the layer", "the volume's directory", "replaced record.json"},
	},
	{
		name: "create the first container of an image",
		prepare: func(s *stepper) {
			layer := testimage.Layer(s.t, testimage.File{Name: "new", Body: rand.Text()})
			resp := s.HTTP("POST", "/images/create?fromSrc=-&repo=new", bytes.NewReader(layer))
			assert.Equal(s.t, resp.Status, 200, resp.Body)
		},
		do: func(s *stepper) error {
			return s.try("POST", "/containers/create?name=one", harness.M{"Image": "new", "Cmd": []string{"true"}})
		},
		check: func(s *stepper) bool {
			ids := s.Containers()
			for _, id := range ids {
				s.Remove(id)
			}
			s.OK("DELETE", "/images/new", nil, nil)
			return len(ids) > 0
		},
		passes: []string{"made the layer of mount points", "committed the layer of mount points"},
	},
	{
		name:    "start",
		runs:    true,
		prepare: func(s *stepper) { s.Create("one", full()) },
		do:      func(s *stepper) error { return s.try("POST", "/containers/one/start", nil) },
		check: func(s *stepper) bool {
			done := s.alive("one")
			if !done {
				assert.Check(s.t, s.Inspect("one").State.Status == "created", "%+v", s.Inspect("one").State)
				s.OK("POST", "/containers/one/start", nil, nil)
			}
			s.checkRuns("one")
			return done
		},
		passes: []string{"mounted the layer", "mounted the volume", "pinned the network", "made the device veth", "wrote the firewall",
			"mounted the shared memory", "wrote the bundle", "replaced record.json", "started the shim", "CreateTask", "StartRequest"},
	},
	{
		name:    "stop",
		runs:    true,
		prepare: runFull,
		do: func(s *stepper) error {
			if err := s.try("POST", "/containers/one/stop?t=0", nil); err != nil {
				return err
			}
			for s.Running() { // what the run had is given back behind the answer
				record, err := os.ReadFile(s.File("d/containers", s.id, "record.json"))
				if err != nil || !strings.Contains(string(record), "ShimID") {
					return err
				}
			}
			return errors.New("the daemon died behind the answer")
		},
		check: func(s *stepper) bool {
			if s.alive("one") {
				s.checkRuns("one")
				return false
			}
			state := s.Inspect("one").State
			assert.Check(s.t, state.Status == "exited" && state.ExitCode == 137 && state.Error == "", "%+v", state)
			return true
		},
		passes: []string{"replaced record.json", "KillRequest", "WaitRequest", "DeleteRequest", "removed the bundle", "unplugged the device veth",
			"unpinned the network", "unmounted the layer", "unmounted the volume", "unmounted the shared"},
	},
	{
		name:    "rename",
		runs:    true,
		prepare: runFull,
		do:      func(s *stepper) error { return s.try("POST", "/containers/one/rename?name=two", nil) },
		check: func(s *stepper) bool {
			assert.Check(s.t, s.alive(s.Containers()[0]))
			return s.Inspect(s.Containers()[0]).Name == "/two"
		},
		passes: []string{"replaced record.json"},
	},
	{
		name:    "update",
		runs:    true,
		prepare: runFull,
		do: func(s *stepper) error {
			return s.try("POST", "/containers/one/update", harness.M{"Memory": 96 << 20, "MemorySwap": 192 << 20})
		},
		check: func(s *stepper) bool {
			s.checkRuns("one")
			return s.Inspect("one").HostConfig.Memory == 96<<20
		},
		passes: []string{"UpdateTask", "replaced record.json"},
	},
	{
		name:    "exec",
		runs:    true,
		prepare: runFull,
		do: func(s *stepper) error {
			resp, err := s.Try("POST", "/containers/one/exec", harness.M{"Cmd": []string{"sleep", "999"}})
			if err != nil {
				return err
			}
			_, id, _ := strings.Cut(resp.Body, `:"`)
			return s.try("POST", "/exec/"+id[:64]+"/start", harness.M{"Detach": true})
		},
		check: func(s *stepper) (done bool) {
			s.checkRuns("one")
			shown := s.Inspect("one").ExecIDs
			assert.Check(s.t, len(shown) <= 1, "%v", shown)
			var x struct{ Running bool }
			if len(shown) > 0 {
				s.OK("GET", "/exec/"+shown[0]+"/json", nil, &x)
			}
			s.Eventually("what is shown of the exec is so", func() bool {
				n := 0
				for _, p := range s.processes() {
					if strings.HasSuffix(p, " sleep 999") {
						n++
					}
				}
				return x.Running == (n == 1)
			})
			return x.Running
		},
		passes: []string{"ExecProcess", "StartRequest"},
	},
	{
		name:    "remove",
		runs:    true,
		prepare: runFull,
		do:      func(s *stepper) error { return s.try("DELETE", "/containers/one?force=1&v=1", nil) },
		check: func(s *stepper) bool {
			if len(s.Containers()) == 0 {
				assert.Check(s.t, len(s.volumes()) == 1, "%v", s.volumes())
				return true
			}
			assert.Check(s.t, s.alive("one"))
			s.checkRuns("one")
			return false
		},
		passes: []string{"replaced record.json", "KillRequest", "removed the layer", "dropped the lease", "removed the volume's record",
			"removed the container's directory"},
	},
	{
		name: "connect",
		runs: true,
		prepare: func(s *stepper) {
			assert.NilError(s.t, s.makeNetwork())
			runFull(s)
		},
		do: func(s *stepper) error {
			return s.try("POST", "/networks/another/connect", harness.M{"Container": "one"})
		},
		check:  func(s *stepper) bool { s.checkRuns("one"); return s.onNetworks() == 2 },
		passes: []string{"made the device veth", "replaced record.json", "wrote the container's hosts"},
	},
	{
		name: "connect to a macvlan network",
		runs: true,
		prepare: func(s *stepper) {
			assert.NilError(s.t, s.try("POST", "/networks/create", harness.M{
				"Name": "on-cable", "Driver": "macvlan", "Options": harness.M{"parent": "cable"},
			}))
			runFull(s)
		},
		do: func(s *stepper) error {
			return s.try("POST", "/networks/on-cable/connect", harness.M{"Container": "one"})
		},
		check:  func(s *stepper) bool { s.checkRuns("one"); return s.onNetworks() == 2 },
		passes: []string{"made the interface", "replaced record.json", "wrote the container's hosts"},
	},
	{
		name: "disconnect",
		runs: true,
		prepare: func(s *stepper) {
			assert.NilError(s.t, s.makeNetwork())
			runFull(s)
			assert.NilError(s.t, s.try("POST", "/networks/another/connect", harness.M{"Container": "one"}))
		},
		do: func(s *stepper) error {
			return s.try("POST", "/networks/another/disconnect", harness.M{"Container": "one"})
		},
		check:  func(s *stepper) bool { s.checkRuns("one"); return s.onNetworks() == 1 },
		passes: []string{"removed the device veth", "replaced record.json"},
	},
	{
		name:    "volume create",
		prepare: func(*stepper) {},
		do: func(s *stepper) error {
			return s.try("POST", "/volumes/create", harness.M{"Name": "data", "Labels": harness.M{"a": "b"}})
		},
		check: func(s *stepper) bool {
			done := slices.Contains(s.volumes(), "data")
			var v struct{ Labels map[string]string }
			s.OK("POST", "/volumes/create", harness.M{"Name": "data"}, &v)
			assert.Check(s.t, (v.Labels["a"] == "b") == done, "%v", v)
			return done
		},
		passes: []string{"the volume's directory", "replaced data.json"},
	},
	{
		name: "volume remove",
		prepare: func(s *stepper) {
			s.OK("POST", "/volumes/create", harness.M{"Name": "data"}, nil)
			spec := harness.Spec("touch", "/data/file")
			spec["HostConfig"].(harness.M)["Binds"] = []string{"data:/data"}
			id := s.Create("", spec)
			s.API.Start(id)
			s.Wait(id)
			s.Remove(id)
		},
		do:     func(s *stepper) error { return s.try("DELETE", "/volumes/data", nil) },
		check:  func(s *stepper) bool { return len(s.volumes()) == 0 },
		passes: []string{"set the removed volume aside", "removed the volume's record"},
	},
	{
		name:    "network create",
		prepare: func(*stepper) {},
		do:      func(s *stepper) error { return s.makeNetwork() },
		check: func(s *stepper) bool {
			done := slices.Contains(s.networkNames(), "another")
			if !done {
				assert.NilError(s.t, s.makeNetwork())
			}
			spec := harness.Spec("true")
			spec["HostConfig"] = harness.M{"NetworkMode": "another"}
			id := s.Create("", spec)
			s.API.Start(id)
			assert.Check(s.t, s.Wait(id) == 0)
			return done
		},
		passes: []string{"replaced networks.json", "made the device br-", "wrote the firewall"},
	},
	{
		name:    "network remove",
		prepare: func(s *stepper) { assert.NilError(s.t, s.makeNetwork()) },
		do:      func(s *stepper) error { return s.try("DELETE", "/networks/another", nil) },
		check:   func(s *stepper) bool { return len(s.networkNames()) == 0 },
		passes:  []string{"replaced networks.json", "removed the device br-"},
	},
	{
		name:    "rename what does not run",
		prepare: func(s *stepper) { s.Create("one", full()) },
		do:      func(s *stepper) error { return s.try("POST", "/containers/one/rename?name=two", nil) },
		check:   func(s *stepper) bool { return s.Inspect(s.Containers()[0]).Name == "/two" },
		passes:  []string{"replaced record.json"},
	},
	{
		name:    "remove what does not run",
		prepare: func(s *stepper) { s.Create("one", full()) },
		do:      func(s *stepper) error { return s.try("DELETE", "/containers/one?v=1", nil) },
		check:   func(s *stepper) bool { return len(s.Containers()) == 0 && len(s.volumes()) == 1 },
		passes:  []string{"removed the layer", "removed the container's directory"},
	},
}

// onNetworks is how many networks the container one is in.
func (s *stepper) onNetworks() int {
	var c struct {
		NetworkSettings struct{ Networks map[string]any }
	}
	s.OK("GET", "/containers/one/json", nil, &c)
	return len(c.NetworkSettings.Networks)
}
