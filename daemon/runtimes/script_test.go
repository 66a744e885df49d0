package runtimes

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/berthd/berth/daemon/config"
)

// printer is a runtime that answers with its arguments, each ended by a NUL.
func printer(t *testing.T, path string) string {
	t.Helper()
	assert.NilError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	assert.NilError(t, os.WriteFile(path, []byte("#!/bin/sh\nprintf '%s\\0' \"$@\"\n"), 0o700))
	return path
}

func answer(t *testing.T, path string, args ...string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), path, args...).Output()
	assert.NilError(t, err)
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

// Whatever the arguments are, they arrive as they are, and so do those that the shim adds.
func TestArgumentsArriveExactly(t *testing.T) {
	dir := t.TempDir()
	nasty := []string{
		"", " ", "a b", "'", "''", `"`, `\`, `\'`, "$HOME", "${x}", "$(echo no)", "`echo no`", "a\nb", "\n", "\t",
		"*", "?", "~", "#x", "-n", "--", "!", "!!", "&", "|", ";", "<", ">", "(", ")", "{a,b}", "[x]", "ü😀", "\x01\x7f\xff", "=",
		"%s", `'"'"'`, "$@",
	}
	for i := range 30 {
		path := printer(t, filepath.Join(dir, fmt.Sprintf("bin %d '$x'\n", i), "run time"))
		args := slices.Clone(nasty)
		rnd := rand.New(rand.NewPCG(1, uint64(i)))
		rnd.Shuffle(len(args), func(i, j int) { args[i], args[j] = args[j], args[i] })
		args = args[:1+rnd.IntN(len(args))]
		script, err := wrapper(path, args)
		assert.NilError(t, err)
		file := filepath.Join(dir, scriptName(script))
		assert.NilError(t, writeScript(file, script))
		assert.DeepEqual(t, answer(t, file, nasty...), append(slices.Clone(args), nasty...))
		assert.DeepEqual(t, answer(t, file), args)
	}
}

// The runtime takes the place of the script: its process, its exit code.
func TestScriptExecs(t *testing.T) {
	script, err := wrapper("/bin/sh", []string{"-c", `echo $$; exit 7`})
	assert.NilError(t, err)
	file := filepath.Join(t.TempDir(), "s")
	assert.NilError(t, writeScript(file, script))
	cmd := exec.CommandContext(t.Context(), file)
	var out bytes.Buffer
	cmd.Stdout = &out
	assert.ErrorContains(t, cmd.Run(), "exit status 7")
	assert.Equal(t, strings.TrimSpace(out.String()), fmt.Sprint(cmd.Process.Pid))
}

// scripts has the content of every file in dir.
func scripts(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	assert.NilError(t, err)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		assert.NilError(t, err)
		all[e.Name()] = string(data)
	}
	return all
}

