package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// ErrStateLost means that there are copies that the agent's store should know but does not: the
// store is new although there was another, or it is older than its copies. Restore the store, or
// set Config.AcceptState.
var ErrStateLost = errors.New("agent: the store is lost, or older than its copies")

// ErrStateCopied is what New fails with when the store was made at another place, and is a copy of
// the one there: two agents with the same id would delete each other's copies. Give the agent a
// store of its own or, where the other one is gone for good, set Config.AcceptState. A store that
// was moved, with its directory, is no copy.
var ErrStateCopied = errors.New("agent: the store is a copy of another agent's")

// placeOf names the machine, or the container, and the file in it.
func placeOf(store string) string {
	machine, _ := os.ReadFile("/etc/machine-id")
	host, _ := os.Hostname()
	if abs, err := filepath.Abs(store); err == nil {
		store = abs
	}
	return strings.Join([]string{strings.TrimSpace(string(machine)), host, store}, "\x00")
}

// checkState fails if the copies cannot have been made with this store. Nothing has been deleted
// yet.
func (a turn) checkState(h held) error {
	origin, from := a.store.origin()
	if origin == state.Copied && !a.cfg.AcceptState {
		return fmt.Errorf("%w: %s was made at %s; nothing was deleted. Give this agent a store of its own or, where that agent is gone for good, "+
			"have it accepted as it is (Config.AcceptState)", ErrStateCopied, a.storeName(), from)
	}
	err := a.lostState(h)
	if err == nil {
		err = a.oldState(h)
	}
	if err != nil && !a.cfg.AcceptState {
		return fmt.Errorf("%w: %s: %w; nothing was deleted. Restore the store, or have it accepted as it is (Config.AcceptState)", ErrStateLost, a.storeName(), err)
	}
	if err != nil {
		a.log.Warn("the store is accepted as it is", "store", a.storeName(), "err", err)
		if err := a.forgetUnfinished(); err != nil {
			return err
		}
	}
	if err != nil {
		return a.store.accept(a.storing, h.newest())
	}
	if origin != state.Original {
		a.log.Warn("the store was put back here; what it has in creation is left alone, since it may be older than that",
			"store", a.storeName())
		return a.forgetUnfinished()
	}
	return nil
}

// storeName names the store in messages.
func (a *Agent) storeName() string {
	switch {
	case a.cfg.State == nil:
		return a.cfg.StorePath
	case a.cluster != nil:
		return "the table that the cluster shares (Config.State)"
	}
	return "Config.State"
}

// lostState looks for copies of an agent that had its store where this agent has a fresh one.
func (a *Agent) lostState(h held) error {
	if !a.store.fresh {
		return nil
	}
	for _, s := range h.foreignSnapshots {
		if s.Mark.Owner.SamePlace(a.id) {
			return fmt.Errorf("it is new, but snapshot %s was made by agent %s, whose store it was", s.ID, s.Mark.Owner)
		}
	}
	for _, s := range h.foreignShares {
		if s.Mark.Owner.SamePlace(a.id) {
			return fmt.Errorf("it is new, but share %q was made by agent %s, whose store it was", s.Name, s.Mark.Owner)
		}
	}
	return nil
}

// oldState looks for copies that are newer than the store.
func (a *Agent) oldState(h held) error {
	sequence := a.store.sequence()
	for _, s := range h.snapshots {
		if s.Mark.Sequence > sequence {
			return fmt.Errorf("it has seen %d changes, but snapshot %s was made after %d", sequence, s.ID,
				s.Mark.Sequence)
		}
	}
	for _, s := range h.shares {
		if s.Mark.Sequence > sequence {
			return fmt.Errorf("it has seen %d changes, but share %q was made after %d", sequence, s.Name,
				s.Mark.Sequence)
		}
	}
	for _, set := range a.Table() {
		if set.Removing || set.Status.hasShares() {
			continue
		}
		for _, c := range set.Copies {
			for _, m := range c.Shares {
				if s, ok := h.shares[strings.ToLower(m.Name)]; ok && s.Mark.Owner == a.id {
					return fmt.Errorf("it has shadow copy set %s as %s, but share %q is exposed", set.ID, set.Status,
						s.Name)
				}
			}
		}
	}
	return nil
}

// forgetUnfinished ends the creation of the sets that an old store has in creation: what became of
// them since then is not known. Those that were exposed are kept, and the others leave the table.
// Their copies, if there are any, stay as orphans.
func (a turn) forgetUnfinished() error {
	var ch change
	for _, e := range a.unfinished() {
		switch {
		case e.set.autoRelease():
		case e.set.Status == Exposed:
			kept := e.set.clone()
			kept.Kept = true
			ch.put = append(ch.put, kept)
		default:
			ch.drop = append(ch.drop, e.set.ID)
		}
	}
	return a.apply("old store accepted", ch)
}

// newest returns the largest sequence in the marks of everything that the agent has made.
func (h held) newest() uint64 {
	var n uint64
	for _, s := range h.snapshots {
		n = max(n, s.Mark.Sequence)
	}
	for _, s := range h.shares {
		n = max(n, s.Mark.Sequence)
	}
	return n
}
