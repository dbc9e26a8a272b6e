package fsrvp

import (
	"errors"
	"fmt"
)

// A Status is the result of a method on the wire (MS-FSRVP 2.2.4). Every Status is an error, even
// zero, so that [errors.Is] can find it; [Status.Err] returns nil for success.
type Status uint32

// The statuses of the standard, and others that servers were seen to answer.
const (
	ErrAccessDenied        Status = 0x80070005 // E_ACCESSDENIED
	ErrOutOfMemory         Status = 0x8007000E // E_OUTOFMEMORY
	ErrInvalidArg          Status = 0x80070057 // E_INVALIDARG
	ErrFail                Status = 0x80004005 // E_FAIL: no better status applies
	ErrBadState            Status = 0x80042301
	ErrBadID               Status = 0x80042302 // seen, not in the standard
	ErrObjectNotFound      Status = 0x80042308
	ErrNotSupported        Status = 0x8004230C
	ErrObjectAlreadyExists Status = 0x8004230D
	// answer of Windows Server 2012 to GetShareMapping before the set is exposed; not in the
	// standard
	ErrNotExposed              Status = 0x80042311
	ErrShadowCopySetInProgress Status = 0x80042316
	ErrUnsupportedContext      Status = 0x8004231B
	ErrTimeout                 Status = 0x80042500 // FSSAGENT_E_TIMEOUT, of CommitShadowCopySet
	ErrShadowCopySetIDMismatch Status = 0x80042501
	ErrWaitTimeout             Status = 0x00000102 // of PrepareShadowCopySet and ExposeShadowCopySet
	ErrWaitFailed              Status = 0xFFFFFFFF
)

// describe returns the standard's name of a status and its meaning.
func (s Status) describe() (name, text string) {
	switch s {
	case 0:
		return "ZERO", "success"
	case ErrAccessDenied:
		return "E_ACCESSDENIED", "the caller may not do this"
	case ErrOutOfMemory:
		return "E_OUTOFMEMORY", "the server is out of memory"
	case ErrInvalidArg:
		return "E_INVALIDARG", "an argument is invalid"
	case ErrFail:
		return "E_FAIL", "the server failed"
	case ErrBadState:
		return "FSRVP_E_BAD_STATE", "the call does not fit the server's state"
	case ErrBadID:
		return "FSRVP_E_BAD_ID", "an id is unknown"
	case ErrObjectNotFound:
		return "FSRVP_E_OBJECT_NOT_FOUND", "the object does not exist"
	case ErrNotSupported:
		return "FSRVP_E_NOT_SUPPORTED", "shadow copies of the share's file store are not supported"
	case ErrObjectAlreadyExists:
		return "FSRVP_E_OBJECT_ALREADY_EXISTS", "the object already exists"
	case ErrNotExposed:
		return "FSRVP_E_NOT_EXPOSED", "the shadow copy set is not exposed yet"
	case ErrShadowCopySetInProgress:
		return "FSRVP_E_SHADOW_COPY_SET_IN_PROGRESS", "another shadow copy set is being created"
	case ErrUnsupportedContext:
		return "FSRVP_E_UNSUPPORTED_CONTEXT", "the context is invalid"
	case ErrTimeout:
		return "FSSAGENT_E_TIMEOUT", "the commit timed out"
	case ErrShadowCopySetIDMismatch:
		return "FSRVP_E_SHADOWCOPYSET_ID_MISMATCH", "the shadow copy set does not exist"
	case ErrWaitTimeout:
		return "FSRVP_E_WAIT_TIMEOUT", "the wait timed out"
	case ErrWaitFailed:
		return "FSRVP_E_WAIT_FAILED", "the wait failed"
	}
	return "", ""
}

// Name returns the standard's name, such as "FSRVP_E_BAD_STATE", or the number for a status without
// one. FSRVP_E_BAD_ID and FSRVP_E_NOT_EXPOSED are not names of the standard.
func (s Status) Name() string {
	if name, _ := s.describe(); name != "" {
		return name
	}
	return fmt.Sprintf("0x%08X", uint32(s))
}

// Error returns the meaning, name and number.
func (s Status) Error() string {
	name, text := s.describe()
	if name == "" {
		return fmt.Sprintf("status 0x%08X", uint32(s))
	}
	return fmt.Sprintf("%s (%s, 0x%08X)", text, name, uint32(s))
}

// IsSuccess reports whether the status is zero. The standard also lets a server report success with
// another HRESULT without the error bit (MS-FSRVP 3), but defines none; the only status without
// that bit, [ErrWaitTimeout], is a failure. So every status but zero is an error, and reaches the
// caller unchanged.
func (s Status) IsSuccess() bool { return s == 0 }

// Err returns nil for success, else s.
func (s Status) Err() error {
	if s.IsSuccess() {
		return nil
	}
	return s
}

// StatusOf returns the status that a server answers for an error of a Service: zero for nil, the
// Status that err wraps, else [ErrFail].
func StatusOf(err error) Status {
	if err == nil {
		return 0
	}
	var s Status
	if errors.As(err, &s) && !s.IsSuccess() {
		return s
	}
	return ErrFail
}

// An Error is a server's answer to a call of a [Client] that failed. It wraps the Status.
//
// RPC faults and transport errors have other types, since they do not come from the method.
type Error struct {
	Server string // as passed to Dial
	Op     Opnum
	Status Status // never zero
}

func (e *Error) Error() string {
	return "fsrvp: " + e.Op.String() + " on " + e.Server + ": " + e.Status.Error()
}

// Unwrap returns the status.
func (e *Error) Unwrap() error { return e.Status }
