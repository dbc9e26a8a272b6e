package agent_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

func TestEvents(t *testing.T) {
	var mu sync.Mutex
	var events []agent.Event
	r := newRig(t, func(r *rig) {
		r.cfg.Observe = func(ev agent.Event) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, ev)
		}
	})
	l := r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms, db)
	_, err := r.GetShareMapping(client1, l.copies[0], l.set, absent, 1)
	require.Error(t, err)
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[0], vms))
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[1], db))

	var statuses []agent.SetStatus
	calls := map[fsrvp.Opnum][]fsrvp.Status{}
	steps := map[agent.Step]int{}
	mu.Lock()
	defer mu.Unlock()
	for _, ev := range events {
		switch ev.Kind {
		case agent.EventStatus:
			require.Equal(t, l.set, ev.Set)
			statuses = append(statuses, ev.To)
		case agent.EventCall:
			calls[ev.Op] = append(calls[ev.Op], ev.Status)
		case agent.EventStep:
			require.NoError(t, ev.Err)
			steps[ev.Step]++
			if ev.Step != agent.StepStore {
				require.Equal(t, l.set, ev.Set)
			}
		}
	}
	require.Equal(t, []agent.SetStatus{agent.Started, agent.Added, agent.CreationInProgress, agent.Committed,
		agent.Exposed, agent.Recovered, ""}, statuses)
	require.Equal(t, []fsrvp.Status{0, 0}, calls[fsrvp.OpAddToShadowCopySet])
	require.Equal(t, []fsrvp.Status{fsrvp.ErrInvalidArg}, calls[fsrvp.OpGetShareMapping])
	require.Equal(t, 1, steps[agent.StepCreate])
	require.Equal(t, 2, steps[agent.StepExpose])
	require.Equal(t, 2, steps[agent.StepDelete])
	require.NotZero(t, steps[agent.StepStore])
}

// TestLog: every line about a set has its id, every line about a copy both.
func TestLog(t *testing.T) {
	var out bytes.Buffer
	r := newRig(t, func(r *rig) {
		r.cfg.Logger = slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	l := r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms)
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[0], vms))
	require.NoError(t, r.Close())
	for line := range bytes.Lines(out.Bytes()) {
		var rec map[string]any
		require.NoError(t, json.Unmarshal(line, &rec))
		method, step := rec["method"], rec["step"]
		if method == "SetContext" || rec["names"] != nil {
			continue
		}
		require.Equal(t, l.set.String(), rec["set"], "%s", line)
		switch {
		case step == "expose", step == "unexpose", step == "delete", method == "AddToShadowCopySet",
			method == "DeleteShareMapping":
			require.Equal(t, l.copies[0].String(), rec["copy"], "%s", line)
		}
	}
}

// TestLogLevels: at level info there is one line for what a set has come to, one for the end of a
// complete set, and one for each failure, all with the ids of what they are about.
func TestLogLevels(t *testing.T) {
	type line struct {
		Level, Msg, Set, Copy, Method, Step, To string
		Copies                                  []string
	}
	for _, tt := range []struct {
		name string
		keep bool
		do   func(t *testing.T, r *rig) *life
		want []string // messages
	}{
		{"a complete set", false, func(t *testing.T, r *rig) *life {
			l := r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms, docs)
			_, err := r.GetShareMapping(client1, l.copies[0], l.set, vms, 1)
			require.NoError(t, err)
			return l
		}, []string{"shadow copy set is complete"}},
		{"a set that is deleted", false, func(t *testing.T, r *rig) *life {
			l := r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms)
			require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[0], vms))
			return l
		}, []string{"shadow copy set is complete", "shadow copy set is deleted"}},
		{"a set that an administrator deletes", false, func(t *testing.T, r *rig) *life {
			l := r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms)
			require.NoError(t, r.Remove(t.Context(), l.set, false))
			return l
		}, []string{"shadow copy set is complete", "shadow copy set is deleted"}},
		{"a set that is kept", true, func(t *testing.T, r *rig) *life {
			l := r.bring(t, fsrvp.ContextNASRollback, agent.Exposed, vms)
			require.NoError(t, r.RecoveryCompleteShadowCopySet(client1, l.set))
			return l
		}, []string{"shadow copy set is complete"}},
		{"a set that is aborted", false, func(t *testing.T, r *rig) *life {
			l := r.bring(t, fsrvp.ContextNASRollback, agent.Committed, vms)
			require.NoError(t, r.AbortShadowCopySet(client1, l.set))
			return l
		}, []string{"shadow copy set is given up"}},
		{"a call that fails", false, func(t *testing.T, r *rig) *life {
			l := r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms)
			require.Error(t, r.AbortShadowCopySet(client1, l.set))
			return l
		}, []string{"shadow copy set is complete", "call failed"}},
		{"a step that fails", false, func(t *testing.T, r *rig) *life {
			l := r.bring(t, fsrvp.ContextNASRollback, agent.Added, vms)
			mend := r.failAt(errors.New("broken"), func(p snapmem.Point) bool { return p.Method == "Create" }, nil)
			require.Error(t, r.CommitShadowCopySet(client1, l.set, wait))
			mend()
			require.NoError(t, r.CommitShadowCopySet(client1, l.set, wait))
			return l
		}, []string{"step failed"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			r := newRig(t, func(r *rig) {
				r.cfg.KeepExposed = tt.keep
				r.cfg.Logger = slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))
			})
			out.Reset() // what New has said is about no set
			l := tt.do(t, r)
			var got []string
			for b := range bytes.Lines(out.Bytes()) {
				var rec line
				require.NoError(t, json.Unmarshal(b, &rec), "%s", b)
				got = append(got, rec.Msg)
				require.Equal(t, l.set.String(), rec.Set, "%s", b)
				if rec.Method == "" && rec.Step == "" {
					require.Len(t, rec.Copies, len(r.copiesOf(l)), "%s", b)
				}
			}
			require.Equal(t, tt.want, got)
		})
	}
}

// copiesOf returns the ids of a life's copies, each once.
func (r *rig) copiesOf(l *life) map[fsrvp.CopyID]bool {
	ids := map[fsrvp.CopyID]bool{}
	for _, id := range l.copies {
		ids[id] = true
	}
	return ids
}
