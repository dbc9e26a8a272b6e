package dcerpc

import (
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A Fault is a server's answer to a call that failed in the RPC layer (C706 12.6.4.7). On a client,
// [errors.As] finds it in the error of a call; a server sends the Fault that a [Handler] returns
// unchanged.
type Fault struct {
	Status pdu.FaultStatus
	// DidNotExecute reports that the call was not begun, so that repeating it is safe
	// (PFC_DID_NOT_EXECUTE).
	DidNotExecute bool
}

// Faults to match with [errors.Is], which compares only the Status. A [Handler] may return them.
var (
	ErrAccessDenied     = &Fault{Status: pdu.FaultAccessDenied}
	ErrBadStub          = &Fault{Status: pdu.FaultNDR}
	ErrSecurityPackage  = &Fault{Status: pdu.FaultSecPkgError}
	ErrCancelled        = &Fault{Status: pdu.FaultCancel}
	ErrUnspecified      = &Fault{Status: pdu.FaultUnspec}
	ErrContextMismatch  = &Fault{Status: pdu.FaultContextMismatch}
	ErrOpnumRange       = &Fault{Status: pdu.FaultOpRange, DidNotExecute: true}
	ErrUnknownInterface = &Fault{Status: pdu.FaultUnknownInterface, DidNotExecute: true}
	ErrProtocol         = &Fault{Status: pdu.FaultProtocolError}
	ErrServerTooBusy    = &Fault{Status: pdu.FaultServerTooBusy, DidNotExecute: true}
)

func (f *Fault) Error() string {
	if f.DidNotExecute {
		return "dcerpc: fault, call not executed: " + f.Status.String()
	}
	return "dcerpc: fault: " + f.Status.String()
}

// Is reports whether target is a Fault with the same Status.
func (f *Fault) Is(target error) bool {
	t, ok := target.(*Fault)
	return ok && t.Status == f.Status
}

// sendable reports whether a server may send the fault: success and the codes of processor
// exceptions have a special meaning for clients (MS-RPCE 3.3.3.5.1).
func (f *Fault) sendable() bool {
	switch f.Status {
	case 0, // ERROR_SUCCESS
		0x80000001, // STATUS_GUARD_PAGE_VIOLATION
		0x80000002, // STATUS_DATATYPE_MISALIGNMENT
		0x80000003, // STATUS_BREAKPOINT
		0xC0000005, // STATUS_ACCESS_VIOLATION
		0xC0000006, // STATUS_IN_PAGE_ERROR
		0xC000001D, // STATUS_ILLEGAL_INSTRUCTION
		0xC0000096, // STATUS_PRIVILEGED_INSTRUCTION
		0xC00000AA, // STATUS_INSTRUCTION_MISALIGNMENT
		0xC00000FD, // STATUS_STACK_OVERFLOW
		0xC0000194, // STATUS_POSSIBLE_DEADLOCK
		0xC0000235, // STATUS_HANDLE_NOT_CLOSABLE
		0xC0000409, // STATUS_STACK_BUFFER_OVERRUN
		0xC0000420: // STATUS_ASSERTION_FAILURE
		return false
	}
	return true
}
