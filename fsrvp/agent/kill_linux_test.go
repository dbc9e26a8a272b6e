package agent_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/directory"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/btrfs"
)

var kills = flag.Int("kills", 40, "how often TestKill kills an agent")

// victimEnv makes the test process an agent at work, in the directory that it names, until it is
// killed.
const victimEnv = "FSRVP_AGENT_TEST_VICTIM"

// A note is what a victim writes before and after each call: what its client was told last of a
// set, and what it would be told next. A note without set is written when the agent is ready.
type note struct {
	Set          fsrvp.SetID
	Context      fsrvp.ContextValue
	Status       agent.SetStatus // "": no set
	Mappings     int
	NextStatus   agent.SetStatus
	NextMappings int
}

// newVictim makes an agent on btrfs below root: subvolumes a and b, and shares vms, docs and db.
func newVictim(root string) (*agent.Agent, *btrfs.Snapshots, *directory.Shares, error) {
	snapshots, err := btrfs.New(&btrfs.Config{Dirs: []string{filepath.Join(root, ".fsrvp")}})
	if err != nil {
		return nil, nil, nil, err
	}
	shares, err := directory.New(filepath.Join(root, "exposed"), map[string]string{"vms": root + "/a/vms", "docs": root + "/a/docs", "db": root + "/b/db"})
	if err != nil {
		return nil, nil, nil, err
	}
	a, err := agent.New(context.Background(), &agent.Config{
		Snapshots: snapshots, Shares: shares, StorePath: filepath.Join(root, "store"), Names: []string{"fs1", "fs1.example.com", "192.0.2.1"}, MaxRetries: -1,
	})
	return a, snapshots, shares, err
}

// TestKill kills agents on btrfs, with SIGKILL, at random points of random lives and of their own
// starts, and starts another on what is left: the table and the file system have to agree, and
// clients find what they were told of.
func TestKill(t *testing.T) {
	if root := os.Getenv(victimEnv); root != "" {
		t.Fatal(victim(root))
	}
	if !inNamespace(t, "mkfs.btrfs", "btrfs", "mount") {
		return
	}
	root := mount(t, "btrfs", 512)
	for _, v := range []string{"a", "b"} {
		command(t, "btrfs", "-q", "subvolume", "create", filepath.Join(root, v))
	}
	for _, dir := range []string{"/a/vms", "/a/docs", "/b/db"} {
		require.NoError(t, os.Mkdir(root+dir, 0o755))
		require.NoError(t, os.WriteFile(root+dir+"/disk", make([]byte, 1<<20), 0o644))
	}
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	known := map[fsrvp.SetID]note{}
	inStart, notes := 0, 0
	if testing.Short() {
		*kills = min(*kills, 10)
	}
	for i := range *kills {
		begun := kill(t, root, rnd, known)
		if begun == 0 {
			inStart++
		}
		notes += begun
		requireSurvived(t, root, known, i)
	}
	t.Logf("%d agents killed, %d of them while they started; %d notes of their clients", *kills, inStart, notes)
}

// kill runs a victim and kills it after a random time. It notes what its clients knew, and returns
// how many notes there were.
func kill(t *testing.T, root string, rnd *rand.Rand, known map[fsrvp.SetID]note) (notes int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKill$")
	cmd.Env = append(os.Environ(), victimEnv+"="+root)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	shoot := func(after time.Duration) *time.Timer {
		return time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	}
	var timer *time.Timer
	if rnd.IntN(5) == 0 { // perhaps before it is ready
		timer = shoot(time.Duration(rnd.IntN(60)) * time.Millisecond)
	}
	for lines.Scan() {
		var n note
		require.NoError(t, json.Unmarshal(lines.Bytes(), &n), "%s", lines.Text())
		if n.Set != (fsrvp.SetID{}) {
			known[n.Set] = n
			notes++
		} else if timer == nil {
			timer = shoot(time.Duration(rnd.ExpFloat64() * float64(60*time.Millisecond)))
		}
	}
	require.NotNil(t, timer, "the victim has ended by itself")
	err = cmd.Wait()
	timer.Stop()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), "the victim has ended by itself")
	return notes
}

