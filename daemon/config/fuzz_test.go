package config

import (
	"encoding/json"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/internal/vary"
)

// Whatever a file holds, it is accepted as a configuration that is sound, or refused with a reason for every key.
func FuzzLoad(f *testing.F) {
	for _, seed := range vary.Strings(1000,
		"", "{}", " ", "null", "[]", "{", `{"debug"`, `{"debug": tru`, `{"debug": true}`, `{"debug": true} x`,
		`{"debug": "x"}`,
		`{"debug": true, "debug": false}`, "\xef\xbb\xbf{}", "\xff\xfe{\x00}\x00", "\xfe\xff\x00{\x00}", "\xff\xfe{", "\x00",
		"{\"labels\": [\"a=\\u0000\"]}", "{\"labels\": [\"\xff\"]}", `{"labels": ["a=\ud800"]}`,
		`{"shutdown-timeout": 1e999}`,
		`{"shutdown-timeout": 99999999999999999999}`, `{"default-shm-size": "1e99g"}`, `{"default-shm-size": "nanb"}`,
		`{"default-shm-size": -1}`, `{"builder": `+strings.Repeat(`{"a":`, 50), strings.Repeat("[", 20000),
		`{"runtimes": {"a": {"path": "/x", "runtimeArgs": ["'", "$@", "\n", ""]}, "runc": null}, "default-runtime": "b"}`,
		`{"runtimes": {"a": {"runtimeType": "t", "options": {"IoUid": 42, "x": [{}, null, 1e300]}}}}`,
		`{"runtimes": {"a": null}}`,
		`{"default-ulimits": {"nofile": {"Hard": -1}}}`, `{"default-ulimits": {"nofile": null}}`, `{"proxies": null}`,
		`{"proxies": {"http-proxy": "http://u:p@[::1", "no-proxy": null}}`, `{"proxies": {"": {}}}`, `{"proxies": []}`,
		`{"hosts": ["tcp://[::1]:0", "unix://", "fd://x", "%"]}`, `{"log-opts": {"a": "b"}, "log-opt": {}}`, `{"": ""}`,
		`{"min-api-version": "1.9999999999999999999"}`, `{"features": {"x": null}}`, `{"bip": 5}`, `{"mtu": 0, "icc": true}`,
		`{"storage-driver": "overlay2", "tlsverify": false, "tls": null, "data-root": "../x", "pidfile": ""}`,
	) {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := merge(data, nil)
		if err != nil {
			v := Reject(err, nil)
			assert.Assert(t, v.Error != "" && !strings.Contains(v.String(), "\n"))
			for _, c := range v.Changes {
				assert.Assert(t, c.Reason != "" && c.Outcome == Rejected)
			}
			_, err := json.Marshal(v)
			assert.NilError(t, err)
			return
		}
		assert.NilError(t, l.cfg.Validate())
		text, err := json.Marshal(l.cfg)
		assert.NilError(t, err)
		again, err := merge(text, nil)
		assert.NilError(t, err, "%s", text)
		assert.Equal(t, len(Diff(l.cfg, again.cfg)), 0, "%s", text)
		assert.Equal(t, len(Diff(l.cfg, l.cfg.Clone())), 0)
		assert.Equal(t, len(EventAttributes(l.cfg)), len(EventAttributes(Default())))
		for _, h := range l.cfg.Hosts {
			_, err := ParseHost(h, l.cfg.TLS)
			assert.NilError(t, err)
		}
	})
}
