package versions

import "reflect"

// Change is one difference between versions. It holds for versions from From (included) to Below (excluded); an empty
// bound is none.
type Change struct {
	From, Below string
	What        string // one line: what differs
	Do          []effect
}

func (c Change) appliesTo(version string) bool {
	return (c.From == "" || !LessThan(version, c.From)) && (c.Below == "" || LessThan(version, c.Below))
}

func (c Change) add(p *Profile) {
	for _, e := range c.Do {
		e.addTo(p)
	}
}

// effect is one of: a change of a response, a change of a request, a behaviour.
type effect interface{ addTo(*Profile) }

type (
	// responseFunc clears or fills fields of a response.
	responseFunc[T any] func(*T)
	// reshapeFunc makes another type of a response. It is the last that happens to it.
	reshapeFunc[T any] func(*T) any
	// requestFunc changes a request before it is validated. It may refuse it, and may have warnings for the answer.
	requestFunc[T any] func(*T) (warnings []string, err error)
	// behaviour sets what handlers do differently.
	behaviour func(*Behaviour)
)

func (f responseFunc[T]) addTo(p *Profile) { add[T](p.responses, f) }
func (f reshapeFunc[T]) addTo(p *Profile)  { add[T](p.responses, f) }
func (f requestFunc[T]) addTo(p *Profile)  { add[T](p.requests, f) }
func (f behaviour) addTo(p *Profile)       { f(&p.Behaviour) }

func add[T any](to map[reflect.Type][]any, f any) {
	t := reflect.TypeFor[T]()
	to[t] = append(to[t], f)
}

// Response brings a response to version p and returns what is to be written: v, or a value of another type. It writes
// to v and to the structs that v points to or holds, so these have to be the caller's own; a map, slice or number that
// they refer to is replaced, never written to, and may be shared.
func Response[T any](p *Profile, v *T) any {
	for _, c := range p.responses[reflect.TypeFor[T]()] {
		switch f := c.(type) {
		case responseFunc[T]:
			f(v)
		case reshapeFunc[T]:
			return f(v)
		}
	}
	return v
}

// Request brings a request of version p to the newest version, before it is validated. An error says that version p
// lacks something that is asked for; it has its class. Warnings go into the answer.
func Request[T any](p *Profile, v *T) (warnings []string, err error) {
	for _, c := range p.requests[reflect.TypeFor[T]()] {
		if f, ok := c.(requestFunc[T]); ok {
			w, err := f(v)
			if err != nil {
				return nil, err
			}
			warnings = append(warnings, w...)
		}
	}
	return warnings, nil
}

func response[T any](f func(*T)) effect { return responseFunc[T](f) }

func reshape[T any](f func(*T) any) effect { return reshapeFunc[T](f) }

func request[T any](f func(*T) ([]string, error)) effect { return requestFunc[T](f) }
