package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/berthd/berth"
	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/integration/harness"
)

// reloads is an engine whose configuration file changes at random.
type reloads struct {
	*harness.Engine
	t     *testing.T
	dir   string
	rand  *rand.Rand
	start map[string]string // every key as the engine was started with it
}

// configReport is the configuration as GET /berth/config shows it.
type configReport struct {
	Generation int
	Keys       []struct {
		Key, Origin         string
		Running, Configured json.RawMessage
		Reloadable          bool
	}
}

// running has the value of every key that is in force, and wants the value of every key that is configured.
func (c configReport) values() (running, wants map[string]string) {
	running, wants = map[string]string{}, map[string]string{}
	for _, k := range c.Keys {
		running[k.Key], wants[k.Key] = string(k.Running), string(k.Running)
		if k.Configured != nil {
			wants[k.Key] = string(k.Configured)
		}
	}
	return running, wants
}

// first is the file that an engine is started with.
func (r *reloads) first() harness.M {
	return harness.M{"hosts": []string{r.address(0)}, "storage-driver": "native"}
}

func startReloads(t *testing.T) *reloads {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := &reloads{t: t, dir: t.TempDir(), rand: rand.New(rand.NewPCG(seed, 0))}
	newAuthority(t, r.dir)
	r.write(r.first())
	r.Engine = harness.StartEngine(t, func(o *berth.Options) { o.ConfigFile = r.file() })
	assert.NilError(t, r.Listen(t.Context()))
	return r
}

// TestSoakReloadSequences reloads random configurations, of which many have something wrong with them. After one that
// was accepted the configuration is that of an engine that is started with the file, but for keys of which the reload
// said that they need a restart; after one that was rejected nothing has changed.
func TestSoakReloadSequences(t *testing.T) {
	r := startReloads(t)
	r.start, _ = r.config().values()
	files := openFiles(t)
	for n := range 3 * len(faults) * *soak {
		r.accept(r.random())
		r.reject(faults[n%len(faults)])
	}
	r.write(r.first())
	assert.Equal(t, r.Reload(t.Context()).Outcome, config.Applied)
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if now := openFiles(t); now > files {
			return poll.Continue("%d open files, %d at the start", now, files)
		}
		return poll.Success()
	}, poll.WithTimeout(20*time.Second))
}

func (r *reloads) file() string { return filepath.Join(r.dir, "daemon.json") }

func (r *reloads) write(file harness.M) {
	assert.NilError(r.t, os.WriteFile(r.file(), []byte(harness.JSON(file)), 0o600))
}

func (r *reloads) config() (c configReport) {
	r.OK("GET", "/berth/config", nil, &c)
	return c
}

// accept reloads a file in which nothing is wrong.
func (r *reloads) accept(file harness.M) {
	r.write(file)
	verdict := r.Reload(r.t.Context())
	assert.Assert(r.t, verdict.Outcome != config.Rejected, verdict.String())
	told := map[string]config.Outcome{}
	for _, c := range verdict.Changes {
		told[c.Key] = c.Outcome
	}
	c := r.config()
	running, wants := c.values()
	for key, is := range running {
		if is == wants[key] {
			assert.Assert(r.t, told[key] != config.NeedsRestart, "%s needs no restart: %s is in force", key, is)
			continue
		}
		assert.Equal(r.t, told[key], config.NeedsRestart, "%s is %s, not %s, and nothing says so", key, is, wants[key])
		assert.Equal(r.t, is, r.start[key], "%s needs a restart, but was changed", key)
	}
	if r.rand.IntN(10) == 0 {
		r.checkFresh(c)
	}
	assert.DeepEqual(r.t, r.reached(), slices.Sorted(slices.Values(file["hosts"].([]string))))
}

// reject reloads a file with something wrong.
func (r *reloads) reject(f fault) {
	ctx, mend := f.inject(r, r.random())
	defer mend()
	before := r.all()
	verdict := r.Reload(ctx)
	assert.Equal(r.t, verdict.Outcome, config.Rejected, "%s: %s", f.name, verdict)
	assert.DeepEqual(r.t, r.all(), before)
}

// all is everything that a reload can change, as users see it.
func (r *reloads) all() harness.M {
	var info harness.M
	r.OK("GET", "/info", nil, &info)
	for _, volatile := range []string{"SystemTime", "NFd", "NGoroutines", "NEventsListener"} {
		delete(info, volatile)
	}
	return harness.M{"info": info, "config": r.config(), "reached": r.reached()}
}

