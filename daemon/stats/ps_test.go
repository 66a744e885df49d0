package stats

import (
	"testing"

	"gotest.tools/v3/assert"
)

func TestRowsOfPSAreTheContainersOwn(t *testing.T) {
	const out = "UID   PID  PPID CMD\n" +
		"root    1     0 init\n" +
		"root   70     1 sh -c  sleep 5\n" +
		"-       -     - a thread of it\n" +
		"root   71     1 foreign\n" +
		"-       -     - a thread of that\n"
	got, err := parsePS([]byte(out), []int{70, 99})
	assert.NilError(t, err)
	assert.DeepEqual(t, got.Titles, []string{"UID", "PID", "PPID", "CMD"})
	assert.DeepEqual(t, got.Processes, [][]string{
		{"root", "70", "1", "sh -c sleep 5"}, {"-", "-", "-", "a thread of it"},
	})

	_, err = parsePS([]byte("UID CMD\nroot init\n"), []int{1})
	assert.Error(t, err, "Couldn't find PID field in ps output")
	_, err = parsePS([]byte("UID PID\nroot x\n"), []int{1})
	assert.ErrorContains(t, err, "Unexpected pid 'x'")
	_, err = parsePS([]byte("CMD PID\nx\n"), []int{1})
	assert.ErrorContains(t, err, "Unexpected row of ps")
}
