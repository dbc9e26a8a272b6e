package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// An Orphan is a snapshot or an exposed share that the table does not know. The agent leaves it
// alone.
type Orphan struct {
	// Mark names the agent that made it. It is zero if an old version, which made no marks, made
	// it.
	Mark Mark
	// Own reports whether this agent made it. Then the table has lost it, or a file system came
	// back with it.
	Own bool
	// Snapshot is set for a snapshot. Its volume has only the fields that Snapshots.Delete needs.
	Snapshot SnapshotSpec
	// Share is the name of an exposed share; empty for a snapshot.
	Share string
}

// String names the snapshot or share and its agent.
func (o Orphan) String() string {
	what := "snapshot " + o.Snapshot.ID.String() + " on volume " + o.Snapshot.Volume.ID
	if o.Share != "" {
		what = "share " + o.Share
	}
	switch {
	case o.Own:
		return what + ", this agent's"
	case o.Mark == Mark{}:
		return what + ", without a mark"
	}
	return what + ", of agent " + o.Mark.Owner.String()
}

// Orphans returns everything that the backends hold and the table does not know: first the shares,
// then the snapshots, in no further order. It fails if a backend fails.
func (a *Agent) Orphans(ctx context.Context) ([]Orphan, error) {
	if err := a.fresh(ctx); err != nil {
		return nil, err
	}
	before := a.Table() // and after: what comes or goes meanwhile is known
	h, err := a.listHeld(ctx)
	if err != nil {
		return nil, err
	}
	return a.orphans(h, append(before, a.Table()...)), nil
}

func (a *Agent) orphans(h held, sets []Set) []Orphan {
	copies, names := known(sets)
	var list []Orphan
	share := func(s ExposedShare) {
		own := s.Mark.Owner == a.id
		if own || s.Mark == (Mark{}) {
			if names[strings.ToLower(s.Name)] {
				return
			}
		}
		list = append(list, Orphan{Mark: s.Mark, Own: own, Share: s.Name})
	}
	snapshot := func(s SnapshotSpec) {
		own := s.Mark.Owner == a.id
		if own || s.Mark == (Mark{}) {
			if copies[s.ID] {
				return
			}
		}
		list = append(list, Orphan{Mark: s.Mark, Own: own, Snapshot: s})
	}
	for _, s := range h.shares {
		share(s)
	}
	for _, s := range h.foreignShares {
		share(s)
	}
	for _, s := range h.snapshots {
		snapshot(s)
	}
	for _, s := range h.foreignSnapshots {
		snapshot(s)
	}
	return list
}

// RemoveOrphan deletes an orphan that Orphans returned, for an administrator. It also deletes an
// orphan of another agent, which may still be using it. It fails if the table knows the snapshot or
// share, or if the backend fails.
func (a *Agent) RemoveOrphan(ctx context.Context, o Orphan) error {
	if !a.enter() {
		return fmt.Errorf("agent: removing an orphan: %w", net.ErrClosed)
	}
	defer a.running.Done()
	if err := a.fresh(ctx); err != nil {
		return err
	}
	copies, names := known(a.Table())
	if o.Mark.Allows(a.id) && (o.Share != "" && names[strings.ToLower(o.Share)] || o.Share == "" &&
		copies[o.Snapshot.ID]) {
		return fmt.Errorf("agent: %v is in the table", o)
	}
	var err error
	switch {
	case o.Share != "":
		err = a.cfg.Shares.Unexpose(ctx, o.Mark.Owner, o.Share)
	case o.Snapshot.ID == fsrvp.CopyID{}:
		err = errors.New("it names nothing")
	default:
		err = a.cfg.Snapshots.Delete(ctx, o.Snapshot)
	}
	if err != nil {
		return fmt.Errorf("agent: removing %v: %w", o, err)
	}
	a.log.Warn("removed an orphan for the administrator", "orphan", o.String())
	return nil
}

// report logs what New leaves alone: it lists what may be this agent's, and only counts what
// belongs to others.
func (a *Agent) report(h held, sets []Set) {
	others := map[Owner]int{}
	for _, o := range a.orphans(h, sets) {
		switch {
		case o.Own:
			a.log.Warn("a copy of this agent's that no shadow copy set has is left alone", "orphan", o.String())
		case o.Mark == Mark{}:
			a.log.Warn("a copy that no shadow copy set has is left alone", "orphan", o.String())
		default:
			others[o.Mark.Owner]++
		}
	}
	for owner, n := range others {
		a.log.Info("copies of another agent's are left alone", "agent", owner.String(), "copies", n)
	}
}
