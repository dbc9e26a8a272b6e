package dcerpc

import (
	"context"
	"errors"
	"runtime/debug"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/logs"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// Buffers of larger stubs are not kept for later calls. The response begins in a small buffer,
// which is the only one kept: a larger one that the handler made may belong to the handler.
const (
	keptBuffer    = 64 << 10
	responseStart = 1 << 10
)

// A serverCall is one call, from its first fragment to the last of its answer.
type serverCall struct {
	id        uint32
	contextID uint16
	dataRep   pdu.DataRep
	opnum     uint16
	pres      *presentation
	sec       *serverSecurity // nil without security
	peer      context.Context // carries the Peer
	share     *share          // of the caller's account; nil for a stranger
	refused   *refusal        // why no handler will see it; its stub is then not kept

	stub      []byte
	size      int   // of the stub, kept or not
	held      int64 // of the stub, as hold has counted it
	fragments int
	settled   bool   // it no longer counts for any limit
	response  []byte // room for a short one
	call      Call

	ctx    context.Context // of the handler
	cancel context.CancelFunc
}

// newCall begins a call. It refuses a call for its level already here, so that the server does not
// keep the stubs of peers that may not call.
func (c *serverConn) newCall(req *pdu.Request, pres *presentation, sec *serverSecurity, peer context.Context) *serverCall {
	call := c.server.calls.Get().(*serverCall)
	*call = serverCall{
		id: req.CallID, contextID: req.ContextID, dataRep: req.DataRep, opnum: req.Opnum,
		pres: pres, sec: sec, peer: peer, share: c.share,
		stub: call.stub[:0], response: call.response[:0],
	}
	level := LevelInsecureNone
	if sec != nil {
		level = sec.level
	}
	if level == LevelPacket {
		level = LevelIntegrity // it is signed in the same way
	}
	if level < c.server.minLevel(pres.iface) {
		call.refused = fault(pdu.FaultAccessDenied, 0, reason("protection below the interface's least"))
		call.refused.lives = c.strong
	}
	return call
}

// release returns a call that is no longer used to the pool.
func (c *serverConn) release(call *serverCall) {
	c.unhold(call)
	if cap(call.stub) > keptBuffer {
		call.stub = nil
	}
	*call = serverCall{stub: call.stub, response: call.response}
	c.server.calls.Put(call)
}

// dispatch runs a complete call, or refuses it.
func (c *serverConn) dispatch(call *serverCall) *refusal {
	r := call.refused
	if r == nil {
		r = c.check(call)
	}
	if r == nil {
		r = c.admitCall(call)
	}
	if r != nil {
		r.on(call.contextID)
		c.release(call)
		return r
	}
	c.server.stats.callsIn.Add(1)
	go c.run(call)
	return nil
}

// check makes the checks that all handlers need, and fills in the Call that they see.
func (c *serverConn) check(call *serverCall) *refusal {
	iface := call.pres.iface
	if iface.opnums > 0 && int(call.opnum) >= iface.opnums {
		return fault(pdu.FaultOpRange, pdu.DidNotExecute, reason("no such opnum"))
	}
	stub, trailer, ok := pdu.CutVerificationTrailer(call.stub)
	if ok {
		req := pdu.Request{
			Header:    pdu.Header{CallID: call.id, DataRep: call.dataRep},
			ContextID: call.contextID,
			Opnum:     call.opnum,
		}
		if err := trailer.Verify(&req, iface.id, call.pres.syntax, c.signing); err != nil {
			return fault(pdu.FaultAccessDenied, 0, err)
		}
	}
	call.call.Opnum, call.call.Stub = call.opnum, stub
	call.call.Syntax, _ = call.pres.syntax.NDR(call.dataRep)
	call.call.ResponseSyntax, _ = call.pres.syntax.NDR(pdu.LittleEndian)
	if call.response == nil {
		call.response = make([]byte, 0, responseStart)
	}
	call.call.Response = call.response
	return nil
}

func tooBusy(why reason) *refusal { return fault(pdu.FaultServerTooBusy, pdu.DidNotExecute, why) }

// admitCall counts a call in, unless there are too many.
func (c *serverConn) admitCall(call *serverCall) *refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.draining:
		return tooBusy("server shutting down")
	case c.limited >= c.limits.CallsPerConnection || call.share == nil && c.limited >= c.limits.UnauthenticatedCallsPerConnection:
		return tooBusy("too many calls on the connection")
	case c.inFlight[call.id] != nil:
		return fatal(pdu.FaultProtocolError, reason("call id in use"))
	}
	if r := c.countIn(call); r != nil {
		return r
	}
	call.ctx, call.cancel = context.WithCancel(call.peer)
	if c.inFlight == nil {
		c.inFlight = make(map[uint32]*serverCall)
	}
	c.inFlight[call.id] = call
	c.busy++
	c.limited++
	c.tasks.Add(1)
	return nil
}

