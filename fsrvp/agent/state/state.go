// Package state stores an agent's table: a [Store] keeps small records, in a local file or wherever
// else the maker of a server likes.
//
// Only the agent knows what the records mean. A store keeps them completely, and proves that it
// has: with another table than the one that it stored, an agent would delete snapshots that clients
// rely on.
//
// A [File] is the store of one agent. The agents of a cluster use a [Shared] store: see package
// state/ctdb for clusters of Samba, and [Memory] for tests.
package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/recordfile"
)

// An ID is the identity of an agent, made with its state. Everything that an agent makes on a
// machine carries it.
type ID uuid.UUID

// String returns the id in the form "f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff".
func (id ID) String() string { return uuid.UUID(id).String() }

// MarshalText implements [encoding.TextMarshaler] with String's form.
func (id ID) MarshalText() ([]byte, error) { return uuid.UUID(id).MarshalText() }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *ID) UnmarshalText(b []byte) error { return (*uuid.UUID)(id).UnmarshalText(b) }

// A Change is the effect of one Write, all of it or nothing: records to put, by their keys, and
// keys whose records to drop.
type Change = recordfile.Change

// A Store keeps an agent's records. Only one agent at a time has it open. Its methods must be safe
// for concurrent use; the agent writes one change at a time.
type Store interface {
	// ID returns the identity that was made with the store.
	ID() ID
	// Sequence returns the number of changes that the store has seen, or another number that grows
	// with each change and never decreases. It does not wait for a Write.
	Sequence() uint64
	// Load returns all records. The caller owns the map, but must not change the values.
	Load(ctx context.Context) (map[string][]byte, error)
	// Write makes a change. When it returns nil, the change is on stable storage. After an error
	// the change has no effect, except that it may appear after a crash. The caller still owns the
	// Change.
	Write(ctx context.Context, c Change) error
	// Close ends the use of the store. It does not wait for a Write in progress.
	Close() error
}

// Errors of Open.
var (
	// ErrInUse means that another process has the file open.
	ErrInUse = recordfile.ErrInUse
)

// A DamageError means that the file is damaged, or missing although it existed. Open has then
// changed nothing.
type DamageError = recordfile.DamageError

// Options say how to open a file. Nil means the zero value.
type Options struct {
	// Wait is the time to wait for another agent that has the file open. Zero means no wait.
	Wait time.Duration
	// ID is the identity of a new file. Zero means a random one.
	ID ID
	// New makes an empty state, with a new identity, even if the file is missing or empty although
	// it existed. The agent then knows nothing about the copies that it made before.
	New bool
	// Convert reads a file of an older format, which Open then takes over; the old file stays
	// next to it, named with ".old" at the end, or ".old-2" if that name is taken. If Convert is
	// nil, Open refuses such a file.
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

// Open opens a file. If there is none, it makes one with mode 0600. The directory must exist,
// belong to root or to the user of this process, and not be writable by others. Next to the file it
// keeps another one, PATH.id.
//
// It fails with an error that matches [ErrInUse] if another process has the file open, and with a
// [DamageError] if any byte of it was changed, lost or repeated.
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

// Path returns the file's path, absolute.
func (f *File) Path() string { return f.f.Path() }

// Syncs returns the number of syncs of the file since it was opened.
func (f *File) Syncs() uint64 { return f.f.Syncs() }

// An Origin says whether a file is where it was made. The file PATH.id next to it names that place.
type Origin = recordfile.Origin

// A file is Original if it is where it was made, even if its directory was moved. It is Restored if
// somebody has put it back in place of the one that was made there; it may then be older. It is
// Copied if it was made elsewhere; the agent that owns it may still be running. It is Unknown if
// PATH.id is missing.
const (
	Original = recordfile.Original
	Restored = recordfile.Restored
	Copied   = recordfile.Copied
	Unknown  = recordfile.Unknown
)

// Origin returns what was found when the file was opened, and of one that is [Copied] the place
// where it was made. On systems other than Linux, where less is known of a file, one at its place
// is Original.
func (f *File) Origin() (o Origin, from string) { return f.f.Origin() }

// Adopt makes a file that is not [Original] the one that belongs here.
func (f *File) Adopt() error {
	if err := f.f.Adopt(); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

// Load implements [Store].
func (f *File) Load(context.Context) (map[string][]byte, error) { return f.f.Load(), nil }

// Write implements [Store]. It costs one fdatasync, two for a change of more than 8,000 bytes, and
// now and then those of rewriting the file. The context does not interrupt a write that has begun.
func (f *File) Write(_ context.Context, c Change) error { return f.f.Write(c) }

// Close implements [Store].
func (f *File) Close() error { return f.f.Close() }

// A Report is the result of [Check].
type Report struct {
	ID       ID     `json:"id"`
	Sequence uint64 `json:"sequence"` // of the newest change
	Size     int64  `json:"size"`     // of the file, in bytes
	// CutShort means that the file ends with a part of a change, which a crash has interrupted, or
	// which is just being written.
	CutShort bool `json:"cutShort,omitempty"`
	// Foreign means that the file has another format, which an older version may have written.
	Foreign bool `json:"foreign,omitempty"`
	// Records are all records or, with an error, those that could be read.
	Records map[string][]byte `json:"-"`
}

// Check reads a file, which an agent may have open, and changes nothing. If the file is damaged, it
// returns a [DamageError] and what could be read; the Report is nil if nothing could be read.
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

// Replace replaces the file at path, which no agent may have open, by one with this identity and
// these records. The old file, if there is one, is kept under the name that Replace returns.
func Replace(path string, id ID, records map[string][]byte) (aside string, err error) {
	aside, err = recordfile.Replace(path, (*Options)(nil).file(), uuid.UUID(id), records)
	if err != nil {
		return aside, fmt.Errorf("state: %w", err)
	}
	return aside, nil
}
