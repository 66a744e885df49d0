// Package tracing makes spans of what an engine does, by the tracer provider that the program has set. Without one they
// cost nothing worth counting.
package tracing

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// name is whose the spans are.
const name = "github.com/berthd/berth"

// Tracer makes spans.
func Tracer() trace.Tracer { return otel.Tracer(name) }

// Start begins a span below that of ctx, which end ends. Where nobody traces what ctx belongs to there is none.
func Start(ctx context.Context, name string) (_ context.Context, end func(error)) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, func(error) {}
	}
	ctx, span := Tracer().Start(ctx, name)
	return ctx, func(err error) {
		Fail(span, err)
		span.End()
	}
}

// Fail marks a span as failed, unless err is nil.
func Fail(span trace.Span, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
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
