package volume

import (
	"context"
	"fmt"
	"sync"
)

// slots are locks by name that are waited for as long as a context lasts. The zero value has none taken.
type slots struct {
	mu sync.Mutex
	m  map[string]*slot
}

type slot struct {
	taken chan struct{}
	users int // who holds it or waits for it
}

// take waits for the slot of name. release gives it back.
func (s *slots) take(ctx context.Context, name string) (release func(), err error) {
	s.mu.Lock()
	sl := s.m[name]
	if sl == nil {
		sl = &slot{taken: make(chan struct{}, 1)}
		if s.m == nil {
			s.m = map[string]*slot{}
		}
		s.m[name] = sl
	}
	sl.users++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if sl.users--; sl.users == 0 {
			delete(s.m, name)
		}
	}
	release = func() { <-sl.taken; leave() }
	select {
	case sl.taken <- struct{}{}: // also when ctx has ended: what is given back then needs no wait
		return release, nil
	default:
	}
	select {
	case sl.taken <- struct{}{}:
		return release, nil
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("wait for another change of volume %s: %w", name, context.Cause(ctx))
	}
}
