package image

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"

	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/errdefs"
)

// Registries say how registries are spoken to.
type Registries struct {
	// Mirrors are URLs that are asked before Docker Hub, in their order. They never get credentials.
	Mirrors []string
	// Insecure are hosts, hosts with a port, or networks in CIDR form, whose certificates are not checked, and which
	// are spoken to without TLS where they do not speak it. Hosts on the loopback always are.
	Insecure []string
	// Proxy tells through which proxy a URL is reached; nil: none.
	Proxy func(*url.URL) (*url.URL, error)
	// Downloads and Uploads are how many layers of one image are transferred at once.
	Downloads, Uploads int
	// Attempts are how often the download of a layer is tried.
	Attempts int
	// UserAgent is what registries see.
	UserAgent string
}

// CertsDir holds a directory for each registry with its certificates (*.crt, *.cert, *.key), or a hosts.toml. It is
// dockerd's, because that is where users have them.
const CertsDir = "/etc/docker/certs.d"

// dockerHub is the registry of names without one, and the host that serves it.
const (
	dockerHub     = "docker.io"
	dockerHubHost = "registry-1.docker.io"
)

// responseWait is how long a registry may take to begin its answer.
const responseWait = 30 * time.Second

// resolver speaks to the registry of name, with auth, which no other host gets. The tracker knows of its uploads.
func (r *Registries) resolver(
	ctx context.Context, name reference.Named, auth imagetypes.Auth,
) (remotes.Resolver, docker.StatusTracker) {
	header := http.Header{}
	if r.UserAgent != "" {
		header.Set("User-Agent", r.UserAgent)
	}
	if auth.RegistryToken != "" {
		header.Set("Authorization", "Bearer "+auth.RegistryToken)
	}
	tracker := docker.NewInMemoryTracker()
	return docker.NewResolver(docker.ResolverOptions{
		Hosts: r.hosts(ctx, reference.Domain(name), auth), Headers: header, Tracker: tracker,
	}), tracker
}

// hosts tells which hosts serve a registry: for Docker Hub its mirrors first.
func (r *Registries) hosts(ctx context.Context, domain string, auth imagetypes.Auth) docker.RegistryHosts {
	own := r.configure(ctx, domain, auth)
	return func(host string) ([]docker.RegistryHost, error) {
		all, err := own(host)
		if err != nil || domain != dockerHub {
			return all, err
		}
		mirrors := make([]docker.RegistryHost, 0, len(r.Mirrors)+len(all))
		for _, m := range r.Mirrors {
			u, err := url.Parse(m)
			if err != nil {
				return nil, errdefs.InvalidParameterf("registry mirror %q: %w", m, err)
			}
			hs, err := r.configure(ctx, u.Host, imagetypes.Auth{})(u.Host)
			if err != nil {
				return nil, err
			}
			for _, h := range hs {
				h.Scheme, h.Path = u.Scheme, strings.TrimSuffix(u.Path, "/")+"/v2"
				h.Capabilities = docker.HostCapabilityPull | docker.HostCapabilityResolve
				mirrors = append(mirrors, h)
			}
		}
		return append(mirrors, all...), nil
	}
}

func (r *Registries) configure(ctx context.Context, domain string, auth imagetypes.Auth) docker.RegistryHosts {
	insecure := r.insecure(ctx, domain)
	o := config.HostOptions{
		HostDir: config.HostDirFromRoot(CertsDir),
		Credentials: func(host string) (user, secret string, _ error) {
			if host != domain && (domain != dockerHub || host != dockerHubHost) {
				return "", "", nil
			}
			if auth.IdentityToken != "" {
				return "", auth.IdentityToken, nil
			}
			return auth.Username, auth.Password, nil
		},
		UpdateClient: func(c *http.Client) error {
			t, ok := c.Transport.(*http.Transport)
			if !ok {
				return nil // wrapped already
			}
			t.ResponseHeaderTimeout = responseWait
			t.Proxy = r.proxy
			if insecure {
				c.Transport = docker.NewHTTPFallback(t)
			}
			return nil
		},
	}
	if insecure {
		o.DefaultScheme = "https" // or http, see above
		o.DefaultTLS = &tls.Config{InsecureSkipVerify: true}
	}
	return config.ConfigureHosts(ctx, o)
}

// proxy is Proxy in the form of an http.Transport.
func (r *Registries) proxy(req *http.Request) (*url.URL, error) {
	if r.Proxy == nil {
		return nil, nil
	}
	return r.Proxy(req.URL)
}

