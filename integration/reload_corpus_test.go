package integration

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unicode/utf16"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/daemon/config"
)

// Every file that is broken in some way gets a verdict and leaves the daemon as it was, and so does what is no file.
func TestReloadOfBrokenFiles(t *testing.T) {
	r := startReloads(t)
	good := `{"labels": ["a=1", "b=2"], "debug": true, "log-opts": {"max-size": "1m"}, "shutdown-timeout": 20}`
	corpus := map[string]string{
		"two objects": good + good, "trailing comma": `{"debug": true,}`, "comment": "// x\n" + good,
		"a list": `[]`, "a text": `"debug"`, "null": `null`, "single quotes": `{'debug': true}`,
		"not UTF-8": "{\"labels\": [\"a=\xff\"]}", "half a UTF-16": "\xff\xfe{\x00}",
		"NUL": "{\"debug\": true}\x00", "NUL in a text": `{"labels": ["a=\u0000"]}`,
		"only NULs": strings.Repeat("\x00", 4096), "empty key": `{"": 1}`, "key in capitals": `{"Debug": true}`,
		"same key twice":       `{"debug": true, "debug": false}`,
		"same inner key twice": `{"log-opts": {"a": "1", "a": "2"}}`,
		"huge number":          `{"shutdown-timeout": 1e999}`,
		"large number":         `{"shutdown-timeout": 99999999999999999999}`,
		"fraction":             `{"shutdown-timeout": 1.5}`,
		"huge size":            `{"default-shm-size": "999999999999t"}`,
		"deep":                 `{"builder": {"gc": ` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}}`,
		"deep without end":     strings.Repeat(`{"a":`, 200000),
		"very many brackets":   strings.Repeat("[", 900000),
		"large":                `{"labels": ["` + strings.Repeat("x", 2<<20) + `"]}`,
		"object for a text":    `{"log-driver": {}}`,
		"text for a list":      `{"labels": "a=1"}`,
		"number in a list":     `{"labels": [1]}`,
		"text for an object":   `{"runtimes": "x"}`,
		"number for a bool":    `{"debug": 1}`,
		"list for a section":   `{"proxies": []}`,
		"text for a section":   `{"proxies": "x"}`,
		"runtime of a list":    `{"runtimes": {"x": []}}`,
		"NUL in arguments":     `{"runtimes": {"x": {"path": "a", "runtimeArgs": ["\u0000"]}}}`,
		"negative":             `{"default-shm-size": -1}`,
		"host":                 `{"hosts": ["npipe://x"]}`,
		"empty host":           `{"hosts": ["unix://", ""]}`,
	}
	for i := 1; i < len(good); i += 5 {
		corpus["cut after "+good[:i]] = good[:i]
	}
	before := r.all()
	broken := func(name string) {
		t.Helper()
		verdict := r.Reload(t.Context())
		assert.Equal(t, verdict.Outcome, config.Rejected, "%s: %s", name, verdict)
		assert.Assert(t, verdict.Error != "" && len(verdict.Error) < 4096, "%s: %s", name, verdict)
		assert.DeepEqual(t, r.all(), before)
	}
	for name, text := range corpus {
		assert.NilError(t, os.WriteFile(r.file(), []byte(text), 0o600))
		broken(name)
	}
	for name, place := range map[string]func() error{
		"nothing":        func() error { return nil },
		"a folder":       func() error { return os.Mkdir(r.file(), 0o700) },
		"a pipe":         func() error { return syscall.Mkfifo(r.file(), 0o600) },
		"a device":       func() error { return os.Symlink("/dev/zero", r.file()) },
		"a loop":         func() error { return os.Symlink(r.file(), r.file()) },
		"not to be read": func() error { return os.Symlink("/proc/self/mem", r.file()) },
	} {
		assert.NilError(t, os.RemoveAll(r.file()))
		assert.NilError(t, place())
		broken(name)
	}

	// What looks odd, but is sound.
	assert.NilError(t, os.RemoveAll(r.file()))
	var wide bytes.Buffer
	wide.WriteString("\xff\xfe")
	odd := fmt.Sprintf(`{"hosts": [%q], "labels": null, "log-opts": {}, "deprecated-key-path": "x"}`, r.address(0))
	for _, u := range utf16.Encode([]rune(odd)) {
		wide.Write([]byte{byte(u), byte(u >> 8)})
	}
	for _, text := range []string{"\xef\xbb\xbf" + odd, wide.String(), "\n" + odd + "\n\n"} {
		assert.NilError(t, os.WriteFile(r.file(), []byte(text), 0o600))
		verdict := r.Reload(t.Context())
		assert.Assert(t, verdict.Outcome != config.Rejected, "%q: %s", text, verdict)
	}
}
