package fsrvptest

import (
	"context"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// A Target is a server to check. Client and Share are required; whatever else it has not got, the
// cases that need it are NotApplicable.
type Target struct {
	// Profile says which answers are expected where servers differ.
	Profile agent.Profile

	// Client is a caller with all rights. SameHost is another connection of it, from the same
	// address. Other is a caller with all rights from another address. Services that are Lines
	// connect again where their connections break.
	Client, SameHost, Other fsrvp.Service
	// Nodes are connections of Client, from the same address, to other nodes of the server's
	// cluster, for ClusterCases.
	Nodes []fsrvp.Service
	// Unprivileged is a caller with proper RPC security who may not use the protocol.
	Unprivileged fsrvp.Service
	// Levels are callers with all rights by the level at which their calls are protected, which is
	// less than packet integrity: LevelInsecureNone, LevelInsecureConnect, LevelInsecureCall,
	// LevelPacket.
	Levels map[dcerpc.AuthLevel]fsrvp.Service

	// Share is the UNC path of a share, without a backslash at its end.
	Share string
	// SameVolume is another share on the volume of Share, OtherVolume one on another volume, Hidden
	// one with a dollar at the end of its name.
	SameVolume, OtherVolume, Hidden string
	// Aliases are other UNC paths of Share: by other names and addresses of the server.
	Aliases []string
	// Unsupported is a share on a volume that cannot be copied. Mounted is one with a mount point
	// below it.
	Unsupported, Mounted string
	// Clustered is another UNC path of a share of this machine, by the name of a cluster's role
	// that this machine has at the moment. It is on another volume than Share.
	Clustered string
	// ScaleOut is such a path by the name of a scale-out file server.
	ScaleOut string
	// Elsewhere is a share that another machine of the cluster owns, ElsewhereOwner that machine.
	Elsewhere, ElsewhereOwner string
	// Foreign is a share of another server. Empty: one of a host that does not exist.
	Foreign string
	// Owner is what IsPathSupported must answer for Share. Empty: anything but the empty string.
	Owner string

	// SequenceTimeout is the value of the Message Sequence Timer, after every method. Zero: those
	// of the standard, which are too long to wait for.
	SequenceTimeout time.Duration

	// Files reads and writes files of shares.
	Files Files
	// Rights changes and shows the access rights of shares.
	Rights Rights
	// PreviousVersions counts the snapshots that the server shows for a share, FSCTL_SRV_ENUM_SNAPS
	// (MS-SMB2 3.3.5.15.1).
	PreviousVersions func(ctx context.Context, share string) (int, error)
	// Held counts the snapshots and the exposed shares that the server holds. What a method has
	// deleted must be gone when it answers; for what the Message Sequence Timer deletes, Held is
	// called for up to two seconds.
	Held func(ctx context.Context) (snapshots, shares int, err error)
	// Delay makes the work of PrepareShadowCopySet, CommitShadowCopySet or ExposeShadowCopySet take
	// at least d, from the next call on. Zero ends that. errors.ErrUnsupported says that it cannot,
	// for this method.
	Delay func(op fsrvp.Opnum, d time.Duration) error
	// Restart ends the server, starts it again, and returns when it takes calls. Connections end
	// with it; the Services reach the server that runs now.
	Restart func(ctx context.Context) error
	// Reset makes the server forget all sets, whatever it takes, and returns when it takes calls.
	// It is called after each case that has failed, and for a server that stays blocked: what such
	// a case leaves may be in the way of all others.
	Reset func(ctx context.Context) error
	// BlockedWait is how long a server that stays blocked is waited for, where there is no Reset.
	// Zero: as long as its Message Sequence Timer takes, 180 s or 1800 s by the last method, or
	// SequenceTimeout where that is set. Negative: it is not waited for.
	BlockedWait time.Duration
	// OnWait is called before a server is waited for, with the longest time that this may take.
	// Nil: nobody is told.
	OnWait func(limit time.Duration)

	// Lacks are capabilities that the server has not got, with the reason.
	Lacks map[Capability]string
	// Known are the failures of the server that are known, by the name of the case (Case.Name),
	// each with a part of the reason that the case gives: who fails for another reason has another
	// failure. Run reports them as skipped, and fails where one of them passes. See ParseKnown.
	Known map[string]string
	// Inapplicable are the cases that the target has not got what it takes for, by their names. Run
	// fails where another one is NotApplicable, or one of these is not. Nil: any may be.
	Inapplicable map[string]string

	// CaseTimeout bounds each case, without its clean-up. Zero: 5 minutes.
	CaseTimeout time.Duration

	memory *memory
}

// A memory is what the cases of a run know of the server from earlier ones.
type memory struct {
	learnt     bool // what follows
	startsOver bool // SetContext removes the unfinished set of its caller

	startsAlways bool // it starts sets without a context, as far as that can be found out

	context   bool   // one is set, and there is no way to unset it but a set's whole life
	contextBy string // the case that has left it
	blockedBy string // the case that has left the server so that no creation can begin; empty: it is free
	why       error
	left      string // the last case that has failed, since the server was reset: it may have left copies
}

// A Capability is something that a server may do without.
type Capability string

// The capabilities.
const (
	// Writable: contexts with AUTO_RECOVERY.
	Writable Capability = "writable copies"
	// RetryLimit: SetContext is refused when a client starts over too often. Windows Server 2012
	// does not.
	RetryLimit Capability = "a limit of SetContext retries"
	// AutoRelease: copies of auto-release contexts go when the server restarts.
	AutoRelease Capability = "auto-release of copies"
)

// Files reads and writes files of shares, and of the shares that expose their copies, as a client
// of the file server with all rights would. A share is named by its bare name, a file by its path
// below it.
type Files interface {
	ReadFile(share, name string) ([]byte, error)
	WriteFile(share, name string, data []byte) error
}

// Rights changes and shows the access rights of shares, given by their bare names.
type Rights interface {
	// Mark changes the rights of a share in a way that Marks shows again.
	Mark(ctx context.Context, share, mark string) error
	// Unmark takes that change back.
	Unmark(ctx context.Context, share, mark string) error
	Marks(ctx context.Context, share string) ([]string, error)
}
