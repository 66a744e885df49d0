package container

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/berthd/berth/api/server/httputil"
	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

// createBody is what a client sends: the container's configuration with two parts beside it.
type createBody struct {
	*containertypes.Config
	containertypes.CreateRequest
}

func (rt *router) create(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return errdefs.InvalidParameter(errors.New("invalid JSON: " + io.EOF.Error()))
	}
	key, err := onceKey(r)
	if err != nil {
		return err
	}
	var sent bytes.Buffer
	if key != "" {
		r.Body = io.NopCloser(io.TeeReader(r.Body, &sent))
	}
	var body createBody
	if err := httputil.ReadJSON(r, &body); err != nil {
		return err
	}
	req := body.CreateRequest
	if key != "" {
		if req.Once, err = once(r, key, sent.Bytes()); err != nil {
			return err
		}
	}
	req.Config = body.Config
	req.Name, req.Platform = r.URL.Query().Get("name"), r.URL.Query().Get("platform")
	warnings, err := versions.Request(versions.FromContext(r.Context()), &req)
	if err != nil {
		return err
	}
	resp, err := rt.backend.ContainerCreate(r.Context(), req)
	if err != nil {
		return err
	}
	resp.Warnings = append(warnings, resp.Warnings...)
	if resp.Warnings == nil {
		resp.Warnings = []string{}
	}
	return httputil.WriteJSON(w, http.StatusCreated, resp)
}

// onceKey reads the key by which a client makes one of a request that it may send again; empty: it does not.
func onceKey(r *http.Request) (string, error) {
	keys := r.Header.Values("Idempotency-Key")
	if len(keys) == 0 {
		return "", nil
	}
	visible := func(c rune) bool { return c > ' ' && c < 0x7f }
	if k := keys[0]; len(keys) > 1 || k == "" || len(k) > 255 || strings.TrimFunc(k, visible) != "" {
		return "", errdefs.InvalidParameterf("invalid Idempotency-Key: it is one, of 1 to 255 visible ASCII characters without blanks")
	}
	return keys[0], nil
}

// once makes a digest of all that says what is to be created. The order of names in the body is nothing that it says.
func once(r *http.Request, key string, body []byte) (*containertypes.Once, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	said := []any{versions.FromContext(r.Context()).Version, r.URL.Query().Get("name"), r.URL.Query().Get("platform"), nil}
	if err := dec.Decode(&said[3]); err != nil {
		return nil, errdefs.InvalidParameter(fmt.Errorf("invalid JSON: %w", err))
	}
	b, err := json.Marshal(said)
	if err != nil {
		return nil, errdefs.System(err)
	}
	sum := sha256.Sum256(b)
	return &containertypes.Once{Key: key, Digest: hex.EncodeToString(sum[:])}, nil
}
