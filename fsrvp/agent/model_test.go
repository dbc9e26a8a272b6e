package agent_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// A model is the state machine of MS-FSRVP 3.1 without backends, store or concurrency: what an
// agent has to answer and what its table must be.
type model struct {
	profile    agent.Profile
	keep       bool // Config.KeepExposed
	cluster    bool // of several nodes, whose clients come to any of them
	contextSet bool
	context    fsrvp.ContextValue
	client     int
	retries    int
	deadline   time.Time // of the Message Sequence Timer; zero: stopped
	sets       map[fsrvp.SetID]*modelSet
}

type modelSet struct {
	status  agent.SetStatus
	context fsrvp.ContextValue
	shares  map[string]fsrvp.CopyID // by name
}

// The shares of the model, with their volumes.
var modelShares = map[string]string{"vms": "a", "docs": "a", "db": "b", "hidden$": "b"}

func (m *model) unknown() fsrvp.Status {
	if m.profile == agent.Strict {
		return fsrvp.ErrShadowCopySetIDMismatch
	}
	return fsrvp.ErrInvalidArg
}

func (m *model) inCreation(s *modelSet) bool {
	return s.status != agent.Recovered && !(s.status == agent.Exposed && m.keep)
}

func (m *model) unfinished() (fsrvp.SetID, bool) {
	for id, s := range m.sets {
		if m.inCreation(s) {
			return id, true
		}
	}
	return fsrvp.SetID{}, false
}

// end is the end of a creation whose set is deleted.
func (m *model) end() {
	if id, ok := m.unfinished(); ok {
		delete(m.sets, id)
	}
	m.contextSet, m.deadline = false, time.Time{}
}

// finish is the end of a creation whose set stays.
func (m *model) finish() { m.contextSet, m.retries, m.deadline = false, 0, time.Time{} }

// tick lets the time come.
func (m *model) tick() {
	if !m.deadline.IsZero() && !time.Now().Before(m.deadline) {
		m.end()
		m.retries = 0
	}
}

func (m *model) timer(d time.Duration) { m.deadline = time.Now().Add(d) }

func (m *model) setContext(client int, c fsrvp.ContextValue) fsrvp.Status {
	if !c.Valid() {
		return fsrvp.ErrUnsupportedContext
	}
	if m.contextSet {
		if client != m.client {
			return fsrvp.ErrShadowCopySetInProgress
		}
		m.end()
		if m.retries++; m.retries > 5 {
			return fsrvp.ErrShadowCopySetInProgress
		}
	} else {
		m.retries = 0
	}
	m.contextSet, m.context, m.client = true, c, client
	m.timer(short)
	return 0
}

func (m *model) start() fsrvp.Status {
	if !m.contextSet {
		return fsrvp.ErrBadState
	}
	if _, ok := m.unfinished(); ok {
		return fsrvp.ErrShadowCopySetInProgress
	}
	m.timer(short)
	return 0
}

// find returns a set in one of the statuses, or the answer.
func (m *model) find(id fsrvp.SetID, in ...agent.SetStatus) (*modelSet, fsrvp.Status) {
	s := m.sets[id]
	if s == nil {
		return nil, m.unknown()
	}
	if !slices.Contains(in, s.status) {
		return nil, fsrvp.ErrBadState
	}
	return s, 0
}

func (m *model) add(id fsrvp.SetID, share string) (*modelSet, fsrvp.Status) {
	if modelShares[share] == "" {
		return nil, fsrvp.ErrObjectNotFound
	}
	s, st := m.find(id, agent.Started, agent.Added)
	if st != 0 {
		return nil, st
	}
	for other := range s.shares {
		if other == share || m.profile == agent.Strict && modelShares[other] == modelShares[share] {
			m.timer(short)
			return nil, fsrvp.ErrObjectAlreadyExists
		}
	}
	s.status = agent.Added
	m.timer(long)
	return s, 0
}

func (m *model) step(id fsrvp.SetID, from, to agent.SetStatus, d time.Duration) fsrvp.Status {
	s, st := m.find(id, from)
	if st == 0 {
		s.status = to
		m.timer(d)
		if !m.inCreation(s) {
			m.finish()
		}
	}
	return st
}

func (m *model) recovery(id fsrvp.SetID) fsrvp.Status {
	s, st := m.find(id, agent.Exposed)
	if st == 0 {
		if m.inCreation(s) {
			m.finish()
		}
		s.status = agent.Recovered
	}
	return st
}

func (m *model) abort(id fsrvp.SetID) fsrvp.Status {
	s, st := m.find(id, agent.Started, agent.Added, agent.Committed, agent.Exposed)
	if st == 0 {
		if m.inCreation(s) {
			m.finish()
		}
		delete(m.sets, id)
	}
	return st
}

