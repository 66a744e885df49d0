// Package versions knows the versions of the API: which there are, how they compare, and, in one table, every
// difference between them.
package versions

import (
	"cmp"
	"context"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// The oldest and the newest version that is served. A new version is one constant here and its entries in changes.
const (
	Min = "1.12"
	Max = "1.55"
)

// Compare compares two versions, integer by integer: -1, 0 or 1. A part that is missing or no number counts as 0.
func Compare(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		m, _ := strconv.Atoi(x)
		n, _ := strconv.Atoi(y)
		if c := cmp.Compare(m, n); c != 0 {
			return c
		}
	}
	return 0
}

// LessThan reports whether version a is older than b.
func LessThan(a, b string) bool { return Compare(a, b) < 0 }

// Profile is what one version of the API means. It is made once, carried in a request's context, and never changed.
// Handlers read its fields; they never compare versions themselves.
type Profile struct {
	Version string
	Behaviour

	responses map[reflect.Type][]any // by what they change: responseFunc and reshapeFunc, in the order they apply
	requests  map[reflect.Type][]any // by what they change: requestFunc, in the order they apply
}

// profiles holds the profile of every version that is served. The table never changes.
var profiles = sync.OnceValue(func() map[string]*Profile {
	m := map[string]*Profile{}
	for _, v := range All() {
		m[v] = newProfile(v)
	}
	return m
})

// For returns the profile of a version.
func For(version string) *Profile {
	if p, ok := profiles()[version]; ok {
		return p
	}
	return newProfile(version) // one that is not served, or is written otherwise: 1.40.0
}

func newProfile(version string) *Profile {
	p := &Profile{Version: version, responses: map[reflect.Type][]any{}, requests: map[reflect.Type][]any{}}
	for _, c := range changes() {
		if c.appliesTo(version) {
			c.add(p)
		}
	}
	return p
}

type profileKey struct{}

// WithProfile returns a context that carries p.
func WithProfile(ctx context.Context, p *Profile) context.Context {
	return context.WithValue(ctx, profileKey{}, p)
}

// FromContext returns the profile of the request that ctx belongs to; without a request that of the newest version.
func FromContext(ctx context.Context) *Profile {
	if p, ok := ctx.Value(profileKey{}).(*Profile); ok {
		return p
	}
	return For(Max)
}

// All returns every version that is served, oldest first.
func All() []string {
	lo, _ := strconv.Atoi(strings.TrimPrefix(Min, "1."))
	hi, _ := strconv.Atoi(strings.TrimPrefix(Max, "1."))
	var all []string
	for n := lo; n <= hi; n++ {
		all = append(all, "1."+strconv.Itoa(n))
	}
	return all
}
