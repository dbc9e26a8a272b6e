package provider

import (
	"context"
	"errors"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// Recover ends what runs that never ended have left on the servers: it aborts or deletes every set that cfg.Journal still
// names. Runs that are under way in this process are left alone. What could not be ended, because its server is
// down for instance, stays in the journal for the next call, and is named by the error, joined from an *Error each.
//
// A run that crashed between a server's beginning a set and its telling the set's id leaves a
// set of unknown id; Recover then takes the server over with SetContext, as a client that has started again
// does. It has to run on the host that the crashed run was on: a server knows a client by its address.
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
	r := &run{Config: c}
	return r.phase(ctx, PhaseCleanUp, func(ctx context.Context) error {
		return allPatient(ctx, left, func(ctx context.Context, rec record) error {
			ctx, cancel := context.WithTimeout(ctx, c.CleanUpLimit)
			defer cancel()
			// A run of its own, for the journal's key; it shares nothing that changes.
			one := &run{Config: c, id: rec.Run}
			s := rec.server()
			return errors.Join(
				r.part(PhaseCleanUp, s, func() error { return s.release(ctx, one) }),
				s.close(),
			)
		})
	})
}

// server is what the record says of one.
func (rec *record) server() *server {
	s := &server{name: rec.Server, set: rec.Set, state: stateStarting}
	if rec.State == "started" {
		s.state = stateStarted
	}
	for _, sh := range rec.Shares {
		s.shares = append(s.shares, &share{unc: sh.Share, copy: sh.Copy, added: sh.Copy != (fsrvp.CopyID{})})
	}
	return s
}
