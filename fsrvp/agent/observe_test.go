package agent_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
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
	require.Equal(t, []agent.SetStatus{agent.Started, agent.Added, agent.CreationInProgress, agent.Committed, agent.Exposed, agent.Recovered, ""}, statuses)
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
		if method == "SetContext" {
			continue
		}
		require.Equal(t, l.set.String(), rec["set"], "%s", line)
		switch {
		case step == "expose", step == "unexpose", step == "delete", method == "AddToShadowCopySet", method == "DeleteShareMapping":
			require.Equal(t, l.copies[0].String(), rec["copy"], "%s", line)
		}
	}
}
