package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// TestCLI drives a daemon with each docker CLI of this machine. What it expects is what they do on dockerd.
func TestCLI(t *testing.T) {
	for _, path := range harness.CLIs(t) {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			d := harness.Start(t, harness.NoImage())
			for _, sub := range []struct {
				name string
				run  func(*testing.T, *harness.Daemon, *harness.CLI)
			}{
				{"images", cliImages},
				{"run", cliRun},
				{"run with limits", cliRunLimits},
				{"run with files", cliRunFiles},
				{"run that fails", cliRunFails},
				{"ps", cliPs},
				{"logs", cliLogs},
				{"exec", cliExec},
				{"run at a terminal", cliRunTerminal},
				{"attach at a terminal", cliAttachTerminal},
				{"exec at a terminal", cliExecTerminal},
				{"screens", cliScreens},
				{"stop and kill", cliStop},
				{"rename and remove", cliRename},
				{"stats and top", cliUsage},
				{"pause", cliPause},
				{"update", cliUpdate},
				{"restart policies and init", cliRestartAndInit},
				{"health", cliHealth},
				{"prune", cliPrune},
				{"commit", cliCommit},
				{"diff", cliDiff},
				{"cp and export", cliCopy},
				{"events", cliEvents},
				{"info and version", cliInfo},
			} {
				t.Run(sub.name, func(t *testing.T) { sub.run(t, d.For(t), d.CLI(path).For(t)) })
			}
		})
	}
}

func cliImages(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		assert.NilError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		return filepath.Join(dir, name)
	}
	assert.Equal(t, cli.Run("images", "-q"), "")
	assert.Equal(t, cli.Run("load", "-i", write("docker.tar", d.DockerArchive("busybox:latest"))),
		"Loaded image: busybox:latest")
	assert.Equal(t, cli.Run("load", "-i", write("oci.tar", d.OCIArchive("busybox:oci"))), "Loaded image: busybox:oci")
	id := cli.Run("import", "-c", `CMD ["echo", "imported"]`, write("rootfs.tar", d.Rootfs()), "busybox:imported")
	assert.Assert(t, cmp.Regexp("^sha256:[0-9a-f]{64}$", id))
	assert.DeepEqual(t, sorted(cli.Run("images", "--format", "{{.Repository}}:{{.Tag}}")),
		[]string{"busybox:imported", "busybox:latest", "busybox:oci"})
	assert.Equal(t, cli.Run("images", "-q", "--filter", "reference=*:oci"),
		cli.Run("image", "inspect", "-f", `{{slice .Id 7 19}}`, "busybox:oci"))
	assert.Equal(t, cli.Run("image", "inspect", "-f", "{{json .Config.Cmd}}", "busybox"), `["sh"]`)
	assert.Equal(t, cli.Run("image", "inspect", "-f", "{{.Config.Labels.layout}}", "busybox:oci"), "oci")
	assert.Equal(t, cli.Run("run", "--rm", "--network", "none", "busybox:imported"), "imported")
	assert.Equal(t, cli.Run("run", "--rm", "--network", "none", "busybox:oci", "echo", "loaded"), "loaded")

	cli.Run("tag", "busybox", "example.org/team/box:1")
	assert.Equal(t, cli.Run("images", "--format", "{{.Tag}}", "example.org/team/box"), "1")
	assert.Equal(t, cli.Run("rmi", "example.org/team/box:1"), "Untagged: example.org/team/box:1")
	assert.Assert(t, cmp.Contains(cli.Run("rmi", "busybox:oci"), "Untagged: busybox:oci\nDeleted: sha256:"))
	gone := cli.Try("rmi", "busybox:oci")
	assert.Equal(t, gone.Code, 1)
	assert.Assert(t, cmp.Contains(gone.Stderr, "No such image: busybox:oci"))
}

