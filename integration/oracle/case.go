// Package oracle compares Docker Engine API daemons by their answers.
//
// A case (cases/NAME.json) is a list of requests that bring containers into some state, and a list of probes: GET
// requests that are then asked at every API version. golden/NAME.json is what real daemons answered, field by field:
// 20.10.24 for 1.12–1.23, 28.5.2 for 1.24–1.51, 29.7.2 for 1.52–1.55. What differs from one run to the next (ids,
// times, addresses, paths) is replaced by placeholders.
package oracle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Step is one thing to do or to wait for. {name} in paths and bodies stands for what an earlier step saved.
type Step struct {
	Do     string            `json:"do,omitempty"`     // "POST /path"
	API    string            `json:"api,omitempty"`    // version for this step; else the case's
	Body   json.RawMessage   `json:"body,omitempty"`   // of the request
	Save   map[string]string `json:"save,omitempty"`   // variable <- dotted path in the answer
	Status int               `json:"status,omitempty"` // expected; 0 accepts any 2xx and 304
	Wait   string            `json:"wait,omitempty"`   // "GET /path", asked until Until holds, at most 30 s
	Until  map[string]any    `json:"until,omitempty"`  // dotted path -> value
	Sleep  float64           `json:"sleep,omitempty"`  // seconds
	Probe  string            `json:"probe,omitempty"`  // asked now, at every version, rather than at the end
}

// Case is a state and the questions that are asked in it.
type Case struct {
	Name    string   `json:"-"`
	Why     string   `json:"why"`
	API     string   `json:"api,omitempty"`    // version of the steps; default 1.41
	From    string   `json:"from,omitempty"`   // first version that is probed
	Ignore  []string `json:"ignore,omitempty"` // regular expressions on the paths of fields
	Steps   []Step   `json:"steps"`
	Probes  []string `json:"probes"`
	Cleanup []string `json:"cleanup"`
}

// Answer is a status and a normalised body.
type Answer struct {
	Status int `json:"status"`
	Body   any `json:"body"`
}

// Answers are answers by probe and version.
type Answers map[string]map[string]Answer

// recording is a file of golden/: equal answers of neighbouring versions stand together.
type recording struct {
	Daemon  string                       `json:"daemon"`
	Answers map[string][]versionedAnswer `json:"answers"`
}

type versionedAnswer struct {
	Versions []string `json:"versions"`
	Answer
}

// Load reads a case.
func Load(file string) (Case, error) {
	c := Case{Name: strings.TrimSuffix(filepath.Base(file), ".json"), API: "1.41"}
	b, err := os.ReadFile(file)
	if err != nil {
		return c, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// Golden reads what real daemons answered to a case.
func Golden(file string) (Answers, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var rec recording
	if err := json.Unmarshal(b, &rec); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	all := Answers{}
	for probe, groups := range rec.Answers {
		all[probe] = map[string]Answer{}
		for _, g := range groups {
			for _, v := range g.Versions {
				// the rules for placeholders grow: older recordings are brought to those of today
				all[probe][v] = Answer{g.Status, (&normaliser{}).value("", g.Body)}
			}
		}
	}
	return all, nil
}

// Minor is the number behind the dot of an API version.
func Minor(version string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(version, "1."))
	if err != nil {
		return -1
	}
	return n
}
