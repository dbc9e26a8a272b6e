package rpctest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// errLostFault means that a script cannot judge a server: see Target.LosesLastFault.
var errLostFault = errors.New("the transport has lost the last fault")

// receive returns the bytes of the next PDU.
func (r *runner) receive() ([]byte, error) {
	b, err := r.cur.ReceiveBytes()
	var timeout net.Error
	switch {
	case err == nil:
		r.logged("<", b)
		r.received = b
		return b, nil
	case errors.Is(err, io.EOF):
		if r.target != nil && r.target.LosesLastFault && r.step.op == opExpect && r.step.ptype == "fault" {
			return nil, errLostFault
		}
		return nil, r.mismatch("the answer", "the end of the connection", r.wanted())
	case errors.As(err, &timeout) && timeout.Timeout():
		return nil, r.mismatch("the answer", "silence", r.wanted())
	}
	return nil, r.mismatch("the answer", "an error: "+err.Error(), r.wanted())
}

// wanted returns in words what the line waits for.
func (r *runner) wanted() string {
	switch r.step.op {
	case opExpectBytes:
		return "bytes"
	case opExpect:
		return "a PDU " + r.step.ptype
	}
	return "a PDU"
}

// expect runs a line that receives.
func (r *runner) expect(st *step) error {
	switch st.op {
	case opExpectEnd:
		return r.expectEnd()
	case opExpectNothing:
		if err := r.cur.ReceiveNothing(st.wait); err != nil {
			return r.mismatch("the answer", err.Error(), fmt.Sprintf("nothing within %v", st.wait))
		}
		return nil
	case opExpectRefused:
		return r.expectRefused()
	case opExpectBytes:
		b, err := r.receive()
		if err != nil {
			return err
		}
		if p, err := pdu.Parse(b); err == nil {
			r.noteReceived(p)
		}
		if !matches(st.pattern, b) {
			return r.mismatch("the PDU", fmt.Sprintf("%x", b), patternText(st.pattern))
		}
		return nil
	}
	return r.expectPDU(st)
}

func patternText(pattern []patternByte) string {
	var s strings.Builder
	for _, p := range pattern {
		switch {
		case p.many:
			s.WriteString("*")
		case p.any:
			s.WriteString("..")
		default:
			fmt.Fprintf(&s, "%02x", p.b)
		}
	}
	return s.String()
}

// expectEnd expects the orderly end of the connection.
func (r *runner) expectEnd() error {
	b, err := r.cur.ReceiveBytes()
	switch {
	case err == nil:
		r.received = b
		r.logged("<", b)
		got := "bytes"
		if p, err := pdu.Parse(b); err == nil {
			got = describe(p)
		}
		return r.mismatch("the answer", got, "the end of the connection")
	case errors.Is(err, io.EOF):
		return nil
	}
	return r.mismatch("the end of the connection", err.Error(), "orderly")
}

// expectRefused expects any refusal: a fault, a bind_nak, or the end of the connection, orderly or
// not.
func (r *runner) expectRefused() error {
	b, err := r.cur.ReceiveBytes()
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return r.mismatch("the answer", "silence", "a refusal")
	case err != nil:
		return nil
	}
	r.received = b
	r.logged("<", b)
	p, err := pdu.Parse(b)
	if err != nil {
		return r.mismatch("the answer", "no PDU that can be read: "+err.Error(), "a refusal")
	}
	switch p.(type) {
	case *pdu.Fault, *pdu.BindNak:
		return nil
	}
	return r.mismatch("the answer", describe(p), "a refusal")
}

// expectAck expects an answer to a bind or alter_context for a line that stands for several PDUs.
func (r *runner) expectAck(ptype string, auth *string) error {
	b, err := r.receive()
	if err != nil {
		return err
	}
	word := "none"
	if auth != nil {
		word = *auth
	}
	h, err := pdu.ParseHeader(b)
	if err != nil {
		return r.errorf("%w", err)
	}
	if h.Type.String() != ptype {
		return r.mismatch("the answer", r.describeBytes(b), "a PDU "+ptype)
	}
	p, err := r.opened(b, word)
	if err != nil {
		return err
	}
	r.noteReceived(p)
	if h.CallID != r.cur.sent.CallID {
		return r.mismatch("call_id", fmt.Sprint(h.CallID), fmt.Sprint(r.cur.sent.CallID))
	}
	return nil
}