func cliRun(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	for _, tc := range []struct {
		name  string
		flags []string
		cmd   []string
		stdin string
		want  string
	}{
		{name: "attached", cmd: []string{"echo", "hello"}, want: "hello\n"},
		{name: "stdin", flags: []string{"-i"}, cmd: []string{"cat"}, stdin: "a\nb", want: "a\nb"},
		{name: "terminal", flags: []string{"-t"}, cmd: []string{"tty"}, want: "/dev/pts/0\r\n"},
		{name: "environment", flags: []string{"-e", "A=1 2"}, cmd: []string{"sh", "-c", `echo "$A $HOME"`},
			want: "1 2 /root\n"},
		{name: "working directory", flags: []string{"-w", "/made/for/me"}, cmd: []string{"pwd"}, want: "/made/for/me\n"},
		{name: "user by name", flags: []string{"-u", "daemon"}, cmd: []string{"id", "-un"}, want: "daemon\n"},
		{name: "user by number", flags: []string{"-u", "12:34"}, cmd: []string{"sh", "-c", "id -u; id -g"}, want: "12\n34\n"},
		{name: "entrypoint", flags: []string{"--entrypoint", "echo"}, cmd: []string{"a", "b"}, want: "a b\n"},
		{name: "host name", flags: []string{"--hostname", "web1"}, cmd: []string{"hostname"}, want: "web1\n"},
		{name: "hosts", flags: []string{"--hostname", "web1", "--add-host", "db:10.0.0.5"},
			cmd: []string{"grep", "db", "/etc/hosts"}, want: "10.0.0.5\tdb\n"},
		{name: "seccomp", cmd: []string{"grep", "Seccomp:", "/proc/self/status"}, want: "Seccomp:\t2\n"},
		{name: "no seccomp", flags: []string{"--security-opt", "seccomp=unconfined"},
			cmd: []string{"grep", "Seccomp:", "/proc/self/status"}, want: "Seccomp:\t0\n"},
		{name: "capabilities", flags: []string{"--cap-drop", "ALL", "--cap-add", "NET_ADMIN"},
			cmd: []string{"grep", "CapEff", "/proc/self/status"}, want: "CapEff:\t0000000000001000\n"},
		{name: "masked paths", cmd: []string{"sh", "-c", "wc -c </proc/timer_list; ls /sys/firmware"}, want: "0\n"},
		{name: "read-only paths", cmd: []string{"grep", "-o", "^proc /proc/sys proc ro", "/proc/mounts"},
			want: "proc /proc/sys proc ro\n"},
		{name: "its own pids", cmd: []string{"sh", "-c", "echo $$"}, want: "1\n"},
		{name: "no network", cmd: []string{"sh", "-c", "ls /sys/class/net"}, want: "lo\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"run", "--rm", "--network", "none"}, tc.flags...)
			r := cli.For(t).Feed(tc.stdin, append(append(args, "busybox"), tc.cmd...)...)
			assert.Equal(t, r.Stdout, tc.want, "%s", r)
			assert.Equal(t, r.Stderr, "")
			assert.Equal(t, r.Code, 0)
		})
	}
	r := cli.Try("run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
	assert.DeepEqual(t, r, harness.Result{Stdout: "out\n", Stderr: "err\n", Code: 3})
	assert.Equal(t, cli.Run("ps", "-aq"), "", "--rm left a container")

	host, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(d.Sandbox.Pid), "ns/net"))
	assert.NilError(t, err)
	assert.Equal(t, cli.Run("run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net"), host)

	id := cli.Run("run", "-d", "--network", "none", "--name", "detached", "busybox", "sleep", "1000")
	assert.Assert(t, cmp.Regexp("^[0-9a-f]{64}$", id))
	assert.Equal(t, cli.Run("inspect", "-f", "{{.Id}} {{.State.Status}} {{.Config.Image}}", "detached"),
		id+" running busybox")
	assert.Equal(t, cli.Run("rm", "-f", "detached"), "detached")
}

