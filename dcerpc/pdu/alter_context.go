package pdu

// AlterContext offers further presentation contexts, or carries a further token of
// a security exchange, on an association (C706 12.6.4.1). Its layout is that of Bind.
type AlterContext Bind

// ParseAlterContext reads an alter_context. It allocates as [ParseBind] does.
func ParseAlterContext(b []byte) (AlterContext, error) {
	p, err := parseBind(b, TypeAlterContext)
	return AlterContext(p), err
}

// AppendBinary appends the alter_context. It fails as [Bind.AppendBinary] does.
func (p *AlterContext) AppendBinary(dst []byte) ([]byte, error) {
	return (*Bind)(p).append(dst, TypeAlterContext)
}
