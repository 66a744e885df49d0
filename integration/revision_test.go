package integration

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

// TestSoakRevisions has several readers watch what random operations do, over a kill of the daemon. Whatever a reader asks
// (inspect, list, events), the revisions of its answers never go back, and all answers together are one story: at each
// revision a container has one name, one start, and is there or gone for good.
func TestSoakRevisions(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	length := 30 * time.Second
	if *soak > 1 {
		length = time.Duration(*soak) * 36 * time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	s := &story{t: t, d: d, ids: make([]string, 4), seen: map[string]map[string]*span{}, destroyed: map[string]uint64{}}
	var all sync.WaitGroup
	for i := range s.ids {
		all.Go(func() { s.operate(ctx, i) })
	}
	all.Go(func() { s.operateOthers(ctx) })
	for range 2 {
		all.Go(func() { s.readBoth(ctx) })
		all.Go(func() { s.readEvents(ctx) })
		all.Go(func() { s.readNewer(ctx) })
	}
	select {
	case <-time.After(length / 2):
		d.Kill9()
		d.Start()
	case <-ctx.Done():
	}
	all.Wait()
	s.check()
}

// story is what all readers have seen.
type story struct {
	t *testing.T
	d *harness.Daemon

	mu        sync.Mutex
	ids       []string
	seen      map[string]map[string]*span // by id, and by what was seen of it: fields that only grow
	destroyed map[string]uint64           // by id
	answers   int
}

// span is from the first to the last revision at which something was seen.
type span struct{ first, last uint64 }

// saw notes that a container showed a value of a field at a revision.
func (s *story) saw(id, field string, revision uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers++
	if s.seen[id] == nil {
		s.seen[id] = map[string]*span{}
	}
	if sp := s.seen[id][field]; sp != nil {
		sp.first, sp.last = min(sp.first, revision), max(sp.last, revision)
		return
	}
	s.seen[id][field] = &span{revision, revision}
}

func (s *story) id(i int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[i]
}

func (s *story) anyID() string { return s.id(rand.IntN(len(s.ids))) }

// operate does random things to a container of its own. Its names are numbered, so that they only grow.
func (s *story) operate(ctx context.Context, i int) {
	name := func(n int) string { return fmt.Sprintf("c%d-%09d", i, n) }
	try := func(method, path string, body any) harness.Response {
		resp, _ := s.d.Try(method, path, body) // the daemon may be away
		return resp
	}
	for n := 0; ctx.Err() == nil; n++ {
		id := s.id(i)
		if id == "" {
			var c struct{ ID string }
			resp := try("POST", "/containers/create?name="+name(n), harness.Spec("sleep", "1000"))
			if json.Unmarshal([]byte(resp.Body), &c) == nil {
				s.mu.Lock()
				s.ids[i] = c.ID
				s.mu.Unlock()
			}
			continue
		}
		switch path := "/containers/" + id; rand.IntN(12) {
		case 0, 1:
			try("POST", path+"/start", nil)
		case 2:
			try("POST", path+"/stop?t=0", nil)
		case 3:
			try("POST", path+"/pause", nil)
			try("POST", path+"/unpause", nil)
		case 4:
			try("POST", path+"/exec", harness.M{"Cmd": []string{"true"}})
		case 5:
			try("POST", path+"/update", harness.M{"Memory": (64 + n%64) << 20, "MemorySwap": -1})
		case 6:
			if resp := try("DELETE", path+"?force=1", nil); resp.Status == 204 || resp.Status == 404 {
				s.mu.Lock()
				s.ids[i] = ""
				s.mu.Unlock()
			}
		default:
			try("POST", path+"/rename?name="+name(n), nil)
		}
	}
}

func (s *story) operateOthers(ctx context.Context) {
	for ctx.Err() == nil {
		for _, kind := range []string{"volumes", "networks"} {
			_, _ = s.d.Try("POST", "/"+kind+"/create", harness.M{"Name": "other"}) // the daemon may be away
			_, _ = s.d.Try("DELETE", "/"+kind+"/other", nil)
		}
	}
}

// reader is one whose time must not go back.
type reader struct {
	*story
	last uint64
}

func (r *reader) now(what string, revision uint64) {
	if revision < r.last {
		r.t.Errorf("%s is of revision %d, after one of %d", what, revision, r.last)
	}
	r.last = revision
}

// ask asks for something that has a revision; ok is false when there was no such answer.
func (r *reader) ask(path string) (resp harness.Response, ok bool) {
	resp, err := r.d.Try("GET", path, nil)
	if err != nil || resp.Status != http.StatusOK && resp.Status != http.StatusNotModified {
		return resp, false
	}
	revision, err := strconv.ParseUint(resp.Header.Get("Berth-Revision"), 10, 64)
	if err != nil {
		r.t.Errorf("%s: %v", path, err)
	}
	r.now(path, revision)
	return resp, true
}

func (r *reader) inspect(id, query string) {
	if id == "" {
		return
	}
	resp, ok := r.ask("/containers/" + id + "/json" + query)
	if !ok || resp.Status == http.StatusNotModified {
		return
	}
	var c harness.Container
	if err := json.Unmarshal([]byte(resp.Body), &c); err != nil {
		r.t.Errorf("inspect %s: %v", id, err)
		return
	}
	r.saw(c.ID, "name "+c.Name, r.last)
	r.saw(c.ID, "start "+c.State.StartedAt, r.last)
}

func (r *reader) list() {
	resp, ok := r.ask("/containers/json?all=1")
	if !ok {
		return
	}
	var list []struct {
		ID    string `json:"Id"`
		Names []string
	}
	if err := json.Unmarshal([]byte(resp.Body), &list); err != nil {
		r.t.Errorf("list: %v", err)
	}
	for _, c := range list {
		r.saw(c.ID, "name "+c.Names[0], r.last)
	}
}

func (s *story) readBoth(ctx context.Context) {
	r := &reader{story: s}
	for ctx.Err() == nil {
		r.inspect(r.anyID(), "")
		r.list()
	}
}

// readNewer waits for what is newer than what it has seen.
func (s *story) readNewer(ctx context.Context) {
	r := &reader{story: s}
	for ctx.Err() == nil {
		r.list()
		if after := r.last; after > 0 {
			r.inspect(r.anyID(), fmt.Sprintf("?after=%d&timeout=1", after))
		}
	}
}

// readEvents follows the events, resumes where the daemon left it, and looks at what each is about.
func (s *story) readEvents(ctx context.Context) {
	events, r := &reader{story: s}, &reader{story: s}
	for ctx.Err() == nil {
		resp, err := s.d.Open(ctx, "GET", fmt.Sprintf("/events?after=%d", events.last), nil)
		if err != nil {
			continue
		}
		for dec := json.NewDecoder(resp.Body); ; {
			var e wireEvent
			if dec.Decode(&e) != nil {
				break // the daemon, or the test, has ended
			}
			if e.Revision == events.last {
				s.t.Errorf("two events have revision %d", e.Revision)
			}
			events.now("event "+e.Action, e.Revision)
			r.last = max(r.last, e.Revision)
			if e.Type != "container" {
				continue
			}
			s.saw(e.Actor.ID, "name /"+e.Actor.Attributes["name"], e.Revision)
			if e.Action == "destroy" {
				s.mu.Lock()
				s.destroyed[e.Actor.ID] = e.Revision
				s.mu.Unlock()
			}
			r.inspect(e.Actor.ID, "")
		}
		resp.Body.Close()
	}
}

// wireEvent is an event as it is sent.
type wireEvent struct {
	Type, Action string
	Actor        struct {
		ID         string
		Attributes map[string]string
	}
	Revision uint64 `json:"revision"`
}

// check puts what all readers have seen in the order of the revisions.
func (s *story) check() {
	s.t.Logf("%d answers about %d containers", s.answers, len(s.seen))
	assert.Check(s.t, s.answers > 100 && len(s.destroyed) > 0)
	for id, fields := range s.seen {
		for _, kind := range []string{"name ", "start "} {
			values := slices.DeleteFunc(slices.Collect(maps.Keys(fields)), func(f string) bool { return !strings.HasPrefix(f, kind) })
			slices.SortFunc(values, func(a, b string) int { return cmp.Compare(fields[a].first, fields[b].first) })
			for i := 1; i < len(values); i++ {
				before, v := values[i-1], values[i]
				if fields[before].last >= fields[v].first || before > v {
					s.t.Errorf("%s: %q at %v, %q at %v", id, before, *fields[before], v, *fields[v])
				}
			}
		}
		for f, sp := range fields {
			if end, gone := s.destroyed[id]; gone && sp.last > end {
				s.t.Errorf("%s was destroyed at %d and seen at %d (%s)", id, end, sp.last, f)
			}
		}
	}
}

// TestKeptAnswersHold: inspect and list keep what they are asked for again. Whatever changes, the next answer shows it. (In
// builds for tests the daemon panics when what it has kept is not what it would say now: that goes for all other tests too.)
func TestKeptAnswersHold(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	runIn(d, "sea", "bridge", nil)
	id := runIn(d, "one", "bridge", harness.M{"Links": []string{"sea:salt"}})
	ask := func() (answer string) {
		for _, v := range []string{"1.52", "1.19", "1.24", "1.52"} { // the first is what is kept of the last round
			for range 3 {
				answer = ""
				for _, path := range []string{"/containers/" + id + "/json", "/containers/json?all=1"} {
					resp := d.HTTP("GET", "/v"+v+path, nil)
					assert.Equal(t, resp.Status, 200, "%s", resp.Body)
					answer += string(resp.Body)
				}
			}
		}
		return answer
	}
	for _, tc := range []struct {
		change func()
		shows  string
	}{
		{func() {}, `"Links":["/sea:/one/salt"]`},
		{func() { d.OK("POST", "/containers/sea/rename?name=lake", nil, nil) }, `"Links":["/lake:/one/salt"]`},
		{func() {}, `"Names":["/lake","/one/salt"]`},
		{func() { d.OK("POST", "/containers/one/rename?name=two", nil, nil) }, `"Links":["/lake:/two/salt"]`},
		{func() {
			d.Reload(harness.M{"default-ulimits": harness.M{"nofile": harness.M{"Name": "nofile", "Soft": 111, "Hard": 222}}})
		}, `"Ulimits":[{"Name":"nofile","Hard":222,"Soft":111}]`},
		{func() { d.OK("POST", "/containers/two/update", harness.M{"CpuShares": 77}, nil) }, `"CpuShares":77`},
		{func() { d.OK("POST", "/containers/two/pause", nil, nil) }, `"Status":"paused"`},
		{func() { d.OK("POST", "/containers/two/unpause", nil, nil) }, `"Status":"running"`},
		{func() { d.OK("POST", "/networks/bridge/disconnect", harness.M{"Container": id}, nil) }, `"Networks":{}`},
		{func() { d.OK("POST", "/containers/two/kill", nil, nil); d.Wait(id) }, `"ExitCode":137`},
	} {
		tc.change()
		got := ask()
		assert.Assert(t, strings.Contains(got, tc.shows), "%s is not in %s", tc.shows, got)
	}
}
