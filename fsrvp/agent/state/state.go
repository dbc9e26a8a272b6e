// Package state is where an agent's table lives: a [Store] of small records, in a local file or
// wherever else the maker of a server keeps it.
//
// The agent alone knows what the records mean. A store keeps them, whole, and proves that it has:
// an agent that was given another table than the one that it has stored would delete snapshots that
// clients rely on.
//
// A [File] is the store of one agent. The agents of a cluster have a [Shared] store together: see
// package state/ctdb for clusters of Samba, and [Memory] for tests.
package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/recordfile"
)

// An ID is the identity of an agent, made with its state. What an agent makes on a machine carries
// it.
type ID uuid.UUID

// String returns the id in the form "f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff".
func (id ID) String() string { return uuid.UUID(id).String() }

// MarshalText implements [encoding.TextMarshaler] with String's form.
func (id ID) MarshalText() ([]byte, error) { return uuid.UUID(id).MarshalText() }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *ID) UnmarshalText(b []byte) error { return (*uuid.UUID)(id).UnmarshalText(b) }

// A Change is what one Write does, all of it or nothing: records that are put, by their keys, and
// keys whose records are gone.
type Change = recordfile.Change

// A Store keeps an agent's records. One agent at a time has it open. Its methods may be called by
// several goroutines at once; the agent writes one change at a time.
type Store interface {
	// ID returns the identity that was made with the store.
	ID() ID
	// Sequence returns how many changes the store has seen, or a larger number that grows with each
	// change and never gets smaller. It waits for no Write.
	Sequence() uint64
	// Load returns all records. The map is the caller's, the values are not.
	Load(ctx context.Context) (map[string][]byte, error)
	// Write does a change. When it returns nil the change is on stable storage. After an error it
	// has no effect, except that a crash may show that it had. The Change stays the caller's.
	Write(ctx context.Context, c Change) error
	// Close ends the use of the store. It does not wait for a Write that goes on.
	Close() error
}

// Errors of Open.
var (
	// ErrInUse is what Open fails with when another process has the file open.
	ErrInUse = recordfile.ErrInUse
)

// A DamageError is what Open fails with when the file is damaged, or missing though it has been
// there. Nothing has been changed then.
type DamageError = recordfile.DamageError

// Options say how to open a file. Nil means the zero value.
type Options struct {
	// Wait is how long to wait for another agent that has the file open. Zero: no wait.
	Wait time.Duration
	// ID is the identity of a new file. Zero: a random one.
	ID ID
	// New makes an empty state, with an identity of its own, also where the file is missing, or
	// empty, though it has been there. The agent then knows nothing of the copies that it made.
	New bool
	// Convert reads a file of an older format, which Open then takes over; the old file stays
	// beside it, with ".old" at its name's end. Nil: such a file is refused.
	Convert func(data []byte) (map[string][]byte, error)
}

func (o *Options) file() *recordfile.Options {
	if o == nil {
		o = &Options{}
	}
	return &recordfile.Options{
		Kind: kind, Wait: o.Wait, ID: uuid.UUID(o.ID), New: o.New, Convert: o.Convert,
		Advice: "nothing was deleted. Look at it with \"fsrvp-agent state check\", and put a backup in its place, or save what can be read " +
			"with \"state export -damaged\" and bring it back with \"state import\"",
	}
}

const kind = "agent state"

// A File is a Store in a local file.
type File struct{ f *recordfile.File }

var _ Store = (*File)(nil)

// Open opens a file, and makes it, with mode 0600, where there is none. Its directory has to exist,
// belong to root or to the user of this process, and be closed to others. Beside the file it keeps
// another one, PATH.id.
//
// It fails with an error that matches [ErrInUse] when another process has the file open, and with a
// [DamageError] when any byte of it was changed, lost or repeated.
func Open(path string, o *Options) (*File, error) {
	f, err := recordfile.Open(path, o.file())
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return &File{f}, nil
}

// ID implements [Store].
func (f *File) ID() ID { return ID(f.f.ID()) }

// Sequence implements [Store].
func (f *File) Sequence() uint64 { return f.f.Sequence() }

// Syncs returns how often the file was put on stable storage since it was opened.
func (f *File) Syncs() uint64 { return f.f.Syncs() }

// Load implements [Store].
func (f *File) Load(context.Context) (map[string][]byte, error) { return f.f.Load(), nil }

// Write implements [Store]. It costs one fdatasync, two for a change of more than 8,000 bytes, and
// now and then those of writing the file anew. A write that has begun is not ended by its context.
func (f *File) Write(_ context.Context, c Change) error { return f.f.Write(c) }

// Close implements [Store].
func (f *File) Close() error { return f.f.Close() }

// A Report is what Check finds in a file.
type Report struct {
	ID       ID     `json:"id"`
	Sequence uint64 `json:"sequence"` // of the newest change
	Size     int64  `json:"size"`     // of the file, in bytes
	// CutShort: there is a part of a change that a crash has cut short, or that is just being
	// written.
	CutShort bool `json:"cutShort,omitempty"`
	// Foreign: it is a file of another format, which an older version may have written.
	Foreign bool `json:"foreign,omitempty"`
	// Records are all of them, or, with an error, those that could be read.
	Records map[string][]byte `json:"-"`
}

// Check reads a file, which an agent may have open, and changes nothing. When the file is damaged
// it returns a [DamageError] and what could be read; a Report is nil when nothing could.
func Check(path string) (*Report, error) {
	r, err := recordfile.Check(path, kind)
	if r == nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	report := &Report{ID: ID(r.ID), Sequence: r.Sequence, Size: r.Size, CutShort: r.CutShort, Foreign: r.Foreign,
		Records: r.Records}
	if damage := (*DamageError)(nil); errors.As(err, &damage) {
		damage.Advice = (*Options)(nil).file().Advice
	}
	return report, err
}

// Replace makes a file with an identity and records in the place of the one at path, which no agent
// may have open. The old one, if there is one, stays under the name that Replace returns.
func Replace(path string, id ID, records map[string][]byte) (aside string, err error) {
	aside, err = recordfile.Replace(path, (*Options)(nil).file(), uuid.UUID(id), records)
	if err != nil {
		return aside, fmt.Errorf("state: %w", err)
	}
	return aside, nil
}