func (r *runner) describeBytes(b []byte) string {
	if p, err := pdu.Parse(b); err == nil {
		return describe(p)
	}
	return "bytes that are no PDU"
}

// noteReceived records what later lines depend on.
func (r *runner) noteReceived(p pdu.PDU) {
	c := r.cur
	h := *p.Head()
	c.got = h
	switch p := p.(type) {
	case *pdu.BindAck, *pdu.AlterContextResp:
		c.sign = c.sign || h.Flags.Has(pdu.SupportHeaderSign)
	case *pdu.Bind:
		c.offered, c.mpx = p.Contexts, h.Flags.Has(pdu.ConcMPX)
	case *pdu.AlterContext:
		c.offered = p.Contexts
	case *pdu.Request:
		c.contexts[h.CallID] = p.ContextID
	}
}

// expectPDU expects a PDU with the fields of the line.
func (r *runner) expectPDU(st *step) error {
	b, err := r.receive()
	if err != nil {
		return err
	}
	if h, err := pdu.ParseHeader(b); err != nil || h.Type.String() != st.ptype {
		return r.mismatch("the answer", r.describeBytes(b), "a PDU "+st.ptype)
	}
	auth := "none"
	if f := st.field("auth"); f != nil {
		auth = f.word
	}
	wire := bytes.Clone(b)
	p, err := r.opened(b, auth)
	if err != nil {
		return err
	}
	r.received = wire
	r.noteReceived(p)
	if f := st.field("fragments"); f != nil {
		if p, err = r.whole(p, auth); err != nil {
			return err
		}
	}
	return r.compare(st, p)
}

// whole receives the other fragments of a response, and returns it in one piece.
func (r *runner) whole(first pdu.PDU, auth string) (pdu.PDU, error) {
	resp, ok := first.(*pdu.Response)
	if !ok {
		return nil, r.mismatch("the answer", describe(first), "a response")
	}
	sum := *resp
	sum.Stub = bytes.Clone(resp.Stub)
	if !resp.Flags.Has(pdu.FirstFrag) {
		return nil, r.mismatch("pfc_flags", flagText(uint64(resp.Flags)), "FIRST")
	}
	for last := resp.Flags.Has(pdu.LastFrag); !last; {
		b, err := r.receive()
		if err != nil {
			return nil, err
		}
		p, err := r.opened(b, auth)
		if err != nil {
			return nil, err
		}
		next, ok := p.(*pdu.Response)
		switch {
		case !ok:
			return nil, r.mismatch("the answer", describe(p), "a response")
		case next.CallID != sum.CallID:
			return nil, r.mismatch("call_id", fmt.Sprint(next.CallID), fmt.Sprint(sum.CallID))
		case next.Flags.Has(pdu.FirstFrag):
			return nil, r.mismatch("pfc_flags", flagText(uint64(next.Flags)), "no FIRST")
		case len(sum.Stub)+len(next.Stub) > maxData:
			return nil, r.errorf("a response of more than %d bytes", maxData)
		}
		sum.Stub = append(sum.Stub, next.Stub...)
		last = next.Flags.Has(pdu.LastFrag)
	}
	sum.Flags |= pdu.LastFrag
	return &sum, nil
}

// compare compares a PDU with the fields of a line, and fields that the line does not name with
// their defaults.
func (r *runner) compare(st *step, p pdu.PDU) error {
	for i := range st.fields {
		f := &st.fields[i]
		var err error
		switch {
		case f.spec.kind == number || f.spec.kind == data:
			err = r.compareField(f, p)
		case f.name == "p_cont_elem" || f.name == "p_result":
			err = r.compareList(st, f.name, p)
		}
		if err != nil {
			return err
		}
	}
	for _, d := range r.defaults(st, p) {
		if st.field(d.name) != nil {
			continue
		}
		spec, _ := fieldOf(st.ptype, d.name)
		got, ok := fieldValue(p, d.name)
		if ok && got.num != d.num {
			return r.mismatch(d.name, valueText(got.num, spec.names), valueText(d.num, spec.names)+", its default")
		}
	}
	return nil
}

