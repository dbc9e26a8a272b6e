package provider

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// An Agent is a connection to the File Share Shadow Copy Agent of one file server. *fsrvp.Client is
// one.
type Agent interface {
	fsrvp.Service
	io.Closer
}

// Config says how Run and Recover work. One Config may serve several calls at once.
type Config struct {
	// Client says how to connect to a file server. It is used where Dial is nil.
	Client *fsrvp.Config
	// Dial connects to the agent of a file server, given its host name. It returns soon after its
	// context has ended. Nil means fsrvp.Dial with Client. Where the Agent has a method RemoteAddr
	// or, as
	// *fsrvp.Client, Conn, its address helps to recognise a server under several names.
	Dial func(ctx context.Context, server string) (Agent, error)

	// Context is the kind of shadow copies. Zero is BACKUP: read-only copies, with writers.
	Context fsrvp.ContextValue

	// Writers are what has to hold still while the copies are taken. They go through each phase at
	// once, and through freeze and thaw by their groups.
	Writers []Writer
	// FreezeLimit is the longest time from the first Freeze to the calls of Thaw; when it is over,
	// writers are thawed and the run fails. Zero means 60 s, as VSS has it. It holds only where a
	// writer has a Freeze.
	FreezeLimit time.Duration

	// PrepareWait, CommitWait and ExposeWait are the time-outs that servers are told, rounded up to
	// milliseconds. Zero means 1800 s, 60 s and 1800 s, as Windows has it (MS-FSRVP 3.2.4). Where a
	// writer freezes, a commit is told no more than what is left of FreezeLimit, and called again
	// while that lasts; elsewhere CommitWait is what a server has for its copies.
	PrepareWait, CommitWait, ExposeWait time.Duration

	// ConnectLimit bounds one connection to a server: dialling, binding, logging on, and the first
	// call. Zero means 30 s.
	ConnectLimit time.Duration
	// ProbeAfter is how long a call may be unanswered before the run sees whether the server still
	// lives: it makes another connection to it, within ConnectLimit, and again each ProbeAfter. A
	// server that takes none in that time is silent, and the call fails with [ErrSilent]. So a
	// server that dies costs ProbeAfter and ConnectLimit, and not the time-out that it was told. A
	// commit is not probed: it has FreezeLimit or CommitWait, and some servers do nothing else
	// meanwhile. Zero means 15 s; less than zero, no probes.
	ProbeAfter time.Duration
	// NoticeAfter is how long a server may take for its part of a phase before an event of the kind
	// Slow names it. Further ones come each time that the time has doubled. Zero means 10 s.
	NoticeAfter time.Duration

	// RetryFor is how long to try again while a server is busy with the set of another client
	// (FSRVP_E_SHADOW_COPY_SET_IN_PROGRESS). Nothing is held on any server meanwhile. Zero means 5
	// minutes; less than zero, no second try.
	//
	// Sets are started on all servers before a share is added on any, and only the start is tried
	// again: a Windows server that aborts a set with shares in it starts no other one for 30
	// minutes (MS-FSRVP 3.1.4.3, note 6). So a run that fails after all sets have started, whatever
	// the cause, has the next run on its Windows servers wait for up to 30 minutes. Where that
	// matters, give RetryFor more than that.
	RetryFor time.Duration
	// RetryDelay is the wait before the second try; it doubles up to 30 s, with jitter. Zero means
	// 1 s.
	RetryDelay time.Duration

	// TurnLimit is how long a run waits for its turn on servers that other runs of this host, in
	// this process or another one, are making sets on: a server knows its clients by their
	// addresses, and takes a second run of one host for a restart of the first, whose set it
	// removes. A turn ends when the set is recovered, not with the backup. Zero means one hour.
	TurnLimit time.Duration
	// TurnDir is the directory of the lock files by which processes take turns, one empty file for
	// each server, "fsrvp-turn-" and the server's name. All processes of the host that make sets
	// need the same one, and the right to make files in it. A crash frees a turn; the files stay.
	// Empty means /tmp, whatever TMPDIR says, and on Windows the folder for data of programs. A
	// service with a /tmp of its own (PrivateTmp) needs another one. Where the default cannot be
	// used, turns are taken within the process alone, and Logger hears of it.
	TurnDir string

	// CleanUpLimit bounds the clean-up at the end of a run, and each server's part of Recover.
	// While it lasts, a server that cannot be reached is tried again over new connections, after
	// delays that grow to 15 s. Zero means 2 minutes.
	CleanUpLimit time.Duration
	// CancelLimit bounds the clean-up from the moment that the run's context ends. Zero means 10 s.
	CancelLimit time.Duration

	// Journal notes what exists on which server, ahead of making it, so that Recover can end it
	// after a crash. Nil means none.
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
