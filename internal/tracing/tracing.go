// Package tracing makes spans of what an engine does, by the tracer provider that the program has set. Without one they
// cost nothing worth counting.
package tracing

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// tracer follows whatever provider is set, also one that is set later.
var tracer = otel.Tracer("github.com/berthd/berth")

// Serve begins the span of a request that was received, below the one that ctx names.
func Serve(ctx context.Context, name string) (context.Context, trace.Span) {
	return tracer.Start(ctx, name, served)
}

var served = trace.WithSpanKind(trace.SpanKindServer)

// Start begins a span below that of ctx, which end ends. Where nobody traces what ctx belongs to there is none.
func Start(ctx context.Context, name string) (_ context.Context, end func(error)) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, func(error) {}
	}
	ctx, span := tracer.Start(ctx, name)
	return ctx, func(err error) {
		if err != nil {
			span.RecordError(err)
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// Carry is to with the span of from: for work that outlives the request that it is done for.
func Carry(from, to context.Context) context.Context {
	span := trace.SpanFromContext(from)
	if !span.IsRecording() {
		return to
	}
	return trace.ContextWithSpan(to, span)
}
