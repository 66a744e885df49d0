package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/berthd/berth/errdefs"
)

// Origin says where the value of a key comes from.
type Origin string

// The origins. FromBoth is for maps that flags and file fill together.
const (
	FromDefault     Origin = "default"
	FromEnvironment Origin = "environment"
	FromFlag        Origin = "flag"
	FromFile        Origin = "file"
	FromBoth        Origin = "flag and file"
)

// Origins has the origin of every key, by Key.Path.
type Origins map[string]Origin

// KeyError is a fault of one key. Its text stands for itself; the key is there for the verdict.
type KeyError struct {
	Key string // Key.Path, or the name in the file that nobody knows
	Err error
}

func (e *KeyError) Error() string { return e.Err.Error() }
func (e *KeyError) Unwrap() error { return e.Err }

func keyErrorf(key, format string, a ...any) error {
	return &KeyError{Key: key, Err: fmt.Errorf(format, a...)}
}

// Load works out the configuration from defaults, environment, flags and the file at path, and from nothing else: equal
// inputs give equal results, whatever was loaded before. flags are those of RegisterFlags, parsed; nil means none. The
// file must exist if explicit is set; an empty path means none. An error is of class InvalidParameter, holds a KeyError
// for every fault that belongs to a key, and names all of them in an order that does not change.
func Load(path string, explicit bool, flags *pflag.FlagSet) (Config, Origins, error) {
	data, err := readFile(path, explicit)
	var l *loader
	if err == nil {
		l, err = merge(data, flags)
	}
	if err != nil {
		if path != "" {
			err = fmt.Errorf("unable to configure the Berth daemon with file %s: %w", path, err)
		}
		return Config{}, nil, errdefs.InvalidParameter(err)
	}
	return l.cfg, l.origins, nil
}

// merge is Load without the file system.
func merge(data []byte, flags *pflag.FlagSet) (*loader, error) {
	top, err := parse(data)
	if err != nil {
		return nil, err
	}
	l := &loader{cfg: Default(), origins: Origins{}, flags: flags}
	for _, k := range table {
		l.origins[k.Path()] = FromDefault
	}
	l.environment()
	l.flagValues()
	l.file(top)
	l.normalize()
	// What Validate finds is told beside the rest: one round of mending is enough.
	return l, errors.Join(append(append(l.unknownAndConflicts(), l.errs...), l.cfg.Validate())...)
}

// loader is the state of one Load.
type loader struct {
	cfg       Config
	origins   Origins
	flags     *pflag.FlagSet
	unknown   []error
	conflicts []error
	errs      []error
}

func (l *loader) environment() {
	for _, k := range table {
		for _, name := range k.Env {
			if v := os.Getenv(name); v != "" {
				k.field(&l.cfg).SetString(v)
				l.origins[k.Path()] = FromEnvironment
				break
			}
		}
	}
}

// flagValue returns what the flag of k was given.
func (l *loader) flagValue(k Key) (reflect.Value, bool) {
	if l.flags == nil || k.Flag == "" {
		return reflect.Value{}, false
	}
	f := l.flags.Lookup(k.Flag)
	if f == nil || !f.Changed {
		return reflect.Value{}, false
	}
	v, ok := f.Value.(*flagValue)
	if !ok {
		return reflect.Value{}, false
	}
	return deepCopy(v.v), true
}

func (l *loader) flagValues() {
	for _, k := range table {
		if v, ok := l.flagValue(k); ok && !(k.zeroUnset && isZero(v)) {
			k.field(&l.cfg).Set(v)
			l.origins[k.Path()] = FromFlag
		}
	}
}

// file puts the file's members over what is there.
func (l *loader) file(top map[string]json.RawMessage) {
	for _, name := range slices.Sorted(maps.Keys(top)) {
		if slices.Contains(ignored, name) {
			continue
		}
		if !isSection(name) {
			l.member("", name, top[name])
			continue
		}
		var inner map[string]json.RawMessage
		if err := json.Unmarshal(top[name], &inner); err != nil {
			l.errs = append(l.errs, typeError(name, err))
			continue
		}
		for _, sub := range slices.Sorted(maps.Keys(inner)) {
			l.member(name, sub, inner[sub])
		}
	}
}

func (l *loader) member(section, name string, data json.RawMessage) {
	k, ok := lookup(section, name)
	if !ok {
		l.unknown = append(l.unknown, unknownKey(section, name))
		return
	}
	if string(data) == "null" {
		return
	}
	v, err := decode(data, k.field(&l.cfg).Type())
	if err != nil {
		l.errs = append(l.errs, typeError(k.Path(), err))
		return
	}
	origin := FromFile
	if fromFlag, both := l.flagValue(k); both {
		if !k.merge {
			l.conflicts = append(l.conflicts, conflict(k, fromFlag, v))
			return
		}
		for it := v.MapRange(); it.Next(); {
			fromFlag.SetMapIndex(it.Key(), it.Value())
		}
		v, origin = fromFlag, FromBoth
	}
	if k.zeroUnset && isZero(v) {
		return
	}
	k.field(&l.cfg).Set(v)
	l.origins[k.Path()] = origin
}

