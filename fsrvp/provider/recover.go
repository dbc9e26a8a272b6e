package provider

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// Recover ends what runs that never ended have left on the servers: it aborts or deletes every set
// that cfg.Journal still names. Runs that are under way in this process are left alone. What could
// not be ended, because its server is down for instance, stays in the journal for the next call,
// and is named by the error, joined from an *Error each.
//
// A run that crashed between a server's beginning a set and its telling the set's id leaves a set
// of unknown id; Recover waits for its turn on the server, see Config.TurnDir, and then takes the
// server over with SetContext, as a client that has started again does. It has to run on the host
// that the crashed run was on: a server knows a client by its address.
func Recover(ctx context.Context, cfg *Config) error {
	c, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if c.Journal == nil {
		return errors.New("provider: Recover needs Config.Journal, the journal of the runs that it is about")
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
			// A run of its own, for the journal's key; what it shares with the others is for
			// several.
			one := &run{Config: c, id: rec.Run, events: r.events}
			s := rec.server()
			return errors.Join(
				// A server that is down is the next call's.
				r.part(ctx, PhaseCleanUp, s, func() error { return s.release(ctx, one, 2) }),
				s.close(),
			)
		})
	})
}

// server is what the record says of one.
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
