package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

func TestDiffAndRunning(t *testing.T) {
	start := mustLoad(t, `{"labels": ["a=b"], "storage-driver": "native"}`)
	next := mustLoad(t, `{"labels": ["a=c"], "debug": true, "data-root": "/other",
		"proxies": {"http-proxy": "http://u:secret@x"}}`)
	changes := Diff(start, next)
	assert.DeepEqual(t, changes, []Change{
		{Key: "data-root", Outcome: NeedsRestart, Running: raw(`"/var/lib/berth"`), Configured: raw(`"/other"`)},
		{Key: "debug", Outcome: Applied, Running: raw(`false`), Configured: raw(`true`)},
		{Key: "labels", Outcome: Applied, Running: raw(`["a=b"]`), Configured: raw(`["a=c"]`)},
		{Key: "proxies.http-proxy", Outcome: Applied, Running: raw(`""`), Configured: raw(`"http://xxxxx:xxxxx@x"`)},
		{Key: "storage-driver", Outcome: NeedsRestart, Running: raw(`"native"`), Configured: raw(`""`)},
	})
	running := Running(start, next)
	assert.Equal(t, running.DataRoot, "/var/lib/berth")
	assert.Equal(t, running.StorageDriver, "native")
	assert.DeepEqual(t, running.Labels, []string{"a=c"})

	// What waits for a restart is told again.
	again := Diff(running, next)
	assert.Equal(t, len(again), 2)
	v := Accept(again, []string{"w"})
	assert.Equal(t, v.Outcome, NeedsRestart)
	assert.Equal(t, v.String(), `needs restart: data-root (running "/var/lib/berth", configured "/other"), `+
		`storage-driver (running "native", configured "")`)

	v = Accept(Diff(start, mustLoad(t, `{"labels": ["a=c"], "storage-driver": "native"}`)), nil)
	assert.Equal(t, v.Outcome, Applied)
	assert.Equal(t, v.String(), `applied: labels (["a=b"] → ["a=c"])`)
	assert.Equal(t, Accept(nil, nil).String(), "applied: nothing differs")

	// Nothing that running holds is shared with what it came from.
	running.Labels[0] = "x"
	assert.DeepEqual(t, next.Labels, []string{"a=c"})
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

func TestReject(t *testing.T) {
	_, _, err := load(t, `{"lables": [], "log-level": "loud", "dns": ["x"], "hosts": ["a:b"]}`)
	v := Reject(err, nil)
	assert.Equal(t, v.Outcome, Rejected)
	assert.Equal(t, v.Error, err.Error())
	assert.DeepEqual(t, v.Changes, []Change{
		{Key: "dns", Outcome: Rejected, Reason: `invalid dns: ParseAddr("x"): unable to parse IP`},
		{Key: "hosts", Outcome: Rejected, Reason: "invalid bind address (a:b): the port has to be a number up to 65535"},
		{Key: "lables", Outcome: Rejected, Reason: "lables (did you mean labels?)"},
		{Key: "log-level", Outcome: Rejected, Reason: "invalid logging level: loud: use trace, debug, info, warn, error, fatal or panic"},
	})
	assert.Assert(t, strings.HasPrefix(v.String(), "rejected, nothing was applied: unable to configure"))
	assert.Assert(t, !strings.Contains(v.String(), "\n"))

	// A fault that shows when things are prepared blames its key; the others are not applied either.
	next := mustLoad(t, `{"debug": true, "log-opts": {"a": "b"}}`)
	err = fmt.Errorf("prepare: %w", errors.Join(&KeyError{Key: "log-opts", Err: errors.New("one")},
		&KeyError{Key: "log-opts", Err: errors.New("two")}))
	v = Reject(err, Diff(Default(), next))
	assert.DeepEqual(t, v.Changes, []Change{
		{Key: "debug", Outcome: Rejected, Running: raw(`false`), Configured: raw(`true`), Reason: "another key was rejected"},
		{Key: "log-opts", Outcome: Rejected, Running: raw(`{}`), Configured: raw(`{"a":"b"}`), Reason: "one; two"},
	})

	v = Reject(errors.New("unreadable"), nil)
	data, err := json.Marshal(v)
	assert.NilError(t, err)
	assert.Equal(t, string(data), `{"outcome":"rejected","error":"unreadable","changes":[]}`)
}

func TestEntries(t *testing.T) {
	start := Default()
	next, origins, err := load(t, `{"group": "g", "proxies": {"https-proxy": "u:secret@x"}}`, "--debug")
	assert.NilError(t, err)
	running := Running(start, next)
	entries := Entries(running, next, origins)
	assert.Equal(t, len(entries), len(table))
	byKey := map[string]Entry{}
	for _, e := range entries {
		byKey[e.Key] = e
	}
	assert.DeepEqual(t, byKey["group"],
		Entry{Key: "group", Running: raw(`"docker"`), Configured: raw(`"g"`), Origin: FromFile})
	assert.DeepEqual(t, byKey["debug"], Entry{Key: "debug", Running: raw(`true`), Origin: FromFlag, Reloadable: true})
	data, err := json.Marshal(entries)
	assert.NilError(t, err)
	assert.Assert(t, !strings.Contains(string(data), "secret"))
	data, err = json.Marshal(next.Masked())
	assert.NilError(t, err)
	assert.Assert(t, !strings.Contains(string(data), "secret"))
	assert.Equal(t, next.Proxies.HTTPS, "u:secret@x")
}

func TestEventAttributes(t *testing.T) {
	c := mustLoad(t, `{"labels": ["b=1", "a=2"], "features": {"b": true, "a": false}, "debug": true,
		"default-cgroupns-mode": "host", "live-restore": true,
		"runtimes": {"z": {"path": "/z"}, "k": {"runtimeType": "io.containerd.kata.v2"}, "a": {"path": "/a"}}}`)
	want := map[string]string{
		"debug": "true", "live-restore": "true", "default-cgroupns-mode": "host", "default-ipc-mode": "private",
		"default-runtime": "runc", "default-shm-size": "67108864", "default-stop-timeout": "10",
		"shutdown-timeout": "15", "max-concurrent-downloads": "3", "max-concurrent-uploads": "5",
		"max-download-attempts": "5", "labels": `["b=1","a=2"]`, "insecure-registries": "[]",
		"registry-mirrors": "[]", "features": "map[a:false b:true]", "runtimes": "a:/a k: z:/z",
	}
	for range 20 {
		assert.DeepEqual(t, EventAttributes(c), want)
	}
	assert.Equal(t, EventAttributes(Config{})["labels"], "[]")
}

// choices are values of keys, for files put together at random. The last of each key is refused.
var choices = map[string][]string{
	"debug":                {`true`, `false`, `"yes"`},
	"log-level":            {`"debug"`, `"warn"`, `"loud"`},
	"log-format":           {`"json"`, `"text"`, `"xml"`},
	"labels":               {`["a=b"]`, `["c=d","a=b"]`, `[]`, `["x"]`},
	"live-restore":         {`true`, `false`, `0`},
	"shutdown-timeout":     {`0`, `15`, `60`, `1.5`},
	"default-stop-timeout": {`0`, `3`, `-1`},
	"runtimes":             {`{"a":{"path":"/a"}}`, `{"a":{"path":"/a","runtimeArgs":["-x"]}}`, `{}`, `{"a":{}}`},
	"default-runtime":      {`"runc"`, `"io.containerd.kata.v2"`, `"nope"`},
	"default-ulimits":      {`{"nofile":{"Hard":2,"Soft":1}}`, `{}`, `{"nofile":{"Hard":1,"Soft":2}}`},
	"default-shm-size":     {`"1m"`, `1048576`, `"x"`},
	"log-opts":             {`{"max-size":"1m"}`, `{"max-file":"2"}`, `{"max-file":2}`},
	"dns":                  {`["1.1.1.1"]`, `["::1","1.1.1.1"]`, `["x"]`},
	"features":             {`{"a":true}`, `{"a":false}`, `{"a":1}`},
	"proxies":              {`{"http-proxy":"http://u:p@x"}`, `{"no-proxy":"x"}`, `{}`, `{"x":"y"}`},
	"data-root":            {`"/a"`, `"/b"`, `5`},
	"hosts":                {`["unix:///a"]`, `["tcp://:1","unix:///b"]`, `["x://y"]`},
	"storage-driver":       {`"native"`, `"overlay2"`, `"zfs"`},
	"exec-opts":            {`["native.cgroupdriver=cgroupfs"]`, `[]`, `["x"]`},
	"tls":                  {`true`, `false`, `"x"`},
	"bip":                  {`""`, `"10.0.0.1/24"`},
}

// After every accepted reload, what is configured equals what a fresh start has; what runs differs from it in nothing
// but what was told as needing a restart; and going back gives back. After a rejected one nothing has changed.
func TestHistoryDoesNotCount(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	file := func() (text string, good bool) {
		good = true
		var members []string
		for _, key := range slices.Sorted(maps.Keys(choices)) {
			values := choices[key]
			if rnd.IntN(3) > 0 {
				continue
			}
			i := rnd.IntN(len(values) - 1)
			if rnd.IntN(60) == 0 {
				i, good = len(values)-1, false
			}
			members = append(members, fmt.Sprintf("%q: %s", key, values[i]))
		}
		return "{" + strings.Join(members, ", ") + "}", good
	}
	accepted, rejected := 0, 0
	for range 12 {
		startup := Default()
		configured, running := startup.Clone(), startup.Clone()
		seen := []string{"{}"}
		for range 15 {
			text, good := file()
			if rnd.IntN(3) == 0 {
				text, good = seen[rnd.IntN(len(seen))], true
			}
			before, beforeRunning := configured.Clone(), running.Clone()
			next, _, err := load(t, text)
			if !good {
				assert.Assert(t, err != nil, text)
				assert.DeepEqual(t, configured, before)
				assert.DeepEqual(t, running, beforeRunning)
				rejected++
				continue
			}
			assert.NilError(t, err, text)
			accepted++
			seen = append(seen, text)
			told := Diff(running, next)
			configured, running = next, Running(startup, next)
			assert.DeepEqual(t, configured, mustLoad(t, text))
			var waiting []string
			for _, c := range told {
				if c.Outcome == NeedsRestart {
					waiting = append(waiting, c.Key)
				}
			}
			var differ []string
			for _, c := range Diff(running, configured) {
				differ = append(differ, c.Key)
			}
			assert.DeepEqual(t, differ, waiting)
			// Back to what it was: every key is as it was.
			back := Running(startup, before)
			assert.DeepEqual(t, back, beforeRunning)
		}
	}
	assert.Assert(t, accepted > 100 && rejected > 5, "%d accepted, %d rejected", accepted, rejected)
}
