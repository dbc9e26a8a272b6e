package provider

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// An Agent is a connection to the File Share Shadow Copy Agent of one file server. *fsrvp.Client is one.
type Agent interface {
	fsrvp.Service
	io.Closer
}

// Config says how Run and Recover work. One Config may serve several calls at once.
type Config struct {
	// Client says how to connect to a file server. It is used where Dial is nil.
	Client *fsrvp.Config
	// Dial connects to the agent of a file server, given its host name. Nil means fsrvp.Dial with Client.
	Dial func(ctx context.Context, server string) (Agent, error)

	// Context is the kind of shadow copies. Zero is BACKUP: read-only copies, with writers.
	Context fsrvp.ContextValue

	// Writers are what has to hold still while the copies are taken. They go through each phase at once, and
	// through freeze and thaw by their groups.
	Writers []Writer
	// FreezeLimit is the longest time from the first Freeze to the calls of Thaw; when it is
	// over, writers are thawed and the run fails. Zero means 60 s, as VSS has it.
	FreezeLimit time.Duration

	// PrepareWait, CommitWait and ExposeWait are the time-outs that servers are told, rounded up to
	// milliseconds. Zero means 1800 s, 60 s and 1800 s, as Windows has it (MS-FSRVP 3.2.4). A commit is told
	// no more than what is left of FreezeLimit, and called again while that lasts.
	PrepareWait, CommitWait, ExposeWait time.Duration

	// RetryFor is how long to try again while a server is busy with the set of another client
	// (FSRVP_E_SHADOW_COPY_SET_IN_PROGRESS). Nothing is held on any server meanwhile. Zero means 5 minutes;
	// less than zero, no second try.
	RetryFor time.Duration
	// RetryDelay is the wait before the second try; it doubles up to 30 s, with jitter. Zero means 1 s.
	RetryDelay time.Duration

	// CleanUpLimit bounds the clean-up at the end of a run, and each server's part of Recover. Zero means 2 minutes.
	CleanUpLimit time.Duration

	// Journal notes what exists on which server, ahead of making it, so that Recover can end it after
	// a crash. Nil means none.
	Journal *Journal

	// Progress is told what happens; calls come one at a time, and hold the run up. Nil means none.
	Progress func(Event)
	// Logger gets what Progress gets, and what the clean-up forgave. Nil means none.
	Logger *slog.Logger
}

// withDefaults returns a copy of c in which no field that has a default is zero.
func (c *Config) withDefaults() (*Config, error) {
	var d Config
	if c != nil {
		d = *c
	}
	if d.Dial == nil {
		if d.Client == nil {
			return nil, errors.New("provider: Config needs a Client or a Dial to reach file servers")
		}
		client := d.Client
		d.Dial = func(ctx context.Context, server string) (Agent, error) {
			return fsrvp.Dial(ctx, server, client)
		}
	}
	if !d.Context.Valid() {
		return nil, &Error{Phase: PhaseResolve, Err: fsrvp.ErrUnsupportedContext}
	}
	for _, def := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&d.FreezeLimit, 60 * time.Second},
		{&d.PrepareWait, 1800 * time.Second},
		{&d.CommitWait, 60 * time.Second},
		{&d.ExposeWait, 1800 * time.Second},
		{&d.RetryFor, 5 * time.Minute},
		{&d.RetryDelay, time.Second},
		{&d.CleanUpLimit, 2 * time.Minute},
	} {
		if *def.field == 0 {
			*def.field = def.value
		}
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	return &d, nil
}