func cliRunLimits(t *testing.T, _ *harness.Daemon, cli *harness.CLI) {
	// the first of two files is that of cgroup v1, the second that of v2
	for _, tc := range []struct {
		name   string
		flags  []string
		v1, v2 string
		want   string // a regular expression
	}{
		{"memory", []string{"-m", "64m"}, "memory/memory.limit_in_bytes", "memory.max", "^67108864$"},
		{"cpus", []string{"--cpus", "0.5"}, "cpu/cpu.cfs_quota_us", "cpu.max", "^50000( 100000)?$"},
		{"pids", []string{"--pids-limit", "50"}, "pids/pids.max", "pids.max", "^50$"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"run", "--rm", "--network", "none"}, tc.flags...)
			got := cli.For(t).Run(append(args, "busybox", "sh", "-c",
				"cd /sys/fs/cgroup; cat "+tc.v1+" 2>/dev/null || cat "+tc.v2)...)
			assert.Assert(t, cmp.Regexp(tc.want, got))
		})
	}
	assert.Equal(t, cli.Run("run", "--rm", "--network", "none", "--ulimit", "nofile=100:200", "busybox",
		"sh", "-c", "ulimit -Sn; ulimit -Hn"), "100\n200")
	assert.Equal(t, cli.Run("run", "--rm", "--network", "none", "--device", "/dev/null:/dev/nothing", "busybox",
		"sh", "-c", "echo x >/dev/nothing; cat /dev/nothing; stat -c %F /dev/nothing"), "character special file")
}

func cliRunFiles(t *testing.T, _ *harness.Daemon, cli *harness.CLI) {
	dir := t.TempDir()
	run := func(args ...string) harness.Result {
		return cli.Try(append([]string{"run", "--rm", "--network", "none"}, args...)...)
	}
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "in"), []byte("from the host"), 0o600))
	r := run("-v", dir+":/data", "busybox", "sh", "-c", "cat /data/in; echo from the container >/data/out")
	assert.DeepEqual(t, r, harness.Result{Stdout: "from the host"})
	out, err := os.ReadFile(filepath.Join(dir, "out"))
	assert.NilError(t, err)
	assert.Equal(t, string(out), "from the container\n")

	r = run("-v", dir+":/data:ro", "busybox", "touch", "/data/x")
	assert.DeepEqual(t, r, harness.Result{Stderr: "touch: /data/x: Read-only file system\n", Code: 1})

	r = run("-v", filepath.Join(dir, "new/folder")+":/data", "busybox", "ls", "/data") // made, as dockerd does for -v
	assert.DeepEqual(t, r, harness.Result{})
	_, err = os.Stat(filepath.Join(dir, "new/folder"))
	assert.NilError(t, err)

	r = run("--mount", "type=bind,src="+dir+"/none,dst=/data", "busybox", "true")
	assert.Equal(t, r.Code, 125)
	assert.Assert(t, cmp.Contains(r.Stderr,
		`invalid mount config for type "bind": bind source path does not exist: `+dir+"/none"))

	r = run("--tmpfs", "/scratch:size=1m,mode=700", "busybox",
		"sh", "-c", "touch /scratch/x && grep -o '/scratch tmpfs.*' /proc/mounts")
	assert.Equal(t, r.Code, 0, "%s", r)
	assert.Assert(t, cmp.Regexp(`^/scratch tmpfs rw,nosuid,nodev,noexec,.*size=1024k,mode=700`, r.Stdout))

	r = run("--read-only", "--tmpfs", "/tmp", "busybox", "sh", "-c", "touch /tmp/x; touch /x")
	assert.DeepEqual(t, r, harness.Result{Stderr: "touch: /x: Read-only file system\n", Code: 1})
}

