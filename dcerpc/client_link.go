package dcerpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/logs"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// maxCallID is the largest call id that a client should use (MS-RPCE 3.3.2.4.1.1).
const maxCallID = 0x7FFFFFFF

// A link is the client's side of one connection, which all ClientConns on it share.
//
// One goroutine reads. Callers write their requests themselves, under the token in sending.
type link struct {
	framer      *pdu.Framer
	logger      *slog.Logger
	trace       Trace
	dataRep     pdu.DataRep
	maxResponse int
	signOffered bool // header signing was offered; does not change after the bind
	group       uint32

	// sending holds the right to use out.
	sending token
	out     sender
	// turn holds the right to have a call underway, if the server does not multiplex. It is set by
	// the bind, under mu, and nil with multiplexing.
	turn token

	mu       sync.Mutex
	waiting  map[uint32]*pending // by call id
	free     []*pending
	lastID   uint32 // the last call id given
	topID    uint32 // the largest
	nextCtx  uint16 // presentation context
	nextSec  uint32 // security context
	security map[uint32]*securityContext
	owned    []Context // security contexts, to be released
	signed   bool      // header signing is negotiated, for what is received
	err      error     // why the link has ended
	unsound  error     // a Write has failed: nothing more can be sent
	leaving  bool      // the server has sent shutdown
	ended    chan struct{}

	workers sync.WaitGroup // the reader, and the goroutines that finish abandoned calls
}

// A pending is a call, or an alter_context, that waits for its answer. The link's mutex guards it
// while it is registered.
type pending struct {
	ready     chan struct{} // gets one value when the answer is complete
	interrupt *interruption // of its Writes

	id        uint32
	cc        *ClientConn // of a call; nil for a bind or alter_context
	abandoned bool        // nobody waits any more
	response  []byte
	base      int         // where in response the stub begins
	dataRep   pdu.DataRep // of the first fragment
	begun     bool        // there was a first fragment
	answer    pdu.PDU     // to a bind or alter_context
	err       error
}

func newLink(conn net.Conn, cfg *Config) *link {
	l := &link{
		framer:      pdu.NewFramer(conn, 0),
		logger:      logs.OrDiscard(cfg.Logger),
		trace:       cfg.Trace,
		maxResponse: cfg.MaxResponse,
		sending:     newToken(),
		out:         sender{conn: conn, trace: cfg.Trace},
		waiting:     make(map[uint32]*pending),
		security:    make(map[uint32]*securityContext),
		ended:       make(chan struct{}),
	}
	if l.maxResponse == 0 {
		l.maxResponse = defaultResponse
	}
	for _, s := range cfg.Syntaxes {
		if s == ndr.NDR20BE {
			l.dataRep = pdu.BigEndian
		}
	}
	l.workers.Go(l.read)
	return l
}

// opened applies the parameters of the connection in a bind_ack.
func (l *link) opened(ack *pdu.BindAck, asked pdu.Flags, offered int) error {
	size := min(int(ack.MaxRecv), offered)
	if size < minFragment {
		return badPeer("the server accepts fragments of %d bytes; it must accept at least %d", size, minFragment)
	}
	l.group = ack.AssocGroup
	l.out.maxXmit = size
	l.out.signHeader = ack.Flags.Has(pdu.SupportHeaderSign) && asked.Has(pdu.SupportHeaderSign)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.signed = l.out.signHeader
	if !ack.Flags.Has(pdu.ConcMPX) || !asked.Has(pdu.ConcMPX) {
		l.turn = newToken()
	}
	return nil
}

// contextIDs reserves n ids of presentation contexts and returns the first.
func (l *link) contextIDs(n int) uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := l.nextCtx
	l.nextCtx += uint16(n)
	return id
}

func (l *link) featureContext(iface SyntaxID) pdu.ContextElement {
	return pdu.ContextElement{
		ID:       l.contextIDs(1),
		Abstract: iface,
		Transfer: []SyntaxID{pdu.FeatureSyntax(pdu.SecurityContextMultiplexing | pdu.KeepConnectionOnOrphan)},
	}
}

func (l *link) securityID() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextSec++
	return l.nextSec
}

func (l *link) addSecurity(s *securityContext) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.security[s.id] = s
}

// offerSigning reports whether an alter_context must offer header signing, because the bind had no
// security and did not.
func (l *link) offerSigning() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.signOffered {
		return false
	}
	l.signOffered = true
	return true
}

// signHeaders begins header signing, which applies to the whole connection at once.
func (l *link) signHeaders(ctx context.Context) error {
	if err := l.acquire(ctx, l.sending); err != nil {
		return err
	}
	l.out.signHeader = true
	l.sending.release()
	l.mu.Lock()
	l.signed = true
	l.mu.Unlock()
	return nil
}

// acquire takes a right, unless the context or the link ends first.
func (l *link) acquire(ctx context.Context, right token) error {
	select {
	case <-right:
		return nil
	default:
	}
	select {
	case <-right:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ended:
		return l.reason()
	}
}