// isBusy reports whether a handler is running a call of this connection.
func (c *serverConn) isBusy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.inFlight) > 0
}

// cancelCall ends the context of a call that the client cancels or orphans. A request that is not
// complete stays: Windows ignores both PDUs.
func (c *serverConn) cancelCall(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if call := c.inFlight[id]; call != nil {
		call.cancel()
	}
}

// run is the goroutine of a call.
func (c *serverConn) run(call *serverCall) {
	defer c.tasks.Done()
	defer c.over(call)
	defer func() {
		if p := recover(); p != nil { // a panic in a mechanism: serveCall recovers from the handler's
			c.logger().Error("dcerpc: panic", "panic", p, "stack", string(debug.Stack()))
			c.abort(reason("panic"))
		}
	}()
	err := c.serveCall(call)
	c.mu.Lock()
	delete(c.inFlight, call.id) // the client may send the next one as soon as it has the answer
	c.mu.Unlock()
	if err == nil {
		c.respond(call)
		return
	}
	f := c.faultOf(call, err)
	var flags pdu.Flags
	if f.DidNotExecute {
		flags = pdu.DidNotExecute
	}
	r := fault(f.Status, flags, err).on(call.contextID)
	r.ends = call
	_ = c.refuse(call.id, r)
}

// settle stops counting a call for Limits before the end of its answer is written: as soon as the
// client has the answer it may send the next call, which this one must not block. The caller holds
// the token of sending, so a client that reads no answers gains only one call.
func (c *serverConn) settle(call *serverCall) {
	if call.settled {
		return
	}
	call.settled = true
	c.countOut(call)
	c.unhold(call)
	if cap(call.stub) > keptBuffer {
		call.stub, call.call.Stub = nil, nil
	}
	c.mu.Lock()
	c.limited--
	c.mu.Unlock()
}

// over ends a call that was answered, or cannot be answered.
func (c *serverConn) over(call *serverCall) {
	call.cancel()
	c.server.stats.callsOut.Add(1)
	c.settle(call)
	c.clock.touch()
	c.release(call)

	c.mu.Lock()
	c.busy--
	last := c.draining && c.busy == 0
	c.mu.Unlock()
	if last {
		c.hangUp()
	}
}

// serveCall runs the handler.
func (c *serverConn) serveCall(call *serverCall) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.logger().Error("dcerpc: handler panicked", "opnum", call.opnum, "panic", p, "stack", string(debug.Stack()))
			err = ErrUnspecified
		}
	}()
	return call.pres.iface.handler.ServeRPC(call.ctx, &call.call)
}

// faultOf returns the fault to send for a handler's error.
func (c *serverConn) faultOf(call *serverCall, err error) *Fault {
	var f *Fault
	switch {
	case errors.As(err, &f) && f.sendable():
		return f
	case errors.Is(err, ndr.ErrBadStub):
		c.logger().Debug("dcerpc: bad stub", "opnum", call.opnum, "err", logs.Error(err))
		return ErrBadStub
	case errors.Is(err, context.Canceled) && call.ctx.Err() != nil:
		return ErrCancelled
	}
	c.logger().Warn("dcerpc: handler failed", "opnum", call.opnum, "err", logs.Error(err))
	return ErrUnspecified
}

// respond writes the response. No other PDU goes between its fragments.
func (c *serverConn) respond(call *serverCall) {
	f := pdu.Fragmenter{
		Type:      pdu.TypeResponse,
		CallID:    call.id,
		ContextID: call.contextID & 0xFF, // as Windows does
		Stub:      call.call.Response,
	}
	var sec *securityContext
	if call.sec != nil {
		sec = &call.sec.securityContext
	}
	sec.describe(&f)
	c.sending.acquire()
	defer c.sending.release()
	f.MaxXmit = c.out.maxXmit
	for f.More() {
		b, err := c.out.next(&f, sec)
		if err != nil {
			c.logger().Error("dcerpc: cannot protect a response", "err", logs.Error(err))
			c.abort(err)
			return
		}
		if !f.More() {
			c.settle(call)
		}
		if !c.write(b) {
			return
		}
	}
}
