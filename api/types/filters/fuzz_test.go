package filters

import (
	"encoding/json"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/vary"
)

// FuzzFilters: whatever the query says, it is refused as bad, or can be asked.
func FuzzFilters(f *testing.F) {
	for _, s := range vary.Strings(2000,
		`{"name":["web","^/web$","(","x{1000}"],"label":["a","a=b","=",""]}`, `{"name":{"web":true,"db":false}}`,
		`{"until":["24h"]}`, `{"until":["1700000000.123456789"]}`, `{"until":["2024-01-02T03:04:05Z"]}`, `{"until":["1.-5"]}`,
		`{"dangling":["true"],"exited":["0"]}`, `null`, `[]`, `{"a":null}`, `{"a":{"b":null}}`, `{"a":"b"}`, `{"":[""]}`,
	) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := FromJSON(s)
		if err != nil {
			assert.Assert(t, errdefs.IsInvalidParameter(err))
			return
		}
		for k := range a {
			_, _, _ = a.Match(k, "web"), a.Labels(k, map[string]string{"a": "b"}), a.Exact(k, "web")
			if _, err := a.Bool(k, true); err != nil {
				assert.Assert(t, errdefs.IsInvalidParameter(err))
			}
		}
		if _, err := a.Until(time.Now()); err != nil {
			assert.Assert(t, errdefs.IsInvalidParameter(err))
		}
		assert.Assert(t, a.Validate("name") == nil || errdefs.IsInvalidParameter(a.Validate("name")))
		b, err := json.Marshal(a)
		assert.NilError(t, err)
		again, err := FromJSON(string(b))
		assert.NilError(t, err)
		assert.Equal(t, len(again), len(a))
	})
}
