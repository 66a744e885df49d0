package image

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-connections/nat"

	"github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
)

// applyChanges sets in c what the instructions say, in their order. They are those of a Dockerfile that only change the
// config. An instruction that is none is an InvalidParameter.
func applyChanges(c *Config, instructions []string) error {
	for _, line := range instructions {
		word, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		args = strings.TrimSpace(args)
		name := strings.ToUpper(word)
		if name == "" {
			continue
		}
		fn := changeFuncs()[name]
		if fn == nil {
			return errdefs.InvalidParameterf("%s is not a valid change command", name)
		}
		if args == "" {
			return errdefs.InvalidParameterf("%s requires at least one argument", name)
		}
		if err := fn(c, args); err != nil {
			return errdefs.InvalidParameter(fmt.Errorf("%s: %w", name, err))
		}
	}
	return nil
}

func changeFuncs() map[string]func(c *Config, args string) error {
	return map[string]func(*Config, string) error{
		"CMD":         func(c *Config, a string) error { c.Cmd = command(c, a); return nil },
		"ENTRYPOINT":  changeEntrypoint,
		"ENV":         changeEnv,
		"EXPOSE":      changeExpose,
		"HEALTHCHECK": changeHealth,
		"LABEL":       changeLabel,
		"ONBUILD":     changeOnBuild,
		"SHELL":       changeShell,
		"STOPSIGNAL":  func(c *Config, a string) error { c.StopSignal = a; return nil },
		"USER":        func(c *Config, a string) error { c.User = a; return nil },
		"VOLUME":      changeVolume,
		"WORKDIR":     changeWorkdir,
	}
}

// jsonWords reads a list of strings in JSON.
func jsonWords(args string) ([]string, bool) {
	var words []string
	if !strings.HasPrefix(args, "[") || json.Unmarshal([]byte(args), &words) != nil {
		return nil, false
	}
	return words, true
}

// command reads a command line: a list in JSON, or words for the shell.
func command(c *Config, args string) []string {
	if words, ok := jsonWords(args); ok {
		return words
	}
	shell := c.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shell), args)
}

func changeEntrypoint(c *Config, args string) error {
	c.Entrypoint = command(c, args)
	return nil
}

func changeEnv(c *Config, args string) error {
	pairs, err := readPairs(args)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		c.Env = slices.DeleteFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, p.name+"=") })
		c.Env = append(c.Env, p.name+"="+p.value)
	}
	return nil
}

func changeLabel(c *Config, args string) error {
	pairs, err := readPairs(args)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[p.name] = p.value
	}
	return nil
}

func changeExpose(c *Config, args string) error {
	ports, _, err := nat.ParsePortSpecs(strings.Fields(args))
	if err != nil {
		return err
	}
	if c.ExposedPorts == nil {
		c.ExposedPorts = map[string]struct{}{}
	}
	for p := range ports {
		c.ExposedPorts[string(p)] = struct{}{}
	}
	return nil
}

func changeVolume(c *Config, args string) error {
	dirs, ok := jsonWords(args)
	if !ok {
		dirs = strings.Fields(args)
	}
	c.Volumes = maps.Clone(c.Volumes)
	if c.Volumes == nil {
		c.Volumes = map[string]struct{}{}
	}
	for _, d := range dirs {
		if strings.TrimSpace(d) == "" {
			return fmt.Errorf("specified volume can not be an empty string")
		}
		c.Volumes[d] = struct{}{}
	}
	return nil
}

func changeWorkdir(c *Config, args string) error {
	if !strings.HasPrefix(args, "/") {
		args = strings.TrimSuffix(c.WorkingDir, "/") + "/" + args
	}
	c.WorkingDir = args
	return nil
}

func changeShell(c *Config, args string) error {
	words, ok := jsonWords(args)
	if !ok || len(words) == 0 {
		return fmt.Errorf("requires the arguments to be in JSON form")
	}
	c.Shell = words
	return nil
}

func changeOnBuild(c *Config, args string) error {
	switch word, _, _ := strings.Cut(args, " "); strings.ToUpper(word) {
	case "ONBUILD":
		return fmt.Errorf("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
	case "MAINTAINER", "FROM":
		return fmt.Errorf("%s isn't allowed as an ONBUILD trigger", strings.ToUpper(word))
	}
	c.OnBuild = append(c.OnBuild, args)
	return nil
}

func changeHealth(c *Config, args string) error {
	h := &container.HealthConfig{}
	for strings.HasPrefix(args, "--") {
		var flag string
		flag, args, _ = strings.Cut(args, " ")
		args = strings.TrimSpace(args)
		if err := healthFlag(h, strings.TrimPrefix(flag, "--")); err != nil {
			return err
		}
	}
	kind, cmd, _ := strings.Cut(args, " ")
	cmd = strings.TrimSpace(cmd)
	switch strings.ToUpper(kind) {
	case "NONE":
		if cmd != "" {
			return fmt.Errorf("NONE takes no arguments")
		}
		h.Test = []string{"NONE"}
	case "CMD":
		if cmd == "" {
			return fmt.Errorf("missing command after CMD")
		}
		if words, ok := jsonWords(cmd); ok {
			h.Test = append([]string{"CMD"}, words...)
		} else {
			h.Test = []string{"CMD-SHELL", cmd}
		}
	default:
		return fmt.Errorf("unknown type %q (try CMD)", kind)
	}
	c.Healthcheck = h
	return h.Validate()
}

func healthFlag(h *container.HealthConfig, flag string) (err error) {
	name, value, _ := strings.Cut(flag, "=")
	switch name {
	case "interval":
		h.Interval, err = time.ParseDuration(value)
	case "timeout":
		h.Timeout, err = time.ParseDuration(value)
	case "start-period":
		h.StartPeriod, err = time.ParseDuration(value)
	case "start-interval":
		h.StartInterval, err = time.ParseDuration(value)
	case "retries":
		h.Retries, err = strconv.Atoi(value)
	default:
		err = fmt.Errorf("unknown flag: %s", name)
	}
	return err
}

type pair struct{ name, value string }

// readPairs reads "a=b c='d e'", or the older "a b c", which sets a to "b c". Quotes and backslashes work as in a
// shell.
func readPairs(args string) ([]pair, error) {
	words, err := splitWords(args)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(words[0], "=") {
		name, value, ok := strings.Cut(args, " ")
		if !ok {
			return nil, fmt.Errorf("%s must have two arguments", name)
		}
		return []pair{{name, strings.TrimSpace(value)}}, nil
	}
	var pairs []pair
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok {
			return nil, fmt.Errorf("can't find = in %q. Must be of the form: name=value", w)
		}
		if name == "" {
			return nil, fmt.Errorf("names can not be blank")
		}
		pairs = append(pairs, pair{name, value})
	}
	return pairs, nil
}

// splitWords splits s, which is not empty, at blanks outside quotes and takes the quotes and backslashes away.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune
	escaped, open := false, false
	for _, r := range s {
		switch {
		case escaped:
			if quote == '"' && r != '"' && r != '\\' {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, open = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, open = r, true
		case r == ' ' || r == '\t':
			if open {
				words = append(words, word.String())
				word.Reset()
				open = false
			}
		default:
			word.WriteRune(r)
			open = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("%q ends within a quote", s)
	}
	if open {
		words = append(words, word.String())
	}
	return words, nil
}
