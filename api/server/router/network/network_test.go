package network_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/api/server"
	networkrouter "github.com/berthd/berth/api/server/router/network"
	"github.com/berthd/berth/api/types/filters"
	"github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/errdefs"
)

// engine has one network.
type engine struct{}

func (engine) NetworkList(context.Context, filters.Args) ([]network.Inspect, error) {
	n, err := engine{}.NetworkInspect(context.Background(), "host")
	return []network.Inspect{*n}, err
}

func (engine) NetworkInspect(_ context.Context, ref string) (*network.Inspect, error) {
	if ref != "host" {
		return nil, errdefs.NotFoundf("network %s not found", ref)
	}
	return &network.Inspect{
		Name: "host", Status: &network.Status{}, Containers: &map[string]network.EndpointResource{},
	}, nil
}

func (engine) NetworkCreate(_ context.Context, req network.CreateRequest) (network.CreateResponse, error) {
	return network.CreateResponse{ID: req.Name + "-id"}, nil
}

func (engine) NetworkRemove(_ context.Context, ref string) error {
	return errdefs.Forbiddenf("%s is a pre-defined network and cannot be removed", ref)
}

func (engine) NetworksPrune(context.Context, filters.Args) (network.PruneReport, error) {
	return network.PruneReport{}, nil
}

func (engine) Repair() error { return nil }

func (engine) NetworkConnect(_ context.Context, ref string, req network.ConnectRequest) error {
	if req.EndpointConfig != nil && req.EndpointConfig.MacAddress != "" {
		return errdefs.Conflictf("%s: %s", ref, req.EndpointConfig.MacAddress)
	}
	return nil
}

func (engine) NetworkDisconnect(_ context.Context, ref string, req network.DisconnectRequest) error {
	return errdefs.Systemf("container %s is not connected to network %s", req.Container, ref)
}

func TestNetworks(t *testing.T) {
	s, err := server.New(server.Options{Routes: networkrouter.Routes(engine{}, engine{})})
	assert.NilError(t, err)
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	const head = `{"Name":"host","Id":"","Created":"0001-01-01T00:00:00Z","Scope":"","Driver":"",`
	const rest = `"EnableIPv6":false,"IPAM":{"Driver":"","Options":null,"Config":`
	const tail = `},"Internal":false,"Attachable":false,"Ingress":false,"ConfigFrom":{"Network":""},"ConfigOnly":false,`
	now := head + `"EnableIPv4":true,` + rest + `null` + tail
	for _, tc := range []struct {
		path   string
		status int
		body   string
	}{
		{"/networks", 200, "[" + now + `"Options":null,"Labels":null}]`},
		{"/networks/", 200, "[" + now + `"Options":null,"Labels":null}]`},
		{"/v1.27/networks", 200, "[" + now + `"Containers":{},"Options":null,"Labels":null}]`},
		{"/networks/host", 200, now + `"Containers":{},"Options":null,"Labels":null,"Status":{"IPAM":{}}}`},
		{"/v1.51/networks/host", 200, now + `"Containers":{},"Options":null,"Labels":null}`},
		{"/v1.23/networks/host", 200, head + rest + "[]" + tail + `"Containers":{},"Options":null,"Labels":null}`},
		{"/networks/host?verbose=x", 400, `{"message":"invalid value for verbose: x: strconv.ParseBool: parsing \"x\": ` +
			`invalid syntax"}`},
		{"/networks/none", 404, `{"message":"network none not found"}`},
		{"/networks?filters=x", 400, `{"message":"invalid filter"}`},
	} {
		resp, err := http.Get(srv.URL + tc.path)
		assert.NilError(t, err)
		b, err := io.ReadAll(resp.Body)
		assert.NilError(t, err)
		assert.NilError(t, resp.Body.Close())
		assert.Equal(t, resp.StatusCode, tc.status, tc.path)
		assert.Equal(t, string(b), tc.body+"\n", tc.path)
	}
}
