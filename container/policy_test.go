package container

import (
	"testing"
	"time"

	"gotest.tools/v3/assert"

	containertypes "github.com/berthd/berth/api/types/container"
)

func ended(policy containertypes.RestartPolicy, change func(*Record)) *Record {
	rec := &Record{
		Intent: Intent{
			Desired: Running, Config: &containertypes.Config{},
			HostConfig: &containertypes.HostConfig{RestartPolicy: policy},
		},
		Observed: Observed{State: State{StartedAt: time.Unix(1000, 0)}},
	}
	if change != nil {
		change(rec)
	}
	return rec
}

func TestDecide(t *testing.T) {
	soon, late := time.Unix(1001, 0), time.Unix(1010, 0)
	always := containertypes.RestartPolicy{Name: "always"}
	onFailure := containertypes.RestartPolicy{Name: "on-failure", MaximumRetryCount: 2}
	for name, c := range map[string]struct {
		rec   *Record
		code  int
		at    time.Time
		again bool
		delay time.Duration
	}{
		"no policy":         {ended(containertypes.RestartPolicy{Name: "no"}, nil), 1, soon, false, 0},
		"always, code 0":    {ended(always, nil), 0, soon, true, firstDelay},
		"unless-stopped":    {ended(containertypes.RestartPolicy{Name: "unless-stopped"}, nil), 0, soon, true, firstDelay},
		"stopped by hand":   {ended(always, func(r *Record) { r.Desired = Stopped }), 1, soon, false, 0},
		"being removed":     {ended(always, func(r *Record) { r.Desired = Gone }), 1, soon, false, 0},
		"on-failure, 0":     {ended(onFailure, nil), 0, soon, false, 0},
		"on-failure, 1":     {ended(onFailure, nil), 1, soon, true, firstDelay},
		"on-failure, spent": {ended(onFailure, func(r *Record) { r.RestartCount = 2 }), 1, soon, false, 0},
		"doubles": {ended(always, func(r *Record) { r.RestartDelay = time.Second }), 1, soon, true,
			2 * time.Second},
		"has an end": {ended(always, func(r *Record) { r.RestartDelay = 50 * time.Second }), 1, soon, true, longestDelay},
		"begins anew after a long run": {ended(always, func(r *Record) { r.RestartDelay = 50 * time.Second }), 1, late, true,
			firstDelay},
	} {
		again, delay := Decide(c.rec, c.code, c.at)
		assert.Check(t, again == c.again, name)
		assert.Check(t, delay == c.delay, "%s: %s", name, delay)
	}
}
