package fsrvp

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// A SetID identifies a shadow copy set, a CopyID one shadow copy in it. They are different types
// because GetShareMapping and DeleteShareMapping take them in opposite order on the wire.
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

// A Service is the 13 methods of the protocol (MS-FSRVP 3.1.4), in the order of their opnums. A
// *Client implements it by calling a server, an *agent.Agent by doing the work; [NewHandler] lets a
// [dcerpc.Server] serve any Service.
//
// All methods must be safe for concurrent use. A method whose status on the wire was not zero
// returns an error that wraps that [Status], so errors.Is(err, fsrvp.ErrBadState) works; on a
// server, an error that wraps no Status becomes E_FAIL on the wire and is logged. The context
// carries the caller: see [dcerpc.PeerFromContext].
type Service interface {
	// GetSupportedVersion returns the range of protocol versions that the server supports.
	GetSupportedVersion(ctx context.Context) (Versions, error)
	// SetContext sets the kind of shadow copies for the next set.
	SetContext(ctx context.Context, c ContextValue) error
	// StartShadowCopySet begins a set. The client's id is only for its own use; the method returns
	// the server's.
	StartShadowCopySet(ctx context.Context, client SetID) (SetID, error)
	// AddToShadowCopySet adds a share to the set.
	AddToShadowCopySet(ctx context.Context, client CopyID, set SetID, share string) (CopyID, error)
	// CommitShadowCopySet takes the shadow copies and waits for them, at most for wait. On the wire
	// a wait is a whole number of milliseconds, at most [MaxWait].
	CommitShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error
	// ExposeShadowCopySet exposes the shadow copies as shares.
	ExposeShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error
	// RecoveryCompleteShadowCopySet ends the creation of the set.
	RecoveryCompleteShadowCopySet(ctx context.Context, set SetID) error
	// AbortShadowCopySet deletes the set and everything made for it.
	AbortShadowCopySet(ctx context.Context, set SetID) error
	// IsPathSupported reports whether shadow copies of the share can be taken, and by which
	// machine.
	IsPathSupported(ctx context.Context, share string) (PathSupport, error)
	// IsPathShadowCopied reports whether the share's volume has shadow copies.
	IsPathShadowCopied(ctx context.Context, share string) (PathShadowCopied, error)
	// GetShareMapping returns the exposed share of a share in the set. Level 1 is the only level;
	// the mapping is nil if the server returned none.
	GetShareMapping(ctx context.Context, copy CopyID, set SetID, share string, level uint32) (*ShareMapping, error)
	// DeleteShareMapping removes an exposed share, and with the last share of a shadow copy also
	// the copy.
	DeleteShareMapping(ctx context.Context, set SetID, copy CopyID, share string) error
	// PrepareShadowCopySet prepares the file server for the commit, and waits for it at most for
	// wait.
	PrepareShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error
}

// Versions is a range of protocol versions. The only existing version is 1.
type Versions struct{ Min, Max uint32 }

// PathSupport is the answer of IsPathSupported.
type PathSupport struct {
	Supported bool
	Owner     string // the machine that a client must connect to; empty if the server named none
}

// PathShadowCopied is the answer of IsPathShadowCopied.
type PathShadowCopied struct {
	Present       bool
	Compatibility Compatibility
}

// A ShareMapping describes an exposed share (FSSAGENT_SHARE_MAPPING_1, MS-FSRVP 2.2.1.1).
type ShareMapping struct {
	SetID   SetID
	CopyID  CopyID
	Share   string    // the share that was copied, a UNC path
	Exposed string    // the share that exposes the copy, without its server: "vms@{f0f1f2f3-...}"
	Created time.Time // UTC, with the wire's resolution of 100 ns
}
