package container

import (
	"context"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
)

// claim is a create request that bears a key: one that is being carried out, or whose container is there.
type claim struct {
	digest string
	id     string        // of the container
	done   chan struct{} // closed when the container is there, or will not be
}

// Claim takes a request's key for the container id. If the same request has made a container already, Claim returns that
// one's record; if it is just about to, Claim waits for it, as long as ctx lasts. Who gets no record makes the container,
// or gives the key back with Unclaim. The key stands for its request as long as the container is there.
func (r *Registry) Claim(ctx context.Context, once containertypes.Once, id string) (*Record, error) {
	for {
		rec, wait, err := r.tryClaim(once, id)
		if wait == nil {
			return rec, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (r *Registry) tryClaim(once containertypes.Once, id string) (_ *Record, wait <-chan struct{}, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cl := r.claims[once.Key]
	if cl == nil {
		r.claims[once.Key] = &claim{digest: once.Digest, id: id, done: make(chan struct{})}
		return nil, nil, nil
	}
	c := r.byID[cl.id]
	if cl.digest != once.Digest {
		verb := "made"
		if c == nil {
			verb = "is making"
		}
		return nil, nil, errdefs.Conflictf("the Idempotency-Key %q was sent with another request before, which %s container %s: "+
			"a new request needs a key of its own", once.Key, verb, cl.id)
	}
	if c == nil {
		return nil, cl.done, nil
	}
	if c.rec.Desired == Gone {
		return nil, nil, errdefs.Conflictf("container %s, which was made with the Idempotency-Key %q, is being removed: "+
			"the key is free once it has gone", cl.id, once.Key)
	}
	return c.rec, nil, nil
}

// Unclaim gives a key back, unless its container is there. once may be nil.
func (r *Registry) Unclaim(once *containertypes.Once, id string) {
	if once == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID[id] == nil {
		r.unclaimLocked(once.Key, id)
	}
}

func (r *Registry) unclaimLocked(key, id string) {
	if cl := r.claims[key]; cl != nil && cl.id == id {
		cl.finish()
		delete(r.claims, key)
	}
}

// claimedLocked notes that the container of a claim is there now.
func (r *Registry) claimedLocked(rec *Record) {
	if rec.Once == nil {
		return
	}
	cl := r.claims[rec.Once.Key]
	if cl == nil { // it was made by an earlier daemon
		cl = &claim{digest: rec.Once.Digest, id: rec.ID, done: make(chan struct{})}
		r.claims[rec.Once.Key] = cl
	}
	cl.finish()
}

func (cl *claim) finish() {
	select {
	case <-cl.done:
	default:
		close(cl.done)
	}
}