// addresses is how many there are to choose from.
const addresses = 5

func (r *reloads) address(n int) string {
	if n < 3 {
		return fmt.Sprintf("unix://%s/%d.sock", r.dir, n)
	}
	return fmt.Sprintf("tcp://127.0.0.1:%d", 24400+n)
}

// reached are the addresses that somebody listens on.
func (r *reloads) reached() []string {
	reached := []string{}
	for n := range addresses {
		proto, addr, _ := strings.Cut(r.address(n), "://")
		if conn, err := net.Dial(proto, addr); err == nil {
			assert.NilError(r.t, conn.Close())
			reached = append(reached, r.address(n))
		}
	}
	slices.Sort(reached)
	return reached
}

// checkFresh starts another engine with the file as it is.
func (r *reloads) checkFresh(c configReport) {
	dir, err := os.MkdirTemp(os.Getenv("SANDBOX"), "f")
	assert.NilError(r.t, err)
	before := devices(r.t)
	defer func() { // its bridge stays, as dockerd's does, and keeps a pool of addresses
		for _, name := range devices(r.t) {
			if !slices.Contains(before, name) {
				out, err := exec.Command("ip", "link", "delete", name).CombinedOutput()
				assert.NilError(r.t, err, "%s", out)
			}
		}
	}()
	fresh, err := berth.New(r.t.Context(), berth.Options{
		DataRoot: filepath.Join(dir, "d"), ExecRoot: filepath.Join(dir, "e"), ConfigFile: r.file(),
		ShimPath: harness.ShimPath(),
	})
	assert.NilError(r.t, err)
	data, err := json.Marshal(fresh.Daemon().ConfigReport())
	assert.NilError(r.t, err)
	assert.NilError(r.t, fresh.Close(context.Background()))
	var f configReport
	assert.NilError(r.t, json.Unmarshal(data, &f))
	running, _ := f.values()
	_, wants := c.values()
	for _, own := range []string{"data-root", "exec-root"} {
		delete(running, own)
		delete(wants, own)
	}
	assert.DeepEqual(r.t, wants, running)
	for i := range f.Keys {
		assert.Equal(r.t, f.Keys[i].Origin, c.Keys[i].Origin, f.Keys[i].Key)
	}
}

func devices(t *testing.T) (names []string) {
	all, err := net.Interfaces()
	assert.NilError(t, err)
	for _, dev := range all {
		names = append(names, dev.Name)
	}
	return names
}

// random is a file in which nothing is wrong.
func (r *reloads) random() harness.M {
	one := func(choices ...any) any { return choices[r.rand.IntN(len(choices))] }
	hosts := []string{}
	for n := range addresses {
		if r.rand.IntN(2) == 0 {
			hosts = append(hosts, r.address(n))
		}
	}
	if len(hosts) == 0 {
		hosts = append(hosts, r.address(1))
	}
	file := harness.M{"hosts": hosts}
	runtime := func() harness.M {
		return harness.M{"path": "true", "runtimeArgs": []string{fmt.Sprint(r.rand.IntN(5)), "a b"}}
	}
	for key, value := range map[string]any{
		"labels":               one([]string{"a=1"}, []string{"a=1", "b=2"}, []string{}),
		"debug":                one(true, false),
		"log-level":            one("warn", "error"),
		"live-restore":         one(true, false),
		"shutdown-timeout":     one(1, 20, 0),
		"default-stop-timeout": one(0, 3),
		"runtimes":             harness.M{"x": runtime(), "y": harness.M{"path": one("/no/such", "runc")}},
		"default-ulimits":      harness.M{"nofile": harness.M{"Name": "nofile", "Soft": 10, "Hard": one(20, 30)}},
		"default-shm-size":     one("1m", 4096),
		"log-driver":           one("local", "json-file"),
		"log-opts":             harness.M{"max-size": one("1m", "2m")},
		"dns":                  one([]string{"1.1.1.1"}, []string{}),
		"features":             one(harness.M{"x": true}, harness.M{}),
		"proxies":              harness.M{"http-proxy": one("http://u:p@h:1", "http://h:2")},
		"storage-driver":       one("overlay2", "native"),
		"no-new-privileges":    one(true, false),
		"experimental":         one(true, false),
		"cgroup-parent":        one("/x", ""),
		"tls":                  one(true, false),
		"tlscert":              filepath.Join(r.dir, "cert.pem"),
		"tlskey":               filepath.Join(r.dir, "key.pem"),
	} {
		if r.rand.IntN(2) == 0 || strings.HasPrefix(key, "tls") {
			file[key] = value
		}
	}
	if file["runtimes"] != nil && r.rand.IntN(2) == 0 {
		file["default-runtime"] = "x"
	}
	return file
}

