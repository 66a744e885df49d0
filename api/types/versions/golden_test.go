package versions_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/api/types/volume"
)

// The recordings tell what real daemons answered. What the newest version shows, together with the few things that only
// older ones show, is the union that Berth's daemon builds; these tests bring it to every version and compare.
const goldenDir = "../../../integration/oracle/golden"

type recording struct {
	Answers map[string][]struct {
		Versions []string
		Status   int
		Body     json.RawMessage
	}
}

// load returns, by probe and version, the bodies of a recorded case.
func load(t *testing.T, file string) map[string]map[string]json.RawMessage {
	t.Helper()
	b, err := os.ReadFile(file)
	assert.NilError(t, err)
	// Placeholders stand where numbers and times were.
	b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte(`\u003c`), []byte("<")), []byte(`\u003e`), []byte(">"))
	for old, now := range map[string]string{
		`"<pid>"`: `4242`, `"<number>"`: `1`, `"<time>"`: `"2024-01-02T03:04:05.6Z"`,
		`<id>`: strings.Repeat("0123456789abcdef", 4), `<id short>`: "0123456789ab",
	} {
		b = bytes.ReplaceAll(b, []byte(old), []byte(now))
	}
	b = bytes.ReplaceAll(b, []byte(`"PublicPort": "<port>"`), []byte(`"PublicPort": 32768`))
	var rec recording
	assert.NilError(t, json.Unmarshal(b, &rec))
	all := map[string]map[string]json.RawMessage{}
	for probe, groups := range rec.Answers {
		all[probe] = map[string]json.RawMessage{}
		for _, g := range groups {
			for _, v := range g.Versions {
				all[probe][v] = g.Body
			}
		}
	}
	return all
}

// each calls f with the bodies of every recorded probe that begins and ends so.
func each(t *testing.T, prefix, suffix string, f func(t *testing.T, byVersion map[string]json.RawMessage)) {
	files, err := filepath.Glob(goldenDir + "/*.json")
	assert.NilError(t, err)
	n := 0
	for _, file := range files {
		for probe, byVersion := range load(t, file) {
			path, _, _ := strings.Cut(probe, "?")
			if !strings.HasPrefix(path, prefix) || !strings.HasSuffix(path, suffix) ||
				byVersion[versions.Max] == nil || // of old versions only
				bytes.HasPrefix(byVersion[versions.Max], []byte(`{"message"`)) ||
				bytes.Contains(byVersion[versions.Max], []byte(`"message":`)) {
				continue
			}
			n++
			t.Run(filepath.Base(file)+" "+probe, func(t *testing.T) { f(t, byVersion) })
		}
	}
	assert.Assert(t, n > 0, "no recording of %s*%s", prefix, suffix)
}

func decode[T any](t *testing.T, b json.RawMessage) *T {
	t.Helper()
	v := new(T)
	assert.NilError(t, json.Unmarshal(b, v))
	return v
}

// same compares as JSON. What ignore names ("A.B") is left out on both sides.
func same(t *testing.T, version string, got any, want json.RawMessage, ignore ...string) {
	t.Helper()
	b, err := json.Marshal(got)
	assert.NilError(t, err)
	g, w := *decode[any](t, b), *decode[any](t, want)
	unordered(g)
	unordered(w)
	for _, path := range ignore {
		drop(g, strings.Split(path, "."))
		drop(w, strings.Split(path, "."))
	}
	assert.DeepEqual(t, map[string]any{version: w}, map[string]any{version: g})
}

// unordered sorts the ports of a list: nobody promises their order.
func unordered(v any) {
	list, _ := v.([]any)
	for _, x := range list {
		entry, _ := x.(map[string]any)
		if ports, ok := entry["Ports"].([]any); ok {
			slices.SortFunc(ports, func(a, b any) int {
				x, _ := json.Marshal(a)
				y, _ := json.Marshal(b)
				return bytes.Compare(bytes.ReplaceAll(x, []byte(`"IP":"",`), nil), bytes.ReplaceAll(y, []byte(`"IP":"",`), nil))
			})
		}
	}
}

func drop(v any, path []string) {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			drop(x, path)
		}
	case map[string]any:
		if len(path) == 1 {
			delete(v, path[0])
		} else {
			drop(v[path[0]], path[1:])
		}
	}
}

