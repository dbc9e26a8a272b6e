package agent_test

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// TestClusterModel runs random calls on three agents with one table, each call on any of them, and
// on the model of one agent: clients cannot tell the difference. It takes 25 runs, with
// -short 8, and with FSRVP_EVERY in the environment 100.
func TestClusterModel(t *testing.T) {
	runs := 25
	if testing.Short() {
		runs = 8
	}
	for _, cfg := range []agent.Config{{Profile: agent.Windows}, {Profile: agent.Strict}, {KeepExposed: true}} {
		t.Run(fmt.Sprintf("%v, keep exposed %t", cfg.Profile, cfg.KeepExposed), func(t *testing.T) {
			ran, failed := 0, false
			rapid.Check(t, func(rt *rapid.T) {
				if ran++; ran > runs && !failed && os.Getenv("FSRVP_EVERY") == "" {
					return
				}
				var stopped any // rapid ends a failed run by a panic, which has to come out of the bubble
				synctest.Test(t, func(t *testing.T) {
					defer func() {
						if stopped = recover(); stopped != nil {
							fmt.Printf("STOPPED %T %v\n", stopped, stopped)
						}
					}()
					runClusterModel(t, rt, cfg)
				})
				if stopped != nil {
					failed = true
					panic(stopped)
				}
			})
		})
	}
}

// A clusterRun is a run whose agent is one of several.
type clusterRun struct {
	*run
	table  *state.Memory
	nodes  []*agent.Agent
	stores []state.Shared
}

func (r *clusterRun) startNode(t *testing.T, i int) {
	s, err := r.table.Open(fmt.Sprintf("node%d", i), nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := *r.cfg
	cfg.State, cfg.Snapshots, cfg.Shares = s, r.snapshots, r.shares
	r.stores[i] = s
	if r.nodes[i], err = agent.New(context.Background(), &cfg); err != nil {
		t.Fatal(err)
	}
}

func runClusterModel(t *testing.T, rt *rapid.T, cfg agent.Config) {
	cfg.Names = []string{"fs1"}
	const nodes = 3
	r := &clusterRun{
		run: &run{
			rig: &rig{cfg: &cfg},
			m: &model{profile: cfg.Profile, keep: cfg.KeepExposed, cluster: true,
				sets: map[fsrvp.SetID]*modelSet{}},
			sets:    []fsrvp.SetID{fsrvp.NewSetID()},
			copies:  []fsrvp.CopyID{fsrvp.NewCopyID()},
			clients: []context.Context{client1, client2},
		},
		table: state.NewMemory(state.ID{}),
		nodes: make([]*agent.Agent, nodes), stores: make([]state.Shared, nodes),
	}
	r.snapshots, r.shares = newBackends()
	for i := range r.nodes {
		r.startNode(t, i)
	}
	defer func() {
		for _, a := range r.nodes {
			_ = a.Close()
		}
	}()
	actions := r.actions()
	for _, how := range []string{"leave", "kill"} {
		actions[how] = func(rt *rapid.T) {
			again := func() { // when the timer of a creation begins anew that another node takes over is not told
				if r.m.contextSet {
					r.setContext(rt, 0x19, r.m.client)
				}
			}
			again()
			i := rapid.IntRange(0, nodes-1).Draw(rt, "node")
			if how == "kill" {
				r.table.SetLife(fmt.Sprintf("node%d", i), state.Gone)
			}
			if err := r.nodes[i].Close(); err != nil && how == "leave" {
				rt.Fatal(err)
			}
			if err := r.stores[i].Close(); err != nil {
				rt.Fatal(err)
			}
			time.Sleep(3 * time.Second) // another one takes over
			r.startNode(t, i)
			r.Agent = r.nodes[i]
			again()
		}
	}
	var trace []string
	for name, action := range actions {
		actions[name] = func(rt *rapid.T) {
			trace = append(trace, fmt.Sprint(name, time.Now().Format(" 15:04:05.000000000"), r.m.contextSet,
				r.m.deadline.Format(" 15:04:05.000000000")))
			r.Agent = r.nodes[rapid.IntRange(0, nodes-1).Draw(rt, "on")]
			r.m.tick()
			action(rt)
		}
	}
	actions[""] = func(rt *rapid.T) {
		synctest.Wait()
		r.m.tick()
		r.Agent = r.nodes[0]
		first := sorted(r.Table())
		for i, a := range r.nodes {
			if table := sorted(a.Table()); !reflect.DeepEqual(table, first) {
				rt.Fatalf("the table of node %d is %v, of node 0 %v", i, table, first)
			}
		}
		if diff := r.m.diff(first); diff != "" {
			rt.Fatalf("%s: %+v; last: %v; now %v", diff, first, trace[max(0, len(trace)-8):], time.Now())
		}
		r.requireInvariant(rt)
		for _, set := range first {
			if set.Work != (agent.Work{}) {
				rt.Fatalf("nothing goes on, but set %s is in work", set.ID)
			}
		}
	}
	for range 4 { // one is some 30 steps
		rt.Repeat(actions)
	}
}

// sorted sorts a table by the ids of its sets.
func sorted(table []agent.Set) []agent.Set {
	slices.SortFunc(table, func(x, y agent.Set) int { return strings.Compare(x.ID.String(), y.ID.String()) })
	return table
}
