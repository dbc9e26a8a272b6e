package pdu

import "strconv"

// Type is the PTYPE of a header (C706 12.6.4.1 and 12.1).
type Type uint8

// The connection-oriented types. RTS belongs to RPC over HTTP (MS-RPCH) and has no type of its own
// here. The numbers in between belong to the connectionless protocol.
const (
	TypeRequest          Type = 0
	TypeResponse         Type = 2
	TypeFault            Type = 3
	TypeBind             Type = 11
	TypeBindAck          Type = 12
	TypeBindNak          Type = 13
	TypeAlterContext     Type = 14
	TypeAlterContextResp Type = 15
	TypeAuth3            Type = 16
	TypeShutdown         Type = 17
	TypeCoCancel         Type = 18
	TypeOrphaned         Type = 19
	TypeRTS              Type = 20
)

// Known reports whether t is one of the connection-oriented types above.
func (t Type) Known() bool {
	return t.name() != ""
}

// String returns the standard's name, "bind_ack", or "ptype 7".
func (t Type) String() string {
	if s := t.name(); s != "" {
		return s
	}
	return "ptype " + strconv.Itoa(int(t))
}

func (t Type) name() string {
	switch t {
	case TypeRequest:
		return "request"
	case TypeResponse:
		return "response"
	case TypeFault:
		return "fault"
	case TypeBind:
		return "bind"
	case TypeBindAck:
		return "bind_ack"
	case TypeBindNak:
		return "bind_nak"
	case TypeAlterContext:
		return "alter_context"
	case TypeAlterContextResp:
		return "alter_context_resp"
	case TypeAuth3:
		return "auth3"
	case TypeShutdown:
		return "shutdown"
	case TypeCoCancel:
		return "co_cancel"
	case TypeOrphaned:
		return "orphaned"
	case TypeRTS:
		return "rts"
	}
	return ""
}

// Flags is the pfc_flags field (C706 12.6.3.1, MS-RPCE 2.2.2.3).
type Flags uint8

// The flags. Bit 0x04 has two meanings: SupportHeaderSign in bind, bind_ack, alter_context,
// alter_context_resp and auth3, PendingCancel elsewhere.
const (
	FirstFrag         Flags = 0x01
	LastFrag          Flags = 0x02
	PendingCancel     Flags = 0x04
	SupportHeaderSign Flags = 0x04
	ConcMPX           Flags = 0x10 // concurrent multiplexing of one connection
	DidNotExecute     Flags = 0x20 // in a fault: the call may safely be tried again
	Maybe             Flags = 0x40
	ObjectUUID        Flags = 0x80 // in a request: an object UUID follows the opnum
)

// Has reports whether all bits of f are set.
func (fl Flags) Has(f Flags) bool { return fl&f == f }
