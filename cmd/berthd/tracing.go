package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/containerd/log"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
)

// flushWait is how long the last spans may take to be sent when the daemon ends.
const flushWait = 5 * time.Second

// startTracing sends spans to where the environment says, in OpenTelemetry's variables, as dockerd does. Without an
// endpoint there is no tracing, and nothing to stop; an environment that cannot be followed is warned of, and does not keep the daemon from
// starting.
func startTracing(ctx context.Context) (stop func(context.Context)) {
	exporter, err := newExporter(ctx)
	if err != nil {
		log.G(ctx).WithError(err).Warn("no traces are sent")
	}
	if exporter == nil {
		return nil
	}
	// The environment (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) is the last to speak.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithAttributes(
		semconv.ServiceName("berthd"), semconv.ServiceVersion(version)), resource.WithFromEnv())
	if err != nil {
		log.G(ctx).WithError(err).Warn("traces do not tell all of where they come from")
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(about))
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.L.WithError(err).Warn("traces cannot be sent") }))
	return func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, flushWait)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.G(ctx).WithError(err).Warn("the last traces were not sent")
		}
	}
}

// newExporter returns nil where no spans are wanted.
func newExporter(ctx context.Context) (*otlptrace.Exporter, error) {
	if off, err := strconv.ParseBool(cmp.Or(os.Getenv("OTEL_SDK_DISABLED"), "false")); off || err != nil {
		return nil, err
	}
	if cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")) == "" {
		return nil, nil
	}
	switch name := os.Getenv("OTEL_TRACES_EXPORTER"); name {
	case "", "otlp":
	case "none":
		return nil, nil
	default:
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER is %q: otlp and none are known", name)
	}
	switch protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")); protocol {
	case "", "http/protobuf":
		return otlptracehttp.New(ctx)
	case "grpc":
		return otlptracegrpc.New(ctx)
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q: http/protobuf and grpc are known", protocol)
	}
}
