package filters_test

import (
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/api/types/filters"
	"github.com/berthd/berth/errdefs"
)

func TestUntil(t *testing.T) {
	now := time.Date(2026, 5, 6, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Time{
		"90m":                       now.Add(-90 * time.Minute),
		"2026-05-01":                time.Date(2026, 5, 1, 0, 0, 0, 0, time.Local),
		"2026-05-01T10:11":          time.Date(2026, 5, 1, 10, 11, 0, 0, time.Local),
		"2026-05-01T10:11:12.5Z":    time.Date(2026, 5, 1, 10, 11, 12, 5e8, time.UTC),
		"2026-05-01T10:11:12+02:00": time.Date(2026, 5, 1, 8, 11, 12, 0, time.UTC),
		"1136073600":                time.Unix(1136073600, 0),
		"1136073600.000000001":      time.Unix(1136073600, 1),
	} {
		got, err := filters.Args{"until": {value}}.Until(now)
		assert.NilError(t, err, value)
		assert.Assert(t, got.Equal(want), "%s is %v", value, got)
	}
	none, err := filters.Args{}.Until(now)
	assert.NilError(t, err)
	assert.Assert(t, none.IsZero())
	for _, bad := range [][]string{{"x"}, {""}, {"1.0000000001"}, {"1.x"}, {"1h", "2h"}} {
		_, err := filters.Args{"until": bad}.Until(now)
		assert.Assert(t, errdefs.IsInvalidParameter(err), "%v: %v", bad, err)
	}
}