// insecure reports whether the certificate of a registry is not to be checked.
func (r *Registries) insecure(ctx context.Context, domain string) bool {
	host, _, err := net.SplitHostPort(domain)
	if err != nil {
		host = domain
	}
	if docker.IsLocalhost(domain) || slices.Contains(r.Insecure, domain) || slices.Contains(r.Insecure, host) {
		return true
	}
	var networks []netip.Prefix
	for _, s := range r.Insecure {
		if p, err := netip.ParsePrefix(s); err == nil {
			networks = append(networks, p)
		}
	}
	if len(networks) == 0 {
		return false
	}
	addrs := []string{host}
	if _, err := netip.ParseAddr(host); err != nil {
		if addrs, err = net.DefaultResolver.LookupHost(ctx, host); err != nil {
			return false
		}
	}
	return slices.ContainsFunc(addrs, func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

// refused reports whether a registry did not accept who asked.
func refused(err error) bool {
	status, _ := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	return errors.Is(err, docker.ErrInvalidAuthorization) || status.StatusCode == http.StatusUnauthorized ||
		status.StatusCode == http.StatusForbidden
}

// refusal is what was wrong, without the words with which the resolver begins: they say what ours do.
func refusal(err error) string {
	return strings.TrimPrefix(err.Error(), "pull access denied, repository does not exist or may require authorization: ")
}

// pullError gives what a registry said to a pull its class, and the words that clients know.
func pullError(name reference.Named, err error) error {
	switch {
	case err == nil:
		return nil
	case refused(err):
		return errdefs.NotFoundf("pull access denied for %s, repository does not exist or may require 'docker login': %s",
			reference.FamiliarName(name), refusal(err))
	case cerrdefs.IsNotFound(err):
		return errdefs.NotFoundf("manifest for %s not found: manifest unknown", reference.FamiliarString(name))
	case errdefs.IsNotFound(err), errdefs.IsInvalidParameter(err):
		return err
	}
	return errdefs.System(err)
}

// maxAnswer is how many bytes of an answer that is no blob are read, and maxPages how many pages a list may have.
const (
	maxAnswer = 4 << 20
	maxPages  = 1000
)

// ask sends a GET to a registry and reads the answer, at most maxAnswer bytes of it. It logs in as often as the registry
// wants it.
func ask(ctx context.Context, h docker.RegistryHost, path string) (http.Header, []byte, error) {
	var past []*http.Response
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.Scheme+"://"+h.Host+path, nil)
		if err != nil {
			return nil, nil, errdefs.InvalidParameter(err)
		}
		for k, v := range h.Header {
			req.Header[k] = append(req.Header[k], v...)
		}
		if h.Authorizer != nil {
			if err := h.Authorizer.Authorize(ctx, req); err != nil {
				return nil, nil, err
			}
		}
		resp, err := h.Client.Do(req)
		if err != nil {
			return nil, nil, err
		}
		b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		resp.Body.Close()
		if err != nil {
			return nil, nil, err
		}
		if resp.StatusCode == http.StatusUnauthorized && h.Authorizer != nil {
			past = append(past, resp)
			if err := h.Authorizer.AddResponses(ctx, past); err == nil && len(past) < 3 {
				continue
			}
		}
		if resp.StatusCode != http.StatusOK {
			resp.Body = io.NopCloser(bytes.NewReader(b))
			return nil, nil, remoteerrors.NewUnexpectedStatusErr(resp)
		}
		return resp.Header, b, nil
	}
}

// tags lists the tags of a repository.
func (r *Registries) tags(ctx context.Context, name reference.Named, auth imagetypes.Auth) ([]string, error) {
	hosts, err := r.hosts(ctx, reference.Domain(name), auth)(reference.Domain(name))
	if err != nil {
		return nil, err
	}
	ctx = docker.WithScope(ctx, "repository:"+reference.Path(name)+":pull")
	for _, h := range hosts {
		var all []string
		if all, err = listTags(ctx, h, reference.Path(name)); err == nil {
			return all, nil
		}
	}
	if status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); ok && status.StatusCode == http.StatusNotFound {
		return nil, errdefs.NotFoundf("repository %s not found: name unknown: repository name not known to registry",
			reference.FamiliarName(name))
	}
	return nil, err
}

func listTags(ctx context.Context, h docker.RegistryHost, repository string) (all []string, err error) {
	path := h.Path + "/" + repository + "/tags/list"
	for range maxPages {
		header, b, err := ask(ctx, h, path)
		if err != nil {
			return nil, err
		}
		var page struct{ Tags []string }
		if err := json.Unmarshal(b, &page); err != nil {
			return nil, fmt.Errorf("the registry's list of tags: %w", err)
		}
		all = append(all, page.Tags...)
		// <path>; rel="next"
		next, _, ok := strings.Cut(strings.TrimPrefix(header.Get("Link"), "<"), ">")
		if !ok || !strings.HasPrefix(next, "/") {
			return all, nil
		}
		path = next
	}
	return nil, fmt.Errorf("the registry's list of tags has more than %d pages", maxPages)
}
