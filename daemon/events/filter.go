package events

import (
	"slices"
	"strings"

	"github.com/distribution/reference"
)

// Match reports whether m passes the filters of GET /events. Values of one key are alternatives, but for label, whose
// values must all hold; all keys must hold; unknown keys are ignored. The rules are dockerd's:
//   - type, scope: equal.
//   - event: equal to the action; exec_create, exec_start and health_status also match the actions that begin so.
//   - container, daemon, network, volume, plugin, node, service, secret, config: the actor's id or name begins so,
//     whatever the event's type.
//   - image: the image of an image or container event, with or without its tag.
//   - label: name, or name=value, among the actor's attributes.
func Match(filters map[string][]string, m Message) bool {
	for key, want := range filters {
		if len(want) > 0 && !matchKey(key, want, m) {
			return false
		}
	}
	return true
}

func matchKey(key string, want []string, m Message) bool {
	switch key {
	case "type":
		return slices.Contains(want, string(m.Type))
	case "scope":
		return slices.Contains(want, m.Scope)
	case "event":
		return matchAction(want, string(m.Action))
	case "container", "daemon", "network", "volume", "plugin", "node", "service", "secret", "config":
		return hasPrefix(want, m.Actor.ID) || hasPrefix(want, m.Actor.Attributes["name"])
	case "image":
		return matchImage(want, m)
	case "label":
		return matchLabels(want, m.Actor.Attributes)
	}
	return true
}

// matchAction compares by prefix as soon as one of the three actions with a detail is asked for: dockerd does so for
// the other values of that request, too.
func matchAction(want []string, action string) bool {
	for _, fuzzy := range []Action{ExecCreate, ExecStart, HealthStatus} {
		if slices.Contains(want, string(fuzzy)) {
			return hasPrefix(want, action)
		}
	}
	return slices.Contains(want, action)
}

func matchImage(want []string, m Message) bool {
	name := m.Actor.Attributes["image"]
	if m.Type == Image {
		name = m.Actor.Attributes["name"]
	}
	for _, s := range []string{m.Actor.ID, name} {
		if slices.Contains(want, s) || slices.Contains(want, familiarName(s)) {
			return true
		}
	}
	return false
}

// familiarName is an image reference without registry default, tag and digest; what is no reference stays as it is.
func familiarName(image string) string {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	return reference.FamiliarName(ref)
}

func matchLabels(want []string, attrs map[string]string) bool {
	for _, w := range want {
		name, value, hasValue := strings.Cut(w, "=")
		got, ok := attrs[name]
		if !ok || hasValue && got != value {
			return false
		}
	}
	return true
}

func hasPrefix(want []string, s string) bool {
	return slices.ContainsFunc(want, func(w string) bool { return strings.HasPrefix(s, w) })
}
