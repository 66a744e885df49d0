package integration

import (
	"os"
	"strings"
	"testing"

	"github.com/moby/moby/client"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth"
	"github.com/berthd/berth/berthtest"
	"github.com/berthd/berth/integration/harness"
)

// A test of somebody else's program, with an engine of its own.
func TestBerthtest(t *testing.T) {
	var host string
	t.Run("a test", func(t *testing.T) {
		e := berthtest.Start(t, func(o *berth.Options) { o.ShimPath = harness.ShimPath() })
		host = e.Host
		c, err := client.New(client.WithHost(e.Host))
		assert.NilError(t, err)
		defer c.Close()
		list, err := c.ContainerList(t.Context(), client.ContainerListOptions{All: true})
		assert.NilError(t, err)
		assert.Equal(t, len(list.Items), 0)
	})
	_, err := os.Stat(strings.TrimSuffix(strings.TrimPrefix(host, "unix://"), "/s"))
	assert.Assert(t, os.IsNotExist(err), "%v", err)
}
