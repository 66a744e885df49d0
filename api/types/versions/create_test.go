package versions_test

import (
	"strings"
	"testing"

	"github.com/docker/go-connections/nat"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

func TestCreateIgnoresWhatAVersionDoesNotKnow(t *testing.T) {
	full := func() *container.CreateRequest {
		one := int64(1)
		prio := 5
		return &container.CreateRequest{
			Platform: "linux/arm64",
			Config:   &container.Config{Healthcheck: &container.HealthConfig{StartInterval: 5}},
			HostConfig: &container.HostConfig{
				AutoRemove: true, ConsoleSize: [2]uint{3, 4}, Annotations: map[string]string{"a": "b"},
				Resources: container.Resources{KernelMemory: &one, KernelMemoryTCP: &one, CPUShares: 1},
				Mounts: []container.Mount{{Type: "bind", BindOptions: &container.BindOptions{
					NonRecursive: true, CreateMountpoint: true}}},
			},
			NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
				"bridge": {GwPriority: &prio, MacAddress: "02:00:00:00:00:01"}}},
		}
	}
	for _, tc := range []struct {
		what        string
		below, from string // versions that ignore it
		honoured    func(r *container.CreateRequest) bool
	}{
		{"CpuShares", "1.19", "", func(r *container.CreateRequest) bool { return r.HostConfig.CPUShares == 1 }},
		{"AutoRemove", "1.25", "", func(r *container.CreateRequest) bool { return r.HostConfig.AutoRemove }},
		{"NonRecursive", "1.40", "", func(r *container.CreateRequest) bool {
			return r.HostConfig.Mounts[0].BindOptions.NonRecursive
		}},
		{"KernelMemoryTCP", "1.40", "1.52", func(r *container.CreateRequest) bool {
			return r.HostConfig.KernelMemoryTCP != nil
		}},
		{"IpcMode", "1.40", "", func(r *container.CreateRequest) bool { return r.HostConfig.IpcMode == "" }},
		{"Platform", "1.41", "", func(r *container.CreateRequest) bool { return r.Platform != "" }},
		{"KernelMemory", "", "1.42", func(r *container.CreateRequest) bool { return r.HostConfig.KernelMemory != nil }},
		{"ConsoleSize", "1.42", "", func(r *container.CreateRequest) bool { return r.HostConfig.ConsoleSize[0] == 3 }},
		{"CreateMountpoint", "1.42", "", func(r *container.CreateRequest) bool {
			return r.HostConfig.Mounts[0].BindOptions.CreateMountpoint
		}},
		{"Annotations", "1.43", "", func(r *container.CreateRequest) bool { return r.HostConfig.Annotations != nil }},
		{"StartInterval", "1.44", "", func(r *container.CreateRequest) bool {
			return r.Config.Healthcheck.StartInterval != 0
		}},
		{"recursive read-only", "1.44", "", func(r *container.CreateRequest) bool { return !r.ReadOnlyNonRecursive }},
		{"endpoint MacAddress", "1.44", "", func(r *container.CreateRequest) bool {
			return r.NetworkingConfig.EndpointsConfig["bridge"].MacAddress != ""
		}},
		{"GwPriority", "1.48", "", func(r *container.CreateRequest) bool {
			return r.NetworkingConfig.EndpointsConfig["bridge"].GwPriority != nil
		}},
	} {
		for _, v := range versions.All() {
			r := full()
			_, err := versions.Request(versions.For(v), r)
			assert.NilError(t, err)
			ignores := tc.below != "" && versions.LessThan(v, tc.below) || tc.from != "" && !versions.LessThan(v, tc.from)
			assert.Equal(t, tc.honoured(r), !ignores, "%s at %s", tc.what, v)
		}
	}
}

func create(version string, r container.CreateRequest) (*container.CreateRequest, []string, error) {
	if r.Config == nil {
		r.Config = &container.Config{}
	}
	warnings, err := versions.Request(versions.For(version), &r)
	return &r, warnings, err
}

func mounts(m ...container.Mount) container.CreateRequest {
	return container.CreateRequest{HostConfig: &container.HostConfig{Mounts: m}}
}

