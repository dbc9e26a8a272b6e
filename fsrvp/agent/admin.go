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
	t, err := readRecords(report.Records)
	if err != nil {
		return nil, errors.Join(damage, fmt.Errorf("agent: store %s: %w", path, err))
	}
	saved := &SavedState{ID: Owner(report.ID), Sequence: report.Sequence}
	if b := report.Records[keyBase]; b != nil {
		base, err := strconv.ParseUint(string(b), 10, 64)
		if err != nil {
			return nil, errors.Join(damage, fmt.Errorf("agent: store %s: record %q: %w", path, keyBase, err))
		}
		saved.Sequence += base
	}
	for _, set := range t.sets {
		saved.Sets = append(saved.Sets, *set)
	}
	saved.Creation, err = json.Marshal(t.creation)
	return saved, errors.Join(damage, err)
}

// WriteState makes a store from a saved state and puts it at path. No agent may have the store at
// path open. If there was a store, WriteState renames it and returns its new name.
func WriteState(path string, s *SavedState) (aside string, err error) {
	if s.ID.IsZero() {
		return "", errors.New("agent: the saved state names no agent")
	}
	var c creation
	if len(s.Creation) > 0 {
		if err := json.Unmarshal(s.Creation, &c); err != nil {
			return "", fmt.Errorf("agent: the saved state's creation: %w", err)
		}
	}
	seen := map[fsrvp.SetID]bool{}
	var sets []*Set
	for i := range s.Sets {
		set := s.Sets[i].clone()
		if err := set.check(); err != nil || set.ID == (fsrvp.SetID{}) || seen[set.ID] {
			return "", errors.Join(fmt.Errorf("agent: the saved set %s is not whole, or is there twice", set.ID), err)
		}
		seen[set.ID] = true
		sets = append(sets, set)
	}
	records, err := tableRecords(c, sets)
	if err != nil {
		return "", err
	}
	records[keyBase] = strconv.AppendUint(nil, s.Sequence, 10)
	if _, err := readRecords(records); err != nil { // two shares of one name, for instance
		return "", fmt.Errorf("agent: the saved state: %w", err)
	}
	return state.Replace(path, state.ID(s.ID), records)
}
