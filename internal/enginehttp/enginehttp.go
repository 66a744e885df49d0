// Package enginehttp makes plain HTTP requests to an engine, for programs and tests that look at what goes over the wire.
package enginehttp

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
)

// Transport connects to the unix socket of an engine.
func Transport(socket string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
}

// NewRequest makes a request; path may begin with a version ("/v1.41/…"). A body is nil, an io.Reader, bytes, a string of
// JSON, or anything that JSON can be made of; an empty string is none.
func NewRequest(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case io.Reader:
		r = b
	case []byte:
		r = bytes.NewReader(b)
	case string:
		if b != "" {
			r = strings.NewReader(b)
		}
	default:
		j, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(j)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, r)
	if err == nil && r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, err
}
