package berth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/containerd/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/berthd/berth/daemon"
	"github.com/berthd/berth/daemon/config"
)

// metrics are what /metrics tells of one engine, under dockerd's names where it has one.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	actions  *prometheus.HistogramVec
	server   *http.Server // nil: nobody listens
}

// actions are the requests that dockerd times as actions of containers.
var actions = map[string]string{
	"POST /containers/create":       "create",
	"POST /containers/{id}/start":   "start",
	"DELETE /containers/{id}":       "delete",
	"GET /containers/{id}/changes":  "changes",
	"POST /commit":                  "commit",
	"POST /containers/{id}/stop":    "stop",
	"POST /containers/{id}/restart": "restart",
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "berth_api_request_duration_seconds",
			Help: "How long requests took that were answered as a whole: no streams, and no waiting.",
		}, []string{"method", "path", "code"}),
		actions: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "engine_daemon_container_actions_seconds",
			Help: "How long actions of containers took that succeeded.",
		}, []string{"action"}),
	}
	for _, action := range actions {
		m.actions.WithLabelValues(action) // there from the beginning, as 0
	}
	m.registry.MustRegister(m.requests, m.actions, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observe is told of each request that has been answered.
func (m *metrics) observe(method, path string, status int, took time.Duration) {
	m.requests.WithLabelValues(method, path, strconv.Itoa(status)).Observe(took.Seconds())
	if action := actions[method+" "+path]; action != "" && status < http.StatusMultipleChoices {
		m.actions.WithLabelValues(action).Observe(took.Seconds())
	}
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
		"version": info.ServerVersion, "commit": v.GitCommit, "architecture": runtime.GOARCH, "graphdriver": info.Driver,
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
	statesDesc = prometheus.NewDesc("engine_daemon_container_states_containers", "Containers by state.", []string{"state"}, nil)
	eventsDesc = prometheus.NewDesc("engine_daemon_events_total", "Events since the daemon's start.", nil, nil)
	checksDesc = prometheus.NewDesc("engine_daemon_health_checks_total", "Health checks since the daemon's start.", nil, nil)
	failedDesc = prometheus.NewDesc("engine_daemon_health_checks_failed_total",
		"Health checks that failed since the daemon's start.", nil, nil)
	shimsDesc      = prometheus.NewDesc("berth_shims", "Shims, those included that wait for a container.", nil, nil)
	generationDesc = prometheus.NewDesc("berth_config_generation", "How often the configuration was replaced.", nil, nil)
)

// Describe implements prometheus.Collector.
func (measured) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{statesDesc, eventsDesc, checksDesc, failedDesc, shimsDesc, generationDesc} {
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
