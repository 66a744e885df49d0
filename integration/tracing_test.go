package integration

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// spans is a collector of OpenTelemetry's. It takes what comes in protobuf, over HTTP and over gRPC.
type spans struct {
	collector.UnimplementedTraceServiceServer
	mu      sync.Mutex
	service string
	got     []*tracev1.Span
}

func (s *spans) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range req.ResourceSpans {
		for _, kv := range r.Resource.Attributes {
			if kv.Key == "service.name" {
				s.service = kv.Value.GetStringValue()
			}
		}
		for _, scope := range r.ScopeSpans {
			s.got = append(s.got, scope.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var req collector.ExportTraceServiceRequest
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, &req)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, "not traces", http.StatusBadRequest)
		return
	}
	_, _ = s.Export(r.Context(), &req) // it never fails
}

// named are the spans of that name.
func (s *spans) named(name string) (found []*tracev1.Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range s.got {
		if span.Name == name {
			found = append(found, span)
		}
	}
	return found
}

// What a collector sees of docker run, and of a client that traces itself.
func TestTracing(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			d := harness.Start(t, harness.Env("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol))
			got := &spans{}
			l := d.Sandbox.Listen(t, "tcp", "127.0.0.1:4318")
			served := make(chan error, 1)
			if protocol == "grpc" {
				srv := grpc.NewServer()
				collector.RegisterTraceServiceServer(srv, got)
				go func() { served <- srv.Serve(l) }()
				t.Cleanup(func() { srv.Stop(); assert.Check(t, <-served) })
			} else {
				srv := &http.Server{Handler: got}
				go func() { served <- srv.Serve(l) }()
				t.Cleanup(func() {
					assert.Check(t, srv.Close())
					assert.Check(t, cmp.ErrorIs(<-served, http.ErrServerClosed))
				})
			}
			d.CLI().Run("run", "--rm", "--network", "none", "busybox", "true")
			req, err := http.NewRequest("GET", "http://engine/containers/none/json", nil)
			assert.NilError(t, err)
			const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
			req.Header.Set("traceparent", "00-"+trace+"-"+parent+"-01")
			assert.Equal(t, d.Send(req).Status, 404)
			d.Restart() // at the latest at its end, a daemon sends all

			starts := got.named("POST /containers/{id}/start")
			assert.Equal(t, len(starts), 1)
			for _, below := range []string{"mount the layer", "connect the container", "shim Create", "shim Start"} {
				of := got.named(below)
				assert.Equal(t, len(of), 1, below)
				assert.DeepEqual(t, of[0].ParentSpanId, starts[0].SpanId)
				assert.DeepEqual(t, of[0].TraceId, starts[0].TraceId)
			}
			assert.Equal(t, len(got.named("POST /containers/create")), 1)
			clients := got.named("GET /containers/{id}/json")
			mine := clients[len(clients)-1]
			assert.Equal(t, hex.EncodeToString(mine.TraceId)+" "+hex.EncodeToString(mine.ParentSpanId), trace+" "+parent)
			assert.Assert(t, cmp.Contains(mine.String(), "No such container: none"))
			assert.Assert(t, strings.Contains(mine.String(), "404"), mine.String())
			assert.Equal(t, got.service, "berthd")
		})
	}
}
