package fsrvptest

import (
	"context"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// A Target is a server to test. Client and Share are required; cases that need other fields are
// [NotApplicable] if those are not set.
type Target struct {
	// Profile says which answers to expect where servers differ.
	Profile agent.Profile

	// Client is a caller with all rights. SameHost is another connection of the same caller, from
	// the same address. Other is a caller with all rights from another address. Services that are
	// Lines connect again if their connections break.
	Client, SameHost, Other fsrvp.Service
	// Nodes are connections of Client, from the same address, to other nodes of the server's
	// cluster, for [ClusterCases].
	Nodes []fsrvp.Service
	// Unprivileged is a caller with proper RPC security who may not use the protocol.
	Unprivileged fsrvp.Service
	// Levels are callers with all rights, by the protection level of their calls, which must be
	// below packet integrity: LevelInsecureNone, LevelInsecureConnect, LevelInsecureCall,
	// LevelPacket.
	Levels map[dcerpc.AuthLevel]fsrvp.Service

	// Share is the UNC path of a share, without a backslash at its end.
	Share string
	// SameVolume is another share on the volume of Share, OtherVolume a share on another volume,
	// and Hidden a share with a dollar at the end of its name.
	SameVolume, OtherVolume, Hidden string
	// Aliases are other UNC paths of Share, with other names and addresses of the server.
	Aliases []string
	// Unsupported is a share on a volume that cannot be copied. Mounted is a share with a mount
	// point below it.
	Unsupported, Mounted string
	// Clustered is another UNC path of a share of this machine, with the name of a cluster's role
	// that this machine currently has. It is on another volume than Share.
	Clustered string
	// ScaleOut is such a path with the name of a scale-out file server.
	ScaleOut string
	// Elsewhere is a share that another machine of the cluster owns, and ElsewhereOwner is that
	// machine.
	Elsewhere, ElsewhereOwner string
	// Foreign is a share of another server. Empty means one of a host that does not exist.
	Foreign string
	// Owner is the machine that IsPathSupported must answer for Share. Empty means any but the
	// empty string.
	Owner string

	// SequenceTimeout is the value of the Message Sequence Timer, after every method. Zero means
	// those of the standard, which are too long to wait for.
	SequenceTimeout time.Duration

	// Files reads and writes files of shares.
	Files Files
	// Rights changes and shows the access rights of shares.
	Rights Rights
	// PreviousVersions counts the snapshots that the server shows for a share, FSCTL_SRV_ENUM_SNAPS
	// (MS-SMB2 3.3.5.15.1).
	PreviousVersions func(ctx context.Context, share string) (int, error)
	// Held counts the snapshots and the exposed shares that the server holds. Deleted things must
	// be gone when the method answers; for those that the Message Sequence Timer deletes, Held is
	// called for up to two seconds.
	Held func(ctx context.Context) (snapshots, shares int, err error)
	// Delay makes the work of PrepareShadowCopySet, CommitShadowCopySet or ExposeShadowCopySet take
	// at least d, from the next call on. Zero ends that. It returns [errors.ErrUnsupported] if it
	// cannot delay this method.
	Delay func(op fsrvp.Opnum, d time.Duration) error
	// Restart ends the server, starts it again, and returns when the server accepts calls.
	// Connections end with it; afterwards the Services reach the new server.
	Restart func(ctx context.Context) error
	// Reset makes the server forget all sets, by any means, and returns when the server accepts
	// calls. It is called after each failed case, since what that leaves may disturb all others,
	// and when the server stays blocked.
	Reset func(ctx context.Context) error
	// BlockedWait is the time to wait for a server that stays blocked, if there is no Reset. Zero
	// means as long as its Message Sequence Timer takes, 180 s or 1800 s depending on the last
	// method, or SequenceTimeout if that is set. A negative value means not to wait.
	BlockedWait time.Duration
	// OnWait, if not nil, is called before a wait for the server, with the longest time that it may
	// take.
	OnWait func(limit time.Duration)

	// Lacks are capabilities that the server does not have, with the reason.
	Lacks map[Capability]string
	// Known are the known failures of the server, by the name of the case (Case.Name), each with a
	// part of the reason that the case gives: a case that fails for another reason is not a known
	// failure. [Run] reports them as skipped, and fails if one of them passes. See [ParseKnown].
	Known map[string]string
	// Inapplicable are the cases that must be [NotApplicable], by their names. [Run] fails if another
	// case is NotApplicable, or one of these is not. Nil means that any case may be.
	Inapplicable map[string]string

	// CaseTimeout bounds each case, without its clean-up. Zero means 5 minutes.
	CaseTimeout time.Duration

	memory *memory
}

// A memory is what the cases of a run have learnt about the server.
type memory struct {
	learnt     bool // the following is known
	startsOver bool // SetContext removes the unfinished set of its caller

	startsAlways bool // it seems to start sets without a context

	context   bool   // a context is set, and only the whole life of a set removes it
	contextBy string // the case that has left it
	blockedBy string // the case that has left the server blocked; empty if it is free
	why       error
	left      string // the last failed case since the server was reset; it may have left copies
}

// A Capability is something that a server may lack.
type Capability string

// The capabilities.
const (
	// Writable: contexts with AUTO_RECOVERY.
	Writable Capability = "writable copies"
	// RetryLimit: SetContext is refused when a client starts over too often. Windows Server 2012
	// does not.
	RetryLimit Capability = "a limit of SetContext retries"
	// AutoRelease: copies of auto-release contexts are deleted when the server restarts.
	AutoRelease Capability = "auto-release of copies"
)

// Files reads and writes files of shares, and of shares that expose their copies, like a client of
// the file server with all rights. Shares have their bare names, files their paths below the share.
type Files interface {
	ReadFile(share, name string) ([]byte, error)
	WriteFile(share, name string, data []byte) error
}

// Rights changes and reads the access rights of shares, given by their bare names.
type Rights interface {
	// Mark changes the rights of a share in a way that Marks shows.
	Mark(ctx context.Context, share, mark string) error
	// Unmark undoes that change.
	Unmark(ctx context.Context, share, mark string) error
	Marks(ctx context.Context, share string) ([]string, error)
}