// decode decodes a value of type t. Maps are decoded entry by entry, so that an error can say which one.
func decode(data json.RawMessage, t reflect.Type) (reflect.Value, error) {
	v := reflect.New(t)
	if t.Kind() != reflect.Map {
		return v.Elem(), decodeStrict(data, v.Interface())
	}
	var raw map[string]json.RawMessage
	if json.Unmarshal(data, &raw) != nil {
		return v.Elem(), decodeStrict(data, v.Interface())
	}
	v.Elem().Set(empty(t))
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		entry := reflect.New(t.Elem())
		if err := decodeStrict(raw[name], entry.Interface()); err != nil {
			return v.Elem(), fmt.Errorf("%s: %w", name, err)
		}
		v.Elem().SetMapIndex(reflect.ValueOf(name), entry.Elem())
	}
	return v.Elem(), nil
}

// normalize brings values that mean the same to one form.
func (l *loader) normalize() {
	c := &l.cfg
	for _, path := range []*string{&c.DataRoot, &c.ExecRoot, &c.Pidfile} {
		if *path == "" {
			continue
		}
		if abs, err := filepath.Abs(*path); err == nil {
			*path = abs
		}
	}
	switch c.StorageDriver {
	case "auto":
		c.StorageDriver = ""
	case "overlay2":
		c.StorageDriver = "overlayfs"
	}
	// dockerd's users turn TLS on by giving tlsverify at all.
	if c.TLSVerify || l.origins["tls"] == FromDefault && l.origins["tlsverify"] != FromDefault {
		c.TLS = true
	}
	c.Labels = slices.DeleteFunc(c.Labels, seen())
	for name, limit := range c.DefaultUlimits {
		if limit.Name == "" {
			limit.Name = name
			c.DefaultUlimits[name] = limit
		}
	}
}

// seen tells of every text but the first that it was there before.
func seen() func(string) bool {
	had := map[string]bool{}
	return func(s string) bool {
		before := had[s]
		had[s] = true
		return before
	}
}

// unknownAndConflicts are the faults of the file as a whole, each kind in one line, as dockerd has them.
func (l *loader) unknownAndConflicts() (errs []error) {
	if len(l.unknown) > 0 {
		errs = append(errs, &listError{"the following directives don't match any configuration option: ", l.unknown})
	}
	if len(l.conflicts) > 0 {
		errs = append(errs, &listError{
			"the following directives are specified both as a flag and in the configuration file: ", l.conflicts,
		})
	}
	return errs
}

// listError is several errors in one line.
type listError struct {
	intro string
	errs  []error
}

func (e *listError) Error() string {
	texts := make([]string, len(e.errs))
	for i, err := range e.errs {
		texts[i] = err.Error()
	}
	return e.intro + strings.Join(texts, ", ")
}

func (e *listError) Unwrap() []error { return e.errs }

func conflict(k Key, flag, file reflect.Value) error {
	a, b := flagText(flag), flagText(file)
	if k.secret {
		a, b = MaskProxy(a), MaskProxy(b)
	}
	return keyErrorf(k.Path(), "%s: (from flag: %s, from file: %s)", k.Name, a, b)
}

// unknownKey names a key that nobody knows and what may be meant.
func unknownKey(section, name string) error {
	path := Key{Section: section, Name: name}.Path()
	shown := path
	if quoted := strconv.Quote(path); path == "" || quoted != `"`+path+`"` {
		shown = quoted
	}
	if advice, ok := removed[path]; ok {
		return keyErrorf(path, "%s (no longer there: %s)", shown, advice)
	}
	if meant := meantKey(section, name); meant != "" {
		return keyErrorf(path, "%s (did you mean %s?)", shown, meant)
	}
	return keyErrorf(path, "%s", shown)
}

func meantKey(section, name string) string {
	var names []string
	for _, k := range table {
		if k.Name == name { // right, but in the wrong place
			return k.Path()
		}
		if k.Flag == name && name != "" {
			return k.Path()
		}
		if k.Section == section {
			names = append(names, k.Path())
		}
		if section == "" && k.Section != "" {
			names = append(names, k.Section)
		}
	}
	return nearest(Key{Section: section, Name: name}.Path(), names)
}

// typeError says in plain words that a value is of the wrong kind.
func typeError(key string, err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return keyErrorf(key, "invalid JSON: %s: %w", key, err)
	}
	// err may name an entry before the part that the decoder says; that name is kept.
	entry := strings.TrimSuffix(err.Error(), wrong.Error())
	if wrong.Field != "" {
		entry += wrong.Field + ": "
	}
	return keyErrorf(key, "invalid JSON: %s: %swant %s, not %s", key, entry, typeName(wrong.Type), wrong.Value)
}

// isZero tells whether v is 0, "" or has no members.
func isZero(v reflect.Value) bool {
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		return v.Len() == 0
	}
	return v.IsZero()
}
