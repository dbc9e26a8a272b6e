package dcerpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/netaddr"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// Limits of fragments: what a transport carries at most, and the least that is negotiated (both as on
// Windows).
const (
	tcpFragment       = 5840
	leastNegotiated   = 2048
	largestAuth3Token = 4096
	largestNTLMToken  = 2888
)

// A read buffer larger than this, which only a bind or alter_context can need, is not kept.
const largeBuffer = 8 << 10

// How long, and over how many bytes, a connection is read after its last PDU was sent, so that the peer
// sees the end and no reset.
const (
	lingerTime  = time.Second
	lingerBytes = 4 << 20 // the rest of a request that was refused: less would reset the connection, and the fault be lost
)

// A serverConn is one connection. Its goroutine reads and judges; calls run in goroutines
// of their own and write with the token of sending.
type serverConn struct {
	server  *Server
	conn    net.Conn
	session Session
	host    string // of the peer; empty where that is not known
	network string // of the own address
	known   bool   // under server.mu: who is behind is authenticated
	limits  *Limits
	logger  *slog.Logger
	framer  *pdu.Framer
	ctx     context.Context // of all calls; ends with the connection
	cancel  context.CancelFunc

	// What follows belongs to the goroutine that reads.
	bound        bool
	mpx          bool
	signing      bool // header signing is negotiated, for what is received
	features     pdu.Features
	group        *association
	presentation map[uint16]*presentation
	security     map[uint32]*serverSecurity
	strong       bool            // a security context of LevelPacket or more is there
	explicit     bool            // a request named its security context
	lostExchange bool            // an auth3 failed: the next request learns it
	current      *serverCall     // the request that is being received
	anonymous    context.Context // of calls without a security context
	ends         string          // why the connection ends, for the log

	sending     token // the right to use out
	out         sender
	outDeadline time.Time

	mu       sync.Mutex
	inFlight map[uint32]*serverCall // calls that the handler has, by call id
	busy     int                    // calls that are not answered to the end
	draining bool
	hungUp   bool
	settled  bool // the first bind is through, with its security legs
	timer    *time.Timer
	active   atomic.Int64 // when there was something last, in Unix nanoseconds

	tasks sync.WaitGroup // calls
}

// A presentation is one presentation context.
type presentation struct {
	iface  *serverInterface
	syntax SyntaxID // the transfer syntax
}

func newServerConn(s *Server, conn net.Conn) *serverConn {
	c := &serverConn{
		server: s,
		conn:   conn,
		host:   netaddr.Host(conn.RemoteAddr()),
	}
	if sc, ok := conn.(SessionConn); ok {
		c.session = sc.Session()
	}
	if c.session.MaxFragment == 0 {
		c.session.MaxFragment = tcpFragment
	}
	if c.session.Endpoint == "" {
		c.session.Endpoint = netaddr.Endpoint(conn.LocalAddr())
	}
	if addr := conn.LocalAddr(); addr != nil {
		c.network = addr.Network()
	}
	c.known = c.session.Authenticated
	return c
}

// start makes what an admitted connection needs.
func (c *serverConn) start() {
	c.limits = c.server.limits
	c.logger = c.server.logger().With("peer", c.conn.RemoteAddr())
	c.framer = pdu.NewFramer(c.conn, 0)
	c.framer.Shrink()
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.sending = newToken()
	c.out = sender{conn: c.conn, trace: c.server.Trace, maxXmit: leastNegotiated}
	c.anonymous = WithPeer(c.ctx, c.peer(nil))
	c.inFlight = make(map[uint32]*serverCall)
	c.presentation = make(map[uint16]*presentation)
	c.security = make(map[uint32]*serverSecurity)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limits.BindTime > 0 {
		c.timer = time.AfterFunc(c.limits.BindTime, c.expire)
	}
}

// serve is the goroutine that reads.
func (c *serverConn) serve() {
	defer c.finish()
	defer func() {
		if p := recover(); p != nil {
			c.logger.Error("dcerpc: panic", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	for {
		h, b, err := c.framer.Next()
		if err != nil {
			c.readFailed(err)
			return
		}
		c.server.stats.pduIn.Add(1)
		c.active.Store(time.Now().UnixNano())
		if c.isHungUp() || !c.receive(&h, b) {
			c.hangUp()
			c.discard()
			return
		}
		if len(b) > largeBuffer {
			c.framer.Shrink()
		}
	}
}

// finish ends everything that belongs to the connection.
func (c *serverConn) finish() {
	c.mu.Lock()
	c.draining = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	_ = c.conn.Close()
	c.cancel()
	c.tasks.Wait()
	if c.current != nil {
		c.release(c.current)
	}
	if c.group != nil {
		c.server.groups.leave(c.group)
	}
	c.logger.Debug("dcerpc: connection ended", "reason", c.ends)
	c.server.dismiss(c)
}

// readFailed ends a connection that cannot be read. A header whose length makes no sense is not answered.
func (c *serverConn) readFailed(err error) {
	var netErr net.Error
	switch {
	case errors.Is(err, io.EOF):
		c.ends = "closed by the peer"
	case errors.As(err, &netErr) && netErr.Timeout():
		c.ends = "closed after the last answer"
	default:
		c.ends = err.Error()
	}
}

// hangUp ends the server's direction, so that the peer reads what was sent, then EOF. A connection that cannot be
// closed by halves is closed.
func (c *serverConn) hangUp() {
	c.mu.Lock()
	hungUp := c.hungUp
	c.hungUp = true
	c.mu.Unlock()
	if hungUp {
		return
	}
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		_ = c.conn.Close()
	}
}

func (c *serverConn) isHungUp() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hungUp
}

// discard reads what the peer still sends: to close a connection with unread data would reset it.
func (c *serverConn) discard() {
	_, _ = io.CopyN(io.Discard, c.conn, lingerBytes)
}

// abort breaks the connection off.
func (c *serverConn) abort(reason string) {
	c.logger.Debug("dcerpc: connection broken off", "reason", reason)
	_ = c.conn.Close() // before handlers can answer that they were cancelled
	c.cancel()
}

// drain ends the connection as soon as no call is in flight.
func (c *serverConn) drain() {
	c.mu.Lock()
	c.draining = true
	idle := c.busy == 0
	c.mu.Unlock()
	if idle {
		c.hangUp()
	}
}

// settle notes that the first bind is through, security legs included: from now on idleness counts.
func (c *serverConn) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.settled {
		return
	}
	c.settled = true
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.limits.IdleTime > 0 {
		c.timer = time.AfterFunc(c.limits.IdleTime, c.expire)
	}
}

