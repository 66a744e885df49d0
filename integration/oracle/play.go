package oracle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Daemon is one that is asked.
type Daemon struct {
	Ask   func(method, path string, body []byte) (status int, answer []byte, err error)
	Image string            // a reference of an image with a busybox in it
	Roots map[string]string // placeholder -> path that it stands for, e.g. root -> /var/lib/berth
}

type run struct {
	Daemon
	c        Case
	vars     map[string]string
	versions func(probe string) []string
	answers  Answers
	norm     *normaliser
}

// Play brings the daemon into a case's state and asks each probe at the versions that are wanted of it. A step that
// fails is an error that names it.
func (d Daemon) Play(c Case, versions func(probe string) []string) (Answers, error) {
	r := &run{
		Daemon: d, c: c, versions: versions, answers: Answers{}, norm: newNormaliser(d.Roots),
		vars: map[string]string{"image": d.Image, "case": "orc-" + c.Name},
	}
	defer r.clean()
	for i, s := range c.Steps {
		if err := r.step(s); err != nil {
			return r.answers, fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	for _, p := range c.Probes {
		if err := r.probe(p); err != nil {
			return r.answers, err
		}
	}
	return r.answers, nil
}

// clean takes away what the steps made; what they did not come to make is not there, which is no error.
func (r *run) clean() {
	for _, request := range r.c.Cleanup {
		r.ask("1.41", request, nil)
	}
}

func (r *run) ask(version, request string, body []byte) (int, []byte, error) {
	method, path, _ := strings.Cut(r.fill(request), " ")
	return r.Ask(method, "/v"+version+path, body)
}

func (r *run) fill(s string) string {
	for k, v := range r.vars {
		s = strings.ReplaceAll(s, "{"+k+"}", v)
	}
	return s
}

func (r *run) step(s Step) error {
	version := r.c.API
	if s.API != "" {
		version = s.API
	}
	switch {
	case s.Sleep > 0:
		<-time.After(time.Duration(s.Sleep * float64(time.Second)))
		return nil
	case s.Probe != "":
		return r.probe(s.Probe)
	case s.Wait != "":
		return r.wait(version, s)
	}
	code, b, err := r.ask(version, s.Do, []byte(r.fill(string(s.Body))))
	if err != nil {
		return err
	}
	if (s.Status != 0 && code != s.Status) || (s.Status == 0 && code != 304 && (code < 200 || code > 299)) {
		return fmt.Errorf("%s: HTTP %d: %.300s", s.Do, code, b)
	}
	for name, path := range s.Save {
		got, ok := at(parse(b), path)
		if !ok {
			return fmt.Errorf("%s: no %s in %.300s", s.Do, path, b)
		}
		r.vars[name] = fmt.Sprint(got)
		r.norm.name(name, r.vars[name])
	}
	return nil
}

func (r *run) wait(version string, s Step) error {
	ticks := time.NewTicker(50 * time.Millisecond)
	defer ticks.Stop()
	for end := time.Now().Add(30 * time.Second); ; <-ticks.C {
		_, b, err := r.ask(version, s.Wait, nil)
		if err != nil {
			return err
		}
		v, ok := parse(b), true
		for path, want := range s.Until {
			got, _ := at(v, path)
			if n, isNumber := got.(json.Number); isNumber {
				got, _ = n.Float64()
			}
			ok = ok && reflect.DeepEqual(got, want)
		}
		if ok {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s never came to %v; last: %.300s", s.Wait, s.Until, b)
		}
	}
}

func (r *run) probe(p string) error {
	if r.answers[p] == nil {
		r.answers[p] = map[string]Answer{}
	}
	for _, v := range r.versions(p) {
		code, b, err := r.ask(v, p, nil)
		if err != nil {
			return fmt.Errorf("%s at %s: %w", p, v, err)
		}
		r.answers[p][v] = Answer{code, r.norm.value("", parse(b))}
	}
	return nil
}

// parse is the JSON in b, numbers as they are written, or b itself if it is none.
func parse(b []byte) any {
	var v any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return string(b)
	}
	return v
}

func at(v any, path string) (any, bool) {
	for _, k := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = x[k]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(k)
			if err != nil || i >= len(x) {
				return nil, false
			}
			v = x[i]
		default:
			return nil, false
		}
	}
	return v, true
}
