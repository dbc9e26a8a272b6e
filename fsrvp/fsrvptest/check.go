package fsrvptest

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// Errors of [Target.Check].
var (
	// ErrUnreachable: no connection, or no log-on. The error wraps that of the transport or of the
	// mechanism.
	ErrUnreachable = errors.New("the server cannot be reached")
	// ErrNoService: the server is there, but does not offer the interface.
	ErrNoService = errors.New("the server does not offer MS-FSRVP")
	// ErrProtection: the server refuses the protection of the calls, or their caller.
	ErrProtection = errors.New("the server refuses the security of RPC")
	// ErrNoRights: the account may log on, but not use the protocol.
	ErrNoRights = errors.New("the account may not use the server's shadow copies")
	// ErrNoShare: the server has no share with this name.
	ErrNoShare = errors.New("the server has no such share")
	// ErrNotSupported: the share cannot be copied.
	ErrNotSupported = errors.New("the server cannot take shadow copies of the share")
	// ErrBusy: another client is taking shadow copies on the server.
	ErrBusy = errors.New("another client is taking shadow copies on the server")
	// ErrAnswers: the server's answers are too wrong for any case.
	ErrAnswers = errors.New("the server does not answer as it must")
)

// Check checks whether the cases can begin: whether the server can be reached, Client may use it,
// it has Share, and it is free. It also learns what the cases need to know for their clean-up. The
// error wraps one of [ErrUnreachable], [ErrNoService], [ErrProtection], [ErrNoRights], [ErrNoShare],
// [ErrNotSupported], [ErrBusy] and [ErrAnswers], and its cause.
//
// It makes and deletes a set without shares.
func (t *Target) Check(ctx context.Context) error {
	if t.memory == nil {
		t.memory = new(memory)
	}
	tr := newTrial(ctx, ctx, "the check before the first case", t)
	tr.cleaning = true
	defer tr.hangUp()
	c := tr.Client
	err := retry(ctx, func() error { _, err := c.GetSupportedVersion(ctx); return err })
	if err != nil {
		return fmt.Errorf("%w: %w", kindOf(err), err)
	}
	var p fsrvp.PathSupport
	err = retry(ctx, func() (err error) { p, err = c.IsPathSupported(ctx, t.Share); return err })
	switch {
	case errors.Is(err, fsrvp.ErrObjectNotFound), errors.Is(err, fsrvp.ErrInvalidArg):
		return fmt.Errorf("%w: %s: %w", ErrNoShare, t.Share, err)
	case errors.Is(err, fsrvp.ErrNotSupported):
		return fmt.Errorf("%w: %s: %w", ErrNotSupported, t.Share, err)
	case err != nil:
		return fmt.Errorf("%w: %s: %w", kindOf(err), t.Share, err)
	case !p.Supported:
		return fmt.Errorf("%w: %s", ErrNotSupported, t.Share)
	}
	is, err := tr.lookTwice(ctx, c)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", kindOf(err), err)
	case is == busy && t.Reset != nil:
		if err := tr.reset(ctx); err != nil {
			return fmt.Errorf("%w: %w", ErrAnswers, err)
		}
		if is, err = tr.lookTwice(ctx, c); err != nil || is == busy {
			return fmt.Errorf("%w, also after a reset (%v)", ErrBusy, err)
		}
	case is == busy:
		return ErrBusy
	}
	if err := tr.freed(is); err != nil {
		return fmt.Errorf("%w: %w", kindOf(err), err)
	}
	return nil
}

// kindOf returns the error of Check that an error of a call means.
func kindOf(err error) error {
	var rejected *dcerpc.RejectedError
	var connecting *dialError
	switch {
	case errors.Is(err, fsrvp.ErrAccessDenied):
		return ErrNoRights
	case errors.As(err, &rejected), errors.Is(err, dcerpc.ErrUnknownInterface):
		return ErrNoService
	case deniedByRPC(err):
		return ErrProtection
	case errors.As(err, &connecting), unanswered(err):
		return ErrUnreachable
	}
	return ErrAnswers
}
