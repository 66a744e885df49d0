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

func (engine) Networks(context.Context, filters.Args) ([]network.Inspect, error) {
	n, err := engine{}.Network(context.Background(), "host")
	return []network.Inspect{*n}, err
}

func (engine) Network(_ context.Context, ref string) (*network.Inspect, error) {
	if ref != "host" {
		return nil, errdefs.NotFoundf("network %s not found", ref)
	}
	return &network.Inspect{
		Name: "host", Status: &network.Status{}, Containers: &map[string]network.EndpointResource{},
	}, nil
}

func TestNetworks(t *testing.T) {
	s, err := server.New(server.Options{Routes: networkrouter.Routes(engine{})})
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
