package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/samba"
)

// A monitor knows how the agent is: for /metrics, /healthz, and the service manager. All methods
// may be called by several goroutines at once.
type monitor struct {
	*metrics
	changed chan struct{} // full while the status line may have changed

	mu       sync.Mutex
	agent    *agent.Agent // nil before it runs, and when it has ended
	options  *options
	helper   sambaHelper                     // nil: the shares are not Samba's
	store    error                           // of the last write of the table
	last     map[fsrvp.SetID]agent.SetStatus // of sets, before Removing
	removals map[removal]error               // those that have failed last, and are tried again
	reload   error                           // of the last SIGHUP
}

// A removal is something that the agent deletes.
type removal struct {
	set  fsrvp.SetID
	copy fsrvp.CopyID
	step agent.Step
}

func newMonitor(o *options) *monitor {
	m := &monitor{changed: make(chan struct{}, 1), options: o, removals: map[removal]error{},
		last: map[fsrvp.SetID]agent.SetStatus{}}
	m.metrics = newMetrics(m)
	return m
}

// watch says which agent there is.
func (m *monitor) watch(a *agent.Agent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agent = a
}

func (m *monitor) running() *agent.Agent {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.agent
}

// A sambaHelper is a backend of Samba's shares that may have a helper at work.
type sambaHelper interface{ Helper() samba.HelperState }

// watchHelper says which helper there is.
func (m *monitor) watchHelper(h sambaHelper) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.helper = h
}

// sambaHelper returns what became of the helper.
func (m *monitor) sambaHelper() samba.HelperState {
	m.mu.Lock()
	h := m.helper
	m.mu.Unlock()
	if h == nil {
		return samba.HelperState{}
	}
	return h.Helper()
}

// configure says which settings are in force.
func (m *monitor) configure(o *options) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.options = o
}

// reloaded notes how a SIGHUP went.
func (m *monitor) reloaded(err error) {
	m.metrics.reloaded(err)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reload = err
}

// observe is agent.Config.Observe.
func (m *monitor) observe(ev agent.Event) {
	m.metrics.observe(ev)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch ev.Kind {
	case agent.EventStep:
		switch r := (removal{ev.Set, ev.Copy, ev.Step}); {
		case ev.Step == agent.StepStore:
			m.store = ev.Err
		case ev.Step != agent.StepDelete && ev.Step != agent.StepUnexpose:
		case ev.Err != nil:
			m.removals[r] = ev.Err
		default:
			delete(m.removals, r)
		}
	case agent.EventStatus:
		m.countOutcomeLocked(ev)
		if ev.To == "" {
			for r := range m.removals {
				if r.set == ev.Set {
					delete(m.removals, r)
				}
			}
		}
		select {
		case m.changed <- struct{}{}:
		default:
		}
	}
}

// countOutcomeLocked counts what a set has come to.
func (m *monitor) countOutcomeLocked(ev agent.Event) {
	if ev.From != "" && ev.From != agent.Removing {
		m.last[ev.Set] = ev.From
	}
	complete := agent.Recovered
	if m.options.keep {
		complete = agent.Exposed
	}
	switch last := m.last[ev.Set]; {
	case ev.To == complete:
		m.finished.WithLabelValues(outcomeComplete).Inc()
	case ev.To != "":
		return
	case last == agent.Exposed || last == agent.Recovered:
		m.finished.WithLabelValues(outcomeDeleted).Inc()
		delete(m.last, ev.Set)
	default:
		m.finished.WithLabelValues(outcomeGivenUp).Inc()
		delete(m.last, ev.Set)
	}
}

// status is the line that "systemctl status" shows.
func (m *monitor) status() string {
	a := m.running()
	if a == nil {
		return "starting"
	}
	sets := a.Table()
	copies, unfinished := 0, 0
	for i := range sets {
		copies += len(sets[i].Copies)
		if s := &sets[i]; s.Status != agent.Recovered && !s.Kept {
			unfinished++
		}
	}
	return fmt.Sprintf("%d shadow copy sets with %d copies, %d sets in creation", len(sets), copies, unfinished)
}

// answers reports whether the agent answers within a time.
func (m *monitor) answers(ctx context.Context, within time.Duration) error {
	a := m.running()
	if a == nil {
		return errors.New("the agent is not running yet: it looks after what the last run has left")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("no answer within %v", within))
	defer cancel()
	return a.Check(ctx)
}

// problems returns what is wrong, a sentence each; none: all is well.
func (m *monitor) problems(ctx context.Context) []string {
	var list []string
	if err := m.answers(ctx, 2*time.Second); err != nil {
		list = append(list, fmt.Sprintf("The agent does not answer: %v.", err))
	}
	m.mu.Lock()
	store, reload, o := m.store, m.reload, m.options
	removals := make([]string, 0, len(m.removals))
	for r, err := range m.removals {
		removals = append(removals,
			fmt.Sprintf("Something of shadow copy %s of set %s cannot be deleted, and is tried again every minute: %v.",
				r.copy, r.set, err))
	}
	m.mu.Unlock()
	if store != nil {
		list = append(list, fmt.Sprintf("The agent's table in %s cannot be written: %v; look for room on its file system and for errors of its disk.", o.state, store))
	}
	slices.Sort(removals)
	list = append(list, removals...)
	if reload != nil {
		list = append(list, fmt.Sprintf("The configuration is not the one in force, which is older: %s.",
			strings.ReplaceAll(reload.Error(), "\n", "; ")))
	}
	for _, c := range []struct {
		path  string
		check func(string) error
	}{{o.keytab, checkKeytab}, {o.ntlmUsers, checkHashFile}} {
		if c.path == "" {
			continue
		}
		if err := c.check(c.path); err != nil {
			list = append(list, fmt.Sprintf("Clients cannot log on by %s: %v.", c.path, err))
		}
	}
	for _, listen := range o.listen {
		dir, ok := strings.CutPrefix(listen, "samba:")
		if !ok {
			continue
		}
		if err := checkPipe(dir); err != nil {
			list = append(list, fmt.Sprintf("Samba's clients cannot reach the agent: %v.", err))
		}
	}
	return list
}

// checkPipe looks for the socket at which smbd hands the pipe's clients over.
func checkPipe(dir string) error {
	path := filepath.Join(dir, "np", "fssagentrpc")
	info, err := os.Lstat(path)
	if err == nil && info.Mode().Type() != os.ModeSocket {
		err = fmt.Errorf("%s is no socket", path)
	}
	if err != nil {
		return fmt.Errorf("%w; the agent takes its socket back by itself, unless Samba's own rpcd_fsrvp holds it", err)
	}
	return nil
}

// refused is dcerpc.Server.Refused.
func (m *monitor) refused(r dcerpc.Refusal) { m.metrics.refused(r) }

// unprotected is fsrvp.HandlerConfig.Refused.
func (m *monitor) unprotected(op fsrvp.Opnum, _ *dcerpc.Peer) { m.metrics.unprotected(op) }
