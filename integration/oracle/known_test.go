package oracle

import (
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
)

const page = "# Differences\n| `\\.Other` | `.*` | 1.55 | not in the table |\n\n## Fields\n\n" +
	"| field | cases | versions | why |\n|---|---|---|---|\n" +
	"| `\\.State\\.(Pid\\|Error)` | `running.*` | 1.24–1.55 | because |\n" +
	"| `\\.Gone` | `running-none` | 1.55 | because |\n\n## Else\n| `\\.Other` | `.*` | 1.55 | nor this |\n"

func readPage(t *testing.T, text string) ([]*Known, error) {
	file := filepath.Join(t.TempDir(), "differences.md")
	assert.NilError(t, os.WriteFile(file, []byte(text), 0o600))
	return ReadKnown(file)
}

func TestKnown(t *testing.T) {
	known, err := readPage(t, page)
	assert.NilError(t, err)
	assert.Equal(t, len(known), 2)

	meant := Difference{Case: "running-none", Version: "1.30", Path: ".State.Error"}
	others := []Difference{
		{Case: "exited-code", Version: "1.30", Path: ".State.Error"},
		{Case: "running-none", Version: "1.23", Path: ".State.Error"},
		{Case: "running-none", Version: "1.30", Path: ".State.Errors"},
		{Case: "running-none", Version: "1.30", Path: ".Other"},
	}
	assert.DeepEqual(t, Unknown(known, append(others, meant)), others)

	unused := Unused(known, []string{"running-none"}, []string{"1.54", "1.55"})
	assert.DeepEqual(t, unused, []string{known[1].row})
	assert.Equal(t, len(Unused(known, []string{"running-none"}, []string{"1.30"})), 0)
}

func TestKnownNeedsAReason(t *testing.T) {
	_, err := readPage(t, "\n## Fields\n| `\\.State` | `.*` | 1.55 |  |\n")
	assert.ErrorContains(t, err, "not a row of path, cases, versions and reason")
}

func TestCompare(t *testing.T) {
	want := Answer{200, parse([]byte(`{"A":1,"B":{"C":[1,2]},"D":null,"E":{},"I":1}`))}
	got := Answer{201, parse([]byte(`{"A":1,"B":{"C":[1,3]},"E":[],"F":0,"I":2}`))}
	n := &normaliser{}
	want.Body, got.Body = n.value("", want.Body), n.value("", got.Body)
	ds, tally, err := Compare(Case{Name: "c", Ignore: []string{`^\.I$`}}, "p", "1.55", want, got)
	assert.NilError(t, err)
	text := []string{}
	for _, d := range ds {
		text = append(text, d.Path+" "+d.Want+" "+d.Got)
	}
	assert.DeepEqual(t, text, []string{
		"status 200 201", ".B.C[1] 2 3", ".D null (absent)", ".E {} []", ".F (absent) 0",
	})
	assert.DeepEqual(t, tally, Tally{Same: 2, Total: 7})
}
