package container

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/vary"
)

// created is a Backend that only creates.
type created struct{ Backend }

func (created) ContainerCreate(_ context.Context, req containertypes.CreateRequest) (r containertypes.CreateResponse, _ error) {
	_, err := json.Marshal(req)
	return r, err
}

// FuzzCreate: whatever the body of a create says, in whichever version, it is refused as bad or can be worked with.
func FuzzCreate(f *testing.F) {
	for i, body := range vary.Strings(2000,
		`{"Image":"busybox","Cmd":["true"],"HostConfig":{"NetworkMode":"none"}}`,
		`{"Hostname":"h","User":"1:2","Env":["A=b","C"],"Labels":{"a":"b"},"Entrypoint":"sh -c","ExposedPorts":{"80/tcp":{},"1-3/udp":{}},
		"Healthcheck":{"Test":["CMD","x"],"Interval":1000000,"Retries":3},"StopTimeout":5,"Volumes":{"/v":{}},"OnBuild":null,"Shell":["s"]}`,
		`{"HostConfig":{"Binds":["/a:/b:ro,z"],"PortBindings":{"80/tcp":[{"HostIp":"::1","HostPort":"8080-8090"}]},"Memory":1,
		"Ulimits":[{"Name":"nofile","Soft":1,"Hard":-1}],"Mounts":[{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1}}],
		"LogConfig":{"Type":"json-file","Config":{"max-size":"1k"}},"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3},
		"Sysctls":{"net.core.somaxconn":"1"},"Tmpfs":{"/x":"size=1"},"Devices":[{"PathOnHost":"/dev/null"}],"CpuShares":2}}`,
		`{"NetworkingConfig":{"EndpointsConfig":{"n":{"IPAMConfig":{"IPv4Address":"1.2.3.4"},"Aliases":["a"],"MacAddress":"x"},"m":null}}}`,
		`{"Config":{"Image":"x"}}`, `null`, `[]`, `{`, `{}{}`, ``, `{"Cmd":"a b","Entrypoint":[]}`, `{"Memory":"1","CpuShares":1.5}`,
	) {
		f.Add(body, []string{"1.12", "1.23", "1.24", "1.44", versions.Max}[i%5])
	}
	r := &router{created{}}
	f.Fuzz(func(t *testing.T, body, version string) {
		req := httptest.NewRequest("POST", "/containers/create?name=x", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", "k")
		req = req.WithContext(versions.WithProfile(t.Context(), versions.For(version)))
		w := httptest.NewRecorder()
		if err := r.create(w, req); err != nil {
			assert.Assert(t, errdefs.IsInvalidParameter(err), "%v", err)
			return
		}
		assert.Equal(t, w.Code, http.StatusCreated)
	})
}