func (m *model) get(id fsrvp.SetID, copy fsrvp.CopyID, share string) fsrvp.Status {
	s := m.sets[id]
	switch {
	case s == nil:
		return m.unknown()
	case s.status == agent.Exposed, s.status == agent.Recovered && m.profile == agent.Windows:
	case m.profile == agent.Windows:
		return fsrvp.ErrNotExposed
	default:
		return fsrvp.ErrBadState
	}
	ok := s.shares[share] == copy && copy != fsrvp.CopyID{}
	if m.inCreation(s) {
		m.timer(map[bool]time.Duration{true: long, false: short}[ok])
	}
	if !ok {
		return fsrvp.ErrInvalidArg
	}
	return 0
}

func (m *model) delete(id fsrvp.SetID, copy fsrvp.CopyID, share string) fsrvp.Status {
	s := m.sets[id]
	switch {
	case s == nil:
		return fsrvp.ErrObjectNotFound
	case s.status != agent.Exposed && s.status != agent.Recovered:
		return fsrvp.ErrBadState
	case s.shares[share] != copy && m.profile == agent.Windows:
		return fsrvp.ErrInvalidArg
	case s.shares[share] != copy:
		return fsrvp.ErrObjectNotFound
	}
	delete(s.shares, share)
	if len(s.shares) == 0 {
		if m.inCreation(s) && m.profile == agent.Windows {
			m.finish()
		}
		delete(m.sets, id)
	}
	return 0
}

func (m *model) copied(share string) bool {
	for _, s := range m.sets {
		if s.status != agent.Committed && s.status != agent.Exposed && s.status != agent.Recovered {
			continue
		}
		for other := range s.shares {
			if modelShares[other] == modelShares[share] {
				return true
			}
		}
	}
	return false
}

// restart is the end of an agent and the start of the next.
func (m *model) restart() {
	for id, s := range m.sets {
		if !s.context.Persistent() {
			delete(m.sets, id)
		}
	}
	m.contextSet, m.deadline = false, time.Time{}
	if _, ok := m.unfinished(); ok {
		m.contextSet = true
		m.timer(short)
	} else {
		m.retries = 0
	}
}

// TestModel runs random calls, restarts, crashes and pauses on an agent and on the model.
func TestModel(t *testing.T) {
	for _, cfg := range []agent.Config{{Profile: agent.Windows}, {Profile: agent.Strict}, {KeepExposed: true}} {
		t.Run(fmt.Sprintf("%v, keep exposed %t", cfg.Profile, cfg.KeepExposed), func(t *testing.T) {
			dir := quickDir(t)
			rapid.Check(t, func(rt *rapid.T) {
				var stopped any // rapid ends a failed run by a panic, which has to come out of the bubble
				synctest.Test(t, func(t *testing.T) {
					defer func() { stopped = recover() }()
					runModel(t, rt, dir, cfg)
				})
				if stopped != nil {
					panic(stopped)
				}
			})
		})
	}
}

// A run is an agent and a model side by side.
type run struct {
	*rig
	m       *model
	sets    []fsrvp.SetID // all that there were, and one that there never was
	copies  []fsrvp.CopyID
	clients []context.Context
}

func runModel(t *testing.T, rt *rapid.T, dir string, cfg agent.Config) {
	cfg.Names, cfg.StorePath = []string{"fs1"}, filepath.Join(dir, fsrvp.NewSetID().String())
	r := &run{
		rig:     &rig{cfg: &cfg},
		m:       &model{profile: cfg.Profile, keep: cfg.KeepExposed, sets: map[fsrvp.SetID]*modelSet{}},
		sets:    []fsrvp.SetID{fsrvp.NewSetID()},
		copies:  []fsrvp.CopyID{fsrvp.NewCopyID()},
		clients: []context.Context{client1, client2},
	}
	r.snapshots, r.shares = newBackends()
	r.start(t)
	defer func() { _ = r.Close() }()
	actions := r.actions()
	actions["restart"] = func(rt *rapid.T) {
		if err := r.Close(); err != nil {
			rt.Fatal(err)
		}
		r.start(t)
		r.m.restart()
	}
	actions["crash"] = func(rt *rapid.T) {
		cam := &camera{rig: r.rig}
		cam.take("now")
		old := r.Agent
		r.rig = cam.images[0].restartAs(t, dir, r.cfg)
		if err := old.Close(); err != nil {
			rt.Fatal(err)
		}
		r.m.restart()
	}
	for name, action := range actions {
		actions[name] = func(rt *rapid.T) { r.m.tick(); action(rt) }
	}
	actions[""] = func(rt *rapid.T) {
		r.m.tick()
		if diff := r.m.diff(r.Table()); diff != "" {
			rt.Fatal(diff)
		}
		r.requireInvariant(rt)
	}
	for range 4 { // one is some 30 steps
		rt.Repeat(actions)
	}
}

