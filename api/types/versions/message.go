package versions

import (
	"cmp"
	"regexp"
	"strings"
)

// Message is the text of an error, with the endpoint that it comes from.
type Message struct {
	Method string
	Path   string // as in Endpoints
	Name   string // what the client named in the path
	Text   string

	ContainerID string // of the container that it is about, if that is known
}

var reAboutContainer = regexp.MustCompile(`^container [0-9a-f]{64} is `)

// reStillUp finds the state of a container that is not removed because of it.
var reStillUp = regexp.MustCompile(
	`: container is (\w+)(?:: stop the container before removing or force remove| and must be unpaused first)$`)

func capital(s, prefix string) string {
	if strings.HasPrefix(s, prefix) {
		return strings.ToUpper(s[:1]) + s[1:]
	}
	return s
}

// messageChanges are the texts that were worded otherwise, as far as it is known what clients saw.
func messageChanges() []Change {
	return []Change{
		{Below: "1.52", What: "logs without a stream", Do: []effect{response(func(m *Message) {
			if m.Text == "must specify at least one of 'stdout' or 'stderr'" {
				m.Text = "Bad parameters: you must choose at least one stream"
			}
		})}},
		{Below: "1.52", What: "kill of a container that does not run", Do: []effect{response(func(m *Message) {
			if m.Path == "/containers/{id}/kill" {
				m.Text = capital(strings.Replace(m.Text, ": container ", ": Container ", 1), "cannot kill container: ")
			}
		})}},
		{Below: "1.24", What: "filters that there are not", Do: []effect{response(func(m *Message) {
			if strings.HasPrefix(m.Text, "invalid filter '") {
				m.Text, _, _ = strings.Cut(capital(m.Text, "invalid filter '"), "': ")
				m.Text = strings.TrimSuffix(m.Text, "'") + "'"
			}
		})}},
		{Below: "1.24", What: "kill with an invalid signal", Do: []effect{response(func(m *Message) {
			if _, signal, ok := strings.Cut(m.Text, ": invalid signal: "); ok && m.Path == "/containers/{id}/kill" {
				m.Text = "Invalid signal: " + signal
			}
		})}},
		{Below: "1.24", What: "a container that does not run, or is paused", Do: []effect{response(func(m *Message) {
			if reAboutContainer.MatchString(m.Text) {
				m.Text = capital(m.Text, "container ")
			}
		})}},
		{Below: "1.24", What: "removal of a container that runs", Do: []effect{response(func(m *Message) {
			if m.Method != "DELETE" || m.Path != "/containers/{id}" {
				return
			}
			up := reStillUp.FindStringSubmatch(m.Text)
			if up == nil {
				return
			}
			procedure := "Stop"
			if up[1] == "paused" {
				procedure = "Unpause and then stop"
			}
			m.Text = "You cannot remove a " + up[1] + " container " + cmp.Or(m.ContainerID, m.Name) + ". " + procedure +
				" the container before attempting removal or force remove"
		})}},
		{Below: "1.24", What: "a second start of an exec", Do: []effect{response(func(m *Message) {
			if m.Path == "/exec/{id}/start" && strings.HasPrefix(m.Text, "exec command ") {
				m.Text = "Error: " + capital(m.Text, "exec command ")
			}
		})}},
		{Below: "1.24", What: "create without a configuration or a command", Do: []effect{response(func(m *Message) {
			if m.Path == "/containers/create" {
				m.Text = capital(capital(m.Text, "no command specified"), "config cannot be empty")
			}
		})}},
		{Below: "1.24", What: "inspect of an image that there is not", Do: []effect{response(func(m *Message) {
			if m.Path == "/images/{name...}/json" && strings.HasPrefix(m.Text, "No such image: ") {
				m.Text = "no such image: " + m.Name + ": " + m.Text
			}
		})}},
	}
}
