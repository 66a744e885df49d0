//go:build race

package container

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

// Audited is whether this is a build for tests, in which what was kept or published is proven to hold still.
const Audited = true

// audit holds the promise that a record is never written to: builds for tests hash each record when it is published and
// again when it is replaced.
type audit struct {
	sums map[*Record][sha256.Size]byte
}

func sum(r *Record) [sha256.Size]byte {
	b, err := json.Marshal(struct {
		R      *Record
		Health *Health
		Execs  []string
	}{r, r.Health, r.ExecIDs})
	if err != nil {
		panic(err)
	}
	return sha256.Sum256(b)
}

func (a *audit) published(r *Record) {
	if a.sums == nil {
		a.sums = map[*Record][sha256.Size]byte{}
	}
	a.sums[r] = sum(r)
}

func (a *audit) replaced(r *Record) {
	if want, ok := a.sums[r]; ok && sum(r) != want {
		panic(fmt.Sprintf("a published record of container %s was written to", r.ID))
	}
	delete(a.sums, r)
}
