package provider

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// Recover removes what crashed runs have left on the servers: it aborts or deletes every set that
// cfg.Journal still names. It ignores runs in progress in this process. Sets that it could not
// remove, for example because a server is down, stay in the journal for the next call; the error
// joins an [*Error] for each.
//
// If a run crashed after a server began a set but before it answered the id, the id of the set is
// unknown. Recover then waits for its turn on the server (see TurnDir in [Config]), and removes the
// set with SetContext, like a restarted client. It must run on the host of the crashed run, since a
// server identifies a client by its address.
func Recover(ctx context.Context, cfg *Config) error {
	c, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if c.Journal == nil {
		return errors.New("provider: Recover needs Config.Journal, the journal of the crashed runs")
	}
	left, err := c.Journal.left()
	if err != nil {
		return err
	}
	r := newRun(c, nil)
	return r.phase(ctx, PhaseCleanUp, func(ctx context.Context) error {
		return allPatient(ctx, left, func(ctx context.Context, rec record) error {
			late := fmt.Errorf("gave up after the limit of %v", c.CleanUpLimit)
			ctx, cancel := context.WithTimeoutCause(ctx, c.CleanUpLimit, late)
			defer cancel()
			// A separate run, for the journal's key; it shares only what is safe for concurrent
			// use.
			one := &run{Config: c, id: rec.Run, events: r.events}
			s := rec.server()
			return errors.Join(
				// A server that is down is left to the next call.
				r.part(ctx, PhaseCleanUp, s, func() error { return s.release(ctx, one, 2) }),
				s.close(),
			)
		})
	})
}

// server returns the server that the record describes.
func (rec *record) server() *server {
	s := &server{name: rec.Server, shown: rec.Server, set: rec.Set, state: stateStarting}
	if rec.State == "started" {
		s.state = stateStarted
	}
	for _, sh := range rec.Shares {
		s.shares = append(s.shares, &share{unc: sh.Share, copy: sh.Copy, added: sh.Copy != (fsrvp.CopyID{})})
	}
	return s
}
