package fsrvp

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// A SetID names a shadow copy set, a CopyID one shadow copy in it. They are two types because
// GetShareMapping and DeleteShareMapping take them in opposite order on the wire.
type (
	SetID  uuid.UUID
	CopyID uuid.UUID
)

// String returns the usual form, "a0a1a2a3-b0b1-c0c1-d0d1-d2d3d4d5d6d7".
func (id SetID) String() string { return uuid.UUID(id).String() }

// String returns the usual form, "f0f1f2f3-e0e1-d8d9-c8c9-cacbcccdcecf".
func (id CopyID) String() string { return uuid.UUID(id).String() }

// NewSetID returns a random id.
func NewSetID() SetID { return SetID(uuid.New()) }

// NewCopyID returns a random id.
func NewCopyID() CopyID { return CopyID(uuid.New()) }

// MarshalText and UnmarshalText use the form of String.
func (id SetID) MarshalText() ([]byte, error)   { return uuid.UUID(id).MarshalText() }
func (id *SetID) UnmarshalText(b []byte) error  { return (*uuid.UUID)(id).UnmarshalText(b) }
func (id CopyID) MarshalText() ([]byte, error)  { return uuid.UUID(id).MarshalText() }
func (id *CopyID) UnmarshalText(b []byte) error { return (*uuid.UUID)(id).UnmarshalText(b) }

// A Service is the 13 methods of the protocol (MS-FSRVP 3.1.4), in the order of their opnums.
// A *Client implements it by calling a server, an *agent.Agent by doing the work;
// NewHandler turns any Service into what a dcerpc.Server serves.
//
// All methods may be called by several goroutines at once. A method whose status on the wire was
// not zero returns an error that wraps that Status, so that errors.Is(err, fsrvp.ErrBadState) tells
// them apart; on the side of a server, an error that wraps no Status becomes E_FAIL on the wire and
// is logged. Who calls is in the context: dcerpc.PeerFromContext.
type Service interface {
	// GetSupportedVersion returns the range of protocol versions that the server supports.
	GetSupportedVersion(ctx context.Context) (Versions, error)
	// SetContext says what kind of shadow copies the next set has.
	SetContext(ctx context.Context, c ContextValue) error
	// StartShadowCopySet begins a set. The client's id is for its own use; the server's is
	// returned.
	StartShadowCopySet(ctx context.Context, client SetID) (SetID, error)
	// AddToShadowCopySet adds a share to the set.
	AddToShadowCopySet(ctx context.Context, client CopyID, set SetID, share string) (CopyID, error)
	// CommitShadowCopySet takes the shadow copies and waits for them, at most for wait.
	// A wait is whole milliseconds on the wire, at most MaxWait.
	CommitShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error
	// ExposeShadowCopySet makes shares of the shadow copies.
	ExposeShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error
	// RecoveryCompleteShadowCopySet ends the creation of the set.
	RecoveryCompleteShadowCopySet(ctx context.Context, set SetID) error
	// AbortShadowCopySet deletes the set and whatever was made for it.
	AbortShadowCopySet(ctx context.Context, set SetID) error
	// IsPathSupported reports whether shadow copies of the share can be taken, and by which
	// machine.
	IsPathSupported(ctx context.Context, share string) (PathSupport, error)
	// IsPathShadowCopied reports whether the share's volume has shadow copies.
	IsPathShadowCopied(ctx context.Context, share string) (PathShadowCopied, error)
	// GetShareMapping returns what a share of the set was exposed as. Level 1 is the only one; the
	// mapping is nil where the server gave none.
	GetShareMapping(ctx context.Context, copy CopyID, set SetID, share string, level uint32) (*ShareMapping, error)
	// DeleteShareMapping ends one exposed share, and with the last one of a shadow copy the copy.
	DeleteShareMapping(ctx context.Context, set SetID, copy CopyID, share string) error
	// PrepareShadowCopySet gets the file server ready for a commit, and waits for it at most for
	// wait.
	PrepareShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error
}

// Versions is a range of protocol versions. The one that exists is 1.
type Versions struct{ Min, Max uint32 }

// PathSupport is the answer of IsPathSupported.
type PathSupport struct {
	Supported bool
	Owner     string // the machine that a client has to connect to; empty where the server gave none
}

// PathShadowCopied is the answer of IsPathShadowCopied.
type PathShadowCopied struct {
	Present       bool
	Compatibility Compatibility
}

// A ShareMapping says what a share was exposed as (FSSAGENT_SHARE_MAPPING_1, MS-FSRVP 2.2.1.1).
type ShareMapping struct {
	SetID   SetID
	CopyID  CopyID
	Share   string    // the share that was copied, a UNC path
	Exposed string    // the share that exposes the copy, a bare name: "vms@{f0f1f2f3-...}"
	Created time.Time // UTC, with the wire's resolution of 100 ns
}