// expire runs when the time for the bind is over, or perhaps that of an idle connection.
func (c *serverConn) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.settled {
		go c.abort("no bind in time")
		return
	}
	left := c.limits.IdleTime - time.Since(time.Unix(0, c.active.Load()))
	switch {
	case c.busy > 0:
		c.timer.Reset(c.limits.IdleTime)
	case left > 0:
		c.timer.Reset(left)
	default:
		go c.hangUp()
	}
}

// receive judges one PDU, and tells whether the connection goes on.
//
// The order of the checks is that of Windows and Samba: what cannot be a PDU at all is not
// answered; then version and data representation; then the state of the connection.
func (c *serverConn) receive(h *pdu.Header, b []byte) bool {
	if !h.Type.Known() {
		c.traced(b, false)
		return c.end("unknown type")
	}
	err := h.Check()
	switch {
	case err != nil && h.Type == pdu.TypeBind:
		c.traced(b, false)
		return c.nak(h, pdu.NakProtocolVersionNotSupported, err.Error())
	case err != nil:
		c.traced(b, false)
		return c.fatal(h, 0, pdu.FaultProtocolError, pdu.DidNotExecute, err.Error())
	case !c.bound && h.Type != pdu.TypeBind:
		c.traced(b, false)
		return c.nak(h, pdu.NakProtocolVersionNotSupported, h.Type.String()+" before bind")
	}
	switch h.Type {
	case pdu.TypeRequest:
		return c.receiveRequest(h, b)
	case pdu.TypeBind:
		c.traced(b, false)
		return c.receiveBind(b)
	case pdu.TypeAlterContext:
		c.traced(b, false)
		return c.receiveAlter(b)
	case pdu.TypeAuth3:
		c.traced(b, false)
		return c.receiveAuth3(h, b)
	case pdu.TypeCoCancel, pdu.TypeOrphaned:
		c.traced(b, false)
		c.cancelCall(h.CallID)
		return true
	}
	c.traced(b, false)
	return c.fatal(h, 0, pdu.FaultProtocolError, pdu.DidNotExecute, h.Type.String()+" sent to a server")
}

// end ends the connection without an answer.
func (c *serverConn) end(reason string) bool {
	c.ends = reason
	return false
}

// nak refuses a bind and ends the connection (MS-RPCE 2.2.2.9).
func (c *serverConn) nak(h *pdu.Header, reason pdu.NakReason, why string) bool {
	p := pdu.NewBindNak(h.CallID, reason)
	c.send(&p)
	return c.end("bind_nak, " + reason.String() + ": " + why)
}

// fatal answers with a fault and ends the connection.
func (c *serverConn) fatal(h *pdu.Header, contextID uint16, status pdu.FaultStatus, flags pdu.Flags, why string) bool {
	c.fault(h.CallID, contextID, status, flags)
	return c.end("fault " + status.String() + ": " + why)
}

// fault sends a fault. It is never signed, whatever the level. Its alloc_hint is that of Windows, which counts extended
// error information from 32.
func (c *serverConn) fault(callID uint32, contextID uint16, status pdu.FaultStatus, flags pdu.Flags) {
	c.send(&pdu.Fault{
		Header:    pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag | flags, CallID: callID},
		AllocHint: 32,
		ContextID: contextID,
		Status:    status,
	})
}

// send writes one PDU that is not protected.
func (c *serverConn) send(p pdu.PDU) {
	c.sending.acquire()
	defer c.sending.release()
	b, err := p.AppendBinary(c.out.buf[:0])
	if err != nil { // no PDU of ours is too long
		c.logger.Error("dcerpc: cannot encode", "type", p.Head().Type, "err", err)
		return
	}
	c.out.buf = b
	c.out.traced(b)
	c.write(b)
}

// write writes one PDU, which the peer has WriteTime to read, and tells whether it could. It is called with the token of sending.
func (c *serverConn) write(b []byte) bool {
	if limit := c.limits.WriteTime; limit > 0 {
		// Most writes find a deadline that is far enough away.
		if now := time.Now(); c.outDeadline.Sub(now) < limit {
			c.outDeadline = now.Add(limit + limit/2)
			_ = c.conn.SetWriteDeadline(c.outDeadline) // a connection without deadlines does without
		}
	}
	if _, err := c.conn.Write(b); err != nil {
		c.abort("write: " + err.Error())
		return false
	}
	c.server.stats.pduOut.Add(1)
	return true
}

// traced shows a received PDU to the trace.
func (c *serverConn) traced(b []byte, sealed bool) {
	if c.server.Trace != nil {
		c.server.Trace(TracedPDU{Local: c.conn.LocalAddr(), Remote: c.conn.RemoteAddr(), Sealed: sealed, PDU: b})
	}
}