// unionInspect is what the daemon would build of the recorded container.
func unionInspect(t *testing.T, byVersion map[string]json.RawMessage) *container.InspectResponse {
	r := decode[container.InspectResponse](t, byVersion[versions.Max])
	oldest := decode[container.InspectResponse](t, byVersion["1.12"])
	before124 := decode[container.InspectResponse](t, byVersion["1.23"])
	before152 := decode[container.InspectResponse](t, byVersion["1.51"])
	r.GraphDriver = &container.DriverData{Name: r.Driver, Data: oldest.GraphDriver.Data}
	r.Defaulted = container.Defaulted{
		NetworkMode:   oldest.HostConfig.NetworkMode == "default",
		RestartPolicy: oldest.HostConfig.RestartPolicy.Name == "",
		Runtime:       true,
		PortBindings:  before152.HostConfig.PortBindings == nil,
	}
	r.NetworkSettings.SandboxID = oldest.NetworkSettings.SandboxID
	r.NetworkSettings.SandboxKey = oldest.NetworkSettings.SandboxKey
	for name, ep := range r.NetworkSettings.Networks {
		ep.NetworkID = before124.NetworkSettings.Networks[name].NetworkID
	}
	r.NetworkSettings.LegacyEndpoint = before152.NetworkSettings.LegacyEndpoint
	r.SizeRw, r.SizeRootFs = before152.SizeRw, before152.SizeRootFs
	return r
}

func TestInspectIsAsRecorded(t *testing.T) {
	each(t, "GET /containers/{id}", "/json", func(t *testing.T, byVersion map[string]json.RawMessage) {
		for _, v := range versions.All() {
			r := unionInspect(t, byVersion)
			same(t, v, versions.Response(versions.For(v), r), byVersion[v])
		}
	})
}

func TestListIsAsRecorded(t *testing.T) {
	each(t, "GET /containers/json", "", func(t *testing.T, byVersion map[string]json.RawMessage) {
		for _, v := range versions.All() {
			list := *decode[[]*container.Summary](t, byVersion[versions.Max])
			oldest := *decode[[]*container.Summary](t, byVersion["1.12"])
			for i, s := range list {
				s.Defaulted.NetworkMode = oldest[i].HostConfig.NetworkMode == "default"
				for name, ep := range s.NetworkSettings.Networks {
					ep.NetworkID = oldest[i].NetworkSettings.Networks[name].NetworkID
				}
				versions.Response(versions.For(v), s)
			}
			same(t, v, list, byVersion[v])
		}
	})
}

func TestExecInspectIsAsRecorded(t *testing.T) {
	each(t, "GET /exec/", "/json", func(t *testing.T, byVersion map[string]json.RawMessage) {
		for _, v := range versions.All() {
			r := decode[container.ExecInspect](t, byVersion[versions.Max])
			same(t, v, versions.Response(versions.For(v), r), byVersion[v])
		}
	})
}

func TestNetworkIsAsRecorded(t *testing.T) {
	each(t, "GET /networks/", "", func(t *testing.T, byVersion map[string]json.RawMessage) {
		for v, want := range byVersion {
			r := decode[network.Inspect](t, byVersion[versions.Max])
			// 20.10 did not write down the gateway that it chose itself; that is no difference between versions.
			ignore := "-"
			if r.Name == "bridge" {
				ignore = "IPAM.Config.Gateway"
			}
			same(t, v, versions.Response(versions.For(v), r), want, ignore)
		}
	})
}

func TestVolumeIsAsRecorded(t *testing.T) {
	each(t, "GET /volumes/", "-v", func(t *testing.T, byVersion map[string]json.RawMessage) {
		for v, want := range byVersion {
			r := decode[volume.Volume](t, byVersion[versions.Max])
			same(t, v, versions.Response(versions.For(v), r), want)
		}
	})
}

func TestImageListIsAsRecorded(t *testing.T) {
	each(t, "GET /images/json", "", func(t *testing.T, byVersion map[string]json.RawMessage) {
		for _, v := range versions.All() {
			list := *decode[[]*image.Summary](t, byVersion[versions.Max])
			for _, s := range list {
				versions.Response(versions.For(v), s)
			}
			same(t, v, list, byVersion[v], "RepoDigests", "VirtualSize")
		}
	})
}

func TestImageInspectIsAsRecorded(t *testing.T) {
	each(t, "GET /images/", "}/json", func(t *testing.T, byVersion map[string]json.RawMessage) {
		for _, v := range versions.All() {
			r := decode[image.InspectResponse](t, byVersion[versions.Max])
			same(t, v, versions.Response(versions.For(v), r), byVersion[v],
				"GraphDriver", "DockerVersion", "VirtualSize", "RepoDigests")
		}
	})
}
