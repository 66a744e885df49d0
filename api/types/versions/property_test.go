package versions_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/api/types/versions"
)

// FuzzInspect takes a random container through all versions: each has exactly its keys, equal records give equal bytes,
// and nothing that a record may share is written to.
func FuzzInspect(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	tables := keyTables(f)
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := randomInspect(rand.New(rand.NewPCG(seed, 0)))
		before := marshal(t, r)
		for _, v := range versions.All() {
			p := versions.For(v)
			b := marshal(t, versions.Response(p, shallow(r)))
			assert.Equal(t, string(b), string(marshal(t, versions.Response(p, shallow(r)))), v)
			got := map[string]bool{}
			collect(got, "", *decode[any](t, b))
			required, optional := tables(v)
			for _, k := range required {
				assert.Check(t, got[k], "%s lacks %s", v, k)
				delete(got, k)
			}
			for k := range got {
				assert.Check(t, slices.Contains(optional, k), "%s has %s", v, k)
			}
		}
		assert.Equal(t, string(marshal(t, r)), string(before), "what a record shares was written to")
	})
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	assert.NilError(t, err)
	return b
}

// structs are the objects whose keys belong to the API; other objects are maps, or have the same keys in all versions.
var structs = []string{
	"", "State", "Config", "HostConfig", "HostConfig.LogConfig", "HostConfig.RestartPolicy", "GraphDriver", "Storage",
	"Storage.RootFS", "Storage.RootFS.Snapshot", "NetworkSettings", "NetworkSettings.Networks",
	"NetworkSettings.Networks.n",
}

// collect gathers the paths of all keys that have no API object below them.
func collect(keys map[string]bool, path string, v any) {
	m, ok := v.(map[string]any)
	if !ok || !slices.Contains(structs, path) {
		keys[path] = true
		return
	}
	for k, x := range m {
		collect(keys, strings.TrimPrefix(path+"."+k, "."), x)
	}
}

// keyTables returns the keys that a version always has, and those that it may have.
func keyTables(tb testing.TB) func(version string) (required, optional []string) {
	b, err := os.ReadFile("testdata/shapes.json")
	assert.NilError(tb, err)
	var table struct{ Shapes map[string][]string }
	assert.NilError(tb, json.Unmarshal(b, &table))
	return func(v string) (required, optional []string) {
		old := func(version string) bool { return versions.LessThan(v, version) }
		shape := "1.52"
		switch {
		case old("1.20"):
			shape = "1.12"
		case old("1.21"):
			shape = "1.20"
		case old("1.52"):
			shape = "1.21"
		}
		required = slices.Clone(table.Shapes[shape])
		optional = []string{
			"State.Health", "Config.Healthcheck", "Config.StopSignal", "Config.StopTimeout", "Config.Shell",
			"Config.ArgsEscaped", "HostConfig.StorageOpt", "HostConfig.Tmpfs", "HostConfig.Sysctls", "HostConfig.Runtime",
			"HostConfig.Mounts", "HostConfig.Init",
		}
		kernel := []string{"HostConfig.KernelMemory", "HostConfig.KernelMemoryTCP"}
		// What the recordings of 20.10 and 28.5 have beside those of the table.
		switch {
		case old("1.24"):
			required = append(required, kernel...)
		case old("1.52"):
			required = append(required, "NetworkSettings.Networks.n.DNSNames", "NetworkSettings.Networks.n.GwPriority")
			optional = append(optional, kernel...)
		default:
			optional = append(optional, "Config.OnBuild", "ImageManifestDescriptor")
		}
		if !old("1.21") {
			optional = append(optional, "SizeRw", "SizeRootFs", "Config.ExposedPorts", "Config.NetworkDisabled")
			if old("1.52") {
				optional = append(optional, "Config.MacAddress")
			}
		}
		if !old("1.24") {
			optional = append(optional, "HostConfig.Annotations")
		}
		return required, optional
	}
}

// randomInspect returns what the daemon may build: random fields, but always the parts that it always has.
func randomInspect(rnd *rand.Rand) *container.InspectResponse {
	r := &container.InspectResponse{}
	fill(rnd, reflect.ValueOf(r).Elem())
	if r.Base == nil {
		r.Base = &container.Base{}
		fill(rnd, reflect.ValueOf(r.Base).Elem())
	}
	for _, part := range []any{
		&r.Config, &r.NetworkSettings, &r.State, &r.HostConfig, &r.GraphDriver, &r.Storage,
	} {
		p := reflect.ValueOf(part).Elem()
		if p.IsNil() {
			p.Set(reflect.New(p.Type().Elem()))
			fill(rnd, p.Elem())
		}
	}
	r.Storage = &container.Storage{RootFS: &container.RootFSStorage{Snapshot: &container.SnapshotStorage{Name: "native"}}}
	ep := &network.EndpointSettings{}
	fill(rnd, reflect.ValueOf(ep).Elem())
	r.NetworkSettings.Networks = map[string]*network.EndpointSettings{"n": ep}
	return r
}

// fill sets v to something random. Half of what may be nil is, and a third of the rest is zero.
func fill(rnd *rand.Rand, v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(rnd.Int64N(1<<32), rnd.Int64N(1e9)).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(rnd, v.Field(i))
			}
		}
	case reflect.Pointer, reflect.Slice, reflect.Map:
		if rnd.IntN(2) == 0 {
			return
		}
		fillReference(rnd, v)
	case reflect.Array:
		for i := range v.Len() {
			fill(rnd, v.Index(i))
		}
	default:
		if rnd.IntN(3) > 0 {
			fillScalar(rnd, v)
		}
	}
}

func fillReference(rnd *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(rnd, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rnd.IntN(3), 3))
		for i := range v.Len() {
			fill(rnd, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range rnd.IntN(3) {
			k, x := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(rnd, k)
			fill(rnd, x)
			v.SetMapIndex(k, x)
		}
	}
}

func fillScalar(rnd *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		words := []string{"overlayfs", "default", "created", "<&>", "ü", "a b", "failed to create task for container: x"}
		v.SetString(words[rnd.IntN(len(words))])
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(rnd.Int64() - 1<<62)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint, reflect.Uint64:
		v.SetUint(rnd.Uint64N(200))
	default:
		panic(fmt.Sprintf("a %s is new here", v.Type()))
	}
}

// shallow copies what Response may write to and shares the rest, as the daemon may do.
func shallow(r *container.InspectResponse) *container.InspectResponse {
	c := *r
	c.Base, c.Config, c.NetworkSettings = clone(r.Base), clone(r.Config), clone(r.NetworkSettings)
	c.State, c.HostConfig, c.GraphDriver = clone(r.State), clone(r.HostConfig), clone(r.GraphDriver)
	ns := c.NetworkSettings
	ns.LegacySandbox, ns.LegacyEndpoint = clone(ns.LegacySandbox), clone(ns.LegacyEndpoint)
	ns.Networks = maps.Clone(ns.Networks)
	for name, ep := range ns.Networks {
		ns.Networks[name] = clone(ep)
	}
	return &c
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}

func BenchmarkInspect(b *testing.B) {
	r := randomInspect(rand.New(rand.NewPCG(1, 0)))
	for _, v := range []string{"1.19", "1.43", "1.55"} {
		p := versions.For(v)
		b.Run(v, func(b *testing.B) {
			for b.Loop() {
				if _, err := json.Marshal(versions.Response(p, shallow(r))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
