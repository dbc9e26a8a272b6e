package pdu

import "strconv"

// BindAck accepts a bind and answers each of its contexts (C706 12.6.4.4):
//
//	16 max_xmit_frag, 2 bytes | max_recv_frag, 2 bytes
//	20 assoc_group_id, 4 bytes
//	24 sec_addr: length, 2 bytes | that many bytes | 0-3 bytes to a multiple of 4
//	   n_results | reserved, 3 bytes
//	   results, 24 bytes each
type BindAck struct {
	Header
	MaxXmit, MaxRecv uint16
	AssocGroup       uint32
	// SecondaryAddress is the server's own endpoint with its terminating NUL, "49152\x00" or
	// "\\pipe\\FssagentRpc\x00"; empty in an alter_context_resp.
	SecondaryAddress string
	Alignment        [3]byte // the bytes after the secondary address, as many as there are
	Reserved         [3]byte
	Results          []ContextResult
	Auth             Auth
}

// ContextResult answers one [ContextElement] (p_result_t):
//
//	0 result, 2 bytes | reason, 2 bytes
//	4 transfer syntax, 20 bytes: zero unless accepted
type ContextResult struct {
	Result   Result
	Reason   Reason // with NegotiateAck: the Features that are granted
	Transfer SyntaxID
}

const contextResultSize = 4 + syntaxIDSize

// Result is the answer to one context (p_cont_def_result_t, MS-RPCE 2.2.2.4).
type Result uint16

// The results.
const (
	Acceptance        Result = 0
	UserRejection     Result = 1
	ProviderRejection Result = 2
	NegotiateAck      Result = 3
)

// String returns the standard's name, "acceptance".
func (r Result) String() string {
	switch r {
	case Acceptance:
		return "acceptance"
	case UserRejection:
		return "user_rejection"
	case ProviderRejection:
		return "provider_rejection"
	case NegotiateAck:
		return "negotiate_ack"
	}
	return "result " + strconv.Itoa(int(r))
}

// Reason is why a provider rejected a context (p_provider_reason_t).
type Reason uint16

// The reasons.
const (
	ReasonNotSpecified                  Reason = 0
	AbstractSyntaxNotSupported          Reason = 1
	ProposedTransferSyntaxesUnsupported Reason = 2
	LocalLimitExceeded                  Reason = 3
)

// String returns the standard's name, "abstract_syntax_not_supported".
func (r Reason) String() string {
	switch r {
	case ReasonNotSpecified:
		return "reason_not_specified"
	case AbstractSyntaxNotSupported:
		return "abstract_syntax_not_supported"
	case ProposedTransferSyntaxesUnsupported:
		return "proposed_transfer_syntaxes_not_supported"
	case LocalLimitExceeded:
		return "local_limit_exceeded"
	}
	return "reason " + strconv.Itoa(int(r))
}

// ParseBindAck reads a bind_ack. Beyond the PDU's own bytes it allocates the list of results and
// the address.
func ParseBindAck(b []byte) (BindAck, error) { return parseBindAck(b, TypeBindAck) }

// AppendBinary appends the bind_ack. It fails with [ErrCount] if there are more than 255 results or
// the address is longer than 65,535 bytes.
func (p *BindAck) AppendBinary(dst []byte) ([]byte, error) { return p.append(dst, TypeBindAck) }

func parseBindAck(b []byte, t Type) (BindAck, error) {
	h, b, err := openType(b, t, HeaderSize+10)
	if err != nil {
		return BindAck{}, err
	}
	p := BindAck{Header: h}
	b, p.Auth, err = splitAuth(&h, b, HeaderSize+10)
	if err != nil {
		return BindAck{}, err
	}
	r := reader{b: b, off: HeaderSize, be: h.DataRep.order()}
	p.MaxXmit, p.MaxRecv = r.uint16(), r.uint16()
	p.AssocGroup = r.uint32()
	p.SecondaryAddress = string(r.take(int(r.uint16())))
	copy(p.Alignment[:], r.take(-r.off&3))
	n := int(r.uint8())
	copy(p.Reserved[:], r.take(3))
	if r.short || n*contextResultSize > r.left() {
		return BindAck{}, fail(ErrBody, t, "address of %d bytes, %d results, %d bytes left", len(p.SecondaryAddress), n,
			r.left())
	}
	if n > 0 {
		p.Results = make([]ContextResult, n)
	}
	for i := range p.Results {
		p.Results[i] = ContextResult{Result(r.uint16()), Reason(r.uint16()), r.syntaxID()}
	}
	if !p.Auth.Present() {
		p.Auth = emptyTrailer(r.rest(), r.be)
		return p, nil
	}
	p.Auth.Padding = r.rest()
	return p, nil
}

// emptyTrailer reads what follows the results of a PDU with an auth_length of zero: the
// 8 bytes of a sec_trailer with an empty token, which end the last leg of an
// exchange on Windows and Samba, or padding.
func emptyTrailer(b []byte, be byteOrder) Auth {
	if len(b) != AuthTrailerSize || b[0] == 0 {
		return Auth{Padding: b}
	}
	a := parseTrailer(b, be)
	a.Padding = b[:0]
	return a
}

func (p *BindAck) append(dst []byte, t Type) ([]byte, error) {
	w := begin(dst, &p.Header, t)
	w.uint16(p.MaxXmit)
	w.uint16(p.MaxRecv)
	w.uint32(p.AssocGroup)
	w.count16(len(p.SecondaryAddress))
	w.b = append(w.b, p.SecondaryAddress...)
	w.bytes(p.Alignment[:-w.size()&3])
	w.count8(len(p.Results))
	w.bytes(p.Reserved[:])
	for _, res := range p.Results {
		w.uint16(uint16(res.Result))
		w.uint16(uint16(res.Reason))
		w.syntaxID(res.Transfer)
	}
	return w.finish(&p.Auth, 0, trailerAlign)
}
