package daemon

import (
	"testing"
	"time"

	"gotest.tools/v3/assert"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
)

// TestListingIsNeverStale lists one record in all ways one after another, so that the memo has another one each time.
func TestListingIsNeverStale(t *testing.T) {
	rec := container.Record{Intent: container.Intent{
		ID: "a", Name: "/one", Config: &containertypes.Config{Image: "busybox"}, HostConfig: &containertypes.HostConfig{},
	}, Observed: container.Observed{State: container.State{Running: true, StartedAt: time.Now()}}}
	fresh := rec
	rec.Memo = &container.Memo{}
	all := [3][]string{{"1.12", "1.24", "1.52"}, {"busybox", "sha256:1", ""}, {"Up 1 second", "Up 2 seconds", "Up 2 seconds (Paused)"}}
	for alone := range 3 { // each of the three changes alone
		for i := range 3 * 3 * 3 {
			n := [3]int{i / 9, i / 3 % 3, i % 3}
			n[alone], n[2] = n[2], n[alone]
			l := listing{version: all[0][n[0]], image: all[1][n[1]], status: all[2][n[2]]}
			fresh.Memo = &container.Memo{}
			want, err := l.encode(&fresh)
			assert.NilError(t, err)
			for range 2 {
				got, err := l.encode(&rec)
				assert.NilError(t, err)
				assert.DeepEqual(t, got, want)
				assert.DeepEqual(t, rec.Memo.Listed.Load().(listing).entry, want)
			}
		}
	}
}
