package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/errdefs"
)

// hubSearch is the host that searches Docker Hub.
const hubSearch = "index.docker.io"

// Login finds out whether a registry takes the credentials. An empty address is Docker Hub's. Those that it does not
// take are Unauthorized.
func (s *Service) Login(ctx context.Context, auth imagetypes.Auth) error {
	domain := auth.ServerAddress
	if u, err := url.Parse(domain); err == nil && u.Host != "" {
		domain = u.Host
	}
	if domain == "" || domain == hubSearch {
		domain = dockerHub
	}
	registries := s.registries()
	hosts, err := registries.hosts(ctx, domain, auth)(domain)
	if err != nil {
		return err
	}
	h := hosts[len(hosts)-1] // mirrors come before it
	_, _, err = ask(ctx, h, h.Path+"/")
	if refused(err) {
		return errdefs.Unauthorized(fmt.Errorf("login attempt to %s://%s%s/ failed: unauthorized: incorrect username or "+
			"password: %w", h.Scheme, h.Host, h.Path, err))
	}
	if err != nil {
		return errdefs.System(err)
	}
	return nil
}

// Search asks a registry, Docker Hub unless term begins with a host, for repositories that fit term, at most limit.
func (s *Service) Search(
	ctx context.Context, term string, limit int, auth imagetypes.Auth,
) (imagetypes.SearchResults, error) {
	var results imagetypes.SearchResults
	domain := dockerHub
	if name, err := reference.ParseNormalizedNamed(term); err == nil && reference.Domain(name) != dockerHub {
		domain, term = reference.Domain(name), reference.Path(name)
	}
	registries := s.registries()
	hosts, err := registries.hosts(ctx, domain, auth)(domain)
	if err != nil {
		return results, err
	}
	h := hosts[len(hosts)-1]
	if h.Host == dockerHubHost {
		h.Host = hubSearch
	}
	_, b, err := ask(ctx, h, "/v1/search?q="+url.QueryEscape(term)+"&n="+strconv.Itoa(limit))
	if err != nil {
		return results, errdefs.System(fmt.Errorf("search %s: %w", domain, err))
	}
	if err := json.Unmarshal(b, &results); err != nil {
		return results, errdefs.System(fmt.Errorf("search %s: %w", domain, err))
	}
	return results, nil
}

// Distribution tells what a registry has under a name, without pulling it.
func (s *Service) Distribution(
	ctx context.Context, ref string, auth imagetypes.Auth,
) (d imagetypes.DistributionInspect, _ error) {
	name, err := parseName(ref)
	if err != nil {
		return d, err
	}
	registries := s.registries()
	resolver, _ := registries.resolver(ctx, name, auth)
	_, desc, err := resolver.Resolve(ctx, name.String())
	if refused(err) {
		return d, errdefs.Unauthorized(fmt.Errorf("pull access denied for %s: %s", reference.FamiliarName(name), refusal(err)))
	}
	if err != nil {
		return d, pullError(name, err)
	}
	d.Descriptor = desc
	fetcher, err := resolver.Fetcher(ctx, name.String())
	if err != nil {
		return d, err
	}
	read := func(desc ocispec.Descriptor, v any) error { return fetchDocument(ctx, fetcher, desc, v) }
	switch {
	case images.IsIndexType(desc.MediaType):
		var idx ocispec.Index
		if err := read(desc, &idx); err != nil {
			return d, pullError(name, err)
		}
		for _, m := range idx.Manifests {
			if m.Platform != nil {
				d.Platforms = append(d.Platforms, *m.Platform)
			}
		}
	case images.IsManifestType(desc.MediaType):
		var m ocispec.Manifest
		if err := read(desc, &m); err != nil {
			return d, pullError(name, err)
		}
		var doc document
		if err := read(m.Config, &doc); err != nil {
			return d, pullError(name, err)
		}
		d.Platforms = []ocispec.Platform{doc.Platform}
	}
	return d, nil
}

// fetchDocument reads a blob of JSON from a registry and checks its digest.
func fetchDocument(ctx context.Context, f remotes.Fetcher, desc ocispec.Descriptor, v any) error {
	r, err := f.Fetch(ctx, desc)
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxDocument))
	if err != nil {
		return err
	}
	if got := desc.Digest.Algorithm().FromBytes(b); got != desc.Digest {
		return fmt.Errorf("the bytes of %s have the digest %s", desc.Digest, got)
	}
	return json.Unmarshal(b, v)
}
