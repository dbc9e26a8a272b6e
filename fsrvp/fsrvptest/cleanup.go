package fsrvptest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// The limits of a clean-up.
const (
	// removalLimit is the time for removing what a case has left, without the wait for a blocked
	// server.
	removalLimit = 2 * time.Minute
	// attempts is the number of tries of a clean-up call whose connection breaks.
	attempts = 5
	// settling is the time that a server may take to notice that the connection of a call broke,
	// before the clean-up looks again.
	settling = 250 * time.Millisecond
	// pause is the time between two looks at a blocked server.
	pause = time.Second
)

// The values of the Message Sequence Timer (MS-FSRVP 3.1.2), and the allowed delay of a server.
const (
	shortSequence = 180 * time.Second
	longSequence  = 1800 * time.Second
	late          = 15 * time.Second
)

// An occupation is what a server is busy with, as StartShadowCopySet shows it.
type occupation int

const (
	idle        occupation = iota // no context is set
	hasAContext                   // a context is set, and no set is in creation
	busy                          // a set is in creation
)

// cleanUp deletes what the case has left, undoes changes of rights, and frees the server for a new
// case. If it cannot, it returns why.
func (tr *trial) cleanUp() error {
	tr.cleaning = true
	defer func() { tr.cleaning = false }()
	ctx, cancel := tr.removal()
	defer cancel()
	var errs []error
	for i := len(tr.left) - 1; i >= 0; i-- {
		errs = append(errs, tr.remove(ctx, tr.left[i]))
	}
	for _, unmark := range tr.unmark {
		if err := unmark(ctx); err != nil {
			errs = append(errs, fmt.Errorf("restoring rights: %w", err))
		}
	}
	errs = append(errs, tr.free(ctx))
	tr.left, tr.contexts, tr.clientIDs, tr.unmark = nil, nil, nil, nil
	tr.touched, tr.doubtful = false, false
	return errors.Join(errs...)
}

// removal returns the context of a clean-up, which goes on even if the case was interrupted.
func (tr *trial) removal() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(tr.ctx), removalLimit)
}

// retry repeats a call if its connection breaks.
func retry(ctx context.Context, call func() error) (err error) {
	for range attempts {
		if err = call(); !unanswered(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(settling):
		}
	}
	return err
}

// isGone reports whether an error of a removal means that there is nothing to remove.
func isGone(err error) bool {
	for _, s := range []fsrvp.Status{fsrvp.ErrBadState, fsrvp.ErrBadID, fsrvp.ErrInvalidArg,
		fsrvp.ErrShadowCopySetIDMismatch, fsrvp.ErrObjectNotFound} {
		if errors.Is(err, s) {
			return true
		}
	}
	return err == nil
}

// remove deletes a set in any status, even on a server whose Abort answers success and does
// nothing. It is not an error if the set is gone.
func (tr *trial) remove(ctx context.Context, b *leftover) error {
	by := b.by
	abort := func() error { return by.AbortShadowCopySet(ctx, b.id) }
	err := retry(ctx, abort)
	if deniedByRPC(err) { // another caller must end it
		by = tr.Client
		err = retry(ctx, abort)
	}
	if !isGone(err) {
		return fmt.Errorf("aborting set %s: %w", b.id, err)
	}
	for _, s := range b.shares {
		remove := func() error { return by.DeleteShareMapping(ctx, b.id, s.copy, s.unc) }
		err := retry(ctx, remove)
		if errors.Is(err, fsrvp.ErrBadState) &&
			retry(ctx, func() error { return by.ExposeShadowCopySet(ctx, b.id, long) }) == nil {
			err = retry(ctx, remove) // it was Committed
		}
		if !isGone(err) {
			return fmt.Errorf("deleting %s of set %s: %w", s.unc, b.id, err)
		}
	}
	return nil
}

// look finds out what the server is busy with. If a context is set, it starts a set for that, and
// ends it again.
func (tr *trial) look(ctx context.Context, by fsrvp.Service) (occupation, error) {
	var id fsrvp.SetID
	err := retry(ctx, func() (err error) {
		id, err = by.StartShadowCopySet(ctx, fsrvp.NewSetID())
		return err
	})
	switch {
	case err == nil:
		return hasAContext, tr.remove(ctx, tr.noteSet(id, by))
	case errors.Is(err, fsrvp.ErrBadState):
		return idle, nil
	case errors.Is(err, fsrvp.ErrShadowCopySetInProgress):
		return busy, nil
	}
	return busy, fmt.Errorf("StartShadowCopySet, to see whether the server is free: %w", err)
}

