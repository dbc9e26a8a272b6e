package agent

import (
	"context"
	"fmt"
	"net"
)

// Check reports whether the agent answers, for a watchdog: it waits until it could change the
// table, as most calls have to, and changes nothing. It returns the cause of ctx's end where that
// came first, as it does while a write of the store does not end, and an error that matches
// net.ErrClosed after Close. It needs no caller in ctx, and makes no Event.
func (a *Agent) Check(ctx context.Context) error {
	if !a.enter() {
		return fmt.Errorf("agent: %w", net.ErrClosed)
	}
	defer a.running.Done()
	t, err := a.take(ctx)
	if err != nil {
		return fmt.Errorf("agent: a change of the table does not end: %w", err)
	}
	t.give()
	return nil
}
