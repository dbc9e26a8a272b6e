package dcerpc

import (
	"bytes"
	"context"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// call sends a request and waits for its answer.
func (l *link) call(ctx context.Context, cc *ClientConn, call *Call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	turn := l.turn
	if turn != nil {
		if err := l.acquire(ctx, turn); err != nil {
			return err
		}
	}
	p, err := l.register(cc, call.Response)
	if err != nil {
		if turn != nil {
			turn.release()
		}
		return err
	}
	if err := l.acquire(ctx, l.sending); err != nil {
		l.unsent(p)
		return err
	}
	if err := l.send(ctx, p, call); err != nil {
		return err
	}
	return l.wait(ctx, p, call)
}

// unsent ends a call that was not sent to the server.
func (l *link) unsent(p *pending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting[p.id] == p {
		p.abandoned = true
		l.completeLocked(p, nil)
	}
}

// wait waits for the answer to a request that was sent.
func (l *link) wait(ctx context.Context, p *pending, call *Call) error {
	select {
	case <-p.ready:
	case <-ctx.Done():
		id := p.id
		if begun, ok := l.abandon(p); ok {
			l.spawn(func() { l.cancel(id, begun) })
			return ctx.Err()
		}
		<-p.ready
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err := p.err
	if err == nil {
		call.Response = p.response
		call.ResponseSyntax, _ = transferSyntax(p.cc.syntax).NDR(p.dataRep)
	}
	l.recycleLocked(p)
	return err
}

// send writes the fragments of a request. The caller holds the right to send, and send gives it
// back.
//
// A request that was begun must be sent to its end: its sequence numbers are used up, and servers
// wait for the rest whatever else they receive. If the context ends meanwhile, a goroutine sends
// the rest and then cancels the call.
func (l *link) send(ctx context.Context, p *pending, call *Call) error {
	sec := p.cc.sec
	f := pdu.Fragmenter{
		Type:      pdu.TypeRequest,
		DataRep:   l.dataRep,
		CallID:    p.id,
		ContextID: p.cc.contextID,
		Opnum:     call.Opnum,
		MaxXmit:   l.out.maxXmit,
		Stub:      call.Stub,
	}
	l.describe(sec, &f)
	if err := l.appendVerification(p.cc, &f); err != nil {
		l.sending.release()
		l.unsent(p)
		return err
	}
	stop := p.interrupt.watch(ctx)
	for f.More() {
		b, err := l.out.next(&f, sec)
		if err != nil {
			stop()
			l.sending.release()
			l.fail(err)
			return nil // wait says why
		}
		n, err := l.out.conn.Write(b)
		if err == nil {
			continue
		}
		stop()
		if interrupted(ctx, err) {
			l.finishLater(p, f, b[n:])
			return ctx.Err()
		}
		l.sending.release()
		l.writeFailed(err)
		return nil // wait says why, or returns what the server has answered nevertheless
	}
	stop()
	l.sending.release()
	return nil
}

// describe sets the trailer of a request. At the connect level there is none unless there are
// several contexts, since a server uses its only context by default.
func (l *link) describe(sec *securityContext, f *pdu.Fragmenter) {
	sec.describe(f)
	if sec == nil || sec.protects() {
		return
	}
	l.mu.Lock()
	several := len(l.security) > 1
	l.mu.Unlock()
	if several {
		f.AuthType, f.AuthLevel, f.AuthContextID = uint8(sec.typ), uint8(sec.level), sec.id
		f.TokenSize = connectTokenSize
	}
}

// connectTokenSize is the size of NTLM's signature, which servers ignore at this level.
const connectTokenSize = 16

// appendVerification adds the verification trailer to the stub if it needs one.
func (l *link) appendVerification(cc *ClientConn, f *pdu.Fragmenter) error {
	trailer := cc.verificationTrailer(f)
	if trailer == nil {
		return nil
	}
	stub, err := trailer.AppendBinary(bytes.Clone(f.Stub), 0)
	f.Stub = stub
	return err
}

// finishLater writes the rest of a fragment and of its request in a goroutine, which keeps the
// right to send until it is done and then cancels the call.
func (l *link) finishLater(p *pending, f pdu.Fragmenter, rest []byte) {
	f.Stub = bytes.Clone(f.Stub) // the caller's
	id, sec := p.id, p.cc.sec
	_, _ = l.abandon(p)
	spawned := l.spawn(func() {
		err := l.finish(&f, sec, rest)
		l.sending.release()
		if err != nil {
			l.writeFailed(err)
			return
		}
		l.cancel(id, false)
	})
	if !spawned {
		l.sending.release()
	}
}

func (l *link) finish(f *pdu.Fragmenter, sec *securityContext, rest []byte) error {
	for {
		if _, err := l.out.conn.Write(rest); err != nil {
			return err
		}
		if !f.More() {
			return nil
		}
		var err error
		if rest, err = l.out.next(f, sec); err != nil {
			return err
		}
	}
}

// cancel tells the server that nobody waits for a call any more (C706 9.3, 12.6.4.6, 12.6.4.8):
// co_cancel asks it to stop, and orphaned says that no answer is needed. Without multiplexing the
// answer is needed, since it shows that the connection is free again.
func (l *link) cancel(id uint32, begun bool) {
	select {
	case <-l.sending:
	case <-l.ended:
		return
	}
	defer l.sending.release()
	h := pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, DataRep: l.dataRep, CallID: id}
	if !begun {
		l.tell(&pdu.CoCancel{Header: h})
	}
	if l.turn == nil {
		l.tell(&pdu.Orphaned{Header: h})
	}
}

func (l *link) tell(p pdu.PDU) {
	b, err := p.AppendBinary(nil)
	if err == nil {
		err = l.out.write(b)
	}
	if err != nil {
		l.writeFailed(err)
	}
}
