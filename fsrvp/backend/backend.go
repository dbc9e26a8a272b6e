// Package backend is what an agent needs of the machine that it runs on: [Snapshots] takes shadow
// copies of volumes, [Shares] exposes them. The packages below fsrvp/snapshot and fsrvp/share
// implement both; so can the maker of a file server. The add-ons, such as [Sealer] and
// [SnapshotLister], are small interfaces that a backend implements besides, where it can.
//
// A backend imports this package and fsrvp, and neither the agent nor its database.
package backend

import (
	"context"
	"io/fs"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A Volume is what a snapshot is taken of: all shares on one volume go into one shadow copy.
type Volume struct {
	// ID tells volumes apart, and stays the same over restarts. Two directories with the
	// same ID are on the same volume.
	ID string `json:"id"`
	// Path is the volume's root in the file system, absolute and clean: the directory that a
	// snapshot shows.
	Path string `json:"path"`
	// Pin is for the backend alone: it tells the directory at Path from any other that may take its
	// place, and Create refuses those. Empty: any will do.
	Pin string `json:"pin,omitempty"`
}

// A SnapshotSpec says which snapshot to take. The agent chooses the id, and has written it down
// before it asks, so that after a crash it knows what may exist.
type SnapshotSpec struct {
	ID     fsrvp.CopyID
	Mark   Mark // that the snapshot carries
	Volume Volume
	// Writable copies may be written by the client until the set is recovered (AUTO_RECOVERY); then
	// the agent calls Seal.
	Writable bool
}

// A Snapshot is one that was taken.
type Snapshot struct {
	SnapshotSpec
	Path    string    // the snapshot's root, shows what Volume.Path showed
	Created time.Time // when the snapshot was taken, UTC
	// Moved names, relative to Path and sorted, what changed while it was copied by a backend whose
	// snapshots do not show one moment: a file of that name may have parts of several states, and
	// from a directory of that name files that were moved meanwhile may be missing. "." is the
	// whole snapshot. Nil: nothing did.
	Moved []string
	// Unread is what could not be read and is missing, by its path relative to Path, sorted; only a
	// backend that was configured to leave such files out has any. Nil: nothing.
	Unread []*fs.PathError
}

// Snapshots takes and deletes snapshots of volumes. The packages below fsrvp/snapshot implement it.
// All methods may be called by several goroutines at once.
//
// A backend finds a snapshot by its id and volume alone, so that what a crash left behind can be
// deleted by an agent that never saw Create return. It takes, lists and deletes snapshots where it
// was configured to and nowhere else. Errors may wrap an fsrvp.Status, which then reaches the
// client: fsrvp.ErrNotSupported for a volume that cannot be copied.
type Snapshots interface {
	// Volume finds the volume that holds dir, an absolute path without symbolic links: with one,
	// the same path below a snapshot could lead back to what is not copied. It fails with
	// fsrvp.ErrNotSupported where dir cannot be snapshot, or something else is mounted below it.
	// Volumes of the same ID that were found by different dirs may differ in Path, where a file
	// system is mounted twice.
	Volume(ctx context.Context, dir string) (Volume, error)
	// Create takes all the snapshots, as close to one moment as the backend can, or none: after an
	// error nothing is left. When it returns nil they are on stable storage. Cancelling ctx ends
	// it. Each snapshot carries the mark of its spec from the moment it exists, half-made or not.
	Create(ctx context.Context, specs []SnapshotSpec) ([]Snapshot, error)
	// Delete removes a snapshot, a half-made one too. It is no error where there is none. One that
	// carries the mark of another owner than the spec's stays, and the error wraps ErrForeign; one
	// without a mark is removed, since the caller knows its id.
	Delete(ctx context.Context, s SnapshotSpec) error
}

// A Sealer is a Snapshots that can take writable copies. Without it AUTO_RECOVERY
// contexts are answered with UNSUPPORTED_CONTEXT.
type Sealer interface {
	// Seal makes a writable snapshot read-only for good. Sealing twice is no error.
	Seal(ctx context.Context, s Snapshot) error
}

// A Preparer is a Snapshots with work to do ahead of a Create, such as flushing dirty pages, so
// that the Create itself is short.
type Preparer interface {
	Prepare(ctx context.Context, volumes []Volume) error
}

// A SnapshotPreparer is a Snapshots that can make a large part of its snapshots ahead of a Create,
// while applications go on, so that the Create itself only brings them up to date. An agent calls
// PrepareSnapshots where there is one, and no Prepare.
type SnapshotPreparer interface {
	// PrepareSnapshots may be called several times for a set, with more specs each time. A Create
	// may name others too. What it makes List returns and Delete removes, and so does a Create that
	// fails. After an error nothing is left of the specs that it named.
	PrepareSnapshots(ctx context.Context, specs []SnapshotSpec) error
}

// A PathChecker is a Snapshots that can check a directory of a snapshot before it is exposed.
type PathChecker interface {
	// CheckPath fails where path, which is the root of the snapshot or below it, is no directory of
	// it: where a step of it is a symbolic link, that may lead out of the snapshot.
	CheckPath(ctx context.Context, s Snapshot, path string) error
}

// A CompatibilityReporter is a Snapshots on whose volumes some operations are not to be done while
// there are shadow copies (MS-FSRVP 3.1.4.10). Without it IsPathShadowCopied reports none.
type CompatibilityReporter interface {
	Compatibility(ctx context.Context, v Volume) (fsrvp.Compatibility, error)
}

// A SnapshotLister is a Snapshots that can say which snapshots it holds. With one, the agent finds
// at start what its table has lost, and what nobody has in a table.
type SnapshotLister interface {
	// List returns the snapshots that exist where the backend makes them, half-made ones too: those
	// whose mark has this owner, and apart from them all others, without a mark (made before there
	// were marks) or of another owner. Nobody deletes or exposes the others but an administrator.
	// Of volumes it may know no more than Delete needs. It changes nothing, and may be called at
	// any time.
	List(ctx context.Context, owner Owner) (own, foreign []SnapshotSpec, err error)
}

// A Share is a share of the file server.
type Share struct {
	Name string `json:"name"` // as the file server spells it
	Path string `json:"path"` // its directory: absolute, clean, without symbolic links
}

// An Exposure says which share to expose a copy as.
type Exposure struct {
	Name     string   // of the exposed share, "vms@{f0f1f2f3-...}"
	Mark     Mark     // that the share carries
	Base     Share    // the share whose rights and parameters it takes over
	Snapshot Snapshot // what it is part of
	Path     string   // the directory to expose: the base share's within the snapshot
	Writable bool     // until Seal
}

// Shares exposes directories of snapshots as shares. The packages below fsrvp/share implement it.
// All methods may be called by several goroutines at once.
type Shares interface {
	// Lookup finds a share of this server by its bare name, without regard to case. It
	// fails with an error that wraps fsrvp.ErrObjectNotFound where there is none.
	Lookup(ctx context.Context, name string) (Share, error)
	// Expose makes the share, on stable storage when it returns nil. After an error nothing of it
	// is left. Exposing the same again is no error. It replaces a share of that name that shows
	// something else, or is half-made, but not one that carries the mark of another owner: then the
	// error wraps ErrForeign.
	Expose(ctx context.Context, e Exposure) error
	// Unexpose removes an exposed share by its name and ends the use of it: handles that are open
	// on it fail from then on. It is no error where there is none. A share that carries the mark of
	// another owner stays, and the error wraps ErrForeign; one without a mark is removed.
	Unexpose(ctx context.Context, owner Owner, name string) error
}

// A ShareNamer is a Shares with names of its own rules. CheckName reports whether an exposed share
// could have that name, before anything is made.
type ShareNamer interface {
	CheckName(name string) error
}

// A ShareSealer is a Shares that can expose writable copies; Seal makes such a share read-only.
type ShareSealer interface {
	SealShare(ctx context.Context, e Exposure) error
}

// An ExposedShare is an exposed share that a ShareLister has found.
type ExposedShare struct {
	Name string // as the backend spells it
	Mark Mark
	// Partial shares are half-made, half-sealed or half-removed: no client can use them. Expose
	// completes one, Unexpose removes it.
	Partial bool
}

// A ShareLister is a Shares that can say which shares it exposes. With one, the agent exposes at
// start what is gone, and finds what its table does not know.
type ShareLister interface {
	// List returns the exposed shares whose mark has this owner, and apart from them all others, as
	// [SnapshotLister] does.
	List(ctx context.Context, owner Owner) (own, foreign []ExposedShare, err error)
}

// A ShareBatcher is a Shares that does the work for many shares in little more time than for one.
// An agent that has several to expose, to remove or to seal calls these methods, with one volume's
// or several volumes' shares.
type ShareBatcher interface {
	// ExposeShares does what Expose does for each, or nothing: after an error no share is left that
	// it has made.
	ExposeShares(ctx context.Context, list []Exposure) error
	// UnexposeShares does what Unexpose does for each name. After an error some may be removed, and
	// others not; a share that Unexpose would not remove does not keep the others.
	UnexposeShares(ctx context.Context, owner Owner, names []string) error
	// SealShares does what ShareSealer.SealShare does for each. After an error some may be sealed.
	SealShares(ctx context.Context, list []Exposure) error
}

// A ServerNamer is a Shares that knows the names that its file server has for itself.
type ServerNamer interface {
	// ServerNames is called once, by the agent's New.
	ServerNames(ctx context.Context) (ServerNames, error)
}

// ServerNames are the names of a file server.
type ServerNames struct {
	Machine string   // the one that clients should use; empty: none is better than others
	Aliases []string // more of them
}
