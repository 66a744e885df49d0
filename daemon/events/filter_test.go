package events

import (
	"testing"

	"gotest.tools/v3/assert"
)

func TestMatch(t *testing.T) {
	web := Message{
		Type: Container, Action: "exec_create: sh -c x", Scope: ScopeLocal,
		Actor: Actor{ID: "4f66ad9a0b2e", Attributes: map[string]string{
			"name": "web_1", "image": "busybox:1.36", "tier": "front", "empty": "",
		}},
	}
	pulled := Message{
		Type: Image, Action: Pull, Scope: ScopeLocal,
		Actor: Actor{ID: "docker.io/library/alpine:3", Attributes: map[string]string{"name": "alpine"}},
	}
	for _, tc := range []struct {
		doc  string
		m    Message
		f    map[string][]string
		want bool
	}{
		{"no filter", web, nil, true},
		{"a key without values", web, map[string][]string{"type": nil}, true},
		{"an unknown key", web, map[string][]string{"nonsense": {"x"}}, true},
		{"type", web, map[string][]string{"type": {"image", "container"}}, true},
		{"another type", web, map[string][]string{"type": {"image"}}, false},
		{"type is no prefix", web, map[string][]string{"type": {"cont"}}, false},
		{"scope", web, map[string][]string{"scope": {"local"}}, true},
		{"another scope", web, map[string][]string{"scope": {"swarm"}}, false},
		{"exec_create without its command", web, map[string][]string{"event": {"exec_create"}}, true},
		{"exec_create with its command", web, map[string][]string{"event": {"exec_create: sh -c x"}}, true},
		{"exec_create with half of its command", web, map[string][]string{"event": {"exec_create: sh"}}, false},
		{"exec_start", web, map[string][]string{"event": {"exec_start"}}, false},
		{"health", Message{Action: "health_status: healthy"}, map[string][]string{"event": {"health_status"}}, true},
		{"one state of health", Message{Action: "health_status: healthy"},
			map[string][]string{"event": {"health_status: unhealthy"}}, false},
		{"event", pulled, map[string][]string{"event": {"push", "pull"}}, true},
		{"event is no prefix", pulled, map[string][]string{"event": {"pul"}}, false},
		{"prefixes beside exec_create", pulled, map[string][]string{"event": {"exec_create", "pul"}}, true},
		{"container by name", web, map[string][]string{"container": {"web_1"}}, true},
		{"container by the start of its id", web, map[string][]string{"container": {"4f66"}}, true},
		{"one of two containers", web, map[string][]string{"container": {"db", "web_1"}}, true},
		{"another container", web, map[string][]string{"container": {"db"}}, false},
		{"image with tag", web, map[string][]string{"image": {"busybox:1.36"}}, true},
		{"image without tag", web, map[string][]string{"image": {"busybox"}}, true},
		{"another tag", web, map[string][]string{"image": {"busybox:1.37"}}, false},
		{"the image of an image event, in full", pulled,
			map[string][]string{"image": {"docker.io/library/alpine:3"}}, true},
		{"the image of an image event, short", pulled, map[string][]string{"image": {"alpine"}}, true},
		{"label", web, map[string][]string{"label": {"tier"}}, true},
		{"label and value", web, map[string][]string{"label": {"tier=front"}}, true},
		{"label and empty value", web, map[string][]string{"label": {"empty="}}, true},
		{"label and other value", web, map[string][]string{"label": {"tier="}}, false},
		{"all labels", web, map[string][]string{"label": {"tier=front", "absent"}}, false},
		{"all keys", web, map[string][]string{"type": {"container"}, "container": {"db"}}, false},
		{"network", Message{Type: Network, Actor: Actor{ID: "n1"}}, map[string][]string{"network": {"n1"}}, true},
		{"volume", Message{Type: Volume, Actor: Actor{ID: "v1"}}, map[string][]string{"volume": {"v2"}}, false},
		{"daemon", Message{Type: Daemon, Actor: Actor{Attributes: map[string]string{"name": "host"}}},
			map[string][]string{"daemon": {"host"}}, true},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			assert.Equal(t, Match(tc.f, tc.m), tc.want)
		})
	}
}
