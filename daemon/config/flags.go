package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/berthd/berth/errdefs"
)

// FileFlag is the flag that names the configuration file.
const FileFlag = "config-file"

// RegisterFlags adds the flags of all keys to fs, and --config-file. Load reads them from there. Flags of features that
// are missing are known, but not shown in the usage text.
func RegisterFlags(fs *pflag.FlagSet) {
	fs.String(FileFlag, DefaultFile, "Configuration file; the default one need not exist.")
	defaults := Default()
	for _, k := range Keys() {
		if k.Flag == "" {
			continue
		}
		def := k.field(&defaults)
		f := fs.VarPF(newFlagValue(def.Type()), k.Flag, k.Short, k.Doc)
		f.Hidden = k.Missing != ""
		f.DefValue = ""
		if !isZero(def) {
			f.DefValue = flagText(def)
		}
		if def.Kind() == reflect.Bool {
			f.NoOptDefVal = "true"
		}
	}
}

// File returns the configuration file that the flags name, and whether it was named rather than being the default.
func File(fs *pflag.FlagSet) (path string, explicit bool) {
	f := fs.Lookup(FileFlag)
	if f == nil {
		return DefaultFile, false
	}
	return f.Value.String(), f.Changed
}

// FlagError adds to an error of fs.Parse what the user may have meant.
func FlagError(fs *pflag.FlagSet, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return errdefs.InvalidParameter(err)
	}
	var names []string
	fs.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := nearest(unknown.GetSpecifiedName(), names); near != "" && len(unknown.GetSpecifiedName()) > 1 {
		return errdefs.InvalidParameterf("%w; did you mean --%s?", err, near)
	}
	return errdefs.InvalidParameter(err)
}

// flagValue collects what a flag was given, in the type of its key.
type flagValue struct{ v reflect.Value }

func newFlagValue(t reflect.Type) *flagValue {
	v := reflect.New(t).Elem()
	if t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		v.Set(empty(t))
	}
	return &flagValue{v}
}

// Set is called once for each time the flag is given: lists and maps grow, other values are replaced.
func (f *flagValue) Set(s string) (err error) {
	if strings.ContainsRune(s, 0) {
		return errors.New("the value holds a NUL")
	}
	switch p := f.v.Addr().Interface().(type) {
	case *string:
		*p = s
	case *bool:
		*p, err = strconv.ParseBool(s)
	case *int:
		*p, err = strconv.Atoi(s)
	case *[]string:
		*p = append(*p, s)
	case *map[string]string:
		k, v, _ := strings.Cut(s, "=")
		(*p)[k] = v
	case *map[string]bool:
		k, v, given := strings.Cut(s, "=")
		on := true
		if given {
			on, err = strconv.ParseBool(v)
		}
		(*p)[k] = on
	case *map[string]map[string]string:
		return setNetworkOpt(*p, s)
	case interface{ Set(string) error }:
		return p.Set(s)
	default:
		return fmt.Errorf("no flag can set a %s", f.Type())
	}
	return err
}

// setNetworkOpt reads driver=option=value.
func setNetworkOpt(to map[string]map[string]string, s string) error {
	parts := strings.SplitN(s, "=", 3)
	if len(parts) != 3 {
		return fmt.Errorf("invalid network option %q: write DRIVER=OPTION=VALUE", s)
	}
	if to[parts[0]] == nil {
		to[parts[0]] = map[string]string{}
	}
	to[parts[0]][parts[1]] = parts[2]
	return nil
}

// String is the value as messages and the usage text show it.
func (f *flagValue) String() string { return flagText(f.v) }

// Type is shown in the usage text.
func (f *flagValue) Type() string {
	switch f.v.Kind() {
	case reflect.Bool:
		return "bool"
	case reflect.Int:
		return "int"
	case reflect.Slice, reflect.Map:
		return "list"
	}
	return "string"
}

// flagText shows a value in the way of dockerd's messages: texts bare, lists as [a b], the rest as JSON.
func flagText(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case string:
		return x
	case []string:
		return fmt.Sprint(x)
	case map[string]string, map[string]bool:
		return fmt.Sprint(x)
	default:
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(x); err != nil {
			return fmt.Sprint(x)
		}
		return strings.TrimSpace(buf.String())
	}
}