// actions are the calls, and pauses between them.
func (r *run) actions() map[string]func(*rapid.T) {
	actions := map[string]func(*rapid.T){
		"SetContext": func(rt *rapid.T) {
			r.setContext(rt, rapid.SampledFrom([]fsrvp.ContextValue{0, 0x10, 0x19, 0x9, 0x400019, 0x400002, 0xB,
				0x1}).Draw(rt, "context"), rapid.IntRange(0, 2).Draw(rt, "client")/2)
		},
		"Start":            func(rt *rapid.T) { r.startSet(rt) },
		"Add":              func(rt *rapid.T) { r.add(rt, r.drawSet(rt), drawShare(rt)) },
		"Prepare":          func(rt *rapid.T) { r.prepare(rt, r.drawSet(rt)) },
		"Commit":           func(rt *rapid.T) { r.commit(rt, r.drawSet(rt)) },
		"Expose":           func(rt *rapid.T) { r.expose(rt, r.drawSet(rt)) },
		"RecoveryComplete": func(rt *rapid.T) { r.recovery(rt, r.drawSet(rt)) },
		"Abort":            func(rt *rapid.T) { r.abort(rt, r.drawSet(rt)) },
		"Get":              func(rt *rapid.T) { r.get(rt, r.drawSet(rt), r.drawCopy(rt), drawShare(rt)) },
		"Delete":           func(rt *rapid.T) { r.delete(rt, r.drawSet(rt), r.drawCopy(rt), drawShare(rt)) },
		"IsPathShadowCopied": func(rt *rapid.T) {
			share := rapid.SampledFrom([]string{"vms", "docs", "db", "hidden$"}).Draw(rt, "share")
			p, err := r.IsPathShadowCopied(client2, unc(share))
			same(rt, 0, err)
			if p.Present != r.m.copied(share) {
				rt.Fatalf("copied: %v", p.Present)
			}
		},
		"pause": func(rt *rapid.T) {
			time.Sleep(rapid.SampledFrom([]time.Duration{time.Second, short - time.Nanosecond, short, long}).Draw(rt,
				"pause"))
			synctest.Wait()
		},
	}
	for i := range 25 { // most of the time the client does what it should
		actions[fmt.Sprintf("advance %d", i)] = r.advance
	}
	return actions
}

// advance does what a client would do next.
func (r *run) advance(rt *rapid.T) {
	id, ok := r.m.unfinished()
	if !ok {
		for _, finished := range r.sets {
			s := r.m.sets[finished]
			if s == nil || rapid.IntRange(0, 3).Draw(rt, "deletes") > 0 {
				continue
			}
			if s.status == agent.Exposed && rapid.Bool().Draw(rt, "recovers") {
				r.recovery(rt, finished)
				return
			}
			share, copy := s.any()
			r.delete(rt, finished, copy, share)
			return
		}
		if r.m.contextSet {
			r.startSet(rt)
		} else {
			r.setContext(rt, rapid.SampledFrom([]fsrvp.ContextValue{0, 0x19, 0x400009}).Draw(rt, "context"), 0)
		}
		return
	}
	s := r.m.sets[id]
	share, copy := s.any()
	switch more := rapid.Bool().Draw(rt, "more"); {
	case s.status == agent.Started, s.status == agent.Added && more:
		r.add(rt, id, drawShare(rt))
	case s.status == agent.Added:
		r.prepare(rt, id)
		r.commit(rt, id)
	case s.status == agent.Committed:
		r.expose(rt, id)
	case more:
		r.get(rt, id, copy, share)
	case rapid.IntRange(0, 3).Draw(rt, "deletes") == 0:
		r.delete(rt, id, copy, share)
	default:
		r.recovery(rt, id)
	}
}

// any returns a share of the set and its copy.
func (s *modelSet) any() (string, fsrvp.CopyID) {
	names := slices.Sorted(maps.Keys(s.shares))
	if len(names) == 0 {
		return "vms", fsrvp.CopyID{1}
	}
	return names[0], s.shares[names[0]]
}

func (r *run) drawSet(rt *rapid.T) fsrvp.SetID { // late ones more often
	return r.sets[max(0, len(r.sets)-1-rapid.IntRange(0, 3).Draw(rt, "set, from the last"))]
}

func (r *run) drawCopy(rt *rapid.T) fsrvp.CopyID {
	return r.copies[max(0, len(r.copies)-1-rapid.IntRange(0, 5).Draw(rt, "copy, from the last"))]
}

func drawShare(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"vms", "docs", "db", "hidden$", "absent"}).Draw(rt, "share")
}

