package agent

import (
	"io/fs"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// EventKind says what an Event is about.
type EventKind uint8

// The kinds of events.
const (
	// EventCall: a method has returned. Fields: Op, Status, Duration; Set and Copy if the call
	// named them.
	EventCall EventKind = iota + 1
	// EventStep: a step of a backend or of the store has ended. Fields: Step, Duration, Err, Set;
	// Copy if the step was about one.
	EventStep
	// EventStatus: a set has changed its status, or is Removing. Fields: Set, From (empty if the
	// set is new), To (empty if it is gone), and the sizes of the table. These events come in the
	// order in which the table changes.
	EventStatus
	// EventTimeout: the Message Sequence Timer has fired. Fields: Set, if one was unfinished.
	EventTimeout
	// EventMoved: a snapshot was taken, but part of the volume changed while it was copied. Fields:
	// Set, Copy, Moved.
	EventMoved
	// EventUnread: a snapshot was taken without files that could not be read. Fields: Set, Copy,
	// Unread.
	EventUnread
)

// A Step is a kind of work that a backend or the store does for the agent.
type Step string

// The steps.
const (
	StepPrepare   Step = "prepare"    // Preparer.Prepare
	StepCreate    Step = "create"     // Snapshots.Create
	StepDelete    Step = "delete"     // Snapshots.Delete
	StepSeal      Step = "seal"       // Sealer.Seal
	StepExpose    Step = "expose"     // Shares.Expose, or ShareBatcher.ExposeShares for all shares of a set
	StepUnexpose  Step = "unexpose"   // Shares.Unexpose, or ShareBatcher.UnexposeShares for all
	StepSealShare Step = "seal-share" // ShareSealer.SealShare, or ShareBatcher.SealShares for all
	StepStore     Step = "store"      // a transaction of the store
)

// An Event reports something that an Agent did, for counters, gauges and histograms. Fields that
// the kind does not list are zero. Later versions may add kinds and fields.
type Event struct {
	Kind     EventKind
	Set      fsrvp.SetID
	Copy     fsrvp.CopyID
	Op       fsrvp.Opnum
	Status   fsrvp.Status // zero: success
	Step     Step
	Duration time.Duration
	Err      error
	From, To SetStatus
	Moved    []string        // Snapshot.Moved; read-only
	Unread   []*fs.PathError // Snapshot.Unread; read-only
	// Sets, Copies and Shares are the sizes of the table after an EventStatus.
	Sets, Copies, Shares int
}
