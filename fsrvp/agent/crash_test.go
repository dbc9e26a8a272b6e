package agent_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	sharemem "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// An image is what a crash at one moment would leave on the machine, and what clients knew by then.
type image struct {
	at        string // the moment
	store     []byte
	snapshots *snapmem.Snapshots
	shares    *sharemem.Shares
	told      outcome // the last answer that a client got
	pending   outcome // the answer that it would have got next
}

// An outcome is where a set is after an answer: its status ("" for no set) and how many mappings it
// has.
type outcome struct {
	status   agent.SetStatus
	mappings int
}

// A camera takes an image at every moment that a crash could tell from others: before and after
// each step of a backend, in the middle of it where it has one, and after each transaction of the
// store.
type camera struct {
	rig           *rig
	images        []image
	told, pending outcome
}

func (c *camera) attach(r *rig) {
	c.rig = r
	r.snapshots.Fault = func(_ context.Context, p snapmem.Point) error {
		if p.Method != "Volume" && p.Method != "Prepare" && p.Method != "List" { // these change nothing
			c.take(fmt.Sprintf("%s %s done=%v", p.Method, p.Volume, p.Done))
		}
		return nil
	}
	r.shares.Fault = func(_ context.Context, p sharemem.Point) error {
		if p.Method != "Lookup" && p.Method != "List" {
			c.take(fmt.Sprintf("%s %s done=%v", p.Method, p.Share, p.Done))
		}
		return nil
	}
	r.cfg.Observe = func(ev agent.Event) {
		if ev.Kind == agent.EventStep && ev.Step == agent.StepStore {
			c.take("store written")
		}
	}
}

func (c *camera) take(at string) {
	store, err := os.ReadFile(c.rig.cfg.StorePath)
	if err != nil {
		panic(err)
	}
	snapshots := c.rig.snapshots.Clone()
	c.images = append(c.images, image{
		at: fmt.Sprintf("%d: %s", len(c.images), at), store: store,
		snapshots: snapshots, shares: c.rig.shares.Clone(snapshots), told: c.told, pending: c.pending,
	})
}

// quickDir is a directory for stores that need not outlive the machine.
func quickDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "fsrvp-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// restart starts an agent on an image, as after the crash. With a camera it is recorded.
func (im *image) restart(t testing.TB, dir string, cam *camera) *rig {
	t.Helper()
	store := filepath.Join(dir, fsrvp.NewSetID().String())
	require.NoError(t, os.WriteFile(store, im.store, 0o600))
	adopt(t, store)
	r := &rig{as: client1, snapshots: im.snapshots.Clone(), cfg: &agent.Config{StorePath: store, Names: []string{"fs1", "fs1.example.com", "192.0.2.1"}}}
	r.shares = im.shares.Clone(r.snapshots)
	if cam != nil {
		cam.told, cam.pending = im.told, im.pending
		cam.attach(r)
	}
	r.start(t)
	r.snapshots.Fault, r.shares.Fault = nil, nil
	return r
}

// adopt makes a copy of a store one that belongs where it is.
func adopt(t testing.TB, store string) {
	t.Helper()
	f, err := state.Open(store, nil)
	require.NoError(t, err)
	require.NoError(t, f.Adopt())
	require.NoError(t, f.Close())
}

// requireInvariant checks that the table and the backends say the same: no snapshot and no exposed
// share that the table does not know, none in the table that does not exist.
func (r *rig) requireInvariant(t tb) {
	t.Helper()
	var snapshots []fsrvp.CopyID
	var shares []string
	for _, set := range r.Table() {
		require.False(t, set.Removing)
		for _, c := range set.Copies {
			if set.Status == agent.Committed || set.Status == agent.Exposed || set.Status == agent.Recovered {
				snapshots = append(snapshots, c.ID)
			}
			for _, m := range c.Shares {
				require.Equal(t, set.Status == agent.Exposed || set.Status == agent.Recovered, m.Exposed, "%s in %s", m.Name, set.Status)
				require.False(t, m.Removing)
				if m.Exposed {
					shares = append(shares, m.Name)
				}
			}
		}
	}
	var have []fsrvp.CopyID
	for _, s := range r.listSnapshots(t) {
		have = append(have, s.ID)
	}
	require.ElementsMatch(t, snapshots, have, "snapshots")
	require.ElementsMatch(t, shares, r.listShares(t), "shares")
}

