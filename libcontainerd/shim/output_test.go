package shim

import (
	"runtime"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/daemon/logger"
)

// What a process writes fast is logged, compressed and sent side by side; a shim whose container writes little stays small.
func TestMuchOutputGetsASecondThread(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	tee := newOutput(false).tee(stdout)
	tee(logger.Read{Bytes: make([]byte, 1000)})
	assert.Equal(t, runtime.GOMAXPROCS(0), 1)
	tee(logger.Read{Bytes: make([]byte, 64<<10)})
	assert.Equal(t, runtime.GOMAXPROCS(0), 2)
}
