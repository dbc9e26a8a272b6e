package pdu

// A PDU is one protocol data unit: *Bind, *BindAck, *BindNak, *AlterContext,
// *AlterContextResp, *Auth3, *Request, *Response, *Fault, *Shutdown, *CoCancel, *Orphaned or *Raw.
type PDU interface {
	// AppendBinary appends the PDU in the byte order of its header's [DataRep], with its real
	// lengths. It fails with [ErrFragLength] or [ErrCount] if something does not fit into its
	// length field; it then returns dst unchanged.
	AppendBinary(dst []byte) ([]byte, error)
	// Head returns the header.
	Head() *Header
}

// Parse reads the PDU that b begins with; bytes beyond its frag_length are ignored. The result
// aliases b.
//
// The problems are those of [Header.Check], then [ErrShort], [ErrType], [ErrAuth] and [ErrBody]. A
// PDU of [TypeRTS], whose body this package does not parse, is returned as a *Raw.
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
