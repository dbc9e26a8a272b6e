package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// made lists what a replay has made on servers and not yet removed.
type made struct {
	sets     []*madeSet
	contexts []madeContext
}

// A madeSet is a set that was started.
type madeSet struct {
	transcript.Connection // the connection on which it was started
	id                    fsrvp.SetID
	shares                []madeShare // that were added and not deleted
	committed             bool        // a commit was tried
	recovered             bool
	aborted               bool
}

type madeShare struct {
	copy fsrvp.CopyID
	unc  string
}

// A madeContext is a context that was set and not yet used by a started set with a known id.
type madeContext struct {
	transcript.Connection
	value fsrvp.ContextValue
}

// note records the outcome of a call. A call without an answer may have had its effect.
func (m *made) note(e *transcript.Exchange, res *Result) {
	ok := res.Response != nil && res.Response.Status().IsSuccess()
	doubtful := res.Err != nil
	switch req := res.Request.(type) {
	case *fsrvp.SetContextRequest:
		if ok || doubtful {
			m.contextSet(e.Connection, req.Context)
		}
	case *fsrvp.StartShadowCopySetRequest:
		if ok {
			m.contextUsed(e.Connection)
			id := res.Response.(*fsrvp.StartShadowCopySetResponse).ShadowCopySetID
			m.sets = append(m.sets, &madeSet{Connection: e.Connection, id: id})
		}
	case *fsrvp.AddToShadowCopySetRequest:
		if set := m.set(req.ShadowCopySetID); ok && set != nil {
			id := res.Response.(*fsrvp.AddToShadowCopySetResponse).ShadowCopyID
			set.shares = append(set.shares, madeShare{id, string(req.ShareName)})
		}
	case *fsrvp.CommitShadowCopySetRequest:
		if set := m.set(req.ShadowCopySetID); set != nil {
			set.committed = true
		}
	case *fsrvp.RecoveryCompleteShadowCopySetRequest:
		if set := m.set(req.ShadowCopySetID); ok && set != nil {
			set.recovered = true
		}
	case *fsrvp.AbortShadowCopySetRequest:
		if set := m.set(req.ShadowCopySetID); ok && set != nil {
			set.aborted = true
		}
	case *fsrvp.DeleteShareMappingRequest:
		if set := m.set(req.ShadowCopySetID); ok && set != nil {
			set.deleted(req.ShadowCopyID, string(req.ShareName))
		}
	}
	m.sets = slices.DeleteFunc(m.sets, (*madeSet).gone)
}

// samePlace reports whether a server with one creation per client treats both as the same client.
func samePlace(a, b *transcript.Connection) bool { return a.Server == b.Server && a.Host() == b.Host() }

func (m *made) contextSet(c transcript.Connection, v fsrvp.ContextValue) {
	m.contextUsed(c)
	m.contexts = append(m.contexts, madeContext{c, v})
}

func (m *made) contextUsed(c transcript.Connection) {
	m.contexts = slices.DeleteFunc(m.contexts, func(o madeContext) bool { return samePlace(&o.Connection, &c) })
}

func (m *made) set(id fsrvp.SetID) *madeSet {
	for _, s := range m.sets {
		if s.id == id {
			return s
		}
	}
	return nil
}

func (s *madeSet) deleted(id fsrvp.CopyID, unc string) {
	s.shares = slices.DeleteFunc(s.shares, func(o madeShare) bool { return o.copy == id && bareShare(o.unc) == bareShare(unc) })
}

// gone reports whether nothing can be left of the set. Samba's agent reports success for the abort
// of a committed set without aborting it.
func (s *madeSet) gone() bool {
	if s.aborted {
		return !s.committed || len(s.shares) == 0
	}
	return s.recovered && len(s.shares) == 0
}

// cleanUp removes what was made, in reverse order.
func (r *run) cleanUp(ctx context.Context) error {
	conns := map[transcript.Connection]*connection{}
	defer func() {
		for _, conn := range conns {
			conn.close()
		}
	}()
	service := func(c transcript.Connection) (fsrvp.Service, error) {
		if conn, ok := conns[c]; ok {
			return conn.service, nil
		}
		s, closer, err := r.dial(ctx, c)
		if err == nil {
			conns[c] = &connection{service: s, closer: closer}
		}
		return s, err
	}
	var errs []error
	for _, set := range slices.Backward(r.made.sets) {
		s, err := service(set.Connection)
		var existed bool
		if err == nil {
			existed, err = remove(ctx, s, set, r.CleanUpLimit)
		}
		switch {
		case err != nil:
			r.report.Left = append(r.report.Left, set.id)
			errs = append(errs, fmt.Errorf("replay: removing shadow copy set %s: %w", set.id, err))
		case existed:
			r.report.Removed = append(r.report.Removed, set.id)
		}
	}
	for _, c := range r.made.contexts {
		s, err := service(c.Connection)
		if err == nil {
			err = reset(ctx, s, c.value)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("replay: resetting the context: %w", err))
		}
	}
	return errors.Join(errs...)
}

// remove removes a set in any state, and reports whether it existed. It waits up to wait for a set
// that must be exposed first.
func remove(ctx context.Context, s fsrvp.Service, set *madeSet, wait time.Duration) (existed bool, err error) {
	if !set.recovered && !set.aborted {
		err := s.AbortShadowCopySet(ctx, set.id)
		switch {
		case err == nil && !set.committed:
			return true, nil
		case err == nil:
			existed = true
		case !unknown(err) && !errors.Is(err, fsrvp.ErrBadState):
			return false, err
		}
	}
	for _, share := range set.shares {
		err := s.DeleteShareMapping(ctx, set.id, share.copy, share.unc)
		if errors.Is(err, fsrvp.ErrBadState) { // it is committed, and Abort has done nothing
			if err = s.ExposeShadowCopySet(ctx, set.id, wait); err == nil {
				err = s.DeleteShareMapping(ctx, set.id, share.copy, share.unc)
			}
		}
		switch {
		case err == nil:
			existed = true
		case !unknown(err):
			return existed, err
		}
	}
	return existed, nil
}

// reset ends a creation without a known set: SetContext from the same client removes an unfinished
// set (MS-FSRVP 3.1.4.2), and the abort of a new set removes the context. If the server refuses, it
// has nothing of ours, or another client's creation.
func reset(ctx context.Context, s fsrvp.Service, value fsrvp.ContextValue) error {
	err := s.SetContext(ctx, value)
	var set fsrvp.SetID
	if err == nil {
		set, err = s.StartShadowCopySet(ctx, fsrvp.NewSetID())
	}
	if err == nil {
		err = s.AbortShadowCopySet(ctx, set)
	}
	if status(err) != 0 {
		return nil
	}
	return err
}

// unknown reports whether a server answered, in any of the usual ways, that it has no such set,
// copy or share.
func unknown(err error) bool {
	return errors.Is(err, fsrvp.ErrObjectNotFound) ||
		errors.Is(err, fsrvp.ErrShadowCopySetIDMismatch) ||
		errors.Is(err, fsrvp.ErrInvalidArg)
}
