package provider

import (
	"context"
	"errors"
	"sync"
)

// errElsewhere is the cause with which the context of a part ends when another part of the phase
// has failed.
var errElsewhere = errors.New("another part of the phase failed")

// all runs f concurrently for every part and waits for all of them. The first failure ends the
// context of the others; errors that result from that are ignored.
func all[T any](ctx context.Context, parts []T, f func(context.Context, T) error) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	return parallel(ctx, fail, parts, f)
}

// allPatient is like all, but a failure does not end the others. It is for work that is quick, or
// that must be tried everywhere.
func allPatient[T any](ctx context.Context, parts []T, f func(context.Context, T) error) error {
	return parallel(ctx, func(error) {}, parts, f)
}

func parallel[T any](ctx context.Context, fail context.CancelCauseFunc, parts []T,
	f func(context.Context, T) error) error {
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for i, p := range parts {
		wg.Go(func() {
			err := f(ctx, p)
			if err != nil && !stoppedElsewhere(ctx, err) {
				errs[i] = err
				fail(errElsewhere)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// stoppedElsewhere reports whether err only results from a failure in another part.
func stoppedElsewhere(ctx context.Context, err error) bool {
	return errors.Is(err, errElsewhere) ||
		errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), errElsewhere)
}
