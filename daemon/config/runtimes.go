package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ImplicitRuntime tells whether a name that is not configured may still be a runtime: that of a containerd shim, such
// as io.containerd.kata.v2. Whether the shim exists is found out at start.
func ImplicitRuntime(name string) bool {
	before, _, dotted := strings.Cut(name, ".")
	return dotted && before != "" && !strings.ContainsAny(name, "/\x00")
}

// checkRuntimes looks at the form of the entries. What the options mean to a shim is for package runtimes.
func checkRuntimes(c *Config) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Runtimes)) {
		rt := c.Runtimes[name]
		switch {
		case name == "":
			errs = append(errs, errors.New("a runtime has no name"))
		case name == StockRuntime:
			errs = append(errs, errors.New("runtime name 'runc' is reserved"))
		case rt.Path == "" && rt.Type == "":
			errs = append(errs, fmt.Errorf("runtime %s: either a runtimeType or a path must be configured", name))
		case rt.Path != "" && rt.Type != "":
			errs = append(errs, fmt.Errorf("runtime %s: cannot configure both path and runtimeType for the same runtime",
				name))
		case rt.Path != "" && len(rt.Options) > 0:
			errs = append(errs, fmt.Errorf("runtime %s: options cannot be used with a path runtime", name))
		case rt.Type != "" && len(rt.Args) > 0:
			errs = append(errs, fmt.Errorf("runtime %s: args cannot be used with a runtimeType runtime", name))
		}
	}
	return errors.Join(errs...)
}

func checkDefaultRuntime(c *Config) error {
	name := c.DefaultRuntime
	_, configured := c.Runtimes[name]
	if name == "" || name == StockRuntime || configured || ImplicitRuntime(name) {
		return nil
	}
	return fmt.Errorf("specified default runtime '%s' does not exist: add it to runtimes, or name another", name)
}

// ValidateRuntimes is the part of Validate that is about runtimes.
func (c Config) ValidateRuntimes() error {
	var errs []error
	for _, k := range table {
		if k.Name != "runtimes" && k.Name != "default-runtime" {
			continue
		}
		if err := k.check(&c); err != nil {
			errs = append(errs, &KeyError{Key: k.Name, Err: err})
		}
	}
	return errors.Join(errs...)
}
