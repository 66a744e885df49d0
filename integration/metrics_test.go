package integration

import (
	"regexp"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// What Prometheus reads, and what somebody looks at who wonders what the daemon does.
func TestMetrics(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.Config(harness.M{"metrics-addr": "127.0.0.1:9323"}))
	scrape := func() string {
		t.Helper()
		out, err := d.Sandbox.Command("busybox", "wget", "-qO-", "http://127.0.0.1:9323/metrics").Output()
		assert.NilError(t, err)
		return string(out)
	}
	cli := d.CLI()
	pulled := onlyInRegistry(t, d) // it was imported, which is no pull
	cli.Run("pull", pulled)
	cli.Run("tag", pulled, "busybox")
	cli.Run("run", "-d", "--name", "runs", "--network", "none", "--health-cmd", "exit 1", "--health-interval", "100ms", "busybox",
		"sleep", "10000")
	cli.Run("create", "--name", "stopped", "--network", "none", "busybox")
	assert.Equal(t, cli.Try("start", "none").Code, 1)
	d.Eventually("a health check has failed", func() bool {
		return regexp.MustCompile(`(?m)^engine_daemon_health_checks_failed_total [1-9]`).MatchString(scrape())
	})
	cli.Run("pause", "runs")
	cli.Run("version")
	events, err := d.Open(t.Context(), "GET", "/events", nil)
	assert.NilError(t, err)
	text := scrape()
	assert.NilError(t, events.Body.Close())
	for _, line := range []string{
		`engine_daemon_container_states_containers\{state="paused"\} 1`,
		`engine_daemon_container_states_containers\{state="running"\} 0`,
		`engine_daemon_container_states_containers\{state="stopped"\} 1`,
		`engine_daemon_container_actions_seconds_count\{action="create"\} 2`,
		`engine_daemon_container_actions_seconds_count\{action="start"\} 1`,
		`engine_daemon_network_actions_seconds_count\{action="allocate"\} 1`,
		`engine_daemon_network_actions_seconds_count\{action="connect"\} 1`,
		`engine_daemon_network_actions_seconds_count\{action="release"\} 0`,
		`engine_daemon_image_actions_seconds_count\{action="pull"\} 1`,
		`engine_daemon_host_info_functions_seconds_count\{function="system_version"\} 1`,
		`engine_daemon_engine_info\{.*graphdriver="overlay.*os_type="linux".*\} 1`,
		`engine_daemon_engine_cpus_cpus [1-9].*`,
		`engine_daemon_events_total [1-9].*`,
		`engine_daemon_events_subscribers_total 1`,
		`berth_api_request_duration_seconds_count\{code="404",method="POST",path="/containers/\{id\}/start"\} 1`,
		`berth_config_generation 1`,
		`berth_config_last_reload_successful 1`,
		`berth_shims [2-9]`,
		`go_goroutines .*`,
		`process_open_fds .*`,
	} {
		assert.Check(t, cmp.Regexp(`(?m)^`+line+`$`, text))
	}
	d.Reload(harness.M{"metrics-addr": "127.0.0.1:9323", "debug": true})
	assert.Assert(t, cmp.Contains(scrape(), "\nberth_config_generation 2\n"))
	d.WriteConfig("{")
	_, err = d.Sandbox.Command(harness.Berthd(), "reload", "--host", d.Host()).Output()
	assert.ErrorContains(t, err, "exit status 1")
	assert.Assert(t, cmp.Contains(scrape(), "\nberth_config_last_reload_successful 0\n"))

	for path, want := range map[string]string{
		"/debug/vars":                          `"memstats":`,
		"/debug/pprof/":                        "goroutine",
		"/v1.48/debug/pprof/goroutine?debug=1": "goroutine profile:",
		"/debug/pprof/cmdline":                 "daemon.json",
	} {
		resp := d.HTTP("GET", path, nil)
		assert.Check(t, resp.Status == 200 && strings.Contains(resp.Body, want), "%s: %d %.300s", path, resp.Status, resp.Body)
	}
}
