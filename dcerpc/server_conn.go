package dcerpc

import (
	"container/list"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/logs"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/netaddr"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// Sizes of fragments: the largest that a transport carries, and the smallest that is negotiated
// (both as on Windows).
const (
	tcpFragment       = 5840
	leastNegotiated   = 2048
	largestAuth3Token = 4096
	largestNTLMToken  = 2888
)

// A read buffer larger than largeBuffer, which only a bind or alter_context can need, is not kept;
// a stranger's is not kept if it is larger than smallBuffer, the initial size for every connection.
const (
	largeBuffer = 8 << 10
	smallBuffer = 1 << 10
)

// How long, and for how many bytes, the server goes on reading a connection after it has sent its
// last PDU, so that the peer sees the end and not a reset.
const (
	lingerTime  = time.Second
	lingerBytes = 4 << 20 // the rest of a refused request; with less, a reset of the connection would lose the fault
)

// A serverConn is one connection. Its goroutine reads and checks PDUs; each call runs in its own
// goroutine and writes with the token of sending.
type serverConn struct {
	server  *Server
	conn    net.Conn
	session Session
	host    string // of the peer; empty where that is not known
	block   string // the key under which the host is counted
	network string // of the own address
	limits  *Limits
	framer  *pdu.Framer
	ctx     context.Context // of all calls; ends with the connection
	cancel  context.CancelFunc
	held    atomic.Int64 // bytes, of a stranger

	// Under server.mu.
	counted  bool
	stranger *list.Element // in its block, while it is one
	pooled   int64         // of held, what counts against the strangers' pool

	// What follows belongs to the goroutine that reads.
	known        bool   // the peer is authenticated; changes under server.mu
	share        *share // of the account; nil for a stranger
	bound        bool
	mpx          bool
	signing      bool // header signing is negotiated, for what is received
	shown        bool // the PDU has been traced
	features     pdu.Features
	group        *association
	presentation map[uint16]*presentation
	security     map[uint32]*serverSecurity
	strong       bool            // a security context of LevelPacket or more is there
	explicit     bool            // a request named its security context
	lostExchange bool            // an auth3 failed: the next request learns it
	current      *serverCall     // the request that is being received
	anonymous    context.Context // of calls without a security context; nil before the first
	ends         error           // why the connection ends, for the log
	buffered     int             // bytes of the framer's buffer that are charged

	sending     token // the right to use out
	out         sender
	outDeadline time.Time

	clock clock

	mu        sync.Mutex
	inFlight  map[uint32]*serverCall // calls that the handler has, by call id
	busy      int                    // calls that are not answered to the end
	limited   int                    // those of them that count in Limits
	draining  bool
	hungUp    bool
	ended     bool // no timer is set any more
	knownPeer bool // known, for the clock

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
		block:  blockOf(conn.RemoteAddr()),
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

// start prepares an admitted connection.
func (c *serverConn) start() {
	c.limits = c.server.limits
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.sending = newToken()
	c.out = sender{conn: c.conn, trace: c.server.Trace, maxXmit: leastNegotiated}
	c.clock.begin = time.Now()
	c.clock.touch()
	c.exchanging(true)
}

// logger returns the server's logger with the peer's address.
func (c *serverConn) logger() *slog.Logger {
	return c.server.logger().With("peer", c.conn.RemoteAddr())
}

// serve is the goroutine that reads.
func (c *serverConn) serve() {
	defer c.finish()
	defer func() {
		if p := recover(); p != nil {
			c.logger().Error("dcerpc: panic", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	c.framer = pdu.NewFramer(c, 0)
	c.framer.Shrink()
	c.framer.OnGrow(c.grow)
	for {
		h, b, err := c.framer.Next()
		if err != nil {
			c.readFailed(err)
			return
		}
		c.clock.partial.Store(0)
		c.server.stats.pduIn.Add(1)
		c.clock.touch()
		if c.isHungUp() || !c.take(&h, b) {
			c.hangUp()
			c.discard()
			return
		}
		if len(b) > largeBuffer || !c.known {
			c.framer.Shrink()
		}
		if c.buffered > 0 {
			c.ungrow()
		}
	}
}

// grow charges a stranger for a larger read buffer.
func (c *serverConn) grow(by int) error {
	if c.known {
		return nil
	}
	c.buffered += by
	return c.charge(by)
}

// ungrow gives back the bytes that grow charged and Shrink has freed.
func (c *serverConn) ungrow() {
	now := max(0, c.framer.Size()-smallBuffer)
	if c.known {
		now = 0
	}
	if now < c.buffered {
		_ = c.charge(now - c.buffered)
		c.buffered = now
	}
}

// take handles one PDU, answers it if it is refused, and reports whether the connection goes on.
func (c *serverConn) take(h *pdu.Header, b []byte) bool {
	if h.Type != pdu.TypeRequest { // which traces itself
		c.traced(b, false)
	}
	r := c.receive(h, b)
	if r == nil {
		return true
	}
	return c.refuse(h.CallID, r)
}

// finish ends everything that belongs to the connection.
func (c *serverConn) finish() {
	c.mu.Lock()
	c.draining, c.ended = true, true
	if c.clock.timer != nil {
		c.clock.timer.Stop()
	}
	c.mu.Unlock()
	_ = c.conn.Close()
	c.cancel()
	c.tasks.Wait()
	if c.current != nil {
		c.release(c.current)
	}
	for _, sec := range c.security {
		release(sec.Context)
	}
	if c.group != nil {
		c.server.groups.leave(c.group)
	}
	if c.server.logger().Enabled(context.Background(), slog.LevelDebug) {
		c.logger().Debug("dcerpc: connection ended", "reason", logs.Error(c.ends))
	}
	c.server.dismiss(c)
}

// readFailed ends a connection that cannot be read. It does not answer a header with an impossible
// length.
func (c *serverConn) readFailed(err error) {
	var netErr net.Error
	switch {
	case errors.Is(err, io.EOF):
		c.ends = reason("closed by the peer")
	case errors.As(err, &netErr) && netErr.Timeout():
		c.ends = reason("closed after the last answer")
	default:
		c.ends = err
	}
}

// hangUp ends the server's direction, so that the peer reads what was sent, then EOF. If the
// connection does not support that, it is closed.
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

// discard reads what the peer still sends, since closing a connection with unread data would reset
// it.
func (c *serverConn) discard() {
	_, _ = io.CopyN(io.Discard, c.conn, lingerBytes)
}

// abort closes the connection at once.
func (c *serverConn) abort(why error) {
	c.logger().Debug("dcerpc: connection broken off", "reason", logs.Error(why))
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

// receive handles one PDU.
//
// The order of the checks is that of Windows and Samba: first whether it is a PDU at all (if not,
// it is not answered), then version and data representation, then the state of the connection.
func (c *serverConn) receive(h *pdu.Header, b []byte) *refusal {
	if !h.Type.Known() {
		return silence(reason("unknown type"))
	}
	err := h.Check()
	switch {
	case err != nil && h.Type == pdu.TypeBind:
		return nak(pdu.NakProtocolVersionNotSupported, err)
	case err != nil:
		return fatal(pdu.FaultProtocolError, err).notExecuted()
	case !c.bound && h.Type != pdu.TypeBind:
		return nak(pdu.NakProtocolVersionNotSupported, reason(h.Type.String()+" before bind"))
	}
	switch h.Type {
	case pdu.TypeRequest:
		return c.receiveRequest(h, b)
	case pdu.TypeBind:
		return c.receiveBind(h, b)
	case pdu.TypeAlterContext:
		return c.receiveAlter(h, b)
	case pdu.TypeAuth3:
		return c.receiveAuth3(h, b)
	case pdu.TypeCoCancel, pdu.TypeOrphaned:
		c.cancelCall(h.CallID)
		return nil
	}
	return fatal(pdu.FaultProtocolError, reason(h.Type.String()+" sent to a server")).notExecuted()
}

// send writes one PDU that is not protected.
func (c *serverConn) send(p pdu.PDU) { c.sendEnd(p, nil) }

// sendEnd is send for the last PDU of the answer to call, which may be nil.
func (c *serverConn) sendEnd(p pdu.PDU, call *serverCall) {
	c.sending.acquire()
	defer c.sending.release()
	b, err := p.AppendBinary(c.out.buf[:0])
	if err != nil { // cannot happen: none of our PDUs is too long
		c.logger().Error("dcerpc: cannot encode", "type", p.Head().Type, "err", err)
		return
	}
	c.out.buf = b
	c.out.traced(b)
	if call != nil {
		c.settle(call)
	}
	c.write(b)
}

// write writes one PDU, which the peer has WriteTime to read, and reports whether it did. It is
// called with the token of sending.
func (c *serverConn) write(b []byte) bool {
	if limit := c.limits.WriteTime; limit > 0 {
		// Usually the deadline that is set is still far enough away.
		if now := time.Now(); c.outDeadline.Sub(now) < limit {
			c.outDeadline = now.Add(limit + limit/2)
			_ = c.conn.SetWriteDeadline(c.outDeadline) // some connections have no deadlines
		}
	}
	if _, err := c.conn.Write(b); err != nil {
		c.abort(err)
		return false
	}
	c.server.stats.pduOut.Add(1)
	return true
}

// traced shows a received PDU to the trace.
func (c *serverConn) traced(b []byte, sealed bool) {
	c.shown = true
	if c.server.Trace != nil {
		c.server.Trace(TracedPDU{Local: c.conn.LocalAddr(), Remote: c.conn.RemoteAddr(), Sealed: sealed, PDU: b})
	}
}
