package container

import "time"

// The delay before a restart: it doubles from the first to the longest, and begins anew after a run that lasted long
// enough to count as well.
const (
	firstDelay   = 100 * time.Millisecond
	longestDelay = time.Minute
	wellAfter    = 10 * time.Second
)

// Decide says whether a container that ended at that time with that code is started again, and after what delay. It
// looks at nothing but the record of the run.
func Decide(rec *Record, code int, at time.Time) (again bool, delay time.Duration) {
	if rec.Desired != Running {
		return false, 0
	}
	p := rec.HostConfig.RestartPolicy
	switch p.Name {
	case "always", "unless-stopped":
	case "on-failure":
		if code == 0 || p.MaximumRetryCount > 0 && rec.RestartCount >= p.MaximumRetryCount {
			return false, 0
		}
	default:
		return false, 0
	}
	delay = min(2*rec.RestartDelay, longestDelay)
	if delay == 0 || at.Sub(rec.State.StartedAt) >= wellAfter {
		delay = firstDelay
	}
	return true, delay
}
