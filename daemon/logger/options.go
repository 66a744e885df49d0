package logger

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"text/template"

	"github.com/docker/go-units"

	"github.com/berthd/berth/errdefs"
)

// CacheOption begins the names of the options for the cache that a remote driver's messages go through.
const CacheOption = "cache-"

// ValidateCommon checks the log-opts that every driver takes. mode and max-buffer-size ask for a buffer between the
// container and a slow driver: the shim never makes a container wait for its log, so both values of mode do the same.
// Those of the cache have no effect without one. It returns the options that are left for the driver to check.
func ValidateCommon(opts map[string]string) (map[string]string, error) {
	rest := map[string]string{}
	for k, v := range opts {
		switch k {
		case "mode":
			if v != "" && v != "blocking" && v != "non-blocking" {
				return nil, errdefs.InvalidParameterf("logger: logging mode not supported: %s", v)
			}
		case "max-buffer-size":
			if opts["mode"] != "non-blocking" {
				return nil, errdefs.InvalidParameterf(
					"logger: max-buffer-size option is only supported with 'mode=non-blocking'")
			}
			if _, err := units.RAMInBytes(v); err != nil {
				return nil, errdefs.InvalidParameterf("error parsing option max-buffer-size: %w", err)
			}
		case CacheOption + "disabled":
			if _, err := strconv.ParseBool(v); err != nil {
				return nil, errdefs.InvalidParameterf("invalid value for option %s: %s", k, v)
			}
		case CacheOption + "max-size", CacheOption + "max-file", CacheOption + "compress": // the cache checks them
		default:
			rest[k] = v
		}
	}
	return rest, nil
}

// ValidateAttributes checks the options that Attributes reads, on a container that has everything a tag can ask for.
func ValidateAttributes(opts map[string]string) error {
	id := strings.Repeat("0", 64)
	_, err := Info{
		ContainerID: id, ContainerName: "container", ContainerEntrypoint: "entrypoint",
		ContainerArgs: []string{"argument"}, ContainerImageID: "sha256:" + id, ContainerImageName: "image",
		DaemonName: "daemon", Options: opts,
	}.Attributes()
	return err
}

// Attributes returns what the options labels, labels-regex, env, env-regex and tag choose of the container: labels and
// variables by their names, the tag as "tag". Nil means that they choose nothing. Errors are errdefs.InvalidParameter.
func (i Info) Attributes() (map[string]string, error) {
	attrs := map[string]string{}
	env := make(map[string]string, len(i.Env))
	for _, e := range i.Env {
		if name, value, ok := strings.Cut(e, "="); ok {
			env[name] = value
		}
	}
	for _, from := range []struct {
		option string
		values map[string]string
	}{{"labels", i.Labels}, {"env", env}} {
		if err := choose(attrs, from.values, i.Options, from.option); err != nil {
			return nil, err
		}
	}
	if t := i.Options["tag"]; t != "" {
		tag, err := i.tag(t)
		if err != nil {
			return nil, err
		}
		attrs["tag"] = tag
	}
	if len(attrs) == 0 {
		return nil, nil
	}
	return attrs, nil
}

// Tag returns what the option tag makes of the container; the short id if it is not given. It and the attributes, of
// which it is no part, are what remote drivers send with each message.
func (i Info) Tag() (tag string, attrs map[string]string, err error) {
	if attrs, err = i.Attributes(); err != nil {
		return "", nil, err
	}
	tag = attrs["tag"]
	if i.Options["tag"] == "" {
		return short(i.ContainerID), attrs, nil
	}
	delete(attrs, "tag")
	return tag, attrs, nil
}

// choose copies the values that the option names, and those whose names match the option's -regex.
func choose(attrs, values, opts map[string]string, option string) error {
	for _, name := range strings.Split(opts[option], ",") {
		if v, ok := values[name]; ok {
			attrs[name] = v
		}
	}
	pattern := opts[option+"-regex"]
	if pattern == "" {
		return nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return errdefs.InvalidParameterf("invalid log opt %s-regex: %w", option, err)
	}
	for name, v := range values {
		if re.MatchString(name) {
			attrs[name] = v
		}
	}
	return nil
}

// tag executes the template of the option tag.
func (i Info) tag(text string) (string, error) {
	t, err := template.New("tag").Funcs(template.FuncMap{
		"join":  strings.Join,
		"json":  func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err },
		"lower": strings.ToLower,
		"split": strings.Split,
		"upper": strings.ToUpper,
		"truncate": func(s string, n int) string {
			return s[:max(0, min(n, len(s)))]
		},
	}).Parse(text)
	if err != nil {
		return "", errdefs.InvalidParameterf("invalid log opt tag: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, tagInfo{i}); err != nil {
		return "", errdefs.InvalidParameterf("invalid log opt tag: %w", err)
	}
	return out.String(), nil
}

// tagInfo is what a tag's template sees.
type tagInfo struct{ i Info }

// ID is the short id.
func (t tagInfo) ID() string { return short(t.i.ContainerID) }

// FullID is the whole id.
func (t tagInfo) FullID() string { return t.i.ContainerID }

// Name is the container's name without a slash.
func (t tagInfo) Name() string { return strings.TrimPrefix(t.i.ContainerName, "/") }

// ImageID is the short id of the image.
func (t tagInfo) ImageID() string { return short(t.i.ContainerImageID) }

// ImageFullID is the whole id of the image.
func (t tagInfo) ImageFullID() string { return t.i.ContainerImageID }

// ImageName is the image's name as it was given.
func (t tagInfo) ImageName() string { return t.i.ContainerImageName }

// DaemonName is the engine's name.
func (t tagInfo) DaemonName() string { return t.i.DaemonName }

// Command is entrypoint and arguments, divided by spaces.
func (t tagInfo) Command() string {
	return strings.Join(append([]string{t.i.ContainerEntrypoint}, t.i.ContainerArgs...), " ")
}

// ExtraAttributes are the labels and variables that the options choose; the argument is there because dockerd's has
// one.
func (t tagInfo) ExtraAttributes(any) (map[string]string, error) {
	i := t.i
	opts := map[string]string{}
	for k, v := range i.Options {
		if k != "tag" {
			opts[k] = v
		}
	}
	i.Options = opts
	return i.Attributes()
}

func short(id string) string {
	_, hex, ok := strings.Cut(id, ":")
	if !ok {
		hex = id
	}
	return hex[:min(12, len(hex))]
}

// UnknownOption is the error for a log-opt that the driver does not have, in dockerd's words.
func UnknownOption(key, driver string) error {
	return errdefs.InvalidParameterf("unknown log opt '%s' for %s log driver", key, driver)
}