// reason returns why the link has ended.
func (l *link) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// register makes a pending with a new call id. If cc is not nil it is a call, and its response is
// appended to response.
func (l *link) register(cc *ClientConn, response []byte) (*pending, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	if l.unsound != nil {
		return nil, l.unsound
	}
	if l.leaving {
		return nil, fmt.Errorf("the server is shutting the connection down: %w", net.ErrClosed)
	}
	var p *pending
	if n := len(l.free); n > 0 {
		p, l.free = l.free[n-1], l.free[:n-1]
	} else {
		p = l.newPending()
	}
	for {
		l.lastID = l.lastID%maxCallID + 1
		if l.waiting[l.lastID] == nil {
			break
		}
	}
	l.topID = max(l.topID, l.lastID)
	*p = pending{
		ready: p.ready, interrupt: p.interrupt,
		id: l.lastID, cc: cc, response: response, base: len(response),
	}
	l.waiting[p.id] = p
	return p, nil
}

func (l *link) newPending() *pending {
	return &pending{ready: make(chan struct{}, 1), interrupt: newInterruption(l.out.conn)}
}

// completeLocked ends p and wakes the goroutine that waits for it.
func (l *link) completeLocked(p *pending, err error) {
	p.err = err
	delete(l.waiting, p.id)
	if l.turn != nil {
		l.turn.release()
	}
	if p.abandoned {
		l.recycleLocked(p)
		return
	}
	p.ready <- struct{}{}
}

// recycleLocked keeps p for a later call.
func (l *link) recycleLocked(p *pending) {
	p.response, p.cc, p.answer = nil, nil, nil
	if len(l.free) < 64 {
		l.free = append(l.free, p)
	}
}

// abandon gives up waiting for p and returns true, unless its answer has already arrived. begun
// reports whether a part of the answer has arrived.
func (l *link) abandon(p *pending) (begun, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting[p.id] != p {
		return false, false
	}
	begun = p.begun
	p.abandoned = true
	p.response = nil
	if l.turn == nil {
		// The answer may never come (C706 12.6.4.8: an orphaned call needs none), and is recognised
		// as late by its id.
		delete(l.waiting, p.id)
		l.recycleLocked(p)
	}
	return begun, true
}

// close ends the link with the given reason and waits for its goroutines.
func (l *link) close(reason error) {
	l.fail(reason)
	l.workers.Wait()
}

// fail ends the link: everything that waits returns err. It does nothing if the link has already
// ended.
func (l *link) fail(err error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = err
	close(l.ended)
	for _, p := range l.waiting {
		l.completeLocked(p, err)
	}
	owned := l.owned
	l.owned = nil
	l.mu.Unlock()
	_ = l.out.conn.Close() // err says more
	for _, c := range owned {
		release(c)
	}
}

// own has the link release a security context at its end.
func (l *link) own(c Context) {
	l.mu.Lock()
	ended := l.err != nil
	if !ended {
		l.owned = append(l.owned, c)
	}
	l.mu.Unlock()
	if ended {
		release(c)
	}
}

// spawn runs f in a goroutine that close waits for, unless the link has ended.
func (l *link) spawn(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return false
	}
	l.workers.Go(f)
	return true
}

// writeFailed takes the error of a Write. A server that refused a fragment and hung up may have
// sent its refusal first, so the link goes on reading for a little while before it ends.
func (l *link) writeFailed(err error) {
	l.mu.Lock()
	if l.unsound == nil {
		l.unsound = lost(err)
	}
	l.mu.Unlock()
	if l.out.conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		l.fail(lost(err))
	}
}

// lost returns io.ErrUnexpectedEOF for all errors that mean that the peer has gone.
func lost(err error) error {
	var bad *pdu.Error
	switch {
	case errors.As(err, &bad):
		return fmt.Errorf("%w: %w", ErrBadPeer, err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the server has closed the connection: %w", io.ErrUnexpectedEOF)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return err
	}
	return fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
}

// exchange sends a bind or alter_context and returns the answer, which is a copy.
func (l *link) exchange(ctx context.Context, req pdu.PDU) (pdu.PDU, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	turn := l.turn
	if turn != nil {
		if err := l.acquire(ctx, turn); err != nil {
			return nil, err
		}
	}
	p, err := l.register(nil, nil)
	if err != nil {
		if turn != nil {
			turn.release()
		}
		return nil, err
	}
	req.Head().CallID = p.id
	if err := l.post(ctx, req); err != nil {
		l.unsent(p)
		return nil, err
	}
	select {
	case <-p.ready:
	case <-ctx.Done():
		if _, ok := l.abandon(p); ok {
			return nil, ctx.Err()
		}
		<-p.ready
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	answer, err := p.answer, p.err
	l.recycleLocked(p)
	return answer, err
}

// post writes one PDU other than a request. If the context ends during the write, the link ends,
// since a part of the PDU has been sent.
func (l *link) post(ctx context.Context, p pdu.PDU) error {
	b, err := p.AppendBinary(nil)
	if err != nil {
		return err
	}
	if err := l.acquire(ctx, l.sending); err != nil {
		return err
	}
	defer l.sending.release()
	l.out.traced(b)
	stop := newInterruption(l.out.conn).watch(ctx)
	n, err := l.out.conn.Write(b)
	stop()
	switch {
	case err == nil:
		return nil
	case n == 0 && interrupted(ctx, err):
		return ctx.Err()
	}
	l.writeFailed(err)
	return nil // the answer may be there nevertheless
}