func cliRunFails(t *testing.T, _ *harness.Daemon, cli *harness.CLI) {
	for _, tc := range []struct {
		name   string
		args   []string
		code   int
		stderr string
	}{
		{"no such command", []string{"busybox", "nope"}, 127, `exec: "nope": executable file not found in $PATH`},
		{"not executable", []string{"busybox", "/etc/passwd"}, 126, "permission denied"},
		{"no such image", []string{"--pull", "never", "nope:1"}, 125, "No such image: nope:1"},
		{"no such user", []string{"-u", "nobody-here", "busybox"}, 125,
			"unable to find user nobody-here: no matching entries in passwd file"},
		{"no such runtime", []string{"--runtime", "nope", "busybox"}, 125, "nknown"},
		{"group without a name", []string{"--group-add", "", "busybox"}, 125, "nable to find group"},
		{"memory", []string{"-m", "1m", "busybox"}, 125, "inimum memory limit allowed is 6MB"},
		{"directory that is a file", []string{"-w", "/etc/passwd", "busybox"}, 125, "annot mkdir: /etc/passwd is not a directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := cli.For(t).Try(append([]string{"run", "--rm", "--network", "none"}, tc.args...)...)
			assert.Equal(t, r.Code, tc.code, "%s", r)
			assert.Assert(t, cmp.Contains(r.Stderr, tc.stderr))
			assert.Equal(t, r.Stdout, "")
			assert.Assert(t, !strings.Contains(r.Stderr, "Error waiting for container"), "it is said once: %s", r.Stderr)
			assert.Equal(t, cli.For(t).Run("ps", "-aq"), "")
		})
	}
}

func cliInfo(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	cli.Run("run", "-d", "--network", "none", "--name", "one", "busybox", "sleep", "1000")
	cli.Run("create", "--network", "none", "--name", "two", "busybox")
	assert.Equal(t, cli.Run("info", "-f", "{{.Containers}} {{.ContainersRunning}} {{.ContainersStopped}} {{.Images}}"),
		"2 1 1 2")
	assert.Equal(t, cli.Run("info", "-f", "{{.DefaultRuntime}} {{.OSType}} {{.DockerRootDir}}"),
		"runc linux "+d.File("d"))
	text := cli.Try("info")
	assert.Equal(t, text.Code, 0, "%s", text)
	for _, line := range []string{"Server:", " Containers: 2", "  Running: 1", " Runtimes: ", " Default Runtime: runc",
		"  Log: journald json-file local syslog\n", " containerd version: v2."} {
		assert.Assert(t, cmp.Contains(text.Stdout, line))
	}
	var info struct{ FirewallBackend struct{ Driver string } }
	d.OK("GET", "/info", nil, &info)
	assert.Equal(t, info.FirewallBackend.Driver, "nftables")
	version := cli.Run("version")
	assert.Assert(t, cmp.Regexp(regexp.MustCompile(`(?s)Client:.*Server:.*Engine:\n  Version: +\S+`), version))
	assert.Equal(t, cli.Run("version", "-f", "{{.Server.Os}}"), "linux")
	runc, err := exec.Command("runc", "--version").Output()
	assert.NilError(t, err)
	for _, part := range []string{`containerd:\n  Version: +2\.\d+\.\d+\n`, `runc:\n  Version: +(\S+)\n  GitCommit: +(\S+)\n`, `docker-init:\n  Version: +\d`} {
		m := regexp.MustCompile(part).FindStringSubmatch(version)
		assert.Assert(t, m != nil, "no %s in\n%s", part, version)
		for _, said := range m[1:] {
			assert.Assert(t, cmp.Contains(string(runc), said))
		}
	}
	assert.Assert(t, !strings.Contains(d.DaemonLog(), "fsverity"), "what nobody can do anything about is not warned of")
	cli.Run("rm", "-f", "one", "two")
}

// sorted are the words of s in alphabetical order.
func sorted(s string) []string {
	words := strings.Fields(s)
	slices.Sort(words)
	return words
}