// requireSurvived starts an agent after a kill and checks what it makes of what was left.
func requireSurvived(t *testing.T, root string, known map[fsrvp.SetID]note, run int) {
	t.Helper()
	a, snapshots, shares, err := newVictim(root)
	require.NoError(t, err)
	defer func() { require.NoError(t, a.Close()) }()
	table := a.Table()

	var wantSnapshots, wantShares []string
	for _, set := range table {
		require.False(t, set.Removing, "run %d", run)
		for _, c := range set.Copies {
			if set.Status == agent.Committed || set.Status == agent.Exposed || set.Status == agent.Recovered {
				wantSnapshots = append(wantSnapshots, c.ID.String())
			}
			for _, m := range c.Shares {
				if m.Exposed {
					wantShares = append(wantShares, m.Name)
					data, err := os.ReadFile(filepath.Join(shares.Path(m.Name), "disk"))
					require.NoError(t, err, "run %d", run)
					require.Len(t, data, 1<<20)
				}
			}
		}
	}
	var haveSnapshots, haveShares []string
	list, foreign, err := snapshots.List(t.Context(), a.ID())
	require.NoError(t, err)
	require.Empty(t, foreign)
	for _, s := range list {
		haveSnapshots = append(haveSnapshots, s.ID.String())
	}
	exposed, others, err := shares.List(t.Context(), a.ID())
	require.NoError(t, err)
	require.Empty(t, others)
	for _, s := range exposed {
		require.False(t, s.Partial, "run %d: %s", run, s.Name)
		haveShares = append(haveShares, s.Name)
	}
	require.ElementsMatch(t, wantSnapshots, haveSnapshots, "run %d: snapshots", run)
	require.ElementsMatch(t, wantShares, haveShares, "run %d: shares", run)
	// The same by looks, without the backends.
	require.Len(t, entries(t, root, ".fsrvp"), len(wantSnapshots), "run %d", run)
	require.Len(t, entries(t, root, "exposed"), len(wantShares), "run %d", run)

	for id, n := range known {
		now := note{Set: id, Context: n.Context}
		if i := slices.IndexFunc(table, func(s agent.Set) bool { return s.ID == id }); i >= 0 {
			now.Status = table[i].Status
			for _, c := range table[i].Copies {
				now.Mappings += len(c.Shares)
			}
		}
		switch {
		case !n.Context.Persistent():
			require.Empty(t, now.Status, "run %d: auto-release set %s", run, id)
		case now.Status == n.Status && now.Mappings == n.Mappings, now.Status == n.NextStatus && now.Mappings == n.NextMappings:
		default:
			t.Fatalf("run %d: %+v is %s with %d mappings", run, n, now.Status, now.Mappings)
		}
		if now.Status == "" {
			delete(known, id)
			continue
		}
		n.Status, n.Mappings, n.NextStatus, n.NextMappings = now.Status, now.Mappings, now.Status, now.Mappings
		known[id] = n
	}
	for _, set := range table {
		if set.Status == agent.Started { // perhaps its client was not told of it any more
			continue
		}
		require.Contains(t, known, set.ID, "run %d: a set that no client knows", run)
	}
}

// entries lists a directory below root; nil where it does not exist yet.
func entries(t *testing.T, root, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(root, dir))
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	var names []string
	for _, e := range list {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

// victim runs an agent and its client until it is killed.
func victim(root string) error {
	out := json.NewEncoder(os.Stdout)
	a, _, _, err := newVictim(root)
	if err != nil {
		return err
	}
	if err := out.Encode(note{}); err != nil {
		return err
	}
	r := &rig{Agent: a}
	rnd := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(time.Now().UnixNano())))
	for {
		if err := r.randomLife(rnd, out); err != nil && err != io.EOF {
			return err
		}
	}
}

