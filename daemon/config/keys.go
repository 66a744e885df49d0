package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/docker/go-units"
)

// Key is what Berth knows of one key of the configuration. Everything that is done with keys is driven by it.
type Key struct {
	Name string
	// Section is the object of the file that the key is in; empty: the top level.
	Section string
	// Flag and Short are the spellings on the command line; empty: none.
	Flag, Short string
	// Env are the variables that give a default, the first one that is set.
	Env []string
	// Reloadable says that a reload applies the key. Other keys need a new process.
	Reloadable bool
	// Missing names the feature that Berth does not have yet. Such a key is accepted at its default only.
	Missing string
	// Doc is what the key does, in one line.
	Doc string

	// zeroUnset says that 0, "" and [] mean "not set": the key has no use for such a value.
	zeroUnset bool
	// merge says that flag and file may both be given: the maps are united, and the file wins.
	merge bool
	// secret says that the value may hold a password.
	secret bool
	// shown is the default as documentation has it, where it depends on the machine.
	shown string
	// harmless tells of a value other than the default that it comes to the same without the missing feature.
	harmless func(*Config) bool
	check    func(*Config) error
}

// Keys returns all keys, sorted by path.
func Keys() []Key {
	return slices.SortedFunc(slices.Values(table), func(a, b Key) int { return strings.Compare(a.Path(), b.Path()) })
}

// Path is the key as the file has it: with its section.
func (k Key) Path() string {
	if k.Section == "" {
		return k.Name
	}
	return k.Section + "." + k.Name
}

// Type is the kind of the key's value in the file, in words.
func (k Key) Type() string {
	var c Config
	return typeName(k.field(&c).Type())
}

// DefaultText is the key's default as JSON.
func (k Key) DefaultText() string {
	if k.shown != "" {
		return k.shown
	}
	c := Default()
	return string(k.json(&c))
}

// field returns the key's field of c. The table and Config name the same keys; a test holds them to it.
func (k Key) field(c *Config) reflect.Value {
	return reflect.ValueOf(c).Elem().FieldByIndex(fields[k.Path()])
}

// fields has the place of each key in Config, by Key.Path. It is only read.
var fields = fieldIndex(reflect.TypeFor[Config](), "", nil)

func fieldIndex(t reflect.Type, prefix string, at []int) map[string][]int {
	index := map[string][]int{}
	for _, f := range reflect.VisibleFields(t) {
		name := f.Tag.Get("json")
		place := slices.Concat(at, f.Index)
		switch {
		case name == "": // embedded: its fields are visible in t
		case f.Type == reflect.TypeFor[Proxies]():
			maps.Copy(index, fieldIndex(f.Type, name+".", place))
		default:
			index[prefix+name] = place
		}
	}
	return index
}

// json returns the key's value in c as JSON: the one form in which values are compared and shown.
func (k Key) json(c *Config) json.RawMessage {
	v := k.field(c)
	if (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.IsNil() {
		v = empty(v.Type())
	}
	data, err := json.Marshal(v.Interface())
	if err != nil {
		// What a Config holds was decoded from JSON or is a plain Go value.
		panic(fmt.Sprintf("value of %s: %v", k.Name, err))
	}
	return data
}

// same tells whether a and b have equal values.
func (k Key) same(a, b *Config) bool { return string(k.json(a)) == string(k.json(b)) }

// display is json without secrets.
func (k Key) display(c *Config) json.RawMessage {
	if k.secret {
		data, err := json.Marshal(MaskProxy(k.field(c).String()))
		if err == nil {
			return data
		}
	}
	return k.json(c)
}

// lookup finds a key by the place it has in the file.
func lookup(section, name string) (Key, bool) {
	for _, k := range table {
		if k.Section == section && k.Name == name {
			return k, true
		}
	}
	return Key{}, false
}

// isSection tells whether the file has an object of keys by that name.
func isSection(name string) bool {
	return slices.ContainsFunc(table, func(k Key) bool { return k.Section == name && name != "" })
}

func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Bytes]():
		return `number or text such as "64M"`
	case reflect.TypeFor[Runtime]():
		return "{path, runtimeArgs} or {runtimeType, options}"
	case reflect.TypeFor[units.Ulimit]():
		return "{Name, Hard, Soft}"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "number"
	case reflect.Slice:
		return "list of " + typeName(t.Elem())
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return "object"
		}
		return "object: name → " + typeName(t.Elem())
	case reflect.Struct:
		var names []string
		for _, f := range reflect.VisibleFields(t) {
			tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			names = append(names, tag)
		}
		return "{" + strings.Join(names, ", ") + "}"
	}
	return t.String()
}