// Setting up again, whatever changed, leaves the scripts of before as they were.
func TestScriptsStay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "runtimes")
	runtime := func(path string, args ...string) config.Runtime { return config.Runtime{Path: path, Args: args} }
	first := setup(t, dir, config.Runtimes{
		"change-args": runtime("/bin/true", "foo", "bar"),
		"change-path": runtime("/bin/true", "foo"),
		"drop-args":   runtime("/bin/true", "foo", "bar", "baz"),
		"goes-away":   runtime("/bin/true", "bye"),
		"with/slash":  runtime("/bin/true", "x"),
		"dupe":        runtime("/bin/true", "foo", "bar"),
		"no-args":     runtime("/bin/true"),
	})
	st, err := os.Stat(dir)
	assert.NilError(t, err)
	assert.Equal(t, st.Mode().Perm(), os.FileMode(0o700))
	before := scripts(t, dir)
	assert.Equal(t, len(before), 5)
	assert.Equal(t, get(t, first, "change-args").Path, get(t, first, "dupe").Path)
	inodes := map[string]os.FileInfo{}
	for name := range before {
		if inodes[name], err = os.Stat(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		assert.Equal(t, inodes[name].Mode(), os.FileMode(0o700))
	}

	second := setup(t, dir, config.Runtimes{
		"change-args": runtime("/bin/true", "foo", "changed"),
		"change-path": runtime("/bin/false", "foo"),
		"drop-args":   runtime("/bin/true"),
		"with/slash":  runtime("/bin/true", "x"),
		"dupe":        runtime("/bin/true", "foo", "bar"),
	})
	after := scripts(t, dir)
	assert.Equal(t, len(after), 7)
	for name, content := range before {
		assert.Equal(t, after[name], content)
		st, err := os.Stat(filepath.Join(dir, name))
		assert.NilError(t, err)
		assert.Assert(t, os.SameFile(st, inodes[name]), "written again")
	}
	for _, name := range []string{"dupe", "with/slash"} {
		assert.Equal(t, get(t, second, name).Path, get(t, first, name).Path)
	}
	for _, name := range []string{"change-args", "change-path"} {
		assert.Assert(t, get(t, second, name).Path != get(t, first, name).Path)
	}
	assert.Equal(t, get(t, second, "drop-args").Path, "/bin/true")
	_, err = second.Get("goes-away")
	assert.Error(t, err, "unknown or invalid runtime name: goes-away")
	// Who holds a runtime of the first table goes on.
	rt := get(t, first, "goes-away")
	assert.NilError(t, rt.Preflight())
	assert.NilError(t, exec.CommandContext(t.Context(), rt.Path).Run())
	assert.Equal(t, before[filepath.Base(rt.Path)], "#!/bin/sh\nexec '/bin/true' 'bye' \"$@\"\n")
}

// A script that is not what its name promises is put right.
func TestDamagedScript(t *testing.T) {
	dir := t.TempDir()
	rts := config.Runtimes{"r": {Path: "/bin/true", Args: []string{"x"}}}
	path := get(t, setup(t, dir, rts), "r").Path
	want := scripts(t, dir)
	for _, damage := range []func() error{
		func() error { return os.Truncate(path, 5) },
		func() error { return os.Chmod(path, 0o600) },
		func() error { return os.Remove(path) },
		func() error { return os.Remove(dir + "/" + filepath.Base(path)) },
	} {
		assert.NilError(t, damage())
		assert.Equal(t, get(t, setup(t, dir, rts), "r").Path, path)
		assert.DeepEqual(t, scripts(t, dir), want)
		assert.NilError(t, exec.CommandContext(t.Context(), path).Run())
	}
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	table := setup(t, dir, config.Runtimes{
		"used": {Path: "/bin/true", Args: []string{"used"}}, "unused": {Path: "/bin/true", Args: []string{"unused"}},
	})
	used := get(t, table, "used").Path
	assert.NilError(t, os.WriteFile(filepath.Join(dir, ".tmp-123"), nil, 0o600))
	assert.NilError(t, Prune(dir, func(path string) bool { return path == used }))
	assert.DeepEqual(t, slices.Collect(maps.Keys(scripts(t, dir))), []string{filepath.Base(used)})
	assert.NilError(t, Prune(filepath.Join(dir, "none"), func(string) bool { return false }))
	assert.ErrorContains(t, Prune(used, func(string) bool { return false }), "delete old wrapper scripts")
}

// A folder that cannot be written is a fault of the machine, and nothing is in use.
func TestUnwritableDir(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	assert.NilError(t, os.WriteFile(file, nil, 0o600))
	cfg := configWith(config.Runtimes{"r": {Path: "/bin/true", Args: []string{"x"}}})
	table, _, err := Setup(t.Context(), cfg, filepath.Join(file, "runtimes"))
	assert.ErrorContains(t, err, "runtime r: write its wrapper script: ")
	assert.DeepEqual(t, table.Names(), []string(nil))
	assert.NilError(t, Validate(cfg))
}

