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

// An Event is a phase that began or ended, a server's part of one that ended, or a wait.
type Event struct {
	Time  time.Time
	Phase Phase
	Kind  EventKind
	// Server is set where the event is of one server, Writer where it is of one writer.
	Server, Writer string
	// Elapsed is how long what has ended took; for Waiting, how long the wait will be.
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
	Waiting    EventKind = "wait" // a server is busy: nothing is held, and the start is tried again
)
