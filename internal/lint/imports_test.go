// Package lint holds the rules of the house that a compiler does not know: who may import whom, and how large things
// may become.
package lint

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

const module = "github.com/berthd/berth"

// rows are the floors of the house, lowest first. A package may import packages of lower floors; within a floor only
// what neighbours allows.
var rows = [][]string{
	{"errdefs", "api/types"},
	{"daemon/config", "daemon/network", "daemon/events", "daemon/logger", "daemon/runtimes", "daemon/stats"},
	{"container"},
	{"archive", "image", "layer", "libnetwork", "libcontainerd", "volume", "oci"},
	{"daemon"},
	{"", "doctor"}, // "": package berth
	{"berthtest"},
	{"cmd"},
	{"demo", "integration"},
}

// neighbours are the imports within a floor.
var neighbours = map[string][]string{
	"api/types":       {"errdefs"},
	"daemon/runtimes": {"daemon/config"},
	"image":           {"layer"},
}

// server is beside the floors: it imports api/types and errdefs only, and package berth and what is above import it.
const server = "api/server"

// step is what the other small parts may import: it names the moments between their effects.
const step = "internal/step"

type pkg struct {
	ImportPath string
	Imports    []string
}

func TestImportRules(t *testing.T) {
	packages := list(t)
	assert.Assert(t, len(packages) > 20, "go list finds only %d packages", len(packages))
	for _, p := range packages {
		from, _ := within(p.ImportPath)
		for _, i := range p.Imports {
			if to, ours := within(i); ours && !allowed(from, to) {
				t.Errorf("%s may not import %s", from, to)
			}
		}
	}
}

// The rules themselves are tried on what they forbid.
func TestAllowed(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		want     bool
	}{
		{"daemon", "container", true},
		{"container", "daemon", false},
		{"container", "daemon/config", true},
		{"daemon/config", "container", false},
		{"daemon/logger/jsonfile", "daemon/logger", true},
		{"daemon/logger", "daemon/events", false},
		{"image", "layer", true},
		{"layer", "image", false},
		{"libnetwork/ipam", "libcontainerd/task", false},
		{"libcontainerd/task", "libcontainerd/shim", true},
		{"api/types/container", "api/types/network", true},
		{"api/types/container", "errdefs", true},
		{"errdefs", "api/types/container", false},
		{"api/server/router/container", "api/types/container", true},
		{"api/server/router/container", "api/server/httputil", true},
		{"api/server/router/container", "container", false},
		{"daemon", "api/server", false},
		{"", "api/server/router/image", true},
		{"", "daemon", true},
		{"cmd/berthd", "", true},
		{"daemon", "", false},
		{"api/types/container", "internal/files", true},
		{"internal/files", "errdefs", false},
		{"internal/files", "internal/undo", false},
		{"internal/files", "internal/step", true},
		{"daemon", "somewhere/new", false},
		{"somewhere/new", "daemon", false},
	} {
		assert.Equal(t, allowed(tc.from, tc.to), tc.want, "%q imports %q", tc.from, tc.to)
	}
}

// allowed tells whether a package may import another; both are paths below the module's.
func allowed(from, to string) bool {
	if top(from) == "internal" {
		return to == step
	}
	if top(to) == "internal" {
		return true
	}
	if below(from, server) {
		return below(to, server) || below(to, "api/types") || to == "errdefs"
	}
	mine, myRow := floor(from)
	theirs, theirRow := floor(to)
	if below(to, server) {
		return myRow >= row("")
	}
	switch {
	case myRow < 0 || theirRow < 0:
		return false // a new package: put it on a floor
	case mine == theirs:
		return true
	case myRow != theirRow:
		return theirRow < myRow
	}
	for _, n := range neighbours[mine] {
		if n == theirs {
			return true
		}
	}
	return false
}

// floor finds the longest entry of rows that a path is below of.
func floor(path string) (entry string, row int) {
	row = -1
	for i, entries := range rows {
		for _, e := range entries {
			if (e == path || e != "" && below(path, e)) && len(e) >= len(entry) {
				entry, row = e, i
			}
		}
	}
	return entry, row
}

func row(entry string) int {
	_, r := floor(entry)
	return r
}

func below(path, entry string) bool { return path == entry || strings.HasPrefix(path, entry+"/") }

func top(path string) string {
	first, _, _ := strings.Cut(path, "/")
	return first
}

// within is a package's path below the module's, and whether it is in the module.
func within(importPath string) (string, bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.StdoutPipe()
	assert.NilError(t, err)
	assert.NilError(t, cmd.Start())
	var packages []pkg
	for d := json.NewDecoder(out); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		assert.NilError(t, err)
		packages = append(packages, p)
	}
	assert.NilError(t, cmd.Wait())
	return packages
}
