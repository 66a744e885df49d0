package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode/utf16"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/errdefs"
)

// write makes a configuration file.
func write(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daemon.json")
	assert.NilError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func parseFlags(t testing.TB, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("berthd", pflag.ContinueOnError)
	RegisterFlags(fs)
	assert.NilError(t, fs.Parse(args))
	return fs
}

func load(t testing.TB, content string, args ...string) (Config, Origins, error) {
	t.Helper()
	return Load(write(t, content), true, parseFlags(t, args...))
}

func mustLoad(t testing.TB, content string, args ...string) Config {
	t.Helper()
	c, _, err := load(t, content, args...)
	assert.NilError(t, err)
	return c
}

func TestLoadFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.json")
	c, origins, err := Load(missing, false, nil)
	assert.NilError(t, err)
	assert.DeepEqual(t, c, Default())
	assert.Equal(t, origins["debug"], FromDefault)
	assert.Equal(t, len(origins), len(table))

	_, _, err = Load(missing, true, nil)
	assert.ErrorContains(t, err, "unable to configure the Berth daemon with file "+missing+": ")
	assert.Assert(t, errdefs.IsInvalidParameter(err))
	assert.Assert(t, errors.Is(err, os.ErrNotExist))

	for _, blank := range []string{"", " \n\t", "{}", "\xef\xbb\xbf", "\xef\xbb\xbf{}"} {
		assert.DeepEqual(t, mustLoad(t, blank), Default())
	}
	for _, path := range []string{"", os.DevNull} {
		c, _, err := Load(path, true, nil)
		assert.NilError(t, err)
		assert.DeepEqual(t, c, Default())
	}
}

func TestLoadNotAFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	assert.NilError(t, syscall.Mkfifo(fifo, 0o600))
	for _, path := range []string{dir, fifo, "/dev/zero"} {
		_, _, err := Load(path, false, nil)
		assert.ErrorContains(t, err, "it is not a file", path)
	}
	loop := filepath.Join(dir, "loop")
	assert.NilError(t, os.Symlink(loop, loop))
	_, _, err := Load(loop, false, nil)
	assert.ErrorContains(t, err, "too many levels")

	_, _, err = load(t, "{\"labels\": [\""+strings.Repeat("x", maxFileSize)+"\"]}")
	assert.ErrorContains(t, err, "larger than 1048576 bytes")
}

func TestLoadEncoding(t *testing.T) {
	const text = `{"labels": ["k=grün 😀"]}`
	var little, big bytes.Buffer
	little.WriteString("\xff\xfe")
	big.WriteString("\xfe\xff")
	for _, u := range utf16.Encode([]rune(text)) {
		little.Write([]byte{byte(u), byte(u >> 8)})
		big.Write([]byte{byte(u >> 8), byte(u)})
	}
	for _, content := range []string{text, "\xef\xbb\xbf" + text, little.String(), big.String()} {
		assert.DeepEqual(t, mustLoad(t, content).Labels, []string{"k=grün 😀"})
	}
	for content, want := range map[string]string{
		"{\"a\xff\": 1}":                    "failed to decode configuration JSON at offset 3: it is not UTF-8",
		"\xef\xbb\xbf{\xff":                 "failed to decode configuration JSON at offset 4: it is not UTF-8",
		"\xff\xfe{":                         "failed to decode configuration JSON at offset 2: half a character",
		"\xff\xfe{\x00\x00\xd8":             "failed to decode configuration JSON at offset 4: half a character",
		"\xfe\xff\x00{\xdc\x00\x00\x00":     "failed to decode configuration JSON at offset 4: half a character",
		"{\"labels\": [\"a=b\"], \x00}":     "invalid JSON: invalid character '\\x00'",
		"{\"labels\": [\"a=\\u0000\"]}":     "invalid JSON: a NUL in a text (line 1, column 22)",
		"{\"runtimes\": {\"a\\u0000\":{}}}": "invalid JSON: a NUL in a text",
	} {
		_, _, err := load(t, content)
		assert.ErrorContains(t, err, want)
	}
}

