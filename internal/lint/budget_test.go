package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

const (
	daemonFiles   = 45
	daemonLines   = 7000
	daemonFields  = 15
	functionLines = 80
	fileLinesP90  = 350
)

// source is one Go file that is no test.
type source struct {
	path  string // below the module
	lines int
	ast   *ast.File
}

func TestBudgets(t *testing.T) {
	files := token.NewFileSet()
	sources := parse(t, files)
	assert.Assert(t, len(sources) > 50, "only %d files", len(sources))

	var sizes []int
	daemon, lines := 0, 0
	for _, s := range sources {
		sizes = append(sizes, s.lines)
		if filepath.Dir(s.path) == "daemon" {
			daemon++
			lines += s.lines
			checkFields(t, s)
		}
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				from, to := files.Position(f.Pos()).Line, files.Position(f.End()).Line
				if n := to - from + 1; n > functionLines {
					t.Errorf("%s:%d: %s has %d lines, more than %d", s.path, from, f.Name.Name, n, functionLines)
				}
			}
		}
	}
	assert.Check(t, daemon <= daemonFiles, "daemon/ has %d files, more than %d", daemon, daemonFiles)
	assert.Check(t, lines <= daemonLines, "daemon/ has %d lines, more than %d", lines, daemonLines)
	slices.Sort(sizes)
	p90 := sizes[len(sizes)*9/10]
	assert.Check(t, p90 <= fileLinesP90, "the 90th percentile of files is %d lines, more than %d", p90, fileLinesP90)
	t.Logf("daemon/: %d files, %d lines; 90th percentile of files: %d lines", daemon, lines, p90)
}

// checkFields counts the fields of the Daemon.
func checkFields(t *testing.T, s source) {
	ast.Inspect(s.ast, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "Daemon" {
			return true
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			fields := 0
			for _, f := range st.Fields.List {
				fields += max(1, len(f.Names))
			}
			assert.Check(t, fields <= daemonFields, "Daemon has %d fields, more than %d", fields, daemonFields)
		}
		return false
	})
}

// TestNoPromises looks for words that promise instead of doing, in all Go files.
func TestNoPromises(t *testing.T) {
	promises := []string{"TO" + "DO", "FIX" + "ME", "context.TO" + "DO", "t.Sk" + "ip"}
	assert.NilError(t, walk(func(path string, text []byte) error {
		for i, line := range strings.Split(string(text), "\n") {
			for _, p := range promises {
				if strings.Contains(line, p) {
					t.Errorf("%s:%d: %s", path, i+1, p)
				}
			}
		}
		return nil
	}))
}

func parse(t *testing.T, files *token.FileSet) []source {
	t.Helper()
	var sources []source
	assert.NilError(t, walk(func(path string, text []byte) error {
		if strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(files, path, text, parser.SkipObjectResolution)
		sources = append(sources, source{path, bytes.Count(text, []byte("\n")), f})
		return err
	}))
	return sources
}

// walk visits all Go files of the module.
func walk(visit func(path string, text []byte) error) error {
	root := os.DirFS("../..")
	return fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "." {
			return fs.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(root, path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return visit(path, text)
	})
}