// outcome is where the one set of a test is.
func (r *rig) outcome(t testing.TB) outcome {
	t.Helper()
	table := r.Table()
	if len(table) == 0 {
		return outcome{}
	}
	require.Len(t, table, 1)
	n := 0
	for _, c := range table[0].Copies {
		n += len(c.Shares)
	}
	return outcome{table[0].Status, n}
}

// finish goes on with the set as its client would, until it is gone.
func (r *rig) finish(t testing.TB) {
	t.Helper()
	for range 10 {
		table := r.Table()
		if len(table) == 0 {
			r.empty(t)
			return
		}
		set := table[0]
		switch set.Status {
		case agent.Started:
			_, err := r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), set.ID, vms)
			require.NoError(t, err)
		case agent.Added:
			require.NoError(t, r.CommitShadowCopySet(client1, set.ID, wait))
		case agent.Committed:
			require.NoError(t, r.ExposeShadowCopySet(client1, set.ID, wait))
		case agent.Exposed:
			require.NoError(t, r.RecoveryCompleteShadowCopySet(client1, set.ID))
		case agent.Recovered:
			for _, c := range set.Copies {
				for _, m := range c.Shares {
					require.NoError(t, r.DeleteShareMapping(client1, set.ID, c.ID, m.UNC))
				}
			}
		default:
			t.Fatalf("set is %s", set.Status)
		}
	}
	t.Fatal("the set does not come to an end")
}

// A scene is one call of a life that a crash may hit, and where the set is after it.
type scene struct {
	name  string
	call  func(r *rig, l *life) error
	after outcome
}

// lives are the lives that are enumerated: to Recovered and its end, and ended by Abort and by
// SetContext in every status.
func lives() map[string][]scene {
	toRecovered := []scene{
		{"Start", func(r *rig, l *life) (err error) {
			l.set, err = r.StartShadowCopySet(client1, fsrvp.NewSetID())
			return err
		}, outcome{agent.Started, 0}},
		{"Add vms", addScene(vms), outcome{agent.Added, 1}},
		{"Add docs", addScene(docs), outcome{agent.Added, 2}},
		{"Add db", addScene(db), outcome{agent.Added, 3}},
		{"Commit", func(r *rig, l *life) error { return r.CommitShadowCopySet(client1, l.set, wait) }, outcome{agent.Committed, 3}},
		{"Expose", func(r *rig, l *life) error { return r.ExposeShadowCopySet(client1, l.set, wait) }, outcome{agent.Exposed, 3}},
		{"RecoveryComplete", func(r *rig, l *life) error { return r.RecoveryCompleteShadowCopySet(client1, l.set) }, outcome{agent.Recovered, 3}},
	}
	all := map[string][]scene{"to the end": append(toRecovered[:7:7],
		deleteScene(0, outcome{agent.Recovered, 2}), deleteScene(1, outcome{agent.Recovered, 1}), deleteScene(2, outcome{}))}
	all["deleted when exposed"] = append(toRecovered[:6:6], deleteScene(2, outcome{agent.Exposed, 2}), deleteScene(1, outcome{agent.Exposed, 1}), deleteScene(0, outcome{}))
	for n := 1; n <= 6; n++ {
		name := toRecovered[n-1].name
		all["abort after "+name] = append(toRecovered[:n:n], scene{"Abort", func(r *rig, l *life) error { return r.AbortShadowCopySet(client1, l.set) }, outcome{}})
		all["started over after "+name] = append(toRecovered[:n:n], scene{"SetContext", func(r *rig, _ *life) error { return r.SetContext(client1, 0) }, outcome{}})
	}
	return all
}