// fault is what can go wrong. inject writes the file, breaks it or what is around it, and returns what to reload under.
type fault struct {
	name   string
	inject func(r *reloads, file harness.M) (_ context.Context, mend func())
}

// faults are in the order of the steps that a reload has.
var faults = []fault{
	{"no file", func(r *reloads, _ harness.M) (context.Context, func()) {
		assert.NilError(r.t, os.Remove(r.file()))
		return r.t.Context(), func() {}
	}},
	{"file cut off", func(r *reloads, file harness.M) (context.Context, func()) {
		text := harness.JSON(file)
		assert.NilError(r.t, os.WriteFile(r.file(), []byte(text[:r.rand.IntN(len(text)-1)+1]), 0o600))
		return r.t.Context(), func() {}
	}},
	{"unknown key", faultyKey("lables", []string{"a=1"})},
	{"value of a wrong type", faultyKey("debug", "yes")},
	{"value that is not allowed", faultyKey("default-shm-size", -1)},
	{"feature that is missing", faultyKey("selinux-enabled", true)},
	{"unknown default runtime", faultyKey("default-runtime", "nope")},
	{"options of a runtime", faultyKey("runtimes", harness.M{"z": harness.M{"runtimeType": "io.containerd.runc.v2",
		"options": harness.M{"Nope": 1}}})},
	{"unknown log driver", faultyKey("log-driver", "nope")},
	{"unknown log option", faultyKey("log-opts", harness.M{"nope": "1"})},
	{"no seccomp profile", faultyKey("seccomp-profile", "/no/such")},
	{"script cannot be written", func(r *reloads, file harness.M) (context.Context, func()) {
		dir := filepath.Join(r.Dir, "d", "runtimes")
		assert.NilError(r.t, os.Rename(dir, dir+".away"))
		assert.NilError(r.t, os.WriteFile(dir, nil, 0o600))
		file["runtimes"] = harness.M{"x": harness.M{"path": "true", "runtimeArgs": []string{"never before"}}}
		r.write(file)
		return r.t.Context(), func() {
			assert.NilError(r.t, os.Remove(dir))
			assert.NilError(r.t, os.Rename(dir+".away", dir))
		}
	}},
	{"cancelled while runtimes are asked", func(r *reloads, file harness.M) (context.Context, func()) {
		r.write(file)
		ctx, cancel := context.WithCancel(r.t.Context())
		cancel()
		return ctx, func() {}
	}},
	{"no certificate", func(r *reloads, file harness.M) (context.Context, func()) {
		file["tls"], file["tlscert"] = true, filepath.Join(r.dir, "none.pem")
		r.write(file)
		return r.t.Context(), func() {}
	}},
	{"key of another certificate", func(r *reloads, file harness.M) (context.Context, func()) {
		other := filepath.Join(r.dir, "other")
		assert.NilError(r.t, os.MkdirAll(other, 0o700))
		newAuthority(r.t, other)
		file["tls"], file["tlskey"] = true, filepath.Join(other, "key.pem")
		r.write(file)
		return r.t.Context(), func() {}
	}},
	{"no CA", func(r *reloads, file harness.M) (context.Context, func()) {
		file["tlsverify"], file["tlscacert"] = true, filepath.Join(r.dir, "key.pem")
		r.write(file)
		return r.t.Context(), func() {}
	}},
	{"path that is no socket", func(r *reloads, file harness.M) (context.Context, func()) {
		// The addresses before it have been opened by then.
		file["hosts"] = append(file["hosts"].([]string), "unix://"+r.dir)
		r.write(file)
		return r.t.Context(), func() {}
	}},
	{"port that is taken", func(r *reloads, file harness.M) (context.Context, func()) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		assert.NilError(r.t, err)
		file["hosts"] = append(file["hosts"].([]string), "tcp://"+l.Addr().String())
		r.write(file)
		return r.t.Context(), func() { assert.NilError(r.t, l.Close()) }
	}},
}

// faultyKey writes the file with another value for one key.
func faultyKey(key string, value any) func(*reloads, harness.M) (context.Context, func()) {
	return func(r *reloads, file harness.M) (context.Context, func()) {
		file[key] = value
		if key == "log-opts" {
			file["log-driver"] = "json-file"
		}
		r.write(file)
		return r.t.Context(), func() {}
	}
}
