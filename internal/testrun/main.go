// testrun runs `go test` with the arguments that it is given, prints what a reader wants to see, and ends with the
// line "N passed, N failed".
//
// What passes costs one line a package; what fails is printed whole. A skipped test is a failure: a test that does not
// run guards nothing. So is a run in which no test ran at all.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

// report counts tests, the leaves and their parents alike, and keeps the output of each until it is known to be needed.
type report struct {
	out            io.Writer
	output         map[string]*strings.Builder
	blamed         map[string]bool // packages that failed for a test that is counted already
	passed, failed int
}

func newReport(out io.Writer) *report {
	return &report{out: out, output: map[string]*strings.Builder{}, blamed: map[string]bool{}}
}

func main() {
	cmd := exec.Command("go", append([]string{"test", "-json"}, os.Args[1:]...)...)
	cmd.Stderr = os.Stderr
	lines, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		os.Exit(1)
	}
	r := newReport(os.Stdout)
	r.read(lines)
	err = cmd.Wait()
	fmt.Printf("%d passed, %d failed\n", r.passed, r.failed)
	if err != nil || r.failed > 0 || r.passed == 0 {
		os.Exit(1)
	}
}

func (r *report) read(lines io.Reader) {
	in := bufio.NewReader(lines)
	for {
		line, err := in.ReadString('\n')
		var e event
		if json.Unmarshal([]byte(line), &e) == nil && e.Action != "" {
			r.add(e)
		} else if line != "" {
			fmt.Fprint(r.out, line)
		}
		if err != nil {
			return
		}
	}
}

func (r *report) add(e event) {
	key := e.Package + e.ImportPath + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		r.collect(key, e)
	case "pass":
		if e.Test != "" {
			r.passed++
		}
		delete(r.output, key)
	case "skip":
		if e.Test == "" { // a package without tests
			delete(r.output, key)
			return
		}
		r.fail(key, "skipped tests are not allowed: "+e.Test+"\n")
	case "fail":
		r.fail(key, "")
		if e.Test == "" && r.blamed[e.Package] {
			r.failed--
		}
		r.blamed[e.Package] = true
	case "build-fail":
		r.fail(key, "")
	}
}

// collect keeps a line until the verdict, and prints the closing line of a package as it comes.
func (r *report) collect(key string, e event) {
	if e.Test == "" && (strings.HasPrefix(e.Output, "ok  \t") || strings.HasPrefix(e.Output, "FAIL\t")) {
		fmt.Fprint(r.out, e.Output)
		return
	}
	if r.output[key] == nil {
		r.output[key] = &strings.Builder{}
	}
	r.output[key].WriteString(e.Output)
}

func (r *report) fail(key, why string) {
	r.failed++
	if o := r.output[key]; o != nil {
		fmt.Fprint(r.out, o)
		delete(r.output, key)
	}
	fmt.Fprint(r.out, why)
}
