package agent

import (
	"context"
	"fmt"
	"net"
)

// Check reports whether the agent answers, for a watchdog: it waits until it could change the
// table, as most calls must, and changes nothing. If ctx ends first, for example because a write of
// the store hangs, it returns an error that wraps ctx's cause. After Close it returns an error that
// matches [net.ErrClosed]. It needs no caller in ctx and reports no Event.
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