// A defaultField is a field that is compared even if the line does not name it.
type defaultField struct {
	name string
	num  uint64
}

// defaults returns the expected values of fields that the line does not name: the call id is that
// of the last PDU sent; the others are checked only in the profile windows2022.
func (r *runner) defaults(st *step, p pdu.PDU) []defaultField {
	if r.client != nil {
		return nil // a client may choose
	}
	out := []defaultField{{"call_id", uint64(r.cur.sent.CallID)}, {"packed_drep", drepNames["little"]}}
	if r.profile != Windows2022 {
		return out
	}
	switch p := p.(type) {
	case *pdu.Fault:
		return append(out, []defaultField{
			{"pfc_flags", uint64(both)}, {"p_cont_id", 0}, {"alloc_hint", uint64(r.target.faultAllocHint())},
			{"frag_length", 32}, {"cancel_count", 0}, {"fault_flags", 0},
		}...)
	case *pdu.BindNak:
		return append(out, defaultField{"frag_length", 24})
	case *pdu.Response:
		id := r.cur.contexts[p.CallID] & 0xFF // Windows answers with 8 bits
		return append(out, []defaultField{
			{"pfc_flags", uint64(both)}, {"p_cont_id", uint64(id)}, {"alloc_hint", uint64(len(p.Stub))},
			{"cancel_count", 0}, {"reserved", 0},
		}...)
	}
	return out
}

// compareField compares one number or bytes, and captures it.
func (r *runner) compareField(f *field, p pdu.PDU) error {
	got, ok := fieldValue(p, f.name)
	if !ok {
		return r.mismatch(f.name, "not there", f.e.text)
	}
	if f.e.capture != "" {
		if f.e.fresh {
			key := fmt.Sprintf("%s %d %x", f.e.capture, got.num, got.data)
			if r.seen[key] {
				return r.mismatch(f.name, r.text(f, got)+" again", "one that was not there before")
			}
			r.seen[key] = true
		}
		r.vars[f.e.capture] = got
		return nil
	}
	want, err := r.eval(f.e)
	if err != nil {
		return err
	}
	if f.e.relative {
		want.num |= uint64(both)
	}
	var right bool
	switch {
	case want.any:
		right = true
	case want.kind == data:
		right = bytes.Equal(got.data, want.data) == (f.op == "=")
	case f.op == "=":
		right = got.num == want.num
	case f.op == "!=":
		right = got.num != want.num
	case f.op == "<=":
		right = got.num <= want.num
	default:
		right = got.num >= want.num
	}
	if right {
		return nil
	}
	op := ""
	if f.op != "=" {
		op = f.op + " "
	}
	return r.mismatch(f.name, r.text(f, got), op+r.text(f, want))
}

func (r *runner) text(f *field, v value) string {
	if v.kind == data {
		return dataText(v.data)
	}
	return valueText(v.num, f.spec.names)
}

// dataText returns bytes in short form, as text if they are text.
func dataText(b []byte) string {
	const most = 80
	more := ""
	if len(b) > most {
		more = fmt.Sprintf("... (%d bytes)", len(b))
		b = b[:most]
	}
	for _, c := range b {
		if c < ' ' && c != 0 || c > '~' {
			return fmt.Sprintf("hex:%x%s", b, more)
		}
	}
	return strconv.Quote(string(b)) + more
}

// compareList compares all contexts or results of the line with those of the PDU.
func (r *runner) compareList(st *step, name string, p pdu.PDU) error {
	var want, got []string
	for i := range st.fields {
		f := &st.fields[i]
		switch {
		case f.name != name || f.none:
		case name == "p_result":
			want = append(want, resultText(f.res))
		default:
			want = append(want, contextText(f.ctx.resolve(r.interfaces), r.interfaces))
		}
	}
	switch p := p.(type) {
	case *pdu.Bind:
		for _, e := range p.Contexts {
			got = append(got, contextText(e, r.interfaces))
		}
	case *pdu.AlterContext:
		for _, e := range p.Contexts {
			got = append(got, contextText(e, r.interfaces))
		}
	case *pdu.BindAck:
		for _, res := range p.Results {
			got = append(got, resultText(res))
		}
	case *pdu.AlterContextResp:
		for _, res := range p.Results {
			got = append(got, resultText(res))
		}
	}
	if g, w := strings.Join(got, " "), strings.Join(want, " "); g != w {
		return r.mismatch(name, firstNonEmpty(g, "none"), firstNonEmpty(w, "none"))
	}
	return nil
}

