package container

import "crypto/sha256"

// Entry is an element of a list as JSON, with its hash.
type Entry struct {
	JSON []byte
	Sum  [sha256.Size]byte
}

// NewEntry returns the Entry of an element.
func NewEntry(json []byte) *Entry { return &Entry{JSON: json, Sum: sha256.Sum256(json)} }