// Set-ups side by side want the same scripts; each finds them whole.
func TestSetupSideBySide(t *testing.T) {
	dir := t.TempDir()
	rts := config.Runtimes{}
	for i := range 5 {
		rts[fmt.Sprint(i)] = config.Runtime{Path: "/bin/true", Args: []string{fmt.Sprint(i)}}
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			table, _, err := Setup(context.Background(), configWith(rts), dir)
			if err != nil {
				t.Error(err)
				return
			}
			for name := range rts {
				if rt, err := table.Get(name); err != nil || exec.Command(rt.Path).Run() != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
	assert.Equal(t, len(scripts(t, dir)), 5)
}

// program is an executable shell script.
func program(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rt")
	assert.NilError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700))
	return path
}

// A runtime that does not say what it can do is warned of, and can be used all the same.
func TestFeatures(t *testing.T) {
	asked := filepath.Join(t.TempDir(), "asked")
	for _, c := range []struct{ text, want, features string }{
		{`echo "$@" >` + asked + `; echo '{ "ociVersionMin": "1.0.0" }'`, "", `{"ociVersionMin":"1.0.0"}`},
		{`echo no such command >&2; exit 3`, "exit status 3: no such command", ""},
		{`echo nonsense`, "invalid answer: ", ""},
		{`echo '{"hooks": 5}'`, "invalid answer: ", ""},
		{`yes '{' | head -c 3000000`, "an answer of more than 1048576 bytes", ""},
		{`sleep 60 & sleep 60`, "no answer within 2s", ""},
		{`trap '' TERM HUP INT; while :; do sleep 60; done`, "no answer within 2s", ""},
	} {
		path := program(t, c.text)
		start := time.Now()
		table, warnings, err := Setup(t.Context(), configWith(config.Runtimes{
			"a": {Path: path}, "b": {Path: path}, "args": {Path: path, Args: []string{"--x y"}},
		}), t.TempDir())
		assert.NilError(t, err)
		assert.Assert(t, time.Since(start) < 8*time.Second)
		for _, name := range []string{"a", "b", "args"} {
			assert.Equal(t, get(t, table, name).Features, c.features)
		}
		if c.want == "" {
			assert.Equal(t, len(warnings), 0)
			continue
		}
		assert.Equal(t, len(warnings), 2) // one for the binary, one for the script
		assert.Assert(t, strings.Contains(strings.Join(warnings, "\n"), "["+path+" features]: "+c.want), warnings)
	}
	data, err := os.ReadFile(asked)
	assert.NilError(t, err)
	assert.Assert(t, string(data) == "features\n" || string(data) == "--x y features\n", "%q", data)
}

// Who gives up waiting gets no table.
func TestSetupCancelled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, _, err := Setup(ctx, configWith(config.Runtimes{"a": {Path: program(t, "sleep 60")}}), t.TempDir())
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}

// A runtime that hangs takes what it started with it; what got away is at least not waited for.
func TestFeaturesLeaveNothing(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	start := time.Now()
	_, warnings, err := Setup(t.Context(), configWith(config.Runtimes{
		"hangs": {Path: program(t, "sleep 60 & echo $! >"+pids+"; sleep 60")},
		"leaks": {Path: program(t, "setsid sleep 60 & echo $! >"+pids+"-away; sleep 60")},
	}), t.TempDir())
	assert.NilError(t, err)
	assert.Equal(t, len(warnings), 2)
	assert.Assert(t, time.Since(start) < 10*time.Second)

	away := pid(t, pids+"-away")
	assert.NilError(t, syscall.Kill(away, syscall.SIGKILL), "it got away, so it was there")
	child := pid(t, pids)
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		// Who adopted it may leave it a zombie.
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return poll.Success()
		}
		return poll.Continue("%d runs", child)
	}, poll.WithTimeout(5*time.Second))
}

func pid(t *testing.T, file string) int {
	t.Helper()
	data, err := os.ReadFile(file)
	assert.NilError(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	assert.NilError(t, err)
	return n
}
