package oracle_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	apiversions "github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/integration/harness"
	"github.com/berthd/berth/integration/oracle"
)

func TestMain(m *testing.M) { harness.Main(m) }

// TestOracle fails on any difference from the recordings that docs/differences.md does not explain, and on an
// explanation of a difference that is no longer there.
func TestOracle(t *testing.T) {
	d := harness.Start(t)
	daemon := oracle.Daemon{
		Ask: func(method, path string, body []byte) (int, []byte, error) {
			var b any
			if len(body) > 0 {
				b = bytes.NewReader(body)
			}
			resp, err := d.Try(method, path, b)
			return resp.Status, []byte(resp.Body), err
		},
		Image: "busybox:latest",
		Roots: map[string]string{"root": d.File("d"), "exec": d.File("e")},
	}
	files, err := filepath.Glob("cases/*.json")
	assert.NilError(t, err)
	known, err := oracle.ReadKnown("../../docs/differences.md")
	assert.NilError(t, err)

	var sum oracle.Tally
	var cases []string
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		cases = append(cases, name)
		t.Run(name, func(t *testing.T) {
			differences, tally := check(t, daemon, name)
			for _, diff := range oracle.Unknown(known, differences) {
				t.Error(diff)
			}
			sum.Same += tally.Same
			sum.Total += tally.Total
		})
	}
	for _, row := range oracle.Unused(known, cases, apiversions.All()) {
		t.Error("no longer a difference, or no longer seen: ", row)
	}
	t.Logf("fields: %d/%d", sum.Same, sum.Total)
	assert.Assert(t, sum.Total > 100*len(apiversions.All()), "hardly a field was compared")
}

// check plays a case and compares the answers with the recording.
func check(t *testing.T, d oracle.Daemon, name string) (all []oracle.Difference, sum oracle.Tally) {
	c, err := oracle.Load("cases/" + name + ".json")
	assert.NilError(t, err)
	want, err := oracle.Golden("golden/" + name + ".json")
	assert.NilError(t, err)
	wanted := func(probe string) []string {
		var vs []string
		for _, v := range apiversions.All() {
			if _, ok := want[probe][v]; ok {
				vs = append(vs, v)
			}
		}
		return vs
	}
	got, err := d.Play(c, wanted)
	assert.NilError(t, err)
	for probe := range want {
		for _, v := range wanted(probe) {
			answer, ok := got[probe][v]
			assert.Assert(t, ok, "the case does not ask %s", probe)
			ds, tally, err := oracle.Compare(c, probe, v, want[probe][v], answer)
			assert.NilError(t, err)
			all = append(all, ds...)
			sum.Same += tally.Same
			sum.Total += tally.Total
		}
	}
	return all, sum
}
