package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// ErrInCreation means that Remove was asked to delete a set whose creation a client has not
// finished.
var ErrInCreation = errors.New("agent: the shadow copy set is in creation")

// Remove deletes a set and everything that was made for it, for an administrator. It deletes a set
// in creation only with force; the set's client then finds it gone. If a backend fails, the agent
// retries by itself. If the context ends, Remove returns at once and the removal continues.
func (a *Agent) Remove(ctx context.Context, id fsrvp.SetID, force bool) error {
	if !a.enter() {
		return fmt.Errorf("agent: removing shadow copy set %s: %w", id, net.ErrClosed)
	}
	defer a.running.Done()
	w, err := detached(ctx, &a.running, func() (*work, error) { return a.beginRemove(ctx, id, force) })
	if err != nil {
		return fmt.Errorf("agent: removing shadow copy set %s: %w", id, err)
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (a *Agent) beginRemove(ctx context.Context, id fsrvp.SetID, force bool) (w *work, err error) {
	return w, a.inTurn(ctx, func(t turn) (err error) {
		switch e := a.sets[id]; {
		case e == nil:
			return errors.New("there is none of that id")
		case e.set.Removing:
			w, err = t.joinRemoval("administrator", e)
		case a.inCreation(e.set) && !force:
			return fmt.Errorf("%w: it is %s", ErrInCreation, e.set.Status)
		default:
			w, err = t.abort("administrator", e)
		}
		return err
	})
}

// A SavedState is the whole content of an agent's store, in the form in which administrators save
// it.
type SavedState struct {
	ID       Owner           `json:"id"`
	Sequence uint64          `json:"sequence"`
	Creation json.RawMessage `json:"creation"` // the creation that was in progress
	Sets     []Set           `json:"sets"`
	// Lost is what nodes of a cluster may have left that were declared lost, and that others remove
	// when it is certain that they are gone. Empty: nothing.
	Lost json.RawMessage `json:"lost,omitempty"`
}

// ReadState reads the store at a path and changes nothing. An agent may have the store open. For a
// damaged store it returns what could be read, and a [state.DamageError]. For a store in the format
// of an older version it returns everything that an agent would take over.
func ReadState(path string) (*SavedState, error) {
	report, damage := state.Check(path)
	if report == nil {
		return nil, damage
	}
	if report.Foreign {
		return nil, fmt.Errorf("agent: %s is not in the format of this version; an agent that starts takes over what older versions have written", path)
	}
	saved, err := ParseState(report)
	if err != nil {
		err = fmt.Errorf("agent: store %s: %w", path, err)
	}
	return saved, errors.Join(damage, err)
}

// ParseState returns what the records of a store mean, that of a cluster's nodes or another one. It
// fails where they make no sense.
func ParseState(report *state.Report) (*SavedState, error) {
	t, err := readRecords(report.Records)
	if err != nil {
		return nil, err
	}
	saved := &SavedState{ID: Owner(report.ID), Sequence: report.Sequence}
	if b := report.Records[keyBase]; b != nil {
		base, err := strconv.ParseUint(string(b), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("record %q: %w", keyBase, err)
		}
		saved.Sequence += base
	}
	for _, set := range t.sets {
		saved.Sets = append(saved.Sets, *set)
	}
	if len(t.lost) > 0 {
		saved.Lost, err = json.Marshal(t.lost)
	}
	var creationErr error
	saved.Creation, creationErr = json.Marshal(t.creation)
	return saved, errors.Join(err, creationErr)
}

// WriteState makes a store from a saved state and puts it at path. No agent may have the store at
// path open. If there was a store, WriteState renames it and returns its new name.
// It refuses the state of a cluster that has Lost: a single agent knows nothing of nodes.
func WriteState(path string, s *SavedState) (aside string, err error) {
	if len(s.Lost) > 0 {
		return "", errors.New("agent: the saved state has what lost nodes of a cluster may have left: have an agent of the cluster run until it has removed that, and save the state again")
	}
	records, err := s.Records()
	if err != nil {
		return "", err
	}
	return state.Replace(path, state.ID(s.ID), records)
}

// Records returns a saved state as records for a store, or the reason for which it makes no sense.
func (s *SavedState) Records() (map[string][]byte, error) {
	if s.ID.IsZero() {
		return nil, errors.New("agent: the saved state names no agent")
	}
	var c creation
	if len(s.Creation) > 0 {
		if err := json.Unmarshal(s.Creation, &c); err != nil {
			return nil, fmt.Errorf("agent: the saved state's creation: %w", err)
		}
	}
	c.Stay, c.Moved = 0, false // no node watches it
	seen := map[fsrvp.SetID]bool{}
	var sets []*Set
	for i := range s.Sets {
		set := s.Sets[i].clone()
		if err := set.check(); err != nil || set.ID == (fsrvp.SetID{}) || seen[set.ID] {
			return nil, errors.Join(fmt.Errorf("agent: the saved set %s is not whole, or is there twice", set.ID), err)
		}
		seen[set.ID] = true
		sets = append(sets, set.idle()) // whatever worked on it runs no more
	}
	lost := map[uint64]*leftover{}
	if len(s.Lost) > 0 {
		if err := json.Unmarshal(s.Lost, &lost); err != nil {
			return nil, fmt.Errorf("agent: the saved state's lost nodes: %w", err)
		}
	}
	d := (&store{}).diff(nil, change{creation: &c, put: sets, lost: lost})
	if d.err != nil {
		return nil, d.err
	}
	records := d.change.Put
	records[keyBase] = strconv.AppendUint(nil, s.Sequence, 10)
	if _, err := readRecords(records); err != nil { // two shares of one name, for instance
		return nil, fmt.Errorf("agent: the saved state: %w", err)
	}
	return records, nil
}
