// Package backend defines what an agent needs of its machine: [Snapshots] takes shadow copies of
// volumes, and [Shares] exposes them. The packages below fsrvp/snapshot and fsrvp/share implement
// these interfaces; so can the maker of a file server. Smaller interfaces, such as [Sealer] and
// [SnapshotLister], are optional: a backend implements those that it can.
//
// A backend imports only this package and fsrvp, not the agent.
package backend

import (
	"context"
	"io/fs"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A Volume is the unit of snapshots: all shares on one volume go into one shadow copy.
type Volume struct {
	// ID identifies the volume, and survives restarts. Two directories with the same ID are on the
	// same volume.
	ID string `json:"id"`
	// Path is the volume's root in the file system, absolute and clean: the directory that a
	// snapshot shows.
	Path string `json:"path"`
	// Pin is for the backend's use: it identifies the directory at Path, so that Create refuses
	// another directory in its place. Empty means that Create does not check.
	Pin string `json:"pin,omitempty"`
}

// A SnapshotSpec says which snapshot to take. The agent chooses the id and records it before the
// call, so that after a crash it knows which snapshots may exist.
type SnapshotSpec struct {
	ID     fsrvp.CopyID
	Mark   Mark // the snapshot carries it
	Volume Volume
	// Writable means that the client may write to the copy until the set is recovered
	// (AUTO_RECOVERY); then the agent calls Seal.
	Writable bool
}

// A Snapshot is a snapshot that was taken.
type Snapshot struct {
	SnapshotSpec
	Path    string    // the snapshot's root, which shows the contents of Volume.Path
	Created time.Time // when the snapshot was taken, UTC
	// Moved lists, relative to Path and sorted, what changed during the copying, for backends whose
	// snapshots do not show a single moment: such a file may mix several states, and such a
	// directory may lack files that were moved meanwhile. "." is the whole snapshot. Nil means that
	// nothing changed.
	Moved []string
	// Unread lists, sorted, the files that could not be read and are missing, with paths relative
	// to Path. Only a backend that is configured to skip such files sets it. Nil means none.
	Unread []*fs.PathError
}

// Snapshots takes and deletes snapshots of volumes. The packages below fsrvp/snapshot implement it.
// All methods must be safe for concurrent use.
//
// A backend finds a snapshot by its id and volume alone, so that after a crash an agent can delete
// a snapshot although Create never returned. It takes, lists and deletes snapshots only where it
// was configured to. Errors may wrap an [fsrvp.Status], which then reaches the client:
// [fsrvp.ErrNotSupported] for a volume that cannot be copied.
type Snapshots interface {
	// Volume returns the volume that holds dir, an absolute path without symbolic links, through
	// which the same path below a snapshot could lead out of the snapshot. It fails with
	// [fsrvp.ErrNotSupported] if no snapshot of dir can be taken, or if something else is mounted
	// below it. If a file system is mounted twice, volumes with the same ID may differ in Path.
	Volume(ctx context.Context, dir string) (Volume, error)
	// Create takes all the snapshots, as close to one moment as the backend can, or none: after an
	// error nothing is left. When it returns nil, they are on stable storage. Cancelling ctx ends
	// it. Each snapshot carries the mark of its spec as soon as it exists, even unfinished.
	Create(ctx context.Context, specs []SnapshotSpec) ([]Snapshot, error)
	// Delete removes a snapshot, even an unfinished one. Deleting a snapshot that does not exist is
	// not an error. If the snapshot carries the mark of another owner than the spec's, Delete keeps
	// it and returns an error that wraps [ErrForeign]; a snapshot without a mark is removed, since
	// the caller knows its id.
	Delete(ctx context.Context, s SnapshotSpec) error
}

// A DeleteSyncer is a Snapshots that can delete without a wait for stable storage, and wait once
// for many deletions. With one, an agent answers the deletion of a share mapping before the wait,
// and keeps in its store until after it that the copy is to be deleted.
type DeleteSyncer interface {
	// DeleteUnsynced does what Delete does, except that after a crash of the machine the snapshot
	// may be there again.
	DeleteUnsynced(ctx context.Context, s SnapshotSpec) error
	// SyncDeletions returns when what DeleteUnsynced has deleted on these volumes is deleted on
	// stable storage, too. After an error that is not known.
	SyncDeletions(ctx context.Context, volumes []Volume) error
}

// A Sealer is a Snapshots that can take writable copies. Without one, the agent answers
// UNSUPPORTED_CONTEXT to AUTO_RECOVERY contexts.
type Sealer interface {
	// Seal makes a writable snapshot permanently read-only. Sealing twice is not an error.
	Seal(ctx context.Context, s Snapshot) error
}

// A Preparer is a Snapshots that does work ahead of a Create, such as flushing dirty pages, so that
// the Create itself is short.
type Preparer interface {
	Prepare(ctx context.Context, volumes []Volume) error
}

// A SnapshotPreparer is a Snapshots that can make most of a snapshot ahead of a Create, while
// applications go on, so that the Create itself only brings it up to date. An agent calls
// PrepareSnapshots, if there is one, in place of Prepare.
type SnapshotPreparer interface {
	// PrepareSnapshots may be called several times for a set, with more specs each time. A Create
	// may name others too. List returns unfinished snapshots, and Delete removes them, as does a
	// Create that fails. After an error nothing is left of the specs in the call.
	PrepareSnapshots(ctx context.Context, specs []SnapshotSpec) error
}

// A PathChecker is a Snapshots that can check a directory of a snapshot before it is exposed.
type PathChecker interface {
	// CheckPath fails if path, which is the root of the snapshot or below it, is not a directory of
	// the snapshot, for example because a part of it is a symbolic link that may lead out of the
	// snapshot.
	CheckPath(ctx context.Context, s Snapshot, path string) error
}

// A CompatibilityReporter is a Snapshots whose volumes do not allow some operations while there are
// shadow copies (MS-FSRVP 3.1.4.10). Without one, IsPathShadowCopied reports none.
type CompatibilityReporter interface {
	Compatibility(ctx context.Context, v Volume) (fsrvp.Compatibility, error)
}

// A SnapshotLister is a Snapshots that can list its snapshots. With one, the agent finds at start
// which snapshots are missing, and which are in nobody's table.
type SnapshotLister interface {
	// List returns the snapshots that exist where the backend makes them, including unfinished
	// ones: in own those whose mark has this owner, in foreign all others, with another owner's
	// mark or none (made before there were marks). Only an administrator deletes or exposes the
	// foreign ones. The volumes in the result may have no more than Delete needs. List changes
	// nothing, and may be called at any time.
	List(ctx context.Context, owner Owner) (own, foreign []SnapshotSpec, err error)
}

// A Share is a share of the file server.
type Share struct {
	Name string `json:"name"` // in the file server's spelling
	Path string `json:"path"` // its directory: absolute, clean, without symbolic links
}

// An Exposure says how to expose a copy as a share.
type Exposure struct {
	Name     string   // of the exposed share, "vms@{f0f1f2f3-...}"
	Mark     Mark     // the share carries it
	Base     Share    // the share whose rights and parameters it inherits
	Snapshot Snapshot // the snapshot that it shows
	Path     string   // the directory to expose: that of the base share within the snapshot
	Writable bool     // until Seal
}

// Shares exposes directories of snapshots as shares. The packages below fsrvp/share implement it.
// All methods must be safe for concurrent use.
type Shares interface {
	// Lookup finds a share of this server by its bare name, without regard to case. If there is
	// none, the error wraps [fsrvp.ErrObjectNotFound].
	Lookup(ctx context.Context, name string) (Share, error)
	// Expose makes the share, which is on stable storage when it returns nil. After an error
	// nothing of it is left. Exposing the same again is not an error. Expose replaces a share of
	// that name that shows something else or is unfinished, but not one that carries the mark of
	// another owner: then the error wraps [ErrForeign].
	Expose(ctx context.Context, e Exposure) error
	// Unexpose removes an exposed share by its name and ends its use: open handles fail from then
	// on. Removing a share that does not exist is not an error. If the share carries the mark of
	// another owner, Unexpose keeps it and returns an error that wraps [ErrForeign]; a share
	// without a mark is removed.
	Unexpose(ctx context.Context, owner Owner, name string) error
}

// A ShareNamer is a Shares with its own rules for names. CheckName fails if an exposed share cannot
// have that name; it is called before anything is made.
type ShareNamer interface {
	CheckName(name string) error
}

// A ShareSealer is a Shares that can expose writable copies; Seal makes such a share read-only.
type ShareSealer interface {
	SealShare(ctx context.Context, e Exposure) error
}

// An ExposedShare is an exposed share that a [ShareLister] has found.
type ExposedShare struct {
	Name string // in the backend's spelling
	Mark Mark
	// Partial means that the share is not completely made, sealed or removed: no client can use it.
	// Expose completes it, Unexpose removes it.
	Partial bool
}

// A ShareLister is a Shares that can list its exposed shares. With one, the agent exposes missing
// shares again at start, and finds shares that are not in its table.
type ShareLister interface {
	// List returns the exposed shares whose mark has this owner, and separately all others, as
	// [SnapshotLister.List] does for snapshots.
	List(ctx context.Context, owner Owner) (own, foreign []ExposedShare, err error)
}

// A ShareBatcher is a Shares that needs little more time for many shares than for one. An agent
// calls these methods to expose, remove or seal several shares, of one or more volumes.
type ShareBatcher interface {
	// ExposeShares does what Expose does for all shares or none: after an error it leaves no share
	// that it has made.
	ExposeShares(ctx context.Context, list []Exposure) error
	// UnexposeShares does what Unexpose does for each name. After an error some may be removed and
	// others not; a share that Unexpose would not remove does not prevent the removal of others.
	UnexposeShares(ctx context.Context, owner Owner, names []string) error
	// SealShares does what [ShareSealer] does for each. After an error some may be sealed.
	SealShares(ctx context.Context, list []Exposure) error
}

// A ServerNamer is a Shares that knows the names of its file server.
type ServerNamer interface {
	// ServerNames is called once, by the agent's New.
	ServerNames(ctx context.Context) (ServerNames, error)
}

// ServerNames are the names of a file server.
type ServerNames struct {
	Machine string   // the name that clients should use; empty means no preference
	Aliases []string // further names
}
