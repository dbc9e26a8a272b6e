package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/samba"
)

// The reasons for which calls of peers that have come so far are refused, besides those of dcerpc.
const (
	refusedUnprotected = "unprotected" // the call has no security, or too little
	refusedAccess      = "access"      // the caller is known, and may not call
)

// metrics are the numbers of an agent, for Prometheus.
type metrics struct {
	registry *prometheus.Registry

	calls        *prometheus.CounterVec
	callSeconds  *prometheus.HistogramVec
	stepSeconds  *prometheus.HistogramVec
	stepFailures *prometheus.CounterVec
	storeSeconds prometheus.Histogram
	finished     *prometheus.CounterVec
	timeouts     prometheus.Counter
	moved        prometheus.Counter
	refusals     *prometheus.CounterVec
	failures     *prometheus.CounterVec
	reloads      *prometheus.CounterVec
}

// source is what the gauges are read from.
type source interface {
	running() *agent.Agent
	problems(ctx context.Context) []string
	sambaHelper() samba.HelperState
}

func newMetrics(from source) *metrics {
	seconds := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 180, 600}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fsrvp_calls_total", Help: "Calls of clients, by method and by the status that was answered.",
		}, []string{"method", "status"}),
		callSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fsrvp_call_duration_seconds", Help: "How long calls of clients took, by method.", Buckets: seconds,
		}, []string{"method"}),
		stepSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fsrvp_step_duration_seconds", Help: "How long the steps of taking, exposing and deleting snapshots took.", Buckets: seconds,
		}, []string{"step"}),
		stepFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fsrvp_step_failures_total", Help: "Steps that have failed; step store is a write of the agent's table.",
		}, []string{"step"}),
		storeSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fsrvp_store_write_duration_seconds", Help: "How long a change of the agent's table took to reach the disk.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fsrvp_sets_finished_total", Help: "What became of shadow copy sets: complete, deleted after that, or given up before.",
		}, []string{"outcome"}),
		timeouts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fsrvp_sequence_timeouts_total", Help: "How often the Message Sequence Timer has fired: a client was silent for too long.",
		}),
		moved: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fsrvp_inconsistent_copies_total", Help: "Shadow copies during which files changed (reflink and copy alone).",
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fsrvp_refused_total", Help: "Peers, connections and calls that were refused, by reason.",
		}, []string{"reason"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fsrvp_authentication_failures_total", Help: "Log-ons that have failed, by mechanism.",
		}, []string{"mechanism"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fsrvp_reloads_total", Help: "How often the configuration was read again.",
		}, []string{"result"}),
	}
	// What is counted by few labels is there from the start, so that its first increase is seen.
	for _, reason := range []dcerpc.RefusalReason{dcerpc.RefusedLimit, dcerpc.RefusedSession,
		dcerpc.RefusedAuthentication,
		dcerpc.RefusedProtection, dcerpc.RefusedProtocol, refusedUnprotected, refusedAccess} {
		m.refusals.WithLabelValues(string(reason))
	}
	for _, t := range []dcerpc.AuthType{dcerpc.AuthSPNEGO, dcerpc.AuthNTLM, dcerpc.AuthKerberos} {
		m.failures.WithLabelValues(mechanismName(t))
	}
	for _, step := range steps() {
		m.stepFailures.WithLabelValues(string(step))
		if step != agent.StepStore {
			m.stepSeconds.WithLabelValues(string(step))
		}
	}
	for _, outcome := range []string{outcomeComplete, outcomeDeleted, outcomeGivenUp} {
		m.finished.WithLabelValues(outcome)
	}
	for _, result := range []string{"success", "failure"} {
		m.reloads.WithLabelValues(result)
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "fsrvp_build_info", Help: "The version of the agent; its value is 1.",
	}, []string{"version"})
	build.WithLabelValues(program.ModuleVersion()).Set(1)
	m.registry.MustRegister(m.calls, m.callSeconds, m.stepSeconds, m.stepFailures, m.storeSeconds, m.finished,
		m.timeouts, m.moved,
		m.refusals, m.failures, m.reloads, build, &gauges{from: from},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// What becomes of sets.
const (
	outcomeComplete = "complete"
	outcomeDeleted  = "deleted"
	outcomeGivenUp  = "given up"
)

func steps() []agent.Step {
	return []agent.Step{agent.StepPrepare, agent.StepCreate, agent.StepDelete, agent.StepSeal, agent.StepExpose,
		agent.StepUnexpose,
		agent.StepSealShare, agent.StepStore}
}

// mechanismName is the label of a mechanism of security.
func mechanismName(t dcerpc.AuthType) string {
	switch t {
	case dcerpc.AuthKerberos:
		return "kerberos"
	case dcerpc.AuthNTLM:
		return "ntlm"
	case dcerpc.AuthSPNEGO:
		return "spnego"
	}
	return "other"
}

func (m *metrics) observe(ev agent.Event) {
	switch ev.Kind {
	case agent.EventCall:
		m.calls.WithLabelValues(ev.Op.String(), statusLabel(ev.Status)).Inc()
		m.callSeconds.WithLabelValues(ev.Op.String()).Observe(ev.Duration.Seconds())
		if ev.Status == fsrvp.ErrAccessDenied {
			m.refusals.WithLabelValues(refusedAccess).Inc()
		}
	case agent.EventStep:
		if ev.Step == agent.StepStore {
			m.storeSeconds.Observe(ev.Duration.Seconds())
		} else {
			m.stepSeconds.WithLabelValues(string(ev.Step)).Observe(ev.Duration.Seconds())
		}
		if ev.Err != nil {
			m.stepFailures.WithLabelValues(string(ev.Step)).Inc()
		}
	case agent.EventTimeout:
		m.timeouts.Inc()
	case agent.EventMoved:
		m.moved.Inc()
	}
}

// statusLabel is a status by its name, where it has one: a client has no say in it, but a backend's
// error may be any number.
func statusLabel(s fsrvp.Status) string {
	if s == 0 {
		return "OK"
	}
	return s.Name()
}

func (m *metrics) refused(r dcerpc.Refusal) {
	m.refusals.WithLabelValues(string(r.Reason)).Inc()
	if r.Reason == dcerpc.RefusedAuthentication {
		m.failures.WithLabelValues(mechanismName(r.Mechanism)).Inc()
	}
}

func (m *metrics) unprotected(fsrvp.Opnum) { m.refusals.WithLabelValues(refusedUnprotected).Inc() }

func (m *metrics) reloaded(err error) {
	result := "success"
	if err != nil {
		result = "failure"
	}
	m.reloads.WithLabelValues(result).Inc()
}

// gauges are what an agent has when it is asked.
type gauges struct{ from source }

// statuses are all that a set may have.
func statuses() []agent.SetStatus {
	return []agent.SetStatus{agent.Started, agent.Added, agent.CreationInProgress, agent.Committed, agent.Exposed,
		agent.Recovered, agent.Removing}
}

var (
	descSets      = prometheus.NewDesc("fsrvp_sets", "Shadow copy sets, by status.", []string{"status"}, nil)
	descSnapshots = prometheus.NewDesc("fsrvp_snapshots", "Snapshots that the agent's sets have.", nil, nil)
	descExposed   = prometheus.NewDesc("fsrvp_exposed_shares", "Exposed shares that the agent's sets have.", nil, nil)
	descHelper    = prometheus.NewDesc("fsrvp_samba_helper_running",
		"1 while a helper on python3-samba exposes shares, 0 while programs do or the shares are not Samba's.", nil, nil)
	descRestarts = prometheus.NewDesc("fsrvp_samba_helper_restarts_total", "How often that helper was started again.",
		nil, nil)
	descDoubts = prometheus.NewDesc("fsrvp_samba_helper_doubts_total",
		"Operations that were left to programs, since that helper had failed or was late.", nil, nil)
	descProblems = prometheus.NewDesc("fsrvp_problems", "How many things are wrong, which /healthz names.", nil, nil)
)

// Describe implements prometheus.Collector.
func (g *gauges) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descSets, descSnapshots, descExposed, descHelper, descRestarts, descDoubts,
		descProblems} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	gauge(descProblems, len(g.from.problems(context.Background())))
	helper := g.from.sambaHelper()
	running := 0
	if helper.Running {
		running = 1
	}
	gauge(descHelper, running)
	c <- prometheus.MustNewConstMetric(descRestarts, prometheus.CounterValue, float64(helper.Restarts))
	c <- prometheus.MustNewConstMetric(descDoubts, prometheus.CounterValue, float64(helper.Doubts))
	a := g.from.running()
	if a == nil {
		return
	}
	sets := map[agent.SetStatus]int{}
	snapshots, exposed := 0, 0
	for _, set := range a.Table() {
		status := set.Status
		if set.Removing {
			status = agent.Removing
		}
		sets[status]++
		for _, copy := range set.Copies {
			if copy.Path != "" {
				snapshots++
			}
			for _, m := range copy.Shares {
				if m.Exposed {
					exposed++
				}
			}
		}
	}
	for _, s := range statuses() {
		gauge(descSets, sets[s], string(s))
	}
	gauge(descSnapshots, snapshots)
	gauge(descExposed, exposed)
}

// listen serves /metrics and /healthz until the function that it returns is called.
func (m *monitor) listen(o *options, stdout io.Writer, log *slog.Logger) (func(), error) {
	l, err := net.Listen("tcp", o.metrics)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.from.at("metrics", 0), err)
	}
	srv := &http.Server{
		Handler: m.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	fmt.Fprintln(stdout, "listening metrics", l.Addr())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are served no longer", "err", err)
		}
	}()
	return func() {
		_ = srv.Close()
		<-done
	}, nil
}

func (m *monitor) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		problems := m.problems(req.Context())
		if len(problems) == 0 {
			fmt.Fprintln(w, "ok")
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, strings.Join(problems, "\n"))
	})
	return mux
}