func TestLoadSyntax(t *testing.T) {
	for content, want := range map[string]string{
		"{\n  \"debug\": true,\n}":        "looking for beginning of object key string (line 3, column 1)",
		`{"debug": true`:                  "invalid JSON: unexpected end of JSON input (line 1, column 14)",
		`{} x`:                            "invalid JSON: invalid character 'x' after top-level value (line 1, column 4)",
		`{"debug": true}{}`:               "invalid JSON: invalid character '{' after top-level value",
		`[]`:                              "invalid JSON: the file has to hold one object, {…}",
		`null`:                            "invalid JSON: the file has to hold one object, {…}",
		`"debug"`:                         "invalid JSON: the file has to hold one object, {…}",
		`{"debug": true, "debug": false}`: `invalid JSON: "debug" is given twice (line 1, column 23)`,
		`{"log-opts": {"a": "1", "b": "debug", "a": "2"}}`:                       `invalid JSON: "a" is given twice`,
		`{"builder": ` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`: "invalid JSON: more than 32 levels",
		`{"builder": ` + strings.Repeat("[", 100000):                             "exceeded max depth",
	} {
		_, _, err := load(t, content)
		assert.ErrorContains(t, err, want)
		assert.Assert(t, errdefs.IsInvalidParameter(err))
	}
	// Equal texts as values, or as names of different objects, are no duplicates.
	mustLoad(t, `{"labels": ["a=b", "a=b"], "log-opts": {"a": "a", "b": "a"}, "features": {"a": true}}`)
}

func TestLoadTypes(t *testing.T) {
	for content, want := range map[string]string{
		`{"debug": "true"}`:                                  `invalid JSON: debug: want true or false, not string`,
		`{"shutdown-timeout": 1.5}`:                          `invalid JSON: shutdown-timeout: want number, not number 1.5`,
		`{"shutdown-timeout": 1e400}`:                        `invalid JSON: shutdown-timeout: want number, not number 1e400`,
		`{"shutdown-timeout": 99999999999999999999}`:         `invalid JSON: shutdown-timeout: want number, not number 9`,
		`{"labels": "a=b"}`:                                  `invalid JSON: labels: want list of text, not string`,
		`{"labels": [1]}`:                                    `invalid JSON: labels: want text, not number`,
		`{"log-opts": {"max-file": 3}}`:                      `invalid JSON: log-opts: max-file: want text, not number`,
		`{"features": []}`:                                   `invalid JSON: features: want object: name → true or false`,
		`{"default-shm-size": "64Q"}`:                        `invalid JSON: default-shm-size: invalid suffix: 'q'`,
		`{"default-shm-size": {}}`:                           `invalid JSON: default-shm-size: want number, not object`,
		`{"default-ulimits": {"nofile": 5}}`:                 `default-ulimits: nofile: want {Name, Hard, Soft}, not number`,
		`{"default-ulimits": {"nofile": {"Max": 5}}}`:        `default-ulimits: nofile: json: unknown field "Max"`,
		`{"runtimes": {"r": 5}}`:                             `invalid JSON: runtimes: r: want {path, runtimeArgs} or`,
		`{"runtimes": {"r": {"path": 5}}}`:                   `invalid JSON: runtimes: r: path: want text, not number`,
		`{"runtimes": {"r": {"pth": "/x"}}}`:                 `invalid JSON: runtimes: r: json: unknown field "pth"`,
		`{"runtimes": {"r": {"path": "/x", "args": ["a"]}}}`: `runtimes: r: "args" has no effect: write "runtimeArgs"`,
		`{"runtimes": []}`:                                   `invalid JSON: runtimes: want object: name →`,
		`{"proxies": "http://x"}`:                            `invalid JSON: proxies: want object`,
		`{"proxies": {"http-proxy": 5}}`:                     `invalid JSON: proxies.http-proxy: want text, not number`,
		`{"nri-opts": {"foo": 1}}`:                           `invalid JSON: nri-opts: json: unknown field "foo"`,
	} {
		_, _, err := load(t, content)
		assert.ErrorContains(t, err, want)
		assert.Equal(t, len(keyErrors(err)), 1)
	}
}

// What Nvidia's installer writes is accepted.
func TestLoadForeignRuntime(t *testing.T) {
	c := mustLoad(t, `{"runtimes": {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}}`)
	assert.DeepEqual(t, c.Runtimes, Runtimes{"nvidia": {Path: "nvidia-container-runtime"}})
}

func TestLoadUnknown(t *testing.T) {
	for content, want := range map[string]string{
		`{"zzz": 1, "lables": [], "Debug": true}`: "the following directives don't match any configuration option: " +
			"Debug (did you mean debug?), lables (did you mean labels?), zzz",
		`{"label": []}`:                   "label (did you mean labels?)",
		`{"add-runtime": {}}`:             "add-runtime (did you mean runtimes?)",
		`{"D": true}`:                     "option: D",
		`{"http-proxy": "x"}`:             "http-proxy (did you mean proxies.http-proxy?)",
		`{"proxys": {}}`:                  "proxys (did you mean proxies?)",
		`{"proxies": {"ftp-proxy": "x"}}`: "proxies.ftp-proxy (did you mean proxies.http-proxy?)",
		`{"wrapper": {"debug": true}}`:    "option: wrapper",
		`{"graph": "/x"}`:                 `graph (no longer there: write "data-root")`,
		`{"config-file": "/x"}`:           "option: config-file",
		`{"": 1}`:                         `option: ""`,
		`{"a\nb": 1}`:                     `option: "a\nb"`,
	} {
		c, _, err := load(t, content)
		assert.ErrorContains(t, err, want)
		assert.DeepEqual(t, c, Config{})
	}
	// dockerd lets these pass.
	mustLoad(t, `{"deprecated-key-path": "x", "allow-nondistributable-artifacts": ["y"]}`)
}

func TestLoadConflicts(t *testing.T) {
	_, _, err := load(t, `{"hosts": ["unix:///b"], "debug": false, "proxies": {"http-proxy": "http://u:secret@b"},
		"log-opts": {"max-size": "1m"}}`,
		"-H", "unix:///a", "-H", "fd://", "-D", "--http-proxy", "http://v:hidden@a", "--log-opt", "max-file=2")
	assert.ErrorContains(t, err, "the following directives are specified both as a flag and in the configuration file: "+
		"debug: (from flag: true, from file: false), "+
		"hosts: (from flag: [unix:///a fd://], from file: [unix:///b]), "+
		"log-opts: (from flag: map[max-file:2], from file: map[max-size:1m]), "+
		"http-proxy: (from flag: http://xxxxx:xxxxx@a, from file: http://xxxxx:xxxxx@b)")
	assert.Assert(t, !strings.Contains(err.Error(), "secret") && !strings.Contains(err.Error(), "hidden"))

	// Also when they agree.
	_, _, err = load(t, `{"debug": true}`, "--debug")
	assert.ErrorContains(t, err, "debug: (from flag: true, from file: true)")

	// The environment is no conflict, nor are runtimes.
	t.Setenv("HTTP_PROXY", "http://env")
	c, origins, err := load(t, `{"proxies": {"http-proxy": "http://file"},
		"runtimes": {"b": {"path": "/file"}, "c": {"path": "/c"}}}`, "--add-runtime", "a=/a", "--add-runtime", "b=/flag")
	assert.NilError(t, err)
	assert.Equal(t, c.Proxies.HTTP, "http://file")
	assert.DeepEqual(t, c.Runtimes, Runtimes{"a": {Path: "/a"}, "b": {Path: "/file"}, "c": {Path: "/c"}})
	assert.Equal(t, origins["runtimes"], FromBoth)
	assert.Equal(t, origins["proxies.http-proxy"], FromFile)
}

// All faults are told at once, in one order.
func TestLoadAllFaults(t *testing.T) {
	path := write(t, `{"zz": 1, "aa": 1, "debug": true, "labels": 5, "log-level": "loud", "bip": "10.0.0.0",
		"dns": ["x", "y"]}`)
	var first string
	for range 20 {
		_, _, err := Load(path, true, parseFlags(t, "--debug"))
		assert.Assert(t, err != nil)
		if first == "" {
			first = err.Error()
		}
		assert.Equal(t, err.Error(), first)
	}
	assert.Equal(t, first, "unable to configure the Berth daemon with file "+path+": "+
		"the following directives don't match any configuration option: aa, zz\n"+
		"the following directives are specified both as a flag and in the configuration file: "+
		"debug: (from flag: true, from file: true)\n"+
		"invalid JSON: labels: want list of text, not number\n"+
		"invalid logging level: loud: use trace, debug, info, warn, error, fatal or panic\n"+
		`invalid dns: ParseAddr("x"): unable to parse IP`+"\n"+
		`invalid dns: ParseAddr("y"): unable to parse IP`+"\n"+
		`invalid bip: "10.0.0.0" is not an address with its prefix length, such as 10.1.2.1/24 or fd00::1/64`)
}

func TestOrigins(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://upper")
	t.Setenv("https_proxy", "http://lower")
	t.Setenv("no_proxy", "localhost")
	t.Setenv("DOCKER_MIN_API_VERSION", "1.24")
	c, origins, err := load(t, `{"labels": ["a=b"], "min-api-version": "1.40", "debug": null, "log-level": ""}`,
		"--live-restore", "--no-proxy", "")
	assert.NilError(t, err)
	assert.Equal(t, c.Proxies, Proxies{HTTPS: "http://upper"})
	assert.Equal(t, c.MinAPIVersion, "1.40")
	for key, want := range map[string]Origin{
		"proxies.https-proxy": FromEnvironment, "proxies.no-proxy": FromFlag, "proxies.http-proxy": FromDefault,
		"min-api-version": FromFile, "labels": FromFile, "live-restore": FromFlag, "debug": FromDefault,
		"log-level": FromDefault, // "" is no level
	} {
		assert.Equal(t, origins[key], want, key)
	}
}

// What is written counts, also if it is zero.
func TestZeroValues(t *testing.T) {
	c := mustLoad(t, `{"shutdown-timeout": 0, "default-stop-timeout": 0, "live-restore": false, "group": "",
		"pidfile": "", "labels": [], "dns": []}`)
	assert.Equal(t, c.ShutdownTimeout, 0)
	assert.Equal(t, c.DefaultStopTimeout, 0)
	assert.Equal(t, c.Group, "")
	assert.Equal(t, c.Pidfile, "")

	// Zero means nothing for these.
	c = mustLoad(t, `{"hosts": [], "data-root": "", "default-shm-size": 0, "log-driver": "", "default-runtime": "",
		"max-concurrent-downloads": 0, "mtu": 0, "default-ipc-mode": "", "min-api-version": ""}`)
	assert.DeepEqual(t, c, Default())
}

func TestValues(t *testing.T) {
	c := mustLoad(t, `{"default-shm-size": "1g", "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 2, "Soft": 1},
		"nproc": {"hard": -1, "soft": -1}}, "labels": ["b=2", "a=1", "b=2"], "storage-driver": "overlay2"}`)
	assert.Equal(t, c.DefaultShmSize, Bytes(1<<30))
	assert.DeepEqual(t, c.DefaultUlimits, Ulimits{
		"nofile": {Name: "nofile", Hard: 2, Soft: 1}, "nproc": {Name: "nproc", Hard: -1, Soft: -1},
	})
	assert.DeepEqual(t, c.Labels, []string{"b=2", "a=1"})
	assert.Equal(t, c.StorageDriver, "overlayfs")
	assert.Equal(t, mustLoad(t, `{"storage-driver": "auto"}`).StorageDriver, "")
	assert.Equal(t, mustLoad(t, `{"default-shm-size": 4096}`).DefaultShmSize, Bytes(4096))

	cwd, err := os.Getwd()
	assert.NilError(t, err)
	assert.Equal(t, mustLoad(t, `{}`, "--data-root", "x/../y").DataRoot, filepath.Join(cwd, "y"))
}

func TestTLS(t *testing.T) {
	for content, want := range map[string]bool{
		`{}`: false, `{"tls": true}`: true, `{"tlsverify": true}`: true, `{"tlsverify": false}`: true,
		`{"tls": false, "tlsverify": false}`: false, `{"tls": false, "tlsverify": true}`: true,
	} {
		assert.Equal(t, mustLoad(t, content).TLS, want, content)
	}
	assert.Assert(t, mustLoad(t, `{}`, "--tlsverify").TLS)
}

func TestFlags(t *testing.T) {
	c := mustLoad(t, ``, "-H", "tcp://:1", "-H", "unix:///a,b", "--label", "a=b=c", "--default-ulimit", "nofile=1:2",
		"--default-ulimit", "nproc=5", "--add-runtime", "my/rt=/usr/bin/crun", "--exec-opt", "native.cgroupdriver=cgroupfs",
		"--feature", "one", "--feature", "two=false", "--log-opt", "max-size=1m", "--default-shm-size", "2M",
		"--shutdown-timeout", "-1", "-l", "debug", "-G", "wheel", "-p", "/p", "-s", "native", "--userland-proxy",
		"--dns", "1.1.1.1", "--dns-search", "example.org", "--dns-opt", "ndots:1")
	assert.DeepEqual(t, c.Hosts, []string{"tcp://:1", "unix:///a,b"})
	assert.DeepEqual(t, c.Labels, []string{"a=b=c"})
	assert.DeepEqual(t, c.DefaultUlimits, Ulimits{
		"nofile": units.Ulimit{Name: "nofile", Soft: 1, Hard: 2}, "nproc": units.Ulimit{Name: "nproc", Soft: 5, Hard: 5},
	})
	assert.DeepEqual(t, c.Runtimes, Runtimes{"my/rt": {Path: "/usr/bin/crun"}})
	assert.DeepEqual(t, c.Features, map[string]bool{"one": true, "two": false})
	assert.DeepEqual(t, c.LogOpts, map[string]string{"max-size": "1m"})
	assert.Equal(t, c.DefaultShmSize, Bytes(2<<20))
	assert.Equal(t, c.ShutdownTimeout, -1)
	assert.Equal(t, c.LogLevel, "debug")
	assert.Equal(t, c.Group, "wheel")
	assert.Equal(t, c.Pidfile, "/p")
	assert.Equal(t, c.StorageDriver, "native")
	assert.DeepEqual(t, c.DNSOpts, []string{"ndots:1"})
}

// Loading twice from one set of flags gives equal values that share nothing.
func TestFlagsAreNotShared(t *testing.T) {
	fs := parseFlags(t, "--label", "a=b", "--add-runtime", "r=/r")
	path := write(t, `{"runtimes": {"s": {"path": "/s"}}}`)
	a, _, err := Load(path, true, fs)
	assert.NilError(t, err)
	a.Labels[0] = "x"
	a.Runtimes["t"] = Runtime{}
	b, _, err := Load(path, true, fs)
	assert.NilError(t, err)
	assert.DeepEqual(t, b.Labels, []string{"a=b"})
	assert.DeepEqual(t, b.Runtimes, Runtimes{"r": {Path: "/r"}, "s": {Path: "/s"}})
}

func TestBadFlags(t *testing.T) {
	for _, c := range []struct{ arg, want string }{
		{"--shutdown-timout=5", "unknown flag: --shutdown-timout; did you mean --shutdown-timeout?"},
		{"--hosts=x", "did you mean --host?"},
		{"--xyzzyxyzzy", "unknown flag: --xyzzyxyzzy"},
		{"-Z", "unknown shorthand flag"},
		{"--debug=maybe", "invalid argument"},
		{"--shutdown-timeout=x", "invalid argument"},
		{"--add-runtime=x", "write name=path"},
		{"--default-ulimit=foo=1", "invalid ulimit type"},
		{"--default-shm-size=x", "invalid size"},
		{"--default-address-pool=x", "write base=CIDR,size=BITS"},
		{"--default-network-opt=x", "write DRIVER=OPTION=VALUE"},
		{"--nri-opts=x=y", `unknown NRI option "x"`},
		{"--group=a\x00b", "NUL"},
	} {
		fs := pflag.NewFlagSet("berthd", pflag.ContinueOnError)
		RegisterFlags(fs)
		err := FlagError(fs, fs.Parse([]string{c.arg}))
		assert.ErrorContains(t, err, c.want)
		assert.Assert(t, errdefs.IsInvalidParameter(err))
	}
	fs := pflag.NewFlagSet("berthd", pflag.ContinueOnError)
	RegisterFlags(fs)
	assert.NilError(t, FlagError(fs, fs.Parse([]string{"--debug"})))
	// A flag of a feature that is missing is told like a key.
	_, _, err := load(t, ``, "--userns-remap", "default")
	assert.ErrorContains(t, err, "userns-remap is about user namespaces")
}

func TestFileFlag(t *testing.T) {
	path, explicit := File(parseFlags(t))
	assert.Equal(t, path, "/etc/berth/daemon.json")
	assert.Assert(t, !explicit)
	path, explicit = File(parseFlags(t, "--config-file", "/x"))
	assert.Equal(t, path, "/x")
	assert.Assert(t, explicit)
}

// The usage text has the flags that work, with their defaults.
func TestUsage(t *testing.T) {
	usage := parseFlags(t).FlagUsages()
	for _, want := range []string{"--data-root string", `(default "/var/lib/berth")`, "-H, --host list",
		"--debug   "} {
		assert.Assert(t, strings.Contains(usage, want), "%s\n%s", want, usage)
	}
	for _, not := range []string{"--userns-remap", "(default [])", "(default 0)"} {
		assert.Assert(t, !strings.Contains(usage, not), "%s\n%s", not, usage)
	}
}

// What is shown of a configuration is a file that gives that configuration.
func TestConfigIsAFile(t *testing.T) {
	c := mustLoad(t, `{"labels": ["a=b"], "runtimes": {"x": {"path": "/x", "runtimeArgs": ["<&>"]}},
		"default-ulimits": {"nofile": {"Hard": 2, "Soft": 1}}, "proxies": {"http-proxy": "http://x"}}`)
	data, err := json.Marshal(c)
	assert.NilError(t, err)
	assert.DeepEqual(t, mustLoad(t, string(data)), c)
}

// Files as dockerd's users have them.
func TestOrdinaryFiles(t *testing.T) {
	for _, content := range []string{
		`{"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}, "storage-driver": "overlay2"}`,
		`{"exec-opts": ["native.cgroupdriver=systemd"], "live-restore": true, "features": {"buildkit": true}}`,
		`{"default-runtime": "nvidia", "runtimes": {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}}`,
		`{"hosts": ["unix:///var/run/docker.sock", "tcp://0.0.0.0:2376"], "tls": true, "tlsverify": true,
			"tlscacert": "/etc/docker/ca.pem", "tlscert": "/etc/docker/cert.pem", "tlskey": "/etc/docker/key.pem"}`,
		`{"bip": "192.168.1.1/24", "default-address-pools": [{"base": "10.0.0.0/8", "size": 24}], "userland-proxy": false,
			"iptables": false, "fixed-cidr-v6": "fd00::/64", "ipv6": true}`,
		`{"data-root": "/srv/docker", "debug": true, "experimental": false, "labels": ["zone=a"], "dns": ["1.1.1.1"],
			"default-ulimits": {"nofile": {"Name": "nofile", "Hard": 64000, "Soft": 64000}}, "no-new-privileges": true}`,
		`{"iptables": true, "ip-forward": true, "userland-proxy": true, "ipv6": false, "mtu": 1500, "bip": "", "icc": true,
			"registry-mirrors": [], "insecure-registries": [], "max-concurrent-downloads": 3, "selinux-enabled": false,
			"userns-remap": "", "metrics-addr": "", "builder": {}, "storage-opts": [], "authorization-plugins": []}`,
		`{"builder": {"gc": {"defaultKeepStorage": "20GB", "enabled": true}}, "experimental": false}`,
		`{"exec-opts": ["native.cgroupdriver=systemd"], "log-driver": "json-file", "log-opts": {"max-size": "100m"},
			"storage-driver": "overlay2", "storage-opts": ["overlay2.override_kernel_check=true"]}`,
		`{"seccomp-profile": "", "cgroup-parent": "", "default-address-pools": [], "ip": "0.0.0.0", "fixed-cidr": "",
			"raw-logs": false, "shutdown-timeout": 15, "init": false, "swarm-default-advertise-addr": ""}`,
		`{"metrics-addr": "127.0.0.1:9323"}`,
		`{"allow-direct-routing": true, "bridge-accept-fwmark": "0x10/0xf0", "userland-proxy-path": "/usr/bin/docker-proxy"}`,
	} {
		mustLoad(t, content)
	}
	for content, want := range map[string]string{
		`{"userns-remap": "default"}`:                           "user namespaces",
		`{"builder": {"entitlements": {"network-host": true}}}`: "image builds",
		`{"storage-opts": ["overlay2.size=1G"]}`:                "options of storage drivers",
	} {
		_, _, err := load(t, content)
		assert.ErrorContains(t, err, "is about "+want+", which this version of Berth does not have")
	}
}
