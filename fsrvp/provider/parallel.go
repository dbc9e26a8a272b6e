package provider

import (
	"context"
	"errors"
	"sync"
)

// errElsewhere is why the context of a part ended when another part of the same phase failed.
var errElsewhere = errors.New("another part of the phase failed")

// all runs f for every part at once and waits for all of them. The first failure ends the context
// of the others; what they then say of that is not a failure of their own.
func all[T any](ctx context.Context, parts []T, f func(context.Context, T) error) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	return parallel(ctx, fail, parts, f)
}

// allPatient is all without the first failure ending the others: for what is quick, and for what
// must be tried everywhere.
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

// stoppedElsewhere reports whether err is only the echo of a failure in another part.
func stoppedElsewhere(ctx context.Context, err error) bool {
	return errors.Is(err, errElsewhere) ||
		errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), errElsewhere)
}
