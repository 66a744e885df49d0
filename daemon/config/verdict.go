package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Outcome is what a reload made of a key, and of all of them.
type Outcome string

// The outcomes. That of a reload is the most serious one of its keys.
const (
	Applied      Outcome = "applied"       // in force
	NeedsRestart Outcome = "needs restart" // accepted; the running value stays until the daemon is started anew
	Rejected     Outcome = "rejected"      // and so is the whole reload: nothing was applied
)

// Change is one key whose configured value differs from the running one. Values are JSON without secrets.
type Change struct {
	Key        string          `json:"key"`
	Outcome    Outcome         `json:"outcome"`
	Running    json.RawMessage `json:"running,omitempty"`    // before the reload
	Configured json.RawMessage `json:"configured,omitempty"` // what is asked for
	Reason     string          `json:"reason,omitempty"`     // why it was rejected
}

// Verdict is the answer to a reload.
type Verdict struct {
	Outcome  Outcome  `json:"outcome"`
	Error    string   `json:"error,omitempty"`    // all of what led to a rejection
	Warnings []string `json:"warnings,omitempty"` // what works less well than the file may want
	Notes    []string `json:"notes,omitempty"`    // what is new although no key changed: certificates that were replaced
	Changes  []Change `json:"changes"`            // sorted by key; not nil
}

// Diff returns the keys in which configured differs from running, sorted by key: what a reload to configured applies,
// and what waits for a new process. The latter are told at every reload for as long as they differ.
func Diff(running, configured Config) []Change {
	changes := []Change{}
	for _, k := range Keys() {
		if k.same(&running, &configured) {
			continue
		}
		outcome := NeedsRestart
		if k.Reloadable {
			outcome = Applied
		}
		changes = append(changes, Change{
			Key: k.Path(), Outcome: outcome, Running: k.display(&running), Configured: k.display(&configured),
		})
	}
	return changes
}

// Running returns the configuration that is in force when configured was accepted by a process that was started with
// startup: configured for the keys that a reload applies, startup for the others.
func Running(startup, configured Config) Config {
	out := startup.Clone()
	configured = configured.Clone()
	for _, k := range table {
		if k.Reloadable {
			k.field(&out).Set(k.field(&configured))
		}
	}
	return out
}

// Accept is the verdict on a reload that made these changes.
func Accept(changes []Change, warnings []string) Verdict {
	v := Verdict{Outcome: Applied, Warnings: warnings, Changes: append([]Change{}, changes...)}
	for _, c := range changes {
		if c.Outcome == NeedsRestart {
			v.Outcome = NeedsRestart
		}
	}
	return v
}

// Reject is the verdict on a reload that failed with err. changes are what would have been made, where that is known.
// Each KeyError in err gives its key a reason.
func Reject(err error, changes []Change) Verdict {
	v := Verdict{Outcome: Rejected, Error: err.Error(), Changes: []Change{}}
	at := map[string]int{}
	for _, c := range changes {
		c.Outcome, c.Reason = Rejected, "another key was rejected"
		at[c.Key] = len(v.Changes)
		v.Changes = append(v.Changes, c)
	}
	blamed := map[string]bool{}
	for _, ke := range keyErrors(err) {
		i, known := at[ke.Key]
		if !known {
			i = len(v.Changes)
			at[ke.Key] = i
			v.Changes = append(v.Changes, Change{Key: ke.Key, Outcome: Rejected})
		}
		if blamed[ke.Key] {
			v.Changes[i].Reason += "; " + ke.Error()
		} else {
			v.Changes[i].Reason = ke.Error()
		}
		blamed[ke.Key] = true
	}
	slices.SortFunc(v.Changes, func(a, b Change) int { return strings.Compare(a.Key, b.Key) })
	return v
}

// keyErrors finds all KeyErrors that err is made of.
func keyErrors(err error) []*KeyError {
	switch e := err.(type) {
	case *KeyError:
		return []*KeyError{e}
	case interface{ Unwrap() error }:
		return keyErrors(e.Unwrap())
	case interface{ Unwrap() []error }:
		var all []*KeyError
		for _, inner := range e.Unwrap() {
			all = append(all, keyErrors(inner)...)
		}
		return all
	}
	return nil
}

// String is the verdict in one line, for the log.
func (v Verdict) String() string {
	if v.Outcome == Rejected {
		return "rejected, nothing was applied: " + strings.ReplaceAll(v.Error, "\n", "; ")
	}
	if len(v.Changes)+len(v.Notes) == 0 {
		return "applied: nothing differs"
	}
	var applied, waiting []string
	for _, c := range v.Changes {
		if c.Outcome == Applied {
			applied = append(applied, fmt.Sprintf("%s (%s → %s)", c.Key, c.Running, c.Configured))
		} else {
			waiting = append(waiting, fmt.Sprintf("%s (running %s, configured %s)", c.Key, c.Running, c.Configured))
		}
	}
	var parts []string
	applied = append(applied, v.Notes...)
	if len(applied) > 0 {
		parts = append(parts, "applied: "+strings.Join(applied, ", "))
	}
	if len(waiting) > 0 {
		parts = append(parts, "needs restart: "+strings.Join(waiting, ", "))
	}
	return strings.Join(parts, "; ")
}

// Entry is one key as the engine shows it. Values are JSON without secrets.
type Entry struct {
	Key        string          `json:"key"`
	Running    json.RawMessage `json:"running"`
	Configured json.RawMessage `json:"configured,omitempty"` // where it differs from the running value
	Origin     Origin          `json:"origin"`               // of the configured value
	Reloadable bool            `json:"reloadable"`
}

// Entries lists all keys, sorted.
func Entries(running, configured Config, origins Origins) []Entry {
	keys := Keys()
	entries := make([]Entry, 0, len(keys))
	for _, k := range keys {
		e := Entry{Key: k.Path(), Running: k.display(&running), Origin: origins[k.Path()], Reloadable: k.Reloadable}
		if !k.same(&running, &configured) {
			e.Configured = k.display(&configured)
		}
		entries = append(entries, e)
	}
	return entries
}