func TestCreateRefusesWhatAVersionDoesNotHave(t *testing.T) {
	endpoints := func(names ...string) *network.NetworkingConfig {
		m := map[string]*network.EndpointSettings{}
		for _, n := range names {
			m[n] = &network.EndpointSettings{}
		}
		return &network.NetworkingConfig{EndpointsConfig: m}
	}
	mac := &container.Config{MacAddress: "02:00:00:00:00:01"}
	sysctls := func(k string) container.CreateRequest {
		return container.CreateRequest{HostConfig: &container.HostConfig{Sysctls: map[string]string{k: "1"}}}
	}
	for _, tc := range []struct {
		last, then string // the last version that refuses, the first that does not, or the other way round
		req        func() container.CreateRequest
		err        string // of last
	}{
		{"1.43", "1.44", func() container.CreateRequest {
			return container.CreateRequest{NetworkingConfig: endpoints("b", "a")}
		}, "Container cannot be created with multiple network endpoints: a, b"},
		{"1.43", "1.44", func() container.CreateRequest {
			return mounts(container.Mount{Type: "bind", BindOptions: &container.BindOptions{ReadOnlyForceRecursive: true}})
		}, "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"},
		{"1.44", "1.45", func() container.CreateRequest {
			return mounts(container.Mount{Type: "volume", VolumeOptions: &container.VolumeOptions{Subpath: "a"}})
		}, "VolumeOptions.Subpath needs API v1.45 or newer"},
		{"1.47", "1.48", func() container.CreateRequest { return mounts(container.Mount{Type: "image"}) },
			`Mount type "Image" needs API v1.48 or newer`},
		{"1.42", "1.41", func() container.CreateRequest {
			return mounts(container.Mount{Type: "bind", VolumeOptions: &container.VolumeOptions{}})
		}, `VolumeOptions must not be specified on mount type "bind"`},
		{"1.43", "1.52", func() container.CreateRequest {
			return container.CreateRequest{Config: clone(mac), HostConfig: &container.HostConfig{NetworkMode: "host"}}
		}, "conflicting options: mac-address and the network mode"},
		{"1.51", "1.52", func() container.CreateRequest {
			return container.CreateRequest{Config: clone(mac), NetworkingConfig: endpoints("other")}
		}, "unable to migrate container-wide MAC address to a specific network: HostConfig.NetworkMode must match the " +
			"identity of a network in NetworkSettings.Networks"},
		{"1.51", "1.52", func() container.CreateRequest {
			n := endpoints("bridge")
			n.EndpointsConfig["bridge"].MacAddress = "02:00:00:00:00:02"
			return container.CreateRequest{Config: clone(mac), NetworkingConfig: n}
		}, "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left " +
			"empty"},
		{"1.48", "1.47", func() container.CreateRequest { return sysctls("net.ipv4.conf.eth0.forwarding") },
			`interface specific sysctl setting "net.ipv4.conf.eth0.forwarding" must be supplied using driver option ` +
				`'com.docker.network.endpoint.sysctls'`},
		{"1.47", "", func() container.CreateRequest { return sysctls("net.ipv4.conf.eth1.forwarding") },
			"unable to determine network endpoint for sysctl net.ipv4.conf.eth1.forwarding, use driver option " +
				"'com.docker.network.endpoint.sysctls' to set per-interface sysctls"},
	} {
		_, _, err := create(tc.last, tc.req())
		assert.Error(t, err, tc.err)
		assert.Assert(t, errdefs.IsInvalidParameter(err))
		if tc.then != "" {
			_, _, err = create(tc.then, tc.req())
			assert.NilError(t, err, "%s at %s", tc.err, tc.then)
		}
	}
}

func TestMACAddressOfTheContainer(t *testing.T) {
	const mac = "02:00:00:00:00:01"
	for _, tc := range []struct {
		version, mode, endpoint string
		warned                  bool
	}{
		{"1.43", "", "bridge", false},
		{"1.43", "mine", "mine", false},
		{"1.44", "", "bridge", true},
		{"1.51", "mine", "mine", true},
		{"1.51", "none", "", true},
		{"1.52", "mine", "", false},
	} {
		r, warnings, err := create(tc.version, container.CreateRequest{
			Config:     &container.Config{MacAddress: mac},
			HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(tc.mode)},
		})
		assert.NilError(t, err)
		assert.Equal(t, len(warnings) > 0, tc.warned, "%+v", tc)
		if tc.endpoint == "" {
			assert.Equal(t, len(r.NetworkingConfig.EndpointsConfig), 0, "%+v", tc)
			continue
		}
		assert.Equal(t, r.NetworkingConfig.EndpointsConfig[tc.endpoint].MacAddress, mac, "%+v", tc)
		assert.Equal(t, r.Config.MacAddress, mac)
	}
	r, _, err := create("1.55", container.CreateRequest{NetworkingConfig: &network.NetworkingConfig{
		EndpointsConfig: map[string]*network.EndpointSettings{"default": {MacAddress: mac}}}})
	assert.NilError(t, err)
	assert.Equal(t, r.Config.MacAddress, mac, "versions below 1.52 show it as the container's")
}

