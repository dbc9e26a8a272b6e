package rpctest

import (
	"bytes"
	"encoding/binary"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

const both = pdu.FirstFrag | pdu.LastFrag

// values are the numbers and bytes of a line's fields.
type values struct {
	r    *runner
	st   *step
	err  error
	nums map[string]uint64
	data map[string][]byte
}

func (r *runner) values(st *step) *values {
	v := &values{r: r, st: st, nums: map[string]uint64{}, data: map[string][]byte{}}
	for _, f := range st.fields {
		if f.e == nil {
			continue
		}
		got, err := r.eval(f.e)
		switch {
		case err != nil:
			v.err = err
		case got.any:
			v.err = r.errorf("%s: its value is not known", f.name)
		case got.kind == number:
			v.nums[f.name] = got.num
		default:
			v.data[f.name] = got.data
		}
	}
	return v
}

func (v *values) has(name string) bool {
	_, ok := v.nums[name]
	_, ok2 := v.data[name]
	return ok || ok2
}

// num returns a field, or its default, as a number with the given number of bits.
func (v *values) num(name string, def uint64, bits int) uint64 {
	n, ok := v.nums[name]
	if !ok {
		return def
	}
	if n >= 1<<bits {
		v.err = v.r.errorf("%s=%d does not fit into %d bits", name, n, bits)
	}
	return n
}

func (v *values) bytes(name string, def []byte) []byte {
	if b, ok := v.data[name]; ok {
		return b
	}
	return def
}

// flags returns pfc_flags.
func (v *values) flags(def pdu.Flags) pdu.Flags {
	if f := v.st.field("pfc_flags"); f != nil && f.e.relative {
		return def | pdu.Flags(v.num("pfc_flags", 0, 8))
	}
	return pdu.Flags(v.num("pfc_flags", uint64(def), 8))
}

// send builds and sends the PDU of a line.
func (r *runner) send(st *step) error {
	var s *security
	if f := st.field("auth"); f != nil && f.word != "none" {
		if f.word == "*" {
			return r.errorf("auth=* cannot be sent")
		}
		var err error
		if s, err = r.securityOf(f.word); err != nil {
			return err
		}
	}
	return r.sendIn(st, s)
}

// sendIn is send in a security context, which may be nil.
func (r *runner) sendIn(st *step, s *security) error {
	v := r.values(st)
	if v.err != nil {
		return v.err
	}
	return r.sendValues(st, v, s)
}

// sendRequest sends a request whose opnum and stub the line need not name.
func (r *runner) sendRequest(st *step, opnum uint64, stub []byte) error {
	v := r.values(st)
	if v.err != nil {
		return v.err
	}
	if !v.has("opnum") {
		v.nums["opnum"] = opnum
	}
	if !v.has("stub") {
		v.data["stub"] = stub
	}
	var s *security
	if f := st.field("auth"); f != nil {
		var err error
		if s, err = r.securityOf(f.word); err != nil {
			return err
		}
	}
	return r.sendValues(st, v, s)
}

func (r *runner) sendValues(st *step, v *values, s *security) error {
	p, err := r.build(st, v, s)
	if err != nil {
		return err
	}
	if v.err != nil {
		return v.err
	}
	b, err := p.AppendBinary(nil)
	if err != nil {
		return r.errorf("%w", err)
	}
	switch p.(type) {
	case *pdu.Request, *pdu.Response:
		if s != nil && protects(s.level) && !v.has("auth_value") {
			if err := r.protect(s, b); err != nil {
				return err
			}
		}
	}
	r.noteSent(p)
	if b, err = r.edited(st, v, b); err != nil {
		return err
	}
	return r.writeAs(st, v, b)
}

// noteSent records the values from which later lines take their defaults.
func (r *runner) noteSent(p pdu.PDU) {
	h := *p.Head()
	c := r.cur
	c.sent = h
	c.nextCall = max(c.nextCall, h.CallID) // the next one is never one that was used before
	if h.CallID == c.nextCall {
		c.nextCall++
	}
	switch p := p.(type) {
	case *pdu.Bind, *pdu.AlterContext:
		c.exchange = h.CallID
	case *pdu.Request:
		c.request = h.CallID
		if h.Flags.Has(pdu.FirstFrag) {
			c.contexts[h.CallID] = p.ContextID
		}
	case *pdu.BindAck:
		c.sign = c.sign || h.Flags.Has(pdu.SupportHeaderSign)
	case *pdu.AlterContextResp:
		c.sign = c.sign || h.Flags.Has(pdu.SupportHeaderSign)
	}
}

// build makes the PDU.
func (r *runner) build(st *step, v *values, s *security) (pdu.PDU, error) {
	h := pdu.Header{Flags: v.flags(both), CallID: uint32(v.num("call_id", uint64(r.callID(st, v)), 32))}
	if drep, ok := v.nums["packed_drep"]; ok {
		h.DataRep = pdu.DataRepFromLabel([4]byte(binary.LittleEndian.AppendUint32(nil, uint32(drep))))
	}
	a := r.auth(st, v, s)
	switch st.ptype {
	case "bind", "alter_context":
		p := &pdu.Bind{
			Header:  h,
			MaxXmit: uint16(v.num("max_xmit_frag", 5840, 16)), MaxRecv: uint16(v.num("max_recv_frag", 5840, 16)),
			AssocGroup: uint32(v.num("assoc_group_id", 0, 32)), Contexts: r.contexts(st), Auth: a,
		}
		if st.ptype == "alter_context" {
			return (*pdu.AlterContext)(p), nil
		}
		return p, nil
	case "auth3":
		return &pdu.Auth3{Header: h, Auth: a}, nil
	case "request":
		return r.buildRequest(st, v, h, a)
	case "co_cancel":
		return &pdu.CoCancel{Header: h, Auth: a}, nil
	case "orphaned":
		return &pdu.Orphaned{Header: h, Auth: a}, nil
	case "raw":
		body := v.bytes("body", nil)
		h.Major, h.Type = 5, pdu.Type(v.num("ptype", 0, 8))
		h.FragLength = uint16(pdu.HeaderSize + len(body))
		return &pdu.Raw{Header: h, Body: body}, nil
	}
	return r.buildAnswer(st, v, h, a)
}

func (r *runner) buildRequest(st *step, v *values, h pdu.Header, a pdu.Auth) (pdu.PDU, error) {
	p := &pdu.Request{
		Header: h, ContextID: uint16(v.num("p_cont_id", 0, 16)), Opnum: uint16(v.num("opnum", 0, 16)),
		Stub: v.bytes("stub", nil), Auth: a,
	}
	if object := v.bytes("object", nil); object != nil {
		p.Flags |= pdu.ObjectUUID
		if len(object) != len(p.Object) {
			return nil, r.errorf("an object has 16 bytes")
		}
		p.Object = uuid.UUID(object)
	}
	if f := st.field("verification"); f != nil {
		commands, err := parseVerification(f.word)
		if err == nil {
			p.Stub = bytes.Clone(p.Stub)
			err = appendVerification(p, commands, r.interfaces)
		}
		if err != nil {
			return nil, r.errorf("%w", err)
		}
	}
	p.AllocHint = uint32(v.num("alloc_hint", uint64(len(p.Stub)), 32))
	return p, nil
}

// buildAnswer makes a PDU of a server.
func (r *runner) buildAnswer(st *step, v *values, h pdu.Header, a pdu.Auth) (pdu.PDU, error) {
	stub := v.bytes("stub", nil)
	contextID := uint16(v.num("p_cont_id", uint64(r.cur.contexts[h.CallID]), 16))
	switch st.ptype {
	case "bind_ack", "alter_context_resp":
		p := &pdu.BindAck{
			Header:  h,
			MaxXmit: uint16(v.num("max_xmit_frag", 5840, 16)), MaxRecv: uint16(v.num("max_recv_frag", 5840, 16)),
			AssocGroup: uint32(v.num("assoc_group_id", 0x1234, 32)), Results: r.results(st), Auth: a,
		}
		if st.ptype == "alter_context_resp" {
			p.SecondaryAddress = string(v.bytes("sec_addr", nil))
			return (*pdu.AlterContextResp)(p), nil
		}
		p.SecondaryAddress = string(v.bytes("sec_addr", []byte("49152\x00")))
		p.Flags = v.flags(both | r.mpx())
		return p, nil
	case "bind_nak":
		p := pdu.NewBindNak(h.CallID, pdu.NakReason(v.num("provider_reject_reason", 0, 16)))
		p.Header = h
		return &p, nil
	case "response":
		return &pdu.Response{
			Header: h, AllocHint: uint32(v.num("alloc_hint", uint64(len(stub)), 32)), ContextID: contextID,
			CancelCount: uint8(v.num("cancel_count", 0, 8)), Reserved: uint8(v.num("reserved", 0, 8)),
			Stub: stub, Auth: a,
		}, nil
	case "fault":
		return &pdu.Fault{
			Header: h, AllocHint: uint32(v.num("alloc_hint", 32, 32)), ContextID: contextID,
			CancelCount: uint8(v.num("cancel_count", 0, 8)), FaultFlags: uint8(v.num("fault_flags", 0, 8)),
			Status: pdu.FaultStatus(v.num("status", 0, 32)), Stub: stub, Auth: a,
		}, nil
	case "shutdown":
		return &pdu.Shutdown{Header: h}, nil
	}
	return nil, r.errorf("a %s cannot be sent", st.ptype)
}

// mpx is the flag that grants multiplexing to a client that asked for it.
func (r *runner) mpx() pdu.Flags {
	if r.cur.mpx {
		return pdu.ConcMPX
	}
	return 0
}

// callID returns the default of call_id: an answer has that of the PDU that it answers; further
// fragments, and PDUs that end an exchange or a call, have that of the exchange or call; everything
// else has a new one.
func (r *runner) callID(st *step, v *values) uint32 {
	c := r.cur
	switch {
	case r.client != nil:
		return c.got.CallID
	case st.ptype == "auth3":
		return c.exchange
	case st.ptype == "co_cancel" || st.ptype == "orphaned":
		return c.request
	case st.ptype == "request" && !v.flags(both).Has(pdu.FirstFrag) && c.request != 0:
		return c.request
	}
	return c.nextCall
}

// auth makes the trailer of the security context, changed as the line says.
func (r *runner) auth(st *step, v *values, s *security) pdu.Auth {
	var a pdu.Auth
	if s != nil {
		a = s.trailer(nil)
		switch {
		case v.has("auth_value"):
		case st.ptype == "request" || st.ptype == "response":
			a.Token = make([]byte, s.TokenSize(s.level))
		default:
			a.Token = s.token
			if a.Token == nil {
				a.Token = []byte{}
			}
			s.token = nil
		}
	}
	a.Type = uint8(v.num("auth_type", uint64(a.Type), 8))
	a.Level = uint8(v.num("auth_level", uint64(a.Level), 8))
	a.Reserved = uint8(v.num("auth_reserved", 0, 8))
	a.ContextID = uint32(v.num("auth_context_id", uint64(a.ContextID), 32))
	a.Token = v.bytes("auth_value", a.Token)
	if more := v.bytes("auth_more", nil); more != nil {
		a.Token = append(bytes.Clone(a.Token), more...)
	}
	if v.has("auth_pad") || v.has("auth_pad_length") {
		a.Padding = append([]byte{}, v.bytes("auth_pad", nil)...)
		a.PadLength = uint8(v.num("auth_pad_length", 0, 8))
	}
	return a
}

// contexts returns the presentation contexts of a line; by default, context 0 of the interface main
// in NDR 2.0.
func (r *runner) contexts(st *step) []pdu.ContextElement {
	out := []pdu.ContextElement{}
	for i := range st.fields {
		f := &st.fields[i]
		switch {
		case f.name != "p_cont_elem":
		case f.none:
			return nil
		default:
			out = append(out, f.ctx.resolve(r.interfaces))
		}
	}
	if len(out) == 0 {
		return []pdu.ContextElement{{Abstract: r.interfaces["main"], Transfer: []pdu.SyntaxID{pdu.NDR20()}}}
	}
	return out
}

// results returns the results of a line; by default, the first context that offers NDR 2.0 is
// accepted, features are granted, and the others are rejected.
func (r *runner) results(st *step) []pdu.ContextResult {
	var out []pdu.ContextResult
	for _, f := range st.fields {
		if f.name == "p_result" {
			if f.none {
				return nil
			}
			out = append(out, f.res)
		}
	}
	if out != nil {
		return out
	}
	accepted := false
	for _, e := range r.cur.offered {
		res := pdu.ContextResult{Result: pdu.ProviderRejection, Reason: pdu.ProposedTransferSyntaxesUnsupported}
		for i, t := range e.Transfer {
			if f, ok := t.Features(); ok && i == 0 {
				res = pdu.ContextResult{Result: pdu.NegotiateAck, Reason: pdu.Reason(f & 3)}
			}
			if t == pdu.NDR20() && !accepted {
				res, accepted = pdu.ContextResult{Transfer: t}, true
				break
			}
		}
		out = append(out, res)
	}
	return out
}

// edited changes fields and bytes of a finished PDU as the line says.
func (r *runner) edited(st *step, v *values, b []byte) ([]byte, error) {
	h, err := pdu.ParseHeader(b)
	if err != nil {
		return nil, r.errorf("%w", err)
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if h.DataRep.IsBigEndian() {
		order = binary.BigEndian
	}
	for i, name := range []string{"rpc_vers", "rpc_vers_minor", "ptype"} {
		if v.has(name) {
			b[i] = byte(v.num(name, 0, 8))
		}
	}
	if v.has("frag_length") {
		order.PutUint16(b[8:], uint16(v.num("frag_length", 0, 16)))
	}
	if v.has("auth_length") {
		order.PutUint16(b[10:], uint16(v.num("auth_length", 0, 16)))
	}
	if v.has("n_context_elem") {
		b[24] = byte(v.num("n_context_elem", 0, 8))
	}
	if v.err != nil {
		return nil, v.err
	}
	for _, f := range st.fields {
		if f.patch == nil {
			continue
		}
		from := f.offset
		if from < 0 {
			from += len(b)
		}
		if from < 0 || from+len(f.patch) > len(b) {
			return nil, r.errorf("@%d is outside of the PDU's %d bytes", f.offset, len(b))
		}
		for i, c := range f.patch {
			if f.op == "^=" {
				c ^= b[from+i]
			}
			b[from+i] = c
		}
	}
	if v.has("cut") {
		n := int(v.num("cut", 0, 16))
		if n > len(b) {
			return nil, r.errorf("cut=%d is more than the PDU's %d bytes", n, len(b))
		}
		b = b[:n]
	}
	return b, nil
}

// writeAs sends a finished PDU in the way that the line says.
func (r *runner) writeAs(st *step, v *values, b []byte) error {
	if n := v.num("times", 1, 16); n != 1 {
		if n > 1000 || len(b)*int(n) > maxData {
			return r.errorf("times=%d is too much", n)
		}
		b = bytes.Repeat(b, int(n))
	}
	how := ""
	if f := st.field("write"); f != nil {
		how = f.word
	}
	c := r.cur
	if how == "later" {
		r.logged("> (with the next)", b)
		c.last = bytes.Clone(b)
		c.later = append(c.later, b...)
		return nil
	}
	if how != "dribble" {
		return r.write(b)
	}
	r.logged("> (byte by byte)", b)
	for _, one := range append(c.later, b...) {
		if err := c.SendBytes([]byte{one}); err != nil {
			return r.errorf("cannot send: %w", err)
		}
	}
	c.last, c.later = bytes.Clone(b), nil
	return nil
}

// write sends bytes in one write, together with bytes kept for it.
func (r *runner) write(b []byte) error {
	c := r.cur
	r.logged(">", b)
	c.last = bytes.Clone(b)
	all := append(c.later, b...)
	c.later = nil
	if err := c.SendBytes(all); err != nil {
		return r.errorf("cannot send: %w", err)
	}
	return nil
}