// lookTwice is look for a server that may have a context: usually, ending the set that look began
// also ends the context.
func (tr *trial) lookTwice(ctx context.Context, by fsrvp.Service) (occupation, error) {
	is, err := tr.look(ctx, by)
	if err == nil && is == hasAContext {
		is, err = tr.look(ctx, by)
	}
	return is, err
}

// free brings the server into a state in which another creation can begin. If it cannot, it records
// that in the Target.
func (tr *trial) free(ctx context.Context) error {
	if !tr.touched {
		return nil
	}
	if tr.doubtful { // an abandoned call may still be running
		select {
		case <-ctx.Done():
		case <-time.After(settling):
		}
	}
	is, err := tr.lookTwice(ctx, tr.Client)
	if err == nil && is != busy {
		return tr.freed(is)
	}
	for _, id := range tr.clientIDs { // a server may have used it as the set's id
		err = errors.Join(err, tr.remove(ctx, tr.noteSet(id, tr.Client)))
	}
	if is, err = tr.lookTwice(ctx, tr.Client); err == nil && is != busy {
		return tr.freed(is)
	}
	if !tr.memory.startsOver && tr.Reset == nil { // SetContext might stop its timer, but not end the set
		if is, err = tr.outwait(); err == nil && is != busy {
			return tr.freed(is)
		}
	}
	ctx, cancel := tr.removal() // outwait may have taken a long time
	defer cancel()
	return tr.force(ctx)
}

// force frees the server without waiting: its clients start over, and it is reset.
func (tr *trial) force(ctx context.Context) error {
	is, err := tr.startOver(ctx)
	if err == nil && is != busy {
		return tr.freed(is)
	}
	if tr.Reset != nil {
		if err := tr.reset(ctx); err != nil {
			return &blockedError{err}
		}
		if is, err = tr.lookTwice(ctx, tr.Client); err == nil && is != busy {
			return tr.freed(is)
		}
	}
	if err == nil {
		err = errors.New("a shadow copy set that it did not name stays in creation")
	}
	return &blockedError{err}
}

// A blockedError says that the server is left in a state in which no creation can begin.
type blockedError struct{ err error }

func (e *blockedError) Error() string { return "the server stays blocked: " + e.err.Error() }

func (e *blockedError) Unwrap() error { return e.err }

func (tr *trial) freed(is occupation) error {
	tr.memory.context, tr.memory.contextBy = is == hasAContext, tr.name
	return tr.learn()
}

