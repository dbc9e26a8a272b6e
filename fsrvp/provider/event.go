package provider

import "time"

// A Phase is a step of [Run].
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
// Phases come in order: each begins when the one before has ended. After a failed phase the
// clean-up is next, except that writers are always thawed first. A part that is still in progress
// when its phase is given up, such as a commit after the freeze limit, ends later, before the
// clean-up.
type Event struct {
	Time  time.Time
	Phase Phase
	Kind  EventKind
	// Server is set if the event concerns one server, Writer if it concerns one writer.
	Server, Writer string
	// Elapsed is the time from the beginning of the phase or part to this event; for Waiting, the
	// length of the wait. The time of the start phase includes waits and turns.
	Elapsed time.Duration
	// Err is why it failed; for Waiting, why it waits. Nil otherwise.
	Err error
}

// An EventKind is the kind of an [Event].
type EventKind string

// The kinds of events.
const (
	PhaseBegan EventKind = "began"
	PhaseEnded EventKind = "ended"
	PartEnded  EventKind = "part" // one server's or writer's part of a phase
	// Waiting: a server is busy, the run holds nothing, and will try the start again; or a server
	// cannot be reached, and the run will try the clean-up again.
	Waiting EventKind = "wait"
	// Queued: another run of this host is making a set on the server, and this one waits for its
	// turn.
	Queued EventKind = "queue"
	// Slow: the server has not yet finished its part of the phase.
	Slow EventKind = "slow"
)