// randomLife goes on with a set that is there, or lets a new one live, and ends it somehow, or
// leaves it.
func (r *rig) randomLife(rnd *rand.Rand, out *json.Encoder) error {
	l := &life{}
	at := note{}
	// call makes a call with a note before and after it.
	call := func(status agent.SetStatus, mappings int, f func() error) error {
		at.NextStatus, at.NextMappings = status, mappings
		if at.Set != (fsrvp.SetID{}) {
			if err := out.Encode(at); err != nil {
				return err
			}
		}
		if err := f(); err != nil {
			return err
		}
		at.Set, at.Status, at.Mappings = l.set, status, mappings
		return out.Encode(at)
	}
	deletions := func(set agent.Set) error {
		at = note{Set: set.ID, Context: set.Context, Status: set.Status}
		l.set = set.ID
		left := 0
		for _, c := range set.Copies {
			left += len(c.Shares)
		}
		at.Mappings = left
		for _, c := range set.Copies {
			for _, m := range c.Shares {
				left--
				status := set.Status
				if left == 0 {
					status = ""
				}
				if err := call(status, left, func() error { return r.DeleteShareMapping(client1, set.ID, c.ID, m.UNC) }); err != nil {
					return err
				}
			}
		}
		return nil
	}

	table := r.Table()
	if i := slices.IndexFunc(table, func(s agent.Set) bool { return s.Status != agent.Recovered }); i >= 0 {
		set := table[i] // of the last run
		l.set = set.ID
		at = note{Set: set.ID, Context: set.Context, Status: set.Status, Mappings: mappingsOf(set)}
		if err := call("", 0, func() error { return r.AbortShadowCopySet(client1, set.ID) }); err != nil {
			return err
		}
	}
	if len(table) > 3 {
		if i := slices.IndexFunc(table, func(s agent.Set) bool { return s.Status == agent.Recovered }); i >= 0 {
			return deletions(table[i])
		}
	}

	at = note{Context: []fsrvp.ContextValue{fsrvp.ContextNASRollback, fsrvp.ContextAppRollback | fsrvp.AttrAutoRecovery, fsrvp.ContextBackup}[rnd.IntN(3)]}
	if err := r.SetContext(client1, at.Context); err != nil {
		return err
	}
	shares := []string{vms, docs, db}
	steps := []struct {
		status   agent.SetStatus
		mappings int
		f        func() error
	}{
		{agent.Started, 0, func() (err error) {
			l.set, err = r.StartShadowCopySet(client1, fsrvp.NewSetID())
			return err
		}},
		{agent.Added, 1, func() error { return addScene(shares[0])(r, l) }},
		{agent.Added, 2, func() error { return addScene(shares[1])(r, l) }},
		{agent.Added, 3, func() error { return addScene(shares[2])(r, l) }},
		{agent.Committed, 3, func() error { return r.CommitShadowCopySet(client1, l.set, wait) }},
		{agent.Exposed, 3, func() error { return r.ExposeShadowCopySet(client1, l.set, wait) }},
		{agent.Recovered, 3, func() error { return r.RecoveryCompleteShadowCopySet(client1, l.set) }},
	}
	end := len(steps)
	if rnd.IntN(3) == 0 {
		end = 1 + rnd.IntN(len(steps)-1)
	}
	for _, s := range steps[:end] {
		if err := call(s.status, s.mappings, s.f); err != nil {
			return err
		}
	}
	switch {
	case end == len(steps) && rnd.IntN(2) == 0:
		i := slices.IndexFunc(r.Table(), func(s agent.Set) bool { return s.ID == l.set })
		return deletions(r.Table()[i])
	case end == len(steps):
		return nil
	case rnd.IntN(2) == 0:
		return call("", 0, func() error { return r.SetContext(client1, 0) })
	default:
		return call("", 0, func() error { return r.AbortShadowCopySet(client1, l.set) })
	}
}

func mappingsOf(set agent.Set) int {
	n := 0
	for _, c := range set.Copies {
		n += len(c.Shares)
	}
	return n
}