// learn finds out once, on a free server, whether SetContext removes the unfinished set of its
// caller, which is the way to remove an unfinished set whose id is lost.
func (tr *trial) learn() error {
	if tr.memory.learnt {
		return nil
	}
	ctx, cancel := tr.removal()
	defer cancel()
	by := tr.Client
	set := func() error { return by.SetContext(ctx, fsrvp.ContextBackup) }
	var id fsrvp.SetID
	err := retry(ctx, set)
	if err == nil {
		err = retry(ctx, func() (err error) {
			id, err = by.StartShadowCopySet(ctx, fsrvp.NewSetID())
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("a set with the context BACKUP cannot be started: %w", err)
	}
	b := tr.noteSet(id, by)
	is := busy
	if err = retry(ctx, set); err == nil {
		is, err = tr.lookTwice(ctx, by)
	}
	tr.memory.learnt, tr.memory.startsOver = true, err == nil && is != busy
	if err = tr.remove(ctx, b); err == nil {
		is, err = tr.lookTwice(ctx, by)
	}
	tr.memory.context = is == hasAContext
	return err
}

// startOver makes every caller that has set a context set one again: for the caller in creation,
// that removes the unfinished set (MS-FSRVP 3.1.4.2).
func (tr *trial) startOver(ctx context.Context) (is occupation, err error) {
	callers := tr.contexts
	if len(callers) == 0 {
		callers = []fsrvp.Service{tr.Client}
	}
	is = busy
	for _, by := range callers {
		err = retry(ctx, func() error { return by.SetContext(ctx, fsrvp.ContextBackup) })
		if err != nil {
			continue // another client is in creation
		}
		if is, err = tr.lookTwice(ctx, by); err == nil && is != busy {
			break
		}
	}
	return is, err
}

// outwait waits until the Message Sequence Timer has ended what blocks the server. It makes no call
// that restarts the timer.
func (tr *trial) outwait() (is occupation, err error) {
	limit := tr.BlockedWait
	switch {
	case limit < 0:
		return busy, nil
	case limit == 0 && tr.SequenceTimeout > 0:
		limit = tr.SequenceTimeout + tr.SequenceTimeout/4 + patience
	case limit == 0:
		limit = shortSequence + late
		if tr.lastOfLongTimer() {
			limit = longSequence + late
		}
	}
	if tr.OnWait != nil {
		tr.OnWait(limit)
	}
	ctx, cancel := context.WithTimeout(tr.whole, limit)
	defer cancel()
	for {
		if is, err = tr.lookTwice(ctx, tr.Client); err == nil && is != busy {
			return is, nil
		}
		select {
		case <-ctx.Done():
			return busy, err
		case <-time.After(min(pause, limit/8)):
		}
	}
}

// lastOfLongTimer reports whether the last call that started the timer may have started it with
// 1800 s. For a call without an answer, that is unknown.
func (tr *trial) lastOfLongTimer() bool {
	for i := len(tr.calls) - 1; i >= 0; i-- {
		c := &tr.calls[i]
		if c.CleanUp || c.Exchange.Response != nil && !c.Exchange.Response.Status().IsSuccess() {
			continue
		}
		switch c.Exchange.Opnum() {
		case fsrvp.OpAddToShadowCopySet, fsrvp.OpPrepareShadowCopySet, fsrvp.OpGetShareMapping:
			return true
		case fsrvp.OpSetContext, fsrvp.OpStartShadowCopySet, fsrvp.OpCommitShadowCopySet, fsrvp.OpExposeShadowCopySet:
			return false
		}
	}
	return false
}

// reset makes the server forget everything.
func (tr *trial) reset(ctx context.Context) error {
	err := tr.Reset(ctx)
	tr.hangUp()
	tr.memory.context = false
	if err != nil {
		return fmt.Errorf("resetting the server: %w", err)
	}
	tr.memory.left = ""
	return nil
}

// emptied resets the server, if possible, and reports whether there is no copy afterwards.
func (tr *trial) emptied(none func() bool) bool {
	return tr.Reset != nil && tr.reset(tr.ctx) == nil && none()
}

// withoutContext brings the server into a state without a context, for cases about that. A server
// that keeps its context after Abort loses it with RecoveryComplete, with a reset, or with its
// timer. If the server starts a set even after each of these, the case checks what it does without
// a context.
func (tr *trial) withoutContext() {
	if !tr.memory.context || tr.memory.startsAlways {
		return
	}
	tr.cleaning = true
	defer func() { tr.cleaning = false }()
	ways := []func() error{tr.liveOnce, tr.beSilent}
	if tr.Reset != nil {
		ways = []func() error{tr.liveOnce, func() error { return tr.reset(tr.ctx) }}
	}
	done := 0
	var errs []error
	for _, way := range ways {
		is, err := busy, way()
		if err == nil {
			is, err = tr.look(tr.ctx, tr.Client)
		}
		switch {
		case err != nil:
			errs = append(errs, err)
		case is == idle:
			tr.memory.context = false
			return
		default:
			done++
		}
	}
	if done == len(ways) {
		tr.memory.startsAlways = true
		return
	}
	panic(Result{Verdict: Blocked, BlockedBy: tr.memory.contextBy,
		Reason: fmt.Sprintf("the server keeps the context that %s has set (%v)", tr.memory.contextBy,
			errors.Join(errs...))})
}

// beSilent waits for as long as the Message Sequence Timer takes after SetContext.
func (tr *trial) beSilent() error {
	wait := tr.BlockedWait
	switch {
	case wait < 0:
		return errors.New("the server is not waited for")
	case wait == 0 && tr.SequenceTimeout > 0:
		wait = tr.SequenceTimeout + tr.SequenceTimeout/4 + 100*time.Millisecond
	case wait == 0:
		wait = shortSequence + late
	}
	if tr.OnWait != nil {
		tr.OnWait(wait)
	}
	select {
	case <-time.After(wait):
		return nil
	case <-tr.ctx.Done():
		return context.Cause(tr.ctx)
	}
}

// liveOnce takes a set through its whole life and deletes it.
func (tr *trial) liveOnce() (err error) {
	ctx, by := tr.ctx, tr.Client
	if err = by.SetContext(ctx, fsrvp.ContextBackup); err != nil {
		return err
	}
	id, err := by.StartShadowCopySet(ctx, fsrvp.NewSetID())
	if err != nil {
		return err
	}
	b := tr.noteSet(id, by)
	defer func() { err = errors.Join(err, tr.remove(ctx, b)) }()
	if _, err = by.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), id, tr.Share); err != nil {
		return err
	}
	if err = by.PrepareShadowCopySet(ctx, id, long); err != nil {
		return err
	}
	if err = by.CommitShadowCopySet(ctx, id, long); err != nil {
		return err
	}
	if err = by.ExposeShadowCopySet(ctx, id, long); err != nil {
		return err
	}
	return by.RecoveryCompleteShadowCopySet(ctx, id)
}
