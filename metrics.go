package berth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/containerd/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/berthd/berth/api/server"
	"github.com/berthd/berth/daemon"
	"github.com/berthd/berth/daemon/config"
)

// metrics are what /metrics tells of one engine, under dockerd's names where it has one.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	actions  map[string]*prometheus.HistogramVec // by what they are about
	networks *prometheus.HistogramVec
	server   *http.Server // nil: nobody listens
}

// action is one that dockerd times.
type action struct{ about, name string }

var actions = map[string]action{
	"POST /containers/create":       {"container_actions", "create"},
	"POST /containers/{id}/start":   {"container_actions", "start"},
	"DELETE /containers/{id}":       {"container_actions", "delete"},
	"GET /containers/{id}/changes":  {"container_actions", "changes"},
	"POST /commit":                  {"container_actions", "commit"},
	"POST /containers/{id}/stop":    {"container_actions", "stop"},
	"POST /containers/{id}/restart": {"container_actions", "restart"},
	"POST /images/create":           {"image_actions", "pull"},
	"POST /images/{name...}/push":   {"image_actions", "push"},
	"DELETE /images/{name...}":      {"image_actions", "delete"},
	"GET /images/{name...}/history": {"image_actions", "history"},
	"GET /info":                     {"host_info_functions", "system_info"},
	"GET /version":                  {"host_info_functions", "system_version"},
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), actions: map[string]*prometheus.HistogramVec{}}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(h)
		return h
	}
	m.requests = histogram("berth_api_request_duration_seconds",
		"How long requests took that were answered as a whole: no streams, and no waiting.", "method", "path", "code")
	m.actions["container_actions"] = histogram("engine_daemon_container_actions_seconds",
		"How long actions of containers took that succeeded.", "action")
	m.actions["image_actions"] = histogram("engine_daemon_image_actions_seconds",
		"How long actions of images took that did not fail before their first answer.", "action")
	m.actions["host_info_functions"] = histogram("engine_daemon_host_info_functions_seconds",
		"How long it took to tell about the engine and its machine.", "function")
	m.networks = histogram("engine_daemon_network_actions_seconds",
		"How long it took to give containers their networks and to take them away.", "action")
	for _, a := range actions {
		m.actions[a.about].WithLabelValues(a.name) // there from the beginning, as 0
	}
	for _, a := range []string{"allocate", "connect", "release"} {
		m.networks.WithLabelValues(a)
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observe is told of each request that has been answered.
func (m *metrics) observe(a server.Answered) {
	if !a.Streamed {
		m.requests.WithLabelValues(a.Method, a.Path, strconv.Itoa(a.Status)).Observe(a.Took.Seconds())
	}
	timed, ok := actions[a.Method+" "+a.Path]
	if timed.name == "pull" {
		q, err := url.ParseQuery(a.Query)
		ok = err == nil && q.Get("fromSrc") == "" // that is an import
	}
	if ok && a.Status < http.StatusMultipleChoices {
		m.actions[timed.about].WithLabelValues(timed.name).Observe(a.Took.Seconds())
	}
}

// network is told of each action of the networks.
func (m *metrics) network(action string, took time.Duration) {
	m.networks.WithLabelValues(action).Observe(took.Seconds())
}

// about registers what is asked of the daemon when somebody reads it.
func (m *metrics) about(ctx context.Context, d *daemon.Daemon) error {
	info, err := d.SystemInfo(ctx)
	if err != nil {
		return err
	}
	v, err := d.SystemVersion(ctx)
	if err != nil {
		return err
	}
	constant := func(name, help string, value float64, labels prometheus.Labels) {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels})
		g.Set(value)
		m.registry.MustRegister(g)
	}
	constant("engine_daemon_engine_info", "What the engine and its machine are.", 1, prometheus.Labels{
		"version": info.ServerVersion, "commit": v.GitCommit, "architecture": info.Architecture, "graphdriver": info.Driver,
		"kernel": info.KernelVersion, "os": info.OperatingSystem, "os_type": info.OSType, "os_version": info.OSVersion,
		"daemon_id": info.ID,
	})
	constant("engine_daemon_engine_cpus_cpus", "CPUs of the machine.", float64(info.NCPU), nil)
	constant("engine_daemon_engine_memory_bytes", "Memory of the machine.", float64(info.MemTotal), nil)
	m.registry.MustRegister(measured{d})
	return nil
}

// measured collects daemon.Measures.
type measured struct{ daemon *daemon.Daemon }

var (
	statesDesc  = prometheus.NewDesc("engine_daemon_container_states_containers", "Containers by state.", []string{"state"}, nil)
	eventsDesc  = prometheus.NewDesc("engine_daemon_events_total", "Events since the daemon's start.", nil, nil)
	readersDesc = prometheus.NewDesc("engine_daemon_events_subscribers_total", "Who reads events now.", nil, nil)
	checksDesc  = prometheus.NewDesc("engine_daemon_health_checks_total", "Health checks since the daemon's start.", nil, nil)
	failedDesc  = prometheus.NewDesc("engine_daemon_health_checks_failed_total",
		"Health checks that failed since the daemon's start.", nil, nil)
	shimsDesc      = prometheus.NewDesc("berth_shims", "Shims, those included that wait for a container.", nil, nil)
	reloadDesc     = prometheus.NewDesc("berth_config_last_reload_successful", "1, or 0 if the last reload was rejected.", nil, nil)
	generationDesc = prometheus.NewDesc("berth_config_generation", "How often the configuration was replaced.", nil, nil)
)

// Describe implements prometheus.Collector.
func (measured) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		statesDesc, eventsDesc, readersDesc, checksDesc, failedDesc, shimsDesc, generationDesc, reloadDesc,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c measured) Collect(to chan<- prometheus.Metric) {
	m := c.daemon.Measures()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	counter := func(d *prometheus.Desc, v uint64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge(statesDesc, m.Running, "running")
	gauge(statesDesc, m.Paused, "paused")
	gauge(statesDesc, m.Stopped, "stopped")
	gauge(shimsDesc, m.Shims)
	gauge(readersDesc, int(m.EventSubscribers))
	accepted := 0
	if m.LastReload {
		accepted = 1
	}
	gauge(reloadDesc, accepted)
	counter(eventsDesc, m.Events)
	counter(checksDesc, m.HealthChecks)
	counter(failedDesc, m.HealthChecksFailed)
	counter(generationDesc, m.Generation)
}

// listen serves the metrics at an address, until close; without one it does nothing.
func (m *metrics) listen(ctx context.Context, d *daemon.Daemon, address string) error {
	if address == "" {
		return nil
	}
	if err := m.about(ctx, d); err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return &config.KeyError{Key: "metrics-addr", Err: fmt.Errorf("serve metrics: %w", err)}
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	m.server = &http.Server{Handler: mux, ReadHeaderTimeout: 30 * time.Second}
	go func() {
		if err := m.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.L.WithError(err).Error("metrics are served no more")
		}
	}()
	log.G(ctx).Infof("metrics are at http://%s/metrics", l.Addr())
	return nil
}

// close is for an engine that ends: whoever reads just now need not have the end.
func (m *metrics) close() error {
	if m.server == nil {
		return nil
	}
	return m.server.Close()
}
