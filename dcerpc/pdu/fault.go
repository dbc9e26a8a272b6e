package pdu

import "fmt"

// Fault says that a call has failed in the RPC layer (C706 12.6.4.7, MS-RPCE 2.2.2.12):
//
//	16 alloc_hint, 4 bytes
//	20 p_cont_id, 2 bytes | cancel_count | flags
//	24 status, 4 bytes
//	28 reserved, 4 bytes
//	32 stub: extended error information where FaultFlags has bit 0 | sec_trailer
type Fault struct {
	Header
	AllocHint   uint32
	ContextID   uint16
	CancelCount uint8
	FaultFlags  uint8
	Status      FaultStatus
	Reserved    [4]byte
	Stub        []byte
	Auth        Auth
}

// FaultStatus is the status of a fault: a Windows error code or one of C706 appendix E.
type FaultStatus uint32

// Statuses of faults (C706 appendix E, MS-ERREF 2.2).
const (
	FaultAccessDenied         FaultStatus = 0x00000005 // ERROR_ACCESS_DENIED
	FaultInsufficientBuffer   FaultStatus = 0x0000007A // ERROR_INSUFFICIENT_BUFFER
	FaultNoCallActive         FaultStatus = 0x000006BD // RPC_S_NO_CALL_ACTIVE
	FaultCallFailed           FaultStatus = 0x000006BE // RPC_S_CALL_FAILED
	FaultCallFailedDNE        FaultStatus = 0x000006BF // RPC_S_CALL_FAILED_DNE
	FaultUnknownAuthnService  FaultStatus = 0x000006D3 // RPC_S_UNKNOWN_AUTHN_SERVICE
	FaultNDR                  FaultStatus = 0x000006F7 // RPC_X_BAD_STUB_DATA, Samba's nca_s_fault_ndr
	FaultCallCancelled        FaultStatus = 0x0000071A // RPC_S_CALL_CANCELLED
	FaultSecPkgError          FaultStatus = 0x00000721 // RPC_S_SEC_PKG_ERROR
	FaultVersionMismatch      FaultStatus = 0x1C000008 // nca_s_rpc_version_mismatch
	FaultUnspecReject         FaultStatus = 0x1C000009 // nca_s_unspec_reject
	FaultCancel               FaultStatus = 0x1C00000D // nca_s_fault_cancel
	FaultUnspec               FaultStatus = 0x1C000012 // nca_s_fault_unspec
	FaultContextMismatch      FaultStatus = 0x1C00001A // nca_s_fault_context_mismatch
	FaultRemoteNoMemory       FaultStatus = 0x1C00001B // nca_s_fault_remote_no_memory
	FaultInvalidPresContextID FaultStatus = 0x1C00001C // nca_s_invalid_pres_context_id
	FaultUnsupportedAuthLevel FaultStatus = 0x1C00001D // nca_s_unsupported_authn_level
	FaultOpRange              FaultStatus = 0x1C010002 // nca_s_op_rng_error
	FaultUnknownInterface     FaultStatus = 0x1C010003 // nca_s_unk_if
	FaultProtocolError        FaultStatus = 0x1C01000B // nca_s_proto_error
	FaultServerTooBusy        FaultStatus = 0x1C010014 // nca_s_server_too_busy
	FaultUnsupportedType      FaultStatus = 0x1C010017 // nca_s_unsupported_type
)

// String returns the standard's name, "nca_s_op_rng_error", or the number, "0x12345678".
func (s FaultStatus) String() string {
	switch s {
	case FaultAccessDenied:
		return "ERROR_ACCESS_DENIED"
	case FaultInsufficientBuffer:
		return "ERROR_INSUFFICIENT_BUFFER"
	case FaultNoCallActive:
		return "RPC_S_NO_CALL_ACTIVE"
	case FaultCallFailed:
		return "RPC_S_CALL_FAILED"
	case FaultCallFailedDNE:
		return "RPC_S_CALL_FAILED_DNE"
	case FaultUnknownAuthnService:
		return "RPC_S_UNKNOWN_AUTHN_SERVICE"
	case FaultNDR:
		return "RPC_X_BAD_STUB_DATA"
	case FaultCallCancelled:
		return "RPC_S_CALL_CANCELLED"
	case FaultSecPkgError:
		return "RPC_S_SEC_PKG_ERROR"
	case FaultVersionMismatch:
		return "nca_s_rpc_version_mismatch"
	case FaultUnspecReject:
		return "nca_s_unspec_reject"
	case FaultCancel:
		return "nca_s_fault_cancel"
	case FaultUnspec:
		return "nca_s_fault_unspec"
	case FaultContextMismatch:
		return "nca_s_fault_context_mismatch"
	case FaultRemoteNoMemory:
		return "nca_s_fault_remote_no_memory"
	case FaultInvalidPresContextID:
		return "nca_s_invalid_pres_context_id"
	case FaultUnsupportedAuthLevel:
		return "nca_s_unsupported_authn_level"
	case FaultOpRange:
		return "nca_s_op_rng_error"
	case FaultUnknownInterface:
		return "nca_s_unk_if"
	case FaultProtocolError:
		return "nca_s_proto_error"
	case FaultServerTooBusy:
		return "nca_s_server_too_busy"
	case FaultUnsupportedType:
		return "nca_s_unsupported_type"
	}
	return fmt.Sprintf("0x%08x", uint32(s))
}

// ParseFault reads a fault. Stub, Auth.Padding and Auth.Token alias b.
func ParseFault(b []byte) (Fault, error) {
	h, b, err := openType(b, TypeFault, faultSize)
	if err != nil {
		return Fault{}, err
	}
	be := h.DataRep.order()
	p := Fault{
		Header:      h,
		AllocHint:   be.uint32(b[16:]),
		ContextID:   be.uint16(b[20:]),
		CancelCount: b[22],
		FaultFlags:  b[23],
		Status:      FaultStatus(be.uint32(b[24:])),
		Reserved:    [4]byte(b[28:32]),
	}
	p.Stub, p.Auth, err = splitStub(&h, b, faultSize)
	if err != nil {
		return Fault{}, err
	}
	return p, nil
}

// AppendBinary appends the fault, with all fields unchanged.
func (p *Fault) AppendBinary(dst []byte) ([]byte, error) {
	w := begin(dst, &p.Header, TypeFault)
	w.uint32(p.AllocHint)
	w.uint16(p.ContextID)
	w.uint8(p.CancelCount)
	w.uint8(p.FaultFlags)
	w.uint32(uint32(p.Status))
	w.bytes(p.Reserved[:])
	w.bytes(p.Stub)
	return w.finish(&p.Auth, faultSize, stubAlign)
}
