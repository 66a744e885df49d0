package integration

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

// make install, and its undoing, as a maker of packages uses them.
func TestInstall(t *testing.T) {
	t.Parallel()
	dest := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "BIN="+filepath.Dir(harness.Berthd()), "PATH="+dest+"/opt/berth/bin:"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		assert.NilError(t, err, "%s", out)
		return string(out)
	}
	files := func() (found []string) {
		t.Helper()
		assert.NilError(t, filepath.WalkDir(dest, func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				found = append(found, strings.TrimPrefix(path, dest))
			}
			return err
		}))
		return found
	}
	run("../scripts/install", "install", dest, "/opt/berth", "/etc")
	assert.DeepEqual(t, files(), []string{
		"/etc/berth/daemon.json", "/opt/berth/bin/berth-shim", "/opt/berth/bin/berthd",
		"/opt/berth/lib/systemd/system/berthd.service", "/opt/berth/lib/systemd/system/berthd.socket",
		"/opt/berth/share/bash-completion/completions/berthd", "/opt/berth/share/man/man8/berthd.8",
	})

	unit, err := os.ReadFile(dest + "/opt/berth/lib/systemd/system/berthd.service")
	assert.NilError(t, err)
	for _, line := range []string{
		"ExecStart=/opt/berth/bin/berthd", "Type=notify-reload", "KillMode=process", "Delegate=yes", "WantedBy=multi-user.target",
	} {
		assert.Check(t, strings.Contains(string(unit), line+"\n"), "%s is not in\n%s", line, unit)
	}
	assert.Assert(t, !strings.Contains(string(unit), "/usr/"), "%s", unit)
	config := dest + "/etc/berth/daemon.json"
	assert.Equal(t, run(dest+"/opt/berth/bin/berthd", "--validate", "--config-file", config), "configuration OK\n")
	for typed, want := range map[string]string{
		"berthd rel":              "reload",
		"berthd --data-":          "--data-root",
		"berthd reload --dry":     "--dry-run",
		"berthd --log-level warn": "warn",
	} {
		const script = `source "$0"; read -ra COMP_WORDS <<<"$1"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
			_berthd; echo "${COMPREPLY[@]}"`
		got := run("bash", "-c", script, dest+"/opt/berth/share/bash-completion/completions/berthd", typed)
		assert.Check(t, strings.TrimSpace(got) == want, "%q is completed by %q", typed, got)
	}

	// What somebody has changed is theirs.
	mine, err := json.Marshal(harness.M{"debug": true})
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(config, mine, 0o600))
	run("../scripts/install", "install", dest, "/opt/berth", "/etc")
	kept, err := os.ReadFile(config)
	assert.NilError(t, err)
	assert.Equal(t, string(kept), string(mine))
	run("../scripts/install", "uninstall", dest, "/opt/berth", "/etc")
	assert.DeepEqual(t, files(), []string{"/etc/berth/daemon.json"})
}
