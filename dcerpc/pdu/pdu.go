package pdu

// A PDU is one protocol data unit: *Bind, *BindAck, *BindNak, *AlterContext,
// *AlterContextResp, *Auth3, *Request, *Response, *Fault, *Shutdown, *CoCancel, *Orphaned or *Raw.
type PDU interface {
	// AppendBinary appends the PDU in the byte order of its header's DataRep, with the
	// lengths that it really has. It fails with ErrFragLength or ErrCount where
	// something does not fit into its length field; dst is then returned as it was.
	AppendBinary(dst []byte) ([]byte, error)
	// Head returns the header.
	Head() *Header
}

// Parse reads the PDU that b begins with; what follows its frag_length is not looked at. The result
// aliases b.
//
// The problems are those of Header.Check, then ErrShort, ErrType, ErrAuth and
// ErrBody. TypeRTS, which this package does not know the inside of, comes as a *Raw.
func Parse(b []byte) (PDU, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return nil, err
	}
	switch h.Type {
	case TypeRequest:
		return parsed(ParseRequest(b))
	case TypeResponse:
		return parsed(ParseResponse(b))
	case TypeFault:
		return parsed(ParseFault(b))
	case TypeBind:
		return parsed(ParseBind(b))
	case TypeBindAck:
		return parsed(ParseBindAck(b))
	case TypeBindNak:
		return parsed(ParseBindNak(b))
	case TypeAlterContext:
		return parsed(ParseAlterContext(b))
	case TypeAlterContextResp:
		return parsed(ParseAlterContextResp(b))
	case TypeAuth3:
		return parsed(ParseAuth3(b))
	case TypeShutdown:
		return parsed(ParseShutdown(b))
	case TypeCoCancel:
		return parsed(ParseCoCancel(b))
	case TypeOrphaned:
		return parsed(ParseOrphaned(b))
	case TypeRTS:
		return parsed(ParseRaw(b))
	}
	if err := h.Check(); err != nil {
		return nil, err
	}
	return nil, fail(ErrType, h.Type, "not connection-oriented")
}

func parsed[T any, P interface {
	*T
	PDU
}](p T, err error) (PDU, error) {
	if err != nil {
		return nil, err
	}
	return P(&p), nil
}
