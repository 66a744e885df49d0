package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/berthd/berth/internal/enginehttp"
)

// client is the one client for all that is measured: plain HTTP over a unix socket.
type client struct{ http *http.Client }

func newClient(socket string) *client {
	t := enginehttp.Transport(socket)
	t.MaxIdleConnsPerHost, t.DisableCompression = 64, true
	return &client{&http.Client{Transport: t}}
}

// open sends a request; the caller closes the answer's body. A status of 400 and above is an error.
func (c *client) open(ctx context.Context, method, path string, body any) (*http.Response, error) {
	req, err := enginehttp.NewRequest(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Registry-Auth", "e30=") // {}, without which dockerd pushes nothing
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	return resp, nil
}

// read is open for who wants the whole body.
func (c *client) read(ctx context.Context, method, path string, body any) ([]byte, error) {
	resp, err := c.open(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// call is read for an answer of JSON; nil discards it.
func (c *client) call(ctx context.Context, method, path string, body, answer any) error {
	b, err := c.read(ctx, method, path, body)
	if err != nil || answer == nil {
		return err
	}
	return json.Unmarshal(b, answer)
}

// await asks until there is an answer.
func (c *client) await(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		_, err := c.read(ctx, "GET", path, nil)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w", err)
		}
	}
}