func addScene(share string) func(r *rig, l *life) error {
	return func(r *rig, l *life) error {
		id, err := r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), l.set, share)
		l.copies, l.shares = append(l.copies, id), append(l.shares, share)
		return err
	}
}

func deleteScene(i int, after outcome) scene {
	return scene{"Delete", func(r *rig, l *life) error { return r.DeleteShareMapping(client1, l.set, l.copies[i], l.shares[i]) }, after}
}

// TestCrashAnywhere lets lives run once, takes an image at every moment, and starts an agent on
// each image. The agent that starts is recorded, too, and crashes again at each of its moments.
func TestCrashAnywhere(t *testing.T) {
	total, nested := 0, 0
	for _, c := range []fsrvp.ContextValue{fsrvp.ContextNASRollback, fsrvp.ContextAppRollback | fsrvp.AttrAutoRecovery, fsrvp.ContextFileShareBackup, fsrvp.AttrAutoRecovery} {
		for name, scenes := range lives() {
			if c != fsrvp.ContextNASRollback && name != "to the end" && !strings.HasSuffix(name, "after Expose") {
				continue // the context makes no difference there
			}
			t.Run(fmt.Sprintf("%v/%s", c, name), func(t *testing.T) {
				images := record(t, c, scenes)
				total += len(images)
				dir := quickDir(t)
				for i := range images {
					if testing.Short() && i%4 != 0 {
						continue // the full run has all
					}
					again := images[i].check(t, c, dir, true)
					nested += len(again)
					for j := range again {
						again[j].at = images[i].at + ", then " + again[j].at
						again[j].check(t, c, dir, false)
					}
				}
			})
		}
	}
	t.Logf("%d crashes of lives, %d crashes of the recoveries from them", total, nested)
	if total < 400 {
		t.Errorf("only %d moments were seen", total)
	}
}

// record lets a life run and returns an image of each of its moments.
func record(t *testing.T, c fsrvp.ContextValue, scenes []scene) []image {
	cam := &camera{}
	r := newRig(t, func(r *rig) {
		r.cfg.StorePath = filepath.Join(quickDir(t), "store")
		cam.attach(r)
	})
	require.NoError(t, r.SetContext(client1, c))
	cam.images = nil
	l := &life{}
	for _, s := range scenes {
		cam.pending = s.after
		require.NoError(t, s.call(r, l), s.name)
		cam.told = s.after
		cam.take("answered " + s.name)
	}
	require.Equal(t, cam.told, r.outcome(t))
	images := cam.images
	cam.rig.snapshots.Fault, cam.rig.shares.Fault = nil, nil
	return images
}

// check starts an agent on the image, checks what it made of it, and goes on with the set as its
// client would. It returns images of the agent's start.
func (im *image) check(t *testing.T, c fsrvp.ContextValue, dir string, again bool) []image {
	t.Helper()
	cam := &camera{}
	r := im.restart(t, dir, cam)
	images := cam.images
	defer func() {
		require.NoError(t, r.Close(), im.at)
		require.NoError(t, os.Remove(r.cfg.StorePath))
		if t.Failed() {
			t.Logf("crashed at %s, after %v, before %v", im.at, im.told, im.pending)
		}
	}()
	r.requireInvariant(t)
	got := r.outcome(t)
	if c.Persistent() {
		want := []outcome{im.told, im.pending}
		require.Contains(t, want, got, "crashed at %s", im.at)
	} else {
		require.Equal(t, outcome{}, got, "crashed at %s: auto-release copies go with the agent", im.at)
	}
	if again {
		r.finish(t)
	}
	require.NoError(t, r.Close())
	return images
}
