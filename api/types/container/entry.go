package container

import (
	"crypto/sha256"
	"fmt"
)

// Entry is a container as JSON, all of it or as an element of a list, with its hash.
type Entry struct {
	JSON []byte
	Sum  [sha256.Size]byte
}

// NewEntry returns the Entry of the JSON.
func NewEntry(json []byte) *Entry { return &Entry{JSON: json, Sum: sha256.Sum256(json)} }

// Audit panics when an entry that was kept is not what is made now. A nil one was not kept.
func (kept *Entry) Audit(made *Entry) {
	if kept != nil && kept.Sum != made.Sum {
		panic(fmt.Sprintf("an answer was kept that no longer holds:\n%s\n%s", kept.JSON, made.JSON))
	}
}
