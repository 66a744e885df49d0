package server

import (
	"net/http"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/internal/tracing"
)

// traced begins the span of a request, named by its route as name has it, below the one that the client's headers name.
// Nothing of the query or the body is told: there may be secrets in it.
func traced(r *http.Request, name string, e versions.Endpoint) (*http.Request, trace.Span) {
	ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := tracing.Serve(ctx, name)
	if !span.IsRecording() {
		return r, span
	}
	span.SetAttributes(semconv.HTTPRequestMethodKey.String(e.Method), semconv.HTTPRoute(e.Path),
		semconv.URLPath(r.URL.Path), semconv.UserAgentOriginal(r.UserAgent()))
	return r.WithContext(ctx), span
}

func endSpan(span trace.Span, status int) {
	if span.IsRecording() {
		span.SetAttributes(semconv.HTTPResponseStatusCode(status))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
	}
	span.End()
}
