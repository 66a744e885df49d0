package oracle

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
)

// Difference is a field, or the status, that is not as recorded.
type Difference struct {
	Case, Probe, Version string
	Path                 string // of the field: ".State.Pid", ".Mounts[0]"; "status" for the status
	Want, Got            string // as JSON; "(absent)" for a field that is not there
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: %s at %s: %s: want %s, got %s", d.Case, d.Probe, d.Version, d.Path, d.Want, d.Got)
}

// Tally counts the fields that were compared and those that were equal.
type Tally struct{ Same, Total int }

type comparison struct {
	at          Difference // the fields that say where
	ignore      []*regexp.Regexp
	differences []Difference
	Tally
}

// Compare compares one answer with the recorded one; fields that the case ignores are not compared.
func Compare(c Case, probe, version string, want, got Answer) ([]Difference, Tally, error) {
	cmp := comparison{at: Difference{Case: c.Name, Probe: probe, Version: version}}
	for _, i := range c.Ignore {
		re, err := regexp.Compile(i)
		if err != nil {
			return nil, Tally{}, fmt.Errorf("case %s: %w", c.Name, err)
		}
		cmp.ignore = append(cmp.ignore, re)
	}
	cmp.leaf("status", float64(want.Status), float64(got.Status))
	cmp.diff("", want.Body, got.Body)
	return cmp.differences, cmp.Tally, nil
}

// absent stands for the value of a field that is not there.
type absent struct{}

func (c *comparison) diff(path string, want, got any) {
	if slices.ContainsFunc(c.ignore, func(re *regexp.Regexp) bool { return re.MatchString(path) }) {
		return
	}
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(w)+len(g) == 0 {
			break
		}
		all := maps.Clone(w)
		maps.Copy(all, g)
		for _, k := range slices.Sorted(maps.Keys(all)) {
			c.diff(path+"."+k, field(w, k), field(g, k))
		}
		return
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) || len(w) == 0 {
			break
		}
		for i := range w {
			c.diff(fmt.Sprintf("%s[%d]", path, i), w[i], g[i])
		}
		return
	}
	c.leaf(path, want, got)
}

func (c *comparison) leaf(path string, want, got any) {
	c.Total++
	if reflect.DeepEqual(want, got) {
		c.Same++
		return
	}
	d := c.at
	d.Path, d.Want, d.Got = path, show(want), show(got)
	c.differences = append(c.differences, d)
}

func field(m map[string]any, k string) any {
	if v, ok := m[k]; ok {
		return v
	}
	return absent{}
}

func show(v any) string {
	if _, ok := v.(absent); ok {
		return "(absent)"
	}
	s := text(v)
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return s
}
