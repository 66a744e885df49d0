package container

import (
	"context"
	"errors"
	"sync"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/ids"
)

func TestARequestIsCarriedOutOnce(t *testing.T) {
	dir := t.TempDir()
	r, _ := open(t, dir)
	once := containertypes.Once{Key: "k", Digest: "d"}

	// Of many twins one makes the container; some of those that try fail, and the next one takes over.
	var twins sync.WaitGroup
	var mu sync.Mutex
	made, failures := "", 3
	for range 20 {
		twins.Go(func() {
			id := ids.New()
			rec, err := r.Claim(t.Context(), once, id)
			assert.Check(t, err)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case rec != nil:
				assert.Check(t, is.Equal(rec.ID, made))
			case failures > 0:
				failures--
				r.Unclaim(&once, id)
			default:
				assert.Check(t, is.Equal(made, ""), "a second one makes it")
				made = id
				in := intent(id, "web")
				in.Once = &Once{Once: once, Warnings: []string{"w"}}
				_, err := r.Add(in)
				assert.Check(t, err)
			}
		})
	}
	twins.Wait()

	again, _ := open(t, dir)
	rec, err := again.Claim(t.Context(), once, ids.New())
	assert.NilError(t, err)
	assert.Equal(t, rec.ID, made)
	assert.DeepEqual(t, rec.Once.Warnings, []string{"w"})
	again.Unclaim(&once, made) // of no effect: the container is there
	_, err = again.Claim(t.Context(), containertypes.Once{Key: "k", Digest: "other"}, ids.New())
	assert.Assert(t, errdefs.IsConflict(err))
	assert.ErrorContains(t, err, `the Idempotency-Key "k" was sent with another request before, which made container `+made)

	making := containertypes.Once{Key: "k2", Digest: "d"}
	_, err = again.Claim(t.Context(), making, "new")
	assert.NilError(t, err)
	making.Digest = "other"
	_, err = again.Claim(t.Context(), making, ids.New())
	assert.ErrorContains(t, err, "which is making container new")

	c, err := again.Get(made)
	assert.NilError(t, err)
	_, err = c.Update(func(in *Intent) error { in.Desired = Gone; return nil })
	assert.NilError(t, err)
	_, err = again.Claim(t.Context(), once, ids.New())
	assert.Assert(t, errdefs.IsConflict(err))
	assert.ErrorContains(t, err, "is being removed")
	assert.NilError(t, again.Remove(c))
	rec, err = again.Claim(t.Context(), once, ids.New())
	assert.NilError(t, err)
	assert.Assert(t, rec == nil, "the key is free")

	left, leave := context.WithCancelCause(t.Context())
	leave(errors.New("left"))
	_, err = again.Claim(left, once, ids.New())
	assert.Error(t, err, "left")
}
