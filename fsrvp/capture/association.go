package capture

import (
	"fmt"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"
)

// An association is the RPC traffic of one TCP connection or of one open pipe, of any interface.
type association struct {
	d       *decoder
	stream  *stream // the connection, or the one over which the pipe was opened
	session *session
	pipe    string // name of the pipe
	id      smb2.FileID
	number  uint64 // in the file; zero until the interface was seen
	ended   bool
	foreign bool // the contents of the file or pipe are not RPC

	frames  [2]framer // from the server, from the client
	lost    uint64    // the last packet that showed that PDUs may be missing
	suspect [2]bool   // the same since the last bytes
	changed [2]bool   // some of the bytes since the last PDU came in an SMB message that was tampered with
	// tamperedPDU says the same of the current PDU, or that its own signature does not verify.
	tamperedPDU bool
	buffers     account

	bound         bool // a bind was seen
	blamed        bool // the lack of a bind was reported
	headerSigning bool
	offers        []offer
	contexts      map[uint16]presentation
	security      map[uint32]*handshake // by auth_context_id
	calls         map[uint32]*pending   // by call id
}

// An offer is a bind or alter_context.
type offer struct {
	callID   uint32
	contexts []pdu.ContextElement
	cost     int
}

// A presentation is the meaning of a context id.
type presentation struct {
	fsrvp    bool
	transfer pdu.SyntaxID
	assumed  bool // the capture lacks the negotiation
}

// Limits of one association.
const (
	maxOffers    = 8
	maxContexts  = 1024
	maxSecurity  = 256
	maxPending   = 256
	maxTokenSize = 64 << 10
)

func newAssociation(s *stream) *association {
	a := &association{
		d:        s.d,
		stream:   s,
		contexts: make(map[uint16]presentation),
		security: make(map[uint32]*handshake),
		calls:    make(map[uint32]*pending),
	}
	a.buffers.budget = &s.d.buffers
	for i := range a.frames {
		f := &a.frames[i]
		*f = newFramer(rpcFraming{}, pdu.MaxFragment, &a.buffers)
		f.message = func(b []byte, good, _ int, why Reason, at moment) { a.message(f == &a.frames[1], b, good, why, at) }
		f.broken = a.broken
	}
	return a
}

func (a *association) broken(why Reason) {
	switch {
	case why == ErrLimit:
		a.problem(ErrLimit, "MaxBuffered")
	case a.number != 0:
		a.problem(ErrProtocol, "bytes that are not a PDU")
	default:
		a.foreign = a.session != nil
	}
}

// newTCPAssociation returns the association of a connection.
func newTCPAssociation(s *stream) *association { return newAssociation(s) }

