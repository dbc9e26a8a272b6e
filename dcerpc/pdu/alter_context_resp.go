package pdu

// AlterContextResp answers an alter_context (C706 12.6.4.2). Its layout is that of [BindAck]; its
// secondary address is empty. The last one of a security exchange may carry a trailer with an empty
// token.
type AlterContextResp BindAck

// ParseAlterContextResp reads an alter_context_resp. It allocates as [ParseBindAck] does.
func ParseAlterContextResp(b []byte) (AlterContextResp, error) {
	p, err := parseBindAck(b, TypeAlterContextResp)
	return AlterContextResp(p), err
}

// AppendBinary appends the alter_context_resp. It fails as [BindAck.AppendBinary] does.
func (p *AlterContextResp) AppendBinary(dst []byte) ([]byte, error) {
	return (*BindAck)(p).append(dst, TypeAlterContextResp)
}
