package oracle

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// Known is a difference that is meant: a row of the table in docs/differences.md.
type Known struct {
	path, cases *regexp.Regexp
	from, to    int // minor versions
	why         string
	row         string
	used        bool
}

// reRow is a row "| `path` | `cases` | versions | why |"; a bar in an expression is written \|.
var reRow = regexp.MustCompile("^\\| `((?:[^`])+)` \\| `((?:[^`])+)` \\| ([0-9.]+)(?:–([0-9.]+))? \\| (.+) \\|$")

// ReadKnown reads the table of known differences out of a page: all rows below the heading "## Fields".
func ReadKnown(file string) ([]*Known, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	_, table, ok := strings.Cut(string(b), "\n## Fields")
	if !ok {
		return nil, fmt.Errorf("%s: no heading \"## Fields\"", file)
	}
	table, _, _ = strings.Cut(table, "\n## ")
	var all []*Known
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		k, err := parseKnown(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, k)
	}
	return all, nil
}

func parseKnown(line string) (*Known, error) {
	m := reRow.FindStringSubmatch(line)
	if m == nil {
		return nil, fmt.Errorf("not a row of path, cases, versions and reason: %s", line)
	}
	k := &Known{from: Minor(m[3]), to: Minor(m[3]), why: m[5], row: line}
	if m[4] != "" {
		k.to = Minor(m[4])
	}
	var err error
	if k.path, err = whole(m[1]); err != nil {
		return nil, err
	}
	k.cases, err = whole(m[2])
	return k, err
}

// whole compiles an expression of the table so that it has to match all of a text.
func whole(cell string) (*regexp.Regexp, error) {
	return regexp.Compile("^(?:" + strings.ReplaceAll(cell, `\|`, "|") + ")$")
}

// applies tells whether the row speaks of a case at a version.
func (k *Known) applies(c, version string) bool {
	v := Minor(version)
	return k.cases.MatchString(c) && k.from <= v && v <= k.to
}

// Unknown returns the differences that no row speaks of, and marks the rows that were used.
func Unknown(known []*Known, ds []Difference) []Difference {
	var rest []Difference
	for _, d := range ds {
		found := false
		for _, k := range known {
			if k.applies(d.Case, d.Version) && k.path.MatchString(d.Path) {
				k.used, found = true, true
			}
		}
		if !found {
			rest = append(rest, d)
		}
	}
	return rest
}

// Unused returns the rows that speak of one of the cases at one of the versions, and were not used.
func Unused(known []*Known, cases, versions []string) []string {
	var rows []string
	for _, k := range known {
		for _, c := range cases {
			for _, v := range versions {
				if !k.used && k.applies(c, v) && (len(rows) == 0 || rows[len(rows)-1] != k.row) {
					rows = append(rows, k.row)
				}
			}
		}
	}
	return rows
}
