package httputil

import (
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthd/berth/errdefs"
)

// WithTag joins the two halves that a name comes in. A tag, which may be a digest too, counts more than one that repo
// has already.
func WithTag(repo, tag string) (string, error) {
	if repo == "" || tag == "" {
		return repo, nil
	}
	name, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return "", errdefs.InvalidParameter(err)
	}
	name = reference.TrimNamed(name)
	if dgst, err := digest.Parse(tag); err == nil {
		return reference.FamiliarName(name) + "@" + dgst.String(), nil
	}
	tagged, err := reference.WithTag(name, tag)
	if err != nil {
		return "", errdefs.InvalidParameter(err)
	}
	return reference.FamiliarString(tagged), nil
}
