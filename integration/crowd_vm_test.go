//go:build vm

package integration

import (
	"bufio"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

// Ten thousand connections that stay open cost bounded memory, harm nobody, and leave nothing.
func TestCrowdOfConnections(t *testing.T) {
	const crowd = 10_000
	// That of the daemon is this one.
	assert.NilError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 4 * crowd, Max: 4 * crowd}))
	d := harness.Start(t)
	d.Remove(d.Run("", "true")) // what is made once is there
	before := used(t, d)
	b := &badClient{t: t, d: d}
	defer b.close()
	var dialers sync.WaitGroup
	for range 8 {
		dialers.Go(func() {
			for range crowd / 8 {
				conn := b.send("%s", "GET /events?filters=%7B%22type%22:%5B%22volume%22%5D%7D HTTP/1.1\r\nHost: x\r\n\r\n") // has no end
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if assert.Check(t, err) {
					assert.Check(t, resp.StatusCode == 200)
				}
			}
		})
	}
	dialers.Wait()
	open, err := os.ReadDir(d.Proc("fd"))
	assert.NilError(t, err)
	assert.Assert(t, len(open) > crowd, "%d are open", len(open))
	rss := residentBytes(t, d)
	t.Logf("%d descriptors, %d MiB, %d before", len(open), rss>>20, before.bytes>>20)
	assert.Check(t, rss < before.bytes+crowd*(64<<10))
	id := d.Run("", "echo", "served")
	assert.Equal(t, d.Wait(id), 0)
	assert.Equal(t, d.Log(id), "served\n")
	d.Remove(id)
	b.close()
	d.Eventually("nothing is left of them", func() bool {
		now := used(t, d)
		return now.goroutines <= before.goroutines+5 && now.files <= before.files+5
	})
}
