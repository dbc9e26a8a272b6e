package fsrvp

import (
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A Message is the request or the response of one method: a pointer to one of the structs
// XxxRequest and XxxResponse, whose fields are the parameters of the standard's IDL. Its JSON form
// uses the IDL's names, is complete and stable, and has ids as strings, numbers as numbers, and
// NULL as null.
type Message interface {
	// Opnum returns the method.
	Opnum() Opnum
	// Parse reads the message from a stub, which it does not keep. It ignores bytes after the
	// message, as servers do. An error is an [*ndr.Error] that wraps [ndr.ErrBadStub]; the message
	// must then not be used.
	Parse(s ndr.Syntax, stub []byte) error
	// Append appends the message's stub to dst. Offsets and alignment count from the end of dst. An
	// error is an [*ndr.Error] that wraps [ndr.ErrBadValue] (a string that cannot be encoded); dst
	// is then returned unchanged.
	Append(dst []byte, s ndr.Syntax) ([]byte, error)
}

// A Response is the Message with which a method answers: a pointer to one of the structs
// XxxResponse.
type Response interface {
	Message
	// Status returns the status that the method returned.
	Status() Status
	// SetStatus sets the status.
	SetStatus(Status)
}

// A StatusResponse is the response of the methods that return only a status. Their response structs
// embed it.
type StatusResponse struct {
	Return Status `json:"Return"`
}

// Status returns m.Return.
func (m *StatusResponse) Status() Status { return m.Return }

// Parse implements Message.
func (m *StatusResponse) Parse(s ndr.Syntax, stub []byte) error {
	d := ndr.NewDecoder(stub, s)
	m.Return = Status(d.Uint32())
	return d.Err()
}

// Append implements Message.
func (m *StatusResponse) Append(dst []byte, s ndr.Syntax) ([]byte, error) {
	e := ndr.NewEncoder(dst, s)
	e.Uint32(uint32(m.Return))
	return e.Bytes()
}

// SetStatus sets m.Return.
func (m *StatusResponse) SetStatus(s Status) { m.Return = s }

// ParseRequest reads the request of a method from its stub. Its error wraps [ndr.ErrBadStub] unless
// there is no such method.
func ParseRequest(op Opnum, s ndr.Syntax, stub []byte) (Message, error) {
	m := NewRequest(op)
	if m == nil {
		return nil, fmt.Errorf("fsrvp: no method has %v", op)
	}
	if err := m.Parse(s, stub); err != nil {
		return nil, fmt.Errorf("fsrvp: %v request: %w", op, err)
	}
	return m, nil
}

// ParseResponse reads the response of a method from its stub. It fails as [ParseRequest] does.
func ParseResponse(op Opnum, s ndr.Syntax, stub []byte) (Response, error) {
	m := NewResponse(op)
	if m == nil {
		return nil, fmt.Errorf("fsrvp: no method has %v", op)
	}
	if err := m.Parse(s, stub); err != nil {
		return nil, fmt.Errorf("fsrvp: %v response: %w", op, err)
	}
	return m, nil
}

// NewRequest returns an empty request of a method, nil if there is no such method.
func NewRequest(op Opnum) Message {
	switch op {
	case OpGetSupportedVersion:
		return new(GetSupportedVersionRequest)
	case OpSetContext:
		return new(SetContextRequest)
	case OpStartShadowCopySet:
		return new(StartShadowCopySetRequest)
	case OpAddToShadowCopySet:
		return new(AddToShadowCopySetRequest)
	case OpCommitShadowCopySet:
		return new(CommitShadowCopySetRequest)
	case OpExposeShadowCopySet:
		return new(ExposeShadowCopySetRequest)
	case OpRecoveryCompleteShadowCopySet:
		return new(RecoveryCompleteShadowCopySetRequest)
	case OpAbortShadowCopySet:
		return new(AbortShadowCopySetRequest)
	case OpIsPathSupported:
		return new(IsPathSupportedRequest)
	case OpIsPathShadowCopied:
		return new(IsPathShadowCopiedRequest)
	case OpGetShareMapping:
		return new(GetShareMappingRequest)
	case OpDeleteShareMapping:
		return new(DeleteShareMappingRequest)
	case OpPrepareShadowCopySet:
		return new(PrepareShadowCopySetRequest)
	}
	return nil
}

// NewResponse returns an empty response of a method, nil if there is no such method.
func NewResponse(op Opnum) Response {
	switch op {
	case OpGetSupportedVersion:
		return new(GetSupportedVersionResponse)
	case OpSetContext:
		return new(SetContextResponse)
	case OpStartShadowCopySet:
		return new(StartShadowCopySetResponse)
	case OpAddToShadowCopySet:
		return new(AddToShadowCopySetResponse)
	case OpCommitShadowCopySet:
		return new(CommitShadowCopySetResponse)
	case OpExposeShadowCopySet:
		return new(ExposeShadowCopySetResponse)
	case OpRecoveryCompleteShadowCopySet:
		return new(RecoveryCompleteShadowCopySetResponse)
	case OpAbortShadowCopySet:
		return new(AbortShadowCopySetResponse)
	case OpIsPathSupported:
		return new(IsPathSupportedResponse)
	case OpIsPathShadowCopied:
		return new(IsPathShadowCopiedResponse)
	case OpGetShareMapping:
		return new(GetShareMappingResponse)
	case OpDeleteShareMapping:
		return new(DeleteShareMappingResponse)
	case OpPrepareShadowCopySet:
		return new(PrepareShadowCopySetResponse)
	}
	return nil
}

// boolean returns a BOOL (MS-DTYP 2.2.3).
func boolean(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// nullIfEmpty returns s as a NullString, with NULL for the empty string, for strings of a Service,
// which has no NULL.
func nullIfEmpty(s string) ndr.NullString { return ndr.NullString{String: s, Valid: s != ""} }