func TestSysctlsOfTheInterfaceMove(t *testing.T) {
	r, warnings, err := create("1.47", container.CreateRequest{HostConfig: &container.HostConfig{
		NetworkMode: "mine",
		Sysctls: map[string]string{
			"net.ipv4.conf.eth0.forwarding": "1", "net.ipv6.conf.eth0.mtu": "9", "net.ipv4.ip_forward": "0",
		},
	}})
	assert.NilError(t, err)
	assert.DeepEqual(t, r.HostConfig.Sysctls, map[string]string{"net.ipv4.ip_forward": "0"})
	const moved = "net.ipv4.conf.IFNAME.forwarding=1,net.ipv6.conf.IFNAME.mtu=9"
	assert.Equal(t, r.NetworkingConfig.EndpointsConfig["mine"].DriverOpts["com.docker.network.endpoint.sysctls"], moved)
	assert.DeepEqual(t, warnings, []string{`Migrated sysctl "net.ipv4.conf.eth0.forwarding,net.ipv6.conf.eth0.mtu" to ` +
		`DriverOpts{"com.docker.network.endpoint.sysctls":"` + moved + `"}.`})
}

func TestCreateWarns(t *testing.T) {
	ports := container.CreateRequest{HostConfig: &container.HostConfig{
		PortBindings: nat.PortMap{"80/tcp": {}, "53/udp": nil, "22/tcp": {{HostPort: "22"}}},
	}}
	_, warnings, err := create("1.51", ports)
	assert.NilError(t, err)
	assert.Equal(t, len(warnings), 0)
	_, warnings, err = create("1.52", ports)
	assert.NilError(t, err)
	assert.DeepEqual(t, warnings, []string{"Following container port(s) have an empty list of port-bindings: 53/udp, " +
		"80/tcp. Such bindings will be discarded in a future version."})

	driver := mounts(container.Mount{Type: "volume"})
	driver.HostConfig.VolumeDriver = "x"
	_, warnings, err = create("1.47", driver)
	assert.NilError(t, err)
	assert.Equal(t, len(warnings), 0)
	_, warnings, err = create("1.48", driver)
	assert.NilError(t, err)
	assert.Equal(t, len(warnings), 1)
	assert.Assert(t, strings.HasPrefix(warnings[0], "WARNING: the container-wide volume-driver"))
}

// What is left out, or is null in a map, has to be survived at every version.
func TestCreateSurvivesWhatIsMissing(t *testing.T) {
	for _, v := range versions.All() {
		for _, r := range []*container.CreateRequest{
			{}, {Config: &container.Config{}}, {HostConfig: &container.HostConfig{}},
			{Config: &container.Config{}, NetworkingConfig: &network.NetworkingConfig{
				EndpointsConfig: map[string]*network.EndpointSettings{"bridge": nil}}},
		} {
			_, err := versions.Request(versions.For(v), r)
			assert.NilError(t, err)
		}
	}
}

func TestCapabilitiesAreRefusedAt140Alone(t *testing.T) {
	for _, v := range versions.All() {
		r := &container.CreateRequest{Config: &container.Config{}, HostConfig: &container.HostConfig{Capabilities: []string{"CAP_CHOWN"}}}
		_, err := versions.Request(versions.For(v), r)
		if v == "1.40" {
			assert.Assert(t, errdefs.IsInvalidParameter(err))
			assert.Error(t, err, "the HostConfig.Capabilities field is not supported by this daemon; use CapAdd and CapDrop "+
				"to set capabilities")
			continue
		}
		assert.NilError(t, err, v)
		assert.Assert(t, r.HostConfig.Capabilities == nil, v)
	}
}

// Clients below 1.18 send limits beside HostConfig, or without one.
func TestOldLimitsCountBelow124(t *testing.T) {
	for _, v := range versions.All() {
		r := &container.CreateRequest{
			Config: &container.Config{}, OldLimits: container.OldLimits{Memory: 8, CPUShares: 9, Cpuset: "0-1", MemorySwap: 10},
			HostConfig: &container.HostConfig{Resources: container.Resources{MemorySwap: 11}},
		}
		_, err := versions.Request(versions.For(v), r)
		assert.NilError(t, err)
		old := versions.LessThan(v, "1.24")
		assert.Equal(t, r.HostConfig.Memory == 8, old, v)
		assert.Equal(t, r.HostConfig.CPUShares == 9, old, v)
		assert.Equal(t, r.HostConfig.CpusetCpus == "0-1", old, v)
		assert.Equal(t, r.HostConfig.MemorySwap, int64(11), "what HostConfig says counts")
	}
}
