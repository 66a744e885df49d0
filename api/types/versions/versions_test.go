package versions_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/events"
	"github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/api/types/system"
	"github.com/berthd/berth/api/types/versions"
)

func TestCompareIsByNumber(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{"1.9", "1.12", -1}, {"1.12", "1.9", 1}, {"1.40", "1.40", 0}, {"1.40.1", "1.40", 1}, {"1.40", "1.40.0", 0},
		{"1", "1.12", -1}, {"2", "1.99", 1}, {"", "1.12", -1}, {"1..5", "1.0.5", 0},
	} {
		assert.Equal(t, versions.Compare(tc.a, tc.b), tc.want, "%s and %s", tc.a, tc.b)
	}
	all := versions.All()
	assert.Equal(t, len(all), 44)
	assert.Equal(t, all[0], versions.Min)
	assert.Equal(t, all[len(all)-1], versions.Max)
}

func TestContextWithoutARequestIsTheNewest(t *testing.T) {
	assert.Equal(t, versions.FromContext(context.Background()).Version, versions.Max)
	p := versions.For("1.30")
	assert.Equal(t, versions.FromContext(versions.WithProfile(context.Background(), p)), p)
}

// TestKeysComeAndGo asks of each key at which versions it is there.
func TestKeysComeAndGo(t *testing.T) {
	stats := func() any {
		return &container.StatsResponse{Read: time.Now(),
			ID: "c", Name: "/c", OSType: "linux", Networks: map[string]container.NetworkStats{"eth0": {RxBytes: 1}},
		}
	}
	names := func() any {
		return &image.InspectResponse{Created: nil, Config: &image.Config{}}
	}
	for _, tc := range []struct {
		what        string
		from, below string
		key         string
		make        func() any
	}{
		{"info", "", "1.25", "ExecutionDriver", func() any { return &system.Info{} }},
		{"info", "", "1.42", "KernelMemory", func() any { return &system.Info{} }},
		{"info", "", "1.52", "KernelMemoryTCP", func() any { return &system.Info{KernelMemoryTCP: true} }},
		{"info", "", "1.50", "BridgeNfIptables", func() any { return &system.Info{} }},
		{"info", "", "1.50", "BridgeNfIp6tables", func() any { return &system.Info{} }},
		{"info", "1.24", "", "CDISpecDirs", func() any { return &system.Info{} }},
		{"info", "1.46", "", "Containerd", func() any { return &system.Info{Containerd: &system.Containerd{}} }},
		{"info", "1.49", "", "FirewallBackend", func() any { return &system.Info{FirewallBackend: &system.Firewall{}} }},
		{"info", "1.53", "", "NRI", func() any { return &system.Info{NRI: &system.NRI{}} }},
		{"event", "", "1.52", "status", func() any { return &events.Message{Type: "container", Action: "start"} }},
		{"network", "1.24", "", "EnableIPv4", func() any { return &network.Inspect{} }},
		{"network", "1.52", "", "Status", func() any { return &network.Inspect{Status: &network.Status{}} }},
		{"networks", "", "1.28", "Containers", func() any {
			return &network.Summary{Inspect: network.Inspect{Containers: &map[string]network.EndpointResource{}}}
		}},
		{"list", "1.52", "", "Health", func() any { return &container.Summary{Health: &container.SummaryHealth{}} }},
		{"images", "", "1.44", "VirtualSize", func() any { return &image.Summary{} }},
		{"image", "", "1.44", "VirtualSize", names}, {"image", "", "1.44", "Created", names},
		{"image", "", "1.45", "ContainerConfig", names}, {"image", "", "1.24", "Container", names},
		{"image", "", "1.52", "Parent", names}, {"image", "", "1.52", "DockerVersion", names},
		{"stats", "1.52", "", "os_type", stats}, {"stats", "1.21", "", "id", stats}, {"stats", "1.21", "", "name", stats},
		{"stats", "1.21", "", "networks", stats}, {"stats", "", "1.21", "network", stats}, {"stats", "", "", "cpu_stats", stats},
		{"wait", "", "1.24", "Error", func() any { return &container.WaitResponse{} }},
	} {
		for _, v := range versions.All() {
			b, err := json.Marshal(respond(versions.For(v), tc.make()))
			assert.NilError(t, err)
			var keys map[string]any
			assert.NilError(t, json.Unmarshal(b, &keys))
			_, got := keys[tc.key]
			want := !versions.LessThan(v, tc.from) && (tc.below == "" || versions.LessThan(v, tc.below))
			assert.Equal(t, got, want, "%s of %s at %s", tc.key, tc.what, v)
		}
	}
}

// respond is Response of whatever type.
func respond(p *versions.Profile, v any) any {
	switch v := v.(type) {
	case *system.Info:
		return versions.Response(p, v)
	case *events.Message:
		return versions.Response(p, v)
	case *network.Inspect:
		return versions.Response(p, v)
	case *network.Summary:
		return versions.Response(p, v)
	case *container.Summary:
		return versions.Response(p, v)
	case *container.WaitResponse:
		return versions.Response(p, v)
	case *container.StatsResponse:
		return versions.Response(p, v)
	case *image.Summary:
		return versions.Response(p, v)
	case *image.InspectResponse:
		return versions.Response(p, v)
	}
	panic("no such type here")
}

func TestSecurityOptionsWereNames(t *testing.T) {
	i := &system.Info{SecurityOptions: []string{"name=seccomp,profile=builtin", "name=apparmor", "name=cgroupns"}}
	versions.Response(versions.For("1.25"), i)
	assert.Equal(t, i.SecurityOptions[0], "name=seccomp,profile=builtin")
	versions.Response(versions.For("1.24"), i)
	assert.DeepEqual(t, i.SecurityOptions, []string{"seccomp", "apparmor"})
}

func TestEventsOfOldVersions(t *testing.T) {
	m := func() *events.Message {
		return &events.Message{Type: "container", Action: "start", Actor: events.Actor{
			ID: "abc", Attributes: map[string]string{"image": "busybox"}}}
	}
	old := versions.Response(versions.For("1.51"), m()).(*events.Message)
	assert.Equal(t, old.Status+" "+old.ID+" "+old.From, "start abc busybox")
	created := &events.Message{Type: "image", Action: "create", Actor: events.Actor{ID: "abc"}}
	assert.Assert(t, versions.Response(versions.For("1.45"), created) == nil)
	assert.Assert(t, versions.Response(versions.For("1.46"), created) != nil)
	other := versions.Response(versions.For("1.12"), &events.Message{Type: "network", Action: "connect"})
	assert.Equal(t, other.(*events.Message).Status, "")
}

func TestImagesWithoutANameSaySo(t *testing.T) {
	for _, tc := range []struct {
		version       string
		tags, digests []string
		wantTags      []string
		wantDigests   []string
	}{
		{"1.42", nil, nil, []string{"<none>:<none>"}, []string{"<none>@<none>"}},
		{"1.42", []string{"a:b"}, []string{}, []string{"a:b"}, nil},
		{"1.43", nil, nil, []string{}, []string{}},
	} {
		s := &image.Summary{RepoTags: tc.tags, RepoDigests: tc.digests}
		versions.Response(versions.For(tc.version), s)
		assert.DeepEqual(t, s.RepoTags, tc.wantTags)
		assert.DeepEqual(t, s.RepoDigests, tc.wantDigests)
	}
}
