package harness

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/creack/pty"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

// Terminal is a docker CLI that somebody runs at a terminal of 24 rows and 80 columns.
type Terminal struct {
	cli *CLI
	cmd *exec.Cmd
	pty *os.File

	mu    sync.Mutex
	raw   []byte        // all that the terminal got
	seen  int           // how much of the text was returned
	ended chan struct{} // closed when no more comes
}

// Terminal starts the CLI at a terminal. It is killed when the test ends.
func (c *CLI) Terminal(args ...string) *Terminal {
	c.t.Helper()
	t := &Terminal{cli: c, cmd: c.Command(args...), ended: make(chan struct{})}
	t.cmd.Env = append(t.cmd.Env, "TERM=xterm")
	var err error
	t.pty, err = pty.StartWithSize(t.cmd, &pty.Winsize{Rows: 24, Cols: 80})
	assert.NilError(c.t, err)
	go t.read()
	c.t.Cleanup(func() {
		_ = t.cmd.Process.Kill() // it may have ended
		<-t.ended
		_ = t.cmd.Wait() // or End has waited
		assert.Check(c.t, t.pty.Close())
	})
	return t
}

// read ends with an error when nobody has the terminal open any more.
func (t *Terminal) read() {
	defer close(t.ended)
	b := make([]byte, 32<<10)
	for {
		n, err := t.pty.Read(b)
		t.mu.Lock()
		t.raw = append(t.raw, b[:n]...)
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// control are the sequences with which programs ask and move a terminal rather than write on it.
var control = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)

// text is what was written on the terminal, as lines.
func (t *Terminal) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ReplaceAll(control.ReplaceAllString(string(t.raw), ""), "\r\n", "\n")
}

// Type sends keys; "\r" is Enter, "\x10" ctrl-p.
func (t *Terminal) Type(keys string) {
	t.cli.t.Helper()
	_, err := t.pty.WriteString(keys)
	assert.NilError(t.cli.t, err)
}

// Resize changes the size of the window.
func (t *Terminal) Resize(rows, cols uint16) {
	t.cli.t.Helper()
	assert.NilError(t.cli.t, pty.Setsize(t.pty, &pty.Winsize{Rows: rows, Cols: cols}))
}

// Expect waits until text is on the screen, below what was returned before, and returns everything up to its end.
// Lines end in "\n"; sequences that control the terminal are left out.
func (t *Terminal) Expect(text string) string {
	t.cli.t.Helper()
	var found string
	poll.WaitOn(t.cli.t, func(poll.LogT) poll.Result {
		rest := t.text()[t.seen:]
		if i := strings.Index(rest, text); i >= 0 {
			found = rest[:i+len(text)]
			t.seen += len(found)
			return poll.Success()
		}
		return poll.Continue("%q is not on the screen; there is %q", text, rest)
	}, poll.WithTimeout(patience(20*time.Second)), poll.WithDelay(5*time.Millisecond))
	return found
}

// End waits until the CLI ends. It returns its exit code, and what was not returned before of the screen.
func (t *Terminal) End() (rest string, code int) {
	t.cli.t.Helper()
	select {
	case <-t.ended:
	case <-time.After(patience(20 * time.Second)):
		t.cli.t.Fatalf("docker %s does not end; on the screen is %q", strings.Join(t.cmd.Args[1:], " "), t.text()[t.seen:])
	}
	_ = t.cmd.Wait() // the code says it all
	rest = t.text()[t.seen:]
	t.seen += len(rest)
	return rest, t.cmd.ProcessState.ExitCode()
}
