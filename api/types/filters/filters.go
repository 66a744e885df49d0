// Package filters reads the filters query of the list and event endpoints.
package filters

import (
	"encoding/json"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/errdefs"
)

// Args are filters: for every key the values of which one has to match. It is not changed after it was read.
type Args map[string][]string

// FromJSON reads {"key":["value"]} or the older {"key":{"value":true}}. Values are sorted and single.
func FromJSON(s string) (Args, error) {
	if s == "" {
		return nil, nil
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s), &raw); err != nil {
		return nil, errdefs.InvalidParameterf("invalid filter")
	}
	a := Args{}
	for k, v := range raw {
		var list []string
		if err := json.Unmarshal(v, &list); err != nil {
			var set map[string]bool
			if err := json.Unmarshal(v, &set); err != nil {
				return nil, errdefs.InvalidParameterf("invalid filter")
			}
			for val, on := range set {
				if on {
					list = append(list, val)
				}
			}
		}
		sort.Strings(list)
		a[k] = slices.Compact(list)
	}
	return a, nil
}

// Validate refuses keys that are not among the known ones.
func (a Args) Validate(known ...string) error {
	keys := make([]string, 0, len(a))
	for k := range a {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		if !slices.Contains(known, k) {
			return errdefs.InvalidParameterf("invalid filter '%s'", k)
		}
	}
	return nil
}

// Has reports whether there are values for key.
func (a Args) Has(key string) bool { return len(a[key]) > 0 }

// Exact reports whether there is no filter for key, or one of its values is s.
func (a Args) Exact(key, s string) bool { return !a.Has(key) || slices.Contains(a[key], s) }

// Match reports whether there is no filter for key, or one of its values, read as a regular expression, matches s.
// A value that is no regular expression matches nothing.
func (a Args) Match(key, s string) bool {
	if a.Exact(key, s) {
		return true
	}
	return slices.ContainsFunc(a[key], func(v string) bool {
		ok, err := regexp.MatchString(v, s)
		return err == nil && ok
	})
}

// Labels reports whether every value of key ("name" or "name=value") holds for labels.
func (a Args) Labels(key string, labels map[string]string) bool {
	for _, want := range a[key] {
		name, value, exact := strings.Cut(want, "=")
		got, ok := labels[name]
		if !ok || exact && got != value {
			return false
		}
	}
	return true
}

// Until reads the one value of "until": a duration before now, Unix seconds with an optional fraction, or a date with an
// optional time, in the zone of this machine unless it says another. Without a value it is the zero time.
func (a Args) Until(now time.Time) (time.Time, error) {
	v := a["until"]
	switch {
	case len(v) == 0:
		return time.Time{}, nil
	case len(v) > 1:
		return time.Time{}, errdefs.InvalidParameterf("more than one until filter specified")
	}
	if d, err := time.ParseDuration(v[0]); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02",
	} {
		if t, err := time.ParseInLocation(layout, v[0], time.Local); err == nil {
			return t, nil
		}
	}
	whole, frac, _ := strings.Cut(v[0], ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || len(frac) > 9 {
		return time.Time{}, errdefs.InvalidParameterf("invalid filter 'until=%s': give a duration (24h), a date or Unix seconds", v[0])
	}
	nano, err := strconv.ParseUint("0"+frac+strings.Repeat("0", 9-len(frac)), 10, 64)
	if err != nil {
		return time.Time{}, errdefs.InvalidParameterf("invalid filter 'until=%s': %w", v[0], err)
	}
	return time.Unix(sec, int64(nano)), nil
}

// Bool reads the value of key as a yes or no; def holds where there is none.
func (a Args) Bool(key string, def bool) (bool, error) {
	v := a[key]
	if len(v) == 0 {
		return def, nil
	}
	if len(v) == 1 {
		switch strings.ToLower(v[0]) {
		case "1", "true":
			return true, nil
		case "0", "false":
			return false, nil
		}
	}
	return false, errdefs.InvalidParameterf("invalid filter '%s=%v'", key, v)
}