// fieldValue returns a field of a PDU.
func fieldValue(p pdu.PDU, name string) (value, bool) {
	h := p.Head()
	label := h.DataRep.Label()
	n, ok := map[string]uint64{
		"rpc_vers": uint64(h.Major), "rpc_vers_minor": uint64(h.Minor), "ptype": uint64(h.Type),
		"pfc_flags":   uint64(h.Flags),
		"packed_drep": uint64(binary.LittleEndian.Uint32(label[:])), "frag_length": uint64(h.FragLength),
		"auth_length": uint64(h.AuthLength), "call_id": uint64(h.CallID),
	}[name]
	if ok {
		return numberOf(n), true
	}
	if a := authOf(p); a != nil && strings.HasPrefix(name, "auth_") {
		return authValue(a, name)
	}
	switch p := p.(type) {
	case *pdu.Bind:
		return bindValue(p.MaxXmit, p.MaxRecv, p.AssocGroup, len(p.Contexts), name)
	case *pdu.AlterContext:
		return bindValue(p.MaxXmit, p.MaxRecv, p.AssocGroup, len(p.Contexts), name)
	case *pdu.BindAck:
		return ackValue(p, name)
	case *pdu.AlterContextResp:
		return ackValue((*pdu.BindAck)(p), name)
	case *pdu.BindNak:
		return numberOf(uint64(p.Reason)), name == "provider_reject_reason"
	case *pdu.Request:
		switch name {
		case "opnum":
			return numberOf(uint64(p.Opnum)), true
		case "object":
			return dataOf(p.Object[:]), p.Flags.Has(pdu.ObjectUUID)
		}
		return stubValue(p.AllocHint, p.ContextID, p.Stub, name)
	case *pdu.Response:
		switch name {
		case "cancel_count":
			return numberOf(uint64(p.CancelCount)), true
		case "reserved":
			return numberOf(uint64(p.Reserved)), true
		}
		return stubValue(p.AllocHint, p.ContextID, p.Stub, name)
	case *pdu.Fault:
		switch name {
		case "cancel_count":
			return numberOf(uint64(p.CancelCount)), true
		case "fault_flags":
			return numberOf(uint64(p.FaultFlags)), true
		case "status":
			return numberOf(uint64(p.Status)), true
		}
		return stubValue(p.AllocHint, p.ContextID, p.Stub, name)
	}
	return value{}, false
}

func authValue(a *pdu.Auth, name string) (value, bool) {
	switch name {
	case "auth_value":
		return dataOf(a.Token), true
	case "auth_pad":
		return dataOf(a.Padding), true
	}
	n, ok := map[string]uint64{
		"auth_type": uint64(a.Type), "auth_level": uint64(a.Level), "auth_pad_length": uint64(a.PadLength),
		"auth_reserved": uint64(a.Reserved), "auth_context_id": uint64(a.ContextID),
	}[name]
	return numberOf(n), ok
}

func bindValue(xmit, recv uint16, group uint32, contexts int, name string) (value, bool) {
	switch name {
	case "max_xmit_frag":
		return numberOf(uint64(xmit)), true
	case "max_recv_frag":
		return numberOf(uint64(recv)), true
	case "assoc_group_id":
		return numberOf(uint64(group)), true
	case "n_context_elem":
		return numberOf(uint64(contexts)), true
	}
	return value{}, false
}

func ackValue(p *pdu.BindAck, name string) (value, bool) {
	if name == "sec_addr" {
		return dataOf([]byte(p.SecondaryAddress)), true
	}
	return bindValue(p.MaxXmit, p.MaxRecv, p.AssocGroup, len(p.Results), name)
}

func stubValue(hint uint32, contextID uint16, stub []byte, name string) (value, bool) {
	switch name {
	case "alloc_hint":
		return numberOf(uint64(hint)), true
	case "p_cont_id":
		return numberOf(uint64(contextID)), true
	case "stub":
		return dataOf(stub), true
	}
	return value{}, false
}
