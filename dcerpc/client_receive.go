package dcerpc

import (
	"bytes"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// read is the goroutine that receives.
func (l *link) read() {
	for {
		h, b, err := l.framer.Next()
		if err != nil {
			l.mu.Lock()
			unsound := l.unsound
			l.mu.Unlock()
			if unsound != nil {
				l.fail(unsound)
			} else {
				l.fail(lost(err))
			}
			return
		}
		if err := l.receive(&h, b); err != nil {
			l.fail(err)
			return
		}
	}
}

// receive handles one PDU.
func (l *link) receive(h *pdu.Header, b []byte) error {
	if err := h.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadPeer, err)
	}
	switch h.Type {
	case pdu.TypeResponse:
		return l.receiveResponse(b)
	case pdu.TypeFault:
		return l.receiveFault(b)
	case pdu.TypeBindAck, pdu.TypeBindNak, pdu.TypeAlterContextResp:
		l.traced(b, false)
		return l.receiveAnswer(b)
	case pdu.TypeShutdown:
		l.traced(b, false)
		l.mu.Lock()
		l.leaving = true
		l.mu.Unlock()
		return nil
	}
	l.traced(b, false)
	return badPeer("%v sent to a client", h.Type)
}

func (l *link) receiveAnswer(b []byte) error {
	p, err := pdu.Parse(bytes.Clone(b))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadPeer, err)
	}
	return l.answer(p)
}

// answer gives p to the bind or alter_context that waits for it.
func (l *link) answer(p pdu.PDU) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := p.Head()
	w := l.waiting[h.CallID]
	if w == nil {
		return l.lateLocked(h)
	}
	if w.cc != nil {
		return badPeer("%v in answer to a request", h.Type)
	}
	w.answer = p
	l.completeLocked(w, nil)
	return nil
}

// lateLocked handles an answer that nobody waits for: it drops it if the id belonged to a call that
// has been abandoned, and otherwise returns an error.
func (l *link) lateLocked(h *pdu.Header) error {
	if h.CallID == 0 || h.CallID > l.topID {
		return badPeer("%v for call %d, which was never made", h.Type, h.CallID)
	}
	l.logger.Debug("dcerpc: late answer dropped", "type", h.Type, "call", h.CallID)
	return nil
}

func (l *link) traced(b []byte, sealed bool) {
	if l.trace != nil {
		c := l.out.conn
		l.trace(TracedPDU{Local: c.LocalAddr(), Remote: c.RemoteAddr(), Sealed: sealed, PDU: b})
	}
}

// receiveResponse takes one fragment of a response.
func (l *link) receiveResponse(b []byte) error {
	resp, err := pdu.ParseResponse(b)
	if err != nil {
		l.traced(b, false)
		return fmt.Errorf("%w: %w", ErrBadPeer, err)
	}
	sec, err := l.unprotect(b, &resp.Auth)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.waiting[resp.CallID]
	if p == nil {
		return l.lateLocked(&resp.Header)
	}
	switch {
	case p.cc == nil:
		return badPeer("response to an alter_context")
	case p.cc.sec.protects() && sec != p.cc.sec:
		return badPeer("response without the protection of its call")
	case uint8(resp.ContextID) != uint8(p.cc.contextID): // Windows keeps 8 bits
		return badPeer("response on context %d to a call on %d", resp.ContextID, p.cc.contextID)
	case resp.Flags.Has(pdu.FirstFrag) == p.begun:
		return badPeer("fragment of a response out of sequence")
	case p.begun && resp.DataRep != p.dataRep:
		return badPeer("response changes its data representation")
	}
	p.begun, p.dataRep = true, resp.DataRep
	if !p.abandoned {
		if len(p.response)-p.base+len(resp.Stub) > l.maxResponse {
			return badPeer("response of more than %d bytes", l.maxResponse)
		}
		p.response = append(p.response, resp.Stub...)
	}
	if resp.Flags.Has(pdu.LastFrag) {
		l.completeLocked(p, nil)
	}
	return nil
}

// receiveFault takes a fault. Windows and Samba never sign them.
func (l *link) receiveFault(b []byte) error {
	fault, err := pdu.ParseFault(b)
	if err != nil {
		l.traced(b, false)
		return fmt.Errorf("%w: %w", ErrBadPeer, err)
	}
	if _, err := l.unprotect(b, &fault.Auth); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.waiting[fault.CallID]
	if p == nil {
		return l.lateLocked(&fault.Header)
	}
	if p.cc == nil {
		fault.Stub, fault.Auth = nil, pdu.Auth{} // they alias b
		p.answer = &fault
		l.completeLocked(p, nil)
		return nil
	}
	l.completeLocked(p, &Fault{Status: fault.Status, DidNotExecute: fault.Flags.Has(pdu.DidNotExecute)})
	return nil
}

// unprotect checks or unseals a response or fault with the security context that its trailer names,
// and traces it.
func (l *link) unprotect(b []byte, trailer *pdu.Auth) (*securityContext, error) {
	if !trailer.Present() {
		l.traced(b, false)
		return nil, nil
	}
	l.mu.Lock()
	sec, signed := l.security[trailer.ContextID], l.signed
	l.mu.Unlock()
	if sec == nil || trailer.Type != uint8(sec.typ) || trailer.Level != uint8(sec.level) {
		l.traced(b, trailer.Level == uint8(LevelPrivacy))
		return nil, badPeer("auth type %d, level %d, context %d, which was not agreed", trailer.Type, trailer.Level, trailer.ContextID)
	}
	if sec.protects() {
		parts, err := pdu.Split(b)
		if err == nil {
			err = sec.unprotect(parts, signed)
		}
		if err != nil {
			l.traced(b, sec.level == LevelPrivacy)
			return nil, fmt.Errorf("%w: %w", ErrBadPeer, err)
		}
	}
	l.traced(b, false)
	return sec, nil
}
