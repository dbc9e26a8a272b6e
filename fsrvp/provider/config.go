package provider

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// An Agent is a connection to the File Share Shadow Copy Agent of one file server. [*fsrvp.Client]
// implements it.
type Agent interface {
	fsrvp.Service
	io.Closer
}

// Config configures Run and Recover. Concurrent calls may share one Config.
type Config struct {
	// Client says how to connect to a file server. It is used if Dial is nil.
	Client *fsrvp.Config
	// Dial connects to the agent of a file server, given its host name. It must return soon after
	// its context has ended. Nil means [fsrvp.Dial] with Client. If the Agent has a method
	// RemoteAddr or, like *fsrvp.Client, Conn, its address helps to recognize a server with several
	// names.
	Dial func(ctx context.Context, server string) (Agent, error)

	// Context is the kind of shadow copies. Zero means BACKUP: read-only copies, with writers.
	Context fsrvp.ContextValue

	// Writers are the applications that must not write while the copies are taken. They go through
	// each phase concurrently, and through freeze and thaw by their groups.
	Writers []Writer
	// FreezeLimit is the longest time from the first Freeze to the calls of Thaw; when it is over,
	// writers are thawed and the run fails. Zero means 60 s, as in VSS. It applies only if a writer
	// has a Freeze.
	FreezeLimit time.Duration

	// PrepareWait, CommitWait and ExposeWait are the time-outs sent to servers, rounded up to
	// milliseconds. Zero means 1800 s, 60 s and 1800 s, as on Windows (MS-FSRVP 3.2.4). If a writer
	// freezes, a commit's time-out is at most the rest of FreezeLimit, and the commit is repeated
	// until that is over; otherwise CommitWait is all the time that a server has for its copies.
	PrepareWait, CommitWait, ExposeWait time.Duration

	// ConnectLimit bounds one connection to a server: dialing, binding, logging on, and the first
	// call. Zero means 30 s.
	ConnectLimit time.Duration
	// ProbeAfter is the time after which the run checks whether the server of an unanswered call is
	// still alive: it makes another connection to it, within ConnectLimit, and repeats that every
	// ProbeAfter. If the server does not accept the connection in time, it is silent, and the call
	// fails with [ErrSilent]. So a dead server costs ProbeAfter and ConnectLimit, rather than the
	// whole time-out of the call. A commit is not probed: FreezeLimit or CommitWait bound it, and
	// some servers do nothing else meanwhile. Zero means 15 s; a negative value means no probes.
	ProbeAfter time.Duration
	// NoticeAfter is the time that a server may take for its part of a phase before an event of the
	// kind Slow names it. Another one follows each time that the time has doubled. Zero means 10 s.
	NoticeAfter time.Duration

	// RetryFor is the time to go on trying while a server is busy with the set of another client
	// (FSRVP_E_SHADOW_COPY_SET_IN_PROGRESS). The run holds nothing on any server meanwhile. Zero
	// means 5 minutes; a negative value means no second try.
	//
	// Sets are started on all servers before any share is added, and only the start is tried again:
	// after the abort of a set with shares, a Windows server starts no other one for 30 minutes
	// (MS-FSRVP 3.1.4.3, note 6). So after a run that fails later than that, for any reason, the
	// next run may have to wait up to 30 minutes for its Windows servers. If that matters, set
	// RetryFor to more than 30 minutes.
	RetryFor time.Duration
	// RetryDelay is the wait before the second try; it doubles up to 30 s, with jitter. Zero means
	// 1 s.
	RetryDelay time.Duration

	// TurnLimit is the time that a run waits for its turn on servers on which other runs of this
	// host, in this process or another one, are making sets. Turns are necessary because a server
	// identifies clients by their addresses: it takes a second run from one host for a restart of
	// the first, and removes the first's set. A turn ends when the set is recovered, not with the
	// backup. Zero means one hour.
	TurnLimit time.Duration
	// TurnDir is the directory of the lock files with which processes take turns, one empty file
	// for each server, "fsrvp-turn-" and the server's name. All processes of the host that make
	// sets must use the same directory, and must be able to make files in it. A crash frees a turn;
	// the files stay. Empty means /tmp, whatever TMPDIR says, and on Windows the folder for program
	// data. A service with a private /tmp (PrivateTmp) needs another directory. If the default
	// cannot be used, turns are taken only within the process, and Logger gets a warning.
	TurnDir string

	// CleanUpLimit bounds the clean-up at the end of a run, and each server's part of Recover.
	// Until then, an unreachable server is tried again over new connections, after delays that grow
	// to 15 s. Zero means 2 minutes.
	CleanUpLimit time.Duration
	// CancelLimit bounds the clean-up after the run's context has ended. Zero means 10 s.
	CancelLimit time.Duration

	// Journal records what exists on which server, before it is made, so that Recover can remove it
	// after a crash. Nil means none.
	Journal *Journal

	// Progress, if not nil, is called for each event, one at a time. The run waits for it.
	Progress func(Event)
	// Logger gets the events, and errors that the clean-up ignored. Nil means none.
	Logger *slog.Logger
}

// withDefaults returns a copy of c with its defaults set.
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
		{&d.CancelLimit, 10 * time.Second},
		{&d.ConnectLimit, 30 * time.Second},
		{&d.ProbeAfter, 15 * time.Second},
		{&d.NoticeAfter, 10 * time.Second},
		{&d.TurnLimit, time.Hour},
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
