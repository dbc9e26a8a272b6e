package provider

import "time"

// A Phase is a step of Run.
type Phase string

// The phases, in their order.
const (
	PhaseResolve      Phase = "resolve"
	PhaseStart        Phase = "start"
	PhasePrepare      Phase = "prepare"
	PhaseFreeze       Phase = "freeze"
	PhaseCommit       Phase = "commit"
	PhaseThaw         Phase = "thaw"
	PhaseExpose       Phase = "expose"
	PhasePostSnapshot Phase = "snapshot"
	PhaseRecover      Phase = "recover"
	PhaseBackup       Phase = "backup"
	PhaseCleanUp      Phase = "clean"
)

// An Event is a phase that began or ended, a server's or writer's part of one that ended, or a
// wait.
//
// Phases come in their order, one after the other: each begins when the one before has ended. Where
// a phase fails, the clean-up is next, but that writers are always thawed. A part that is still at
// work when its phase has been given up, such as a commit after the freeze limit, ends later,
// before the clean-up.
type Event struct {
	Time  time.Time
	Phase Phase
	Kind  EventKind
	// Server is set where the event is of one server, Writer where it is of one writer.
	Server, Writer string
	// Elapsed is the time from the beginning of the phase or part to this event; for Waiting, how
	// long the wait will be. The start includes waits and turns.
	Elapsed time.Duration
	// Err is why it failed; for Waiting, why it waits. Nil otherwise.
	Err error
}

// An EventKind says what an Event tells.
type EventKind string

// The kinds of events.
const (
	PhaseBegan EventKind = "began"
	PhaseEnded EventKind = "ended"
	PartEnded  EventKind = "part" // one server's or writer's part of a phase
	// Waiting: a server is busy, nothing is held, and the start is tried again; or a server cannot
	// be reached, and the clean-up is tried again.
	Waiting EventKind = "wait"
	// Queued: another run of this host is making a set on the server, and this one waits for its
	// turn.
	Queued EventKind = "queue"
	// Slow: the server has not done its part of the phase yet.
	Slow EventKind = "slow"
)
