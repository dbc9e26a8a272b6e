package pdu

// Bind opens an association and offers presentation contexts (C706 12.6.4.3, MS-RPCE 2.2.2.13):
//
//	16 max_xmit_frag, 2 bytes | max_recv_frag, 2 bytes
//	20 assoc_group_id, 4 bytes
//	24 n_context_elem | reserved, 3 bytes
//	28 context elements, 24 + 20n bytes each
type Bind struct {
	Header
	MaxXmit, MaxRecv uint16 // largest fragments that the client sends and takes
	AssocGroup       uint32 // zero asks for a new one
	Reserved         [3]byte
	Contexts         []ContextElement
	Auth             Auth

	// ReservedCut is how many of the reserved bytes, 0 to 3, lie beyond the end of the PDU: a bind
	// without contexts may end before them, and Windows accepts it. AppendBinary omits that many if
	// there are no contexts, padding or trailer; otherwise it writes all three.
	ReservedCut uint8
}

// ContextElement offers one interface in one or more transfer syntaxes (p_cont_elem_t):
//
//	0 p_cont_id, 2 bytes | n_transfer_syn | reserved
//	4 abstract syntax, 20 bytes
//	24 transfer syntaxes, 20 bytes each
type ContextElement struct {
	ID       uint16
	Reserved uint8
	Abstract SyntaxID
	Transfer []SyntaxID
}

const contextElementSize = 4 + syntaxIDSize

// ParseBind reads a bind. Beyond the PDU's own bytes it allocates the lists of contexts and
// syntaxes.
func ParseBind(b []byte) (Bind, error) { return parseBind(b, TypeBind) }

// AppendBinary appends the bind. It fails with [ErrCount] if there are more than 255 contexts, or
// more than 255 transfer syntaxes in one.
func (p *Bind) AppendBinary(dst []byte) ([]byte, error) { return p.append(dst, TypeBind) }

func parseBind(b []byte, t Type) (Bind, error) {
	h, b, err := openType(b, t, HeaderSize+9)
	if err != nil {
		return Bind{}, err
	}
	p := Bind{Header: h}
	b, p.Auth, err = splitAuth(&h, b, HeaderSize+12)
	if err != nil {
		return Bind{}, err
	}
	r := reader{b: b, off: HeaderSize, be: h.DataRep.order()}
	p.MaxXmit, p.MaxRecv = r.uint16(), r.uint16()
	p.AssocGroup = r.uint32()
	n := int(r.uint8())
	if n == 0 { // Windows requires the reserved bytes only before a list
		p.ReservedCut = uint8(max(0, len(p.Reserved)-r.left()))
	}
	copy(p.Reserved[:], r.take(len(p.Reserved)-int(p.ReservedCut)))
	if n*contextElementSize > r.left() {
		return Bind{}, fail(ErrBody, t, "%d contexts in %d bytes", n, r.left())
	}
	if n > 0 {
		p.Contexts = make([]ContextElement, n)
	}
	for i := range p.Contexts {
		p.Contexts[i] = r.contextElement()
	}
	if r.short {
		return Bind{}, fail(ErrBody, t, "context list")
	}
	p.Auth.Padding = r.rest()
	return p, nil
}

func (r *reader) contextElement() ContextElement {
	e := ContextElement{ID: r.uint16()}
	n := int(r.uint8())
	e.Reserved = r.uint8()
	e.Abstract = r.syntaxID()
	if n*syntaxIDSize > r.left() {
		r.short = true
		return e
	}
	if n > 0 {
		e.Transfer = make([]SyntaxID, n)
	}
	for i := range e.Transfer {
		e.Transfer[i] = r.syntaxID()
	}
	return e
}

func (p *Bind) append(dst []byte, t Type) ([]byte, error) {
	w := begin(dst, &p.Header, t)
	w.uint16(p.MaxXmit)
	w.uint16(p.MaxRecv)
	w.uint32(p.AssocGroup)
	w.count8(len(p.Contexts))
	reserved := p.Reserved[:]
	if len(p.Contexts) == 0 && len(p.Auth.Padding) == 0 && !p.Auth.Present() {
		reserved = reserved[:len(reserved)-min(len(reserved), int(p.ReservedCut))]
	}
	w.bytes(reserved)
	for i := range p.Contexts {
		e := &p.Contexts[i]
		w.uint16(e.ID)
		w.count8(len(e.Transfer))
		w.uint8(e.Reserved)
		w.syntaxID(e.Abstract)
		for _, s := range e.Transfer {
			w.syntaxID(s)
		}
	}
	return w.finish(&p.Auth, 0, trailerAlign)
}