// newPipeAssociation returns the association of an open pipe.
func newPipeAssociation(s *stream, session *session, name string) *association {
	a := newAssociation(s)
	a.session = session
	a.pipe = strings.TrimLeft(name, `\`)
	return a
}

// fsrvpPipe reports whether the pipe is the interface's well-known one.
func (a *association) fsrvpPipe() bool { return strings.EqualFold(a.pipe, fsrvp.PipeName) }

func index(fromClient bool) int {
	if fromClient {
		return 1
	}
	return 0
}

// data takes bytes of one direction. Bytes of a pipe come in the pieces in which they were written
// or read.
func (a *association) data(fromClient bool, b []byte, at moment) {
	if a.foreign {
		return
	}
	i := index(fromClient)
	f := &a.frames[i]
	a.changed[i] = a.changed[i] || a.d.tampered
	if a.suspect[i] {
		// If this is the beginning of a PDU, the unfinished one was cut off.
		a.suspect[i] = false
		if kind, _, _ := recognise(b, 0); kind == kindRPC {
			f.drop()
		}
	}
	f.data(b, at)
	a.changed[i] = a.changed[i] && len(f.buf) > 0
}

// hole says that bytes are missing.
func (a *association) hole(fromClient bool, n int, why Reason, at moment) {
	if a.session == nil {
		a.problem(why, "bytes of an RPC connection")
	}
	a.lost = a.d.now.packet
	a.frames[index(fromClient)].hole(n, why, at)
}

// lose says that any number of bytes may be missing.
func (a *association) lose(fromClient bool) {
	a.lost = a.d.now.packet
	a.suspect[index(fromClient)] = true
}

func (a *association) problem(r Reason, detail string) {
	a.d.problem(r, detail, a.stream.ends[a.stream.client], a.stream.ends[1-a.stream.client])
}

// afford reports whether n more bytes may be kept.
func (a *association) afford(n int) bool {
	if a.buffers.take(n) {
		return true
	}
	a.problem(ErrLimit, "MaxBuffered")
	return false
}

// close gives up the unanswered calls.
func (a *association) close() {
	if a.ended {
		return
	}
	a.ended = true
	a.unanswered()
	a.buffers.close()
}

// found records that the association uses the interface.
func (a *association) found() {
	if a.number == 0 {
		a.d.summary.Associations++
		a.d.associations++
		a.number = a.d.associations
	}
}

// isFSRVP reports whether a syntax is the interface. Real peers use version 1.0, although MS-FSRVP
// 2.1 says 3.0.
func isFSRVP(s pdu.SyntaxID) bool { return s.UUID == fsrvp.Interface().UUID }

// message takes one PDU; its first good bytes are present, and why says why the others are missing.
func (a *association) message(fromClient bool, b []byte, good int, why Reason, at moment) {
	i := index(fromClient)
	a.tamperedPDU, a.changed[i] = a.changed[i], a.d.tampered
	h, err := pdu.ParseHeader(b)
	if err != nil || a.ended {
		return
	}
	if sentByClient(h.Type) != fromClient {
		if a.number != 0 {
			a.problem(ErrProtocol, h.Type.String()+" from the wrong side")
		}
		return
	}
	if good < len(b) {
		a.damaged(&h, b, good, why, at)
		return
	}
	switch h.Type {
	case pdu.TypeBind:
		p, err := pdu.ParseBind(b)
		if a.check(err) {
			a.offered(p.CallID, p.Contexts, len(b), &p.Auth)
		}
	case pdu.TypeAlterContext:
		p, err := pdu.ParseAlterContext(b)
		if a.check(err) {
			a.offered(p.CallID, p.Contexts, len(b), &p.Auth)
		}
	case pdu.TypeBindAck:
		p, err := pdu.ParseBindAck(b)
		if a.check(err) {
			a.answered(&p)
		}
	case pdu.TypeAlterContextResp:
		p, err := pdu.ParseAlterContextResp(b)
		if a.check(err) {
			a.answered((*pdu.BindAck)(&p))
		}
	case pdu.TypeBindNak:
		p, err := pdu.ParseBindNak(b)
		if a.check(err) {
			a.refused(p.CallID, "bind_nak, "+p.Reason.String())
		}
	case pdu.TypeAuth3:
		p, err := pdu.ParseAuth3(b)
		if a.check(err) {
			a.leg(true, &p.Auth)
		}
	case pdu.TypeRequest:
		p, err := pdu.ParseRequest(b)
		if a.check(err) {
			a.request(&p, b, at)
		}
	case pdu.TypeResponse:
		p, err := pdu.ParseResponse(b)
		if a.check(err) {
			a.response(&p, b, at)
		}
	case pdu.TypeFault:
		p, err := pdu.ParseFault(b)
		if a.check(err) {
			a.fault(&p, at)
		}
	}
}

// check counts a PDU that cannot be read, and reports whether err is nil.
func (a *association) check(err error) bool {
	if err != nil && a.number != 0 {
		a.problem(ErrProtocol, err.Error())
	}
	return err == nil
}

// offered takes the offer of a bind or alter_context.
func (a *association) offered(callID uint32, contexts []pdu.ContextElement, size int, auth *pdu.Auth) {
	a.bound = true
	for i := range contexts {
		if isFSRVP(contexts[i].Abstract) {
			a.found()
		}
	}
	if len(a.offers) == maxOffers {
		a.takeOffer(a.offers[0].callID)
	}
	if o := (offer{callID, contexts, size * offerCostPerByte}); a.afford(o.cost) {
		a.offers = append(a.offers, o)
	}
	a.leg(true, auth)
}

// takeOffer returns and forgets the offer of a bind or alter_context.
func (a *association) takeOffer(callID uint32) ([]pdu.ContextElement, bool) {
	for i, o := range a.offers {
		if o.callID == callID {
			a.offers = append(a.offers[:i:i], a.offers[i+1:]...)
			a.buffers.give(o.cost)
			return o.contexts, true
		}
	}
	return nil, false
}

// answered takes a bind_ack or alter_context_resp.
func (a *association) answered(p *pdu.BindAck) {
	if p.Flags.Has(pdu.SupportHeaderSign) {
		a.headerSigning = true
	}
	contexts, known := a.takeOffer(p.CallID)
	if !known && a.fsrvpPipe() {
		contexts = assumedContexts(len(p.Results))
	}
	offered, accepted, why := false, false, ""
	for i, r := range p.Results[:min(len(p.Results), len(contexts))] {
		e := &contexts[i]
		context := presentation{fsrvp: isFSRVP(e.Abstract), transfer: r.Transfer, assumed: !known}
		switch {
		case r.Result == pdu.Acceptance:
			if len(a.contexts) < maxContexts && a.afford(contextCost) {
				a.contexts[e.ID] = context
			}
			accepted = accepted || context.fsrvp
		case context.fsrvp && r.Result != pdu.NegotiateAck:
			offered, why = true, r.Result.String()+", "+r.Reason.String()
		}
	}
	if offered && !accepted && !a.carries() {
		a.problem(ErrRefused, why)
	}
	a.leg(false, &p.Auth)
}

// assumedContexts returns what clients usually offer on the interface's own pipe.
func assumedContexts(n int) []pdu.ContextElement {
	list := make([]pdu.ContextElement, n)
	for i := range list {
		list[i] = pdu.ContextElement{ID: uint16(i), Abstract: fsrvp.Interface()}
	}
	return list
}

// carries reports whether there is a context of the interface.
func (a *association) carries() bool {
	for _, c := range a.contexts {
		if c.fsrvp {
			return true
		}
	}
	return false
}

// refused takes a bind_nak.
func (a *association) refused(callID uint32, why string) {
	contexts, _ := a.takeOffer(callID)
	for i := range contexts {
		if isFSRVP(contexts[i].Abstract) {
			a.problem(ErrRefused, why)
			return
		}
	}
}

// leg takes the token in a PDU.
func (a *association) leg(fromClient bool, auth *pdu.Auth) {
	if !auth.Present() || len(auth.Token) > maxTokenSize {
		return
	}
	c := a.security[auth.ContextID]
	if c == nil {
		if len(a.security) >= maxSecurity {
			a.problem(ErrLimit, "security contexts")
			return
		}
		if !a.afford(securityCost + a.d.cfg.tokenCost()) {
			return
		}
		c = newHandshake(&a.d.cfg)
		a.security[auth.ContextID] = c
	}
	token := append([]byte(nil), auth.Token...)
	if !fromClient {
		c.fromServer(token)
	} else if err := c.fromClient(token); err != nil && a.number != 0 {
		a.problem(reasonOf(err), cause(err))
	}
}

// presentation returns the meaning of the context of a request, by inference if the capture lacks
// the negotiation.
func (a *association) presentation(p *pdu.Request) (presentation, bool) {
	if c, ok := a.contexts[p.ContextID]; ok {
		return c, true
	}
	for _, o := range a.offers {
		for i := range o.contexts {
			if e := &o.contexts[i]; e.ID == p.ContextID {
				return presentation{fsrvp: isFSRVP(e.Abstract), transfer: firstNDR(e.Transfer), assumed: true}, true
			}
		}
	}
	if a.fsrvpPipe() {
		return presentation{fsrvp: true, transfer: pdu.NDR20(), assumed: true}, true
	}
	if c, ok := a.guess(p); ok && a.afford(contextCost) {
		a.contexts[p.ContextID] = c
		return c, true
	}
	if !a.bound && !a.blamed {
		a.blamed = true
		a.problem(ErrMidstream, "requests without a bind "+a.where())
	}
	return presentation{}, false
}

// where describes the transport of the association.
func (a *association) where() string {
	switch {
	case a.session == nil:
		return "on TCP"
	case a.pipe == "":
		return "in a pipe"
	}
	return fmt.Sprintf("in pipe %.64q", a.pipe)
}

// firstNDR returns the first transfer syntax that is an NDR.
func firstNDR(list []pdu.SyntaxID) pdu.SyntaxID {
	for _, s := range list {
		if _, ok := s.NDR(pdu.LittleEndian); ok {
			return s
		}
	}
	return pdu.NDR20()
}
