package ndr

import (
	"errors"
	"strconv"
)

// Every [*Error] wraps one of these; match them with [errors.Is].
var (
	// ErrBadStub means that a Decoder could not read the bytes. An RPC server answers it with the
	// fault nca_s_fault_ndr, 0x000006F7.
	ErrBadStub = errors.New("ndr: bad stub data")
	// ErrBadValue means that an Encoder was given a value that has no encoding: the caller's
	// mistake.
	ErrBadValue = errors.New("ndr: value cannot be encoded")
)

// An Error says what could not be decoded or encoded, and where.
type Error struct {
	Offset int    // of the item in the stub, in bytes from its start
	Op     string // the kind of item: "uint32", "wide string", "count"
	Reason string
	Err    error // ErrBadStub or ErrBadValue
}

func (e *Error) Error() string {
	return e.Err.Error() + ": " + e.Op + " at offset " + strconv.Itoa(e.Offset) + ": " + e.Reason
}

// Unwrap returns [ErrBadStub] or [ErrBadValue].
func (e *Error) Unwrap() error { return e.Err }
