// Package ids makes the random ids of containers, execs, networks and sandboxes.
package ids

import (
	"crypto/rand"
	"encoding/hex"
	"regexp"
)

var digits = regexp.MustCompile(`^[0-9]+$`)

// New returns 64 random hexadecimal digits. The first twelve are never all decimal: as the short form they would read as
// a number, which tools that take a host name refuse.
func New() string {
	for {
		var b [32]byte
		rand.Read(b[:])
		if id := hex.EncodeToString(b[:]); !digits.MatchString(id[:12]) {
			return id
		}
	}
}

// Short returns the form of an id that people read.
func Short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