func unc(share string) string { return `\\FS1\` + strings.ToUpper(share) }

func same(rt *rapid.T, want fsrvp.Status, err error) {
	rt.Helper()
	if got := statusOf(err); got != want {
		rt.Fatalf("got %v (%v), want %v", got, err, want)
	}
}

func (r *run) setContext(rt *rapid.T, c fsrvp.ContextValue, client int) {
	same(rt, r.m.setContext(client, c), r.SetContext(r.clients[client], c))
}

func (r *run) startSet(rt *rapid.T) {
	id, err := r.StartShadowCopySet(client1, fsrvp.NewSetID())
	same(rt, r.m.start(), err)
	if err == nil {
		r.sets = append(r.sets, id)
		r.m.sets[id] = &modelSet{status: agent.Started, context: r.m.context, shares: map[string]fsrvp.CopyID{}}
	}
}

func (r *run) add(rt *rapid.T, set fsrvp.SetID, share string) {
	s, want := r.m.add(set, share)
	id, err := r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), set, unc(share))
	same(rt, want, err)
	if err != nil {
		return
	}
	for other, copy := range s.shares {
		if (modelShares[other] == modelShares[share]) != (copy == id) {
			rt.Fatalf("copy %s for %s, and %s for %s", id, share, copy, other)
		}
	}
	s.shares[share] = id
	r.copies = append(r.copies, id)
}

func (r *run) prepare(rt *rapid.T, set fsrvp.SetID) {
	same(rt, r.m.step(set, agent.Added, agent.Added, long), r.PrepareShadowCopySet(client1, set, wait))
}

func (r *run) commit(rt *rapid.T, set fsrvp.SetID) {
	r.step(rt, set, agent.Added, agent.Committed, r.CommitShadowCopySet)
}

func (r *run) expose(rt *rapid.T, set fsrvp.SetID) {
	r.step(rt, set, agent.Committed, agent.Exposed, r.ExposeShadowCopySet)
}

func (r *run) step(rt *rapid.T, set fsrvp.SetID, from, to agent.SetStatus,
	method func(context.Context, fsrvp.SetID, time.Duration) error) {
	err := method(client1, set, wait)
	if s := r.m.sets[set]; r.m.cluster && err == nil && s != nil && s.status == to && r.m.inCreation(s) {
		r.m.timer(short) // the client has come from another node, whose answer it may have missed
		return
	}
	same(rt, r.m.step(set, from, to, short), err)
}

func (r *run) recovery(rt *rapid.T, set fsrvp.SetID) {
	same(rt, r.m.recovery(set), r.RecoveryCompleteShadowCopySet(client1, set))
}

func (r *run) abort(rt *rapid.T, set fsrvp.SetID) {
	same(rt, r.m.abort(set), r.AbortShadowCopySet(client1, set))
}

func (r *run) get(rt *rapid.T, set fsrvp.SetID, copy fsrvp.CopyID, share string) {
	_, err := r.GetShareMapping(client1, copy, set, unc(share), 1)
	same(rt, r.m.get(set, copy, share), err)
}

func (r *run) delete(rt *rapid.T, set fsrvp.SetID, copy fsrvp.CopyID, share string) {
	same(rt, r.m.delete(set, copy, share), r.DeleteShareMapping(client1, set, copy, unc(share)))
}

// restartAs is restart with a configuration.
func (im *image) restartAs(t testing.TB, dir string, cfg *agent.Config) *rig {
	next := *cfg
	r := &rig{cfg: &next, snapshots: im.snapshots.Clone()}
	r.shares = im.shares.Clone(r.snapshots)
	next.Snapshots, next.Shares, next.StorePath = nil, nil, filepath.Join(dir, fsrvp.NewSetID().String())
	require.NoError(t, os.WriteFile(next.StorePath, im.store, 0o600))
	adopt(t, next.StorePath)
	r.start(t)
	return r
}

// diff tells how the table differs from the model; "" if it does not.
func (m *model) diff(table []agent.Set) string {
	if len(table) != len(m.sets) {
		return fmt.Sprintf("the table has %d sets, the model %d", len(table), len(m.sets))
	}
	for _, set := range table {
		want := m.sets[set.ID]
		if want == nil || want.status != set.Status || want.context != set.Context {
			return fmt.Sprintf("set %s is %s with context %v; in the model it is %+v", set.ID, set.Status, set.Context,
				want)
		}
		shares := map[string]fsrvp.CopyID{}
		for _, c := range set.Copies {
			for _, s := range c.Shares {
				shares[s.Share.Name] = c.ID
			}
		}
		if !maps.Equal(shares, want.shares) {
			return fmt.Sprintf("set %s has %v, in the model %v", set.ID, shares, want.shares)
		}
	}
	return ""
}
