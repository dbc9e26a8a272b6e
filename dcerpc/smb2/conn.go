package smb2

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// creditSize is how many bytes one credit is good for (MS-SMB2 3.1.5.2).
	creditSize = 64 << 10
	// maxTransfer is the most that is read at once, whatever a server allows.
	maxTransfer = 8 << 20
	// frameSlack is what a frame may have beyond what was asked for: headers.
	frameSlack = 64 << 10
	// maxHeldCredits bounds what a server's grants are counted up to.
	maxHeldCredits = 1 << 16
)

// A protection is what a request was sent with, and its answer has to have.
type protection uint8

const (
	unprotected protection = iota // before there is a key
	signed
	sealed
)

// A request waits for its answer.
type request struct {
	id        uint64
	command   Command
	charge    int
	expect    int // bytes of data that it asks for; zero means outputSize
	sent      time.Time
	protect   protection
	patient   bool // its answer may take as long as it likes
	interim   bool // the server has said that it is at work on it
	asyncID   uint64
	abandoned bool             // nobody waits any more
	own       bool             // it belongs to its maker, not to the pool
	orphan    func(msg []byte) // called with the answer to an abandoned request that the server granted; may be nil
	done      chan answer      // of capacity 1
}

// An answer is a message of the server's, from its header on, in a buffer that it holds.
type answer struct {
	Header
	msg    []byte
	buf    *buffer
	opened bool // it was encrypted
}

func (a *answer) release() {
	a.buf.release()
	a.buf, a.msg = nil, nil
}

// A conn is one connection. The reading goroutine takes frames from the network and finds whom they
// are for; signatures are checked, and frames decrypted, by goroutines that wait for answers, and
// by the reading one only where nobody waits.
type conn struct {
	nc       net.Conn
	cfg      *Config
	r        *bufio.Reader
	head     [4]byte       // of the frame that is read
	ended    chan struct{} // closed when the reading goroutine has
	failed   chan struct{} // closed when the connection is of no use any more
	sealed   chan *buffer  // encrypted frames, for whoever waits
	writing  sync.Mutex    // held for each frame
	requests sync.Pool     // of *request

	mu       sync.Mutex
	err      error // why the connection has failed
	pending  map[uint64]*request
	busy     int // of pending: those whose answer is due without interim
	charged  int // credits of pending
	nextID   uint64
	credits  int
	granted  chan struct{} // closed, and made anew, when credits or pending change; nil where nobody waits
	lastGain time.Time     // when the server granted a credit last
	maxFrame int
	session  *Session // once it has keys
	lastRead time.Time
	echoing  bool
	watchdog *time.Timer
	watching bool
}

func newConn(nc net.Conn, cfg *Config) *conn {
	c := &conn{
		nc: nc, cfg: cfg, r: bufio.NewReaderSize(nc, 16<<10),
		ended: make(chan struct{}), failed: make(chan struct{}), sealed: make(chan *buffer),
		pending: make(map[uint64]*request), credits: 1, maxFrame: frameSlack * 2, lastRead: time.Now(),
	}
	c.lastGain = c.lastRead
	c.requests.New = func() any { return &request{done: make(chan answer, 1)} }
	go c.read()
	return c
}

// fail ends the connection. The first reason counts.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(err)
}

func (c *conn) failLocked(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	close(c.failed)
	if c.watchdog != nil {
		c.watchdog.Stop()
	}
	_ = c.nc.Close() // err says more
}

// broken returns why the connection has failed, as an error that matches io.ErrUnexpectedEOF or
// net.ErrClosed.
func (c *conn) broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.brokenLocked()
}

func (c *conn) brokenLocked() error {
	switch {
	case c.err == nil:
		return nil
	case errors.Is(c.err, net.ErrClosed), errors.Is(c.err, io.ErrUnexpectedEOF):
		return c.err
	case errors.Is(c.err, io.EOF):
		return fmt.Errorf("the server has closed the connection: %w", io.ErrUnexpectedEOF)
	case isOurs(c.err), errors.Is(c.err, ErrNoAnswer), StatusOf(c.err) != 0:
		return c.err
	}
	return fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, c.err)
}

// read takes frames, each with its length before it (MS-SMB2 2.1):
//
//	| 0 | length, 3 bytes big-endian | message or messages |
func (c *conn) read() {
	defer close(c.ended)
	for {
		buf, err := c.readFrame()
		if err == nil {
			err = c.route(buf)
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

func (c *conn) readFrame() (*buffer, error) {
	head := c.head[:]
	if _, err := io.ReadFull(c.r, head); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head))
	c.mu.Lock()
	limit := c.maxFrame
	c.mu.Unlock()
	if n < TransformSize || n > limit {
		return nil, fmt.Errorf("%w: a frame of %d bytes", ErrProtocol, n)
	}
	buf := getBuffer(n)
	if _, err := io.ReadFull(c.r, buf.b); err != nil {
		buf.release()
		return nil, fmt.Errorf("%w: within a frame", io.ErrUnexpectedEOF)
	}
	return buf, nil
}

// route passes a frame on.
func (c *conn) route(buf *buffer) error {
	switch string(buf.b[:4]) {
	case MagicTransform:
		select {
		case c.sealed <- buf:
			return nil
		default:
			return c.open(buf)
		}
	case Magic:
		err := c.dispatch(buf, buf.b, false)
		buf.release()
		return err
	}
	buf.release()
	return fmt.Errorf("%w: a frame of another protocol", ErrProtocol)
}

// open decrypts a frame and passes on what is in it.
func (c *conn) open(buf *buffer) error {
	defer buf.release()
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	t, err := ParseTransform(buf.b)
	switch {
	case err != nil:
		return err
	case s == nil || s.keys == nil:
		return fmt.Errorf("%w: an encrypted frame without a key", ErrProtocol)
	case t.Flags != 1 || t.SessionID != s.id || int(t.Size) != len(buf.b)-TransformSize:
		return fmt.Errorf("%w: a transform header of another session or length", ErrProtocol)
	}
	msg, err := s.keys.Open(buf.b, true)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return c.dispatch(buf, msg, true)
}

// dispatch takes a frame in clear apart, and gives each answer to its request.
func (c *conn) dispatch(buf *buffer, b []byte, opened bool) error {
	for {
		h, err := ParseHeader(b)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		msg := b
		if h.NextCommand != 0 {
			if h.NextCommand%8 != 0 || h.NextCommand < HeaderSize || uint64(h.NextCommand) > uint64(len(b)) {
				return fmt.Errorf("%w: a compound whose next message is at %d", ErrProtocol, h.NextCommand)
			}
			if len(b) > 2*frameSlack { // answers to a compound, of which not one is long
				return fmt.Errorf("%w: a compound of %d bytes", ErrProtocol, len(b))
			}
			msg = b[:h.NextCommand:h.NextCommand]
		}
		if err := c.deliver(answer{Header: h, msg: msg, buf: buf, opened: opened}); err != nil {
			return err
		}
		if h.NextCommand == 0 {
			return nil
		}
		b = b[h.NextCommand:]
	}
}

// deliver gives an answer to its request.
func (c *conn) deliver(a answer) error {
	const unsolicited = ^uint64(0)
	if !a.IsResponse() {
		return fmt.Errorf("%w: a request", ErrProtocol)
	}
	if a.MessageID == unsolicited {
		return nil // the break of an oplock or a lease, of which we hold none
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastRead = time.Now()
	r := c.pending[a.MessageID]
	switch {
	case r == nil && a.opened && a.Interim():
		// Another goroutine was faster to decrypt the answer that came after it.
		c.gainLocked(int(a.Credits))
		return nil
	case r == nil:
		return fmt.Errorf("%w: an answer (%v, message %d) to nothing, or a second one", ErrProtocol, a.Command,
			a.MessageID)
	case r.command != a.Command:
		return fmt.Errorf("%w: an answer of %v to %v", ErrProtocol, a.Command, r.command)
	case r.protect == sealed && !a.opened:
		return fmt.Errorf("%w: an answer to %v in clear", ErrNotEncrypted, a.Command)
	case a.opened && a.SessionID != c.session.id:
		return fmt.Errorf("%w: an answer of another session", ErrProtocol)
	case len(a.msg) > max(r.expect, outputSize)+frameSlack:
		// It would hold more memory, until somebody takes it, than was asked for.
		return fmt.Errorf("%w: an answer of %d bytes to a %v of %d", ErrProtocol, len(a.msg), a.Command, r.expect)
	}
	// Credits come with answers that may not be signed, interim ones. A forged grant does no more
	// harm than a broken connection.
	c.gainLocked(int(a.Credits))
	if a.Status == StatusPending {
		if a.Flags&FlagAsync == 0 {
			return fmt.Errorf("%w: STATUS_PENDING of an answer that is not asynchronous", ErrProtocol)
		}
		return c.interimLocked(r, &a)
	}
	c.forgetLocked(r)
	if !r.abandoned {
		a.buf.refs.Add(1)
		r.done <- a
		return nil
	}
	if orphan := r.orphan; orphan != nil && !a.Status.IsError() {
		late, protect := a, r.protect
		late.buf.refs.Add(1)
		go func() {
			defer late.buf.release()
			if c.authentic(protect, &late) {
				orphan(late.msg)
			}
		}()
	}
	return nil
}

// interimLocked takes note that the server is at work. Servers need not sign that (MS-SMB2
// 3.3.4.2); what is not signed in a session that signs is not believed, which matters to nobody: a
// CANCEL finds its request by MessageId too.
func (c *conn) interimLocked(r *request, a *answer) error {
	if r.protect == signed && !a.opened {
		if a.Flags&FlagSigned == 0 {
			return nil
		}
		if !c.session.signer.Verify(a.msg) {
			return ErrNotSigned
		}
	}
	if !r.interim {
		r.interim, r.asyncID = true, a.AsyncID
		c.busy--
	}
	return nil
}

// gainLocked takes credits that the server grants.
func (c *conn) gainLocked(n int) {
	if n > 0 {
		c.credits = min(c.credits+n, maxHeldCredits)
		c.lastGain = time.Now()
	}
	c.wakeLocked()
}

// forgetLocked takes a request off the list.
func (c *conn) forgetLocked(r *request) {
	delete(c.pending, r.id)
	c.charged -= r.charge
	if !r.interim {
		c.busy--
	}
}

// authentic checks the signature of an answer that has to have one.
func (c *conn) authentic(p protection, a *answer) bool {
	if p != signed || a.opened {
		return true
	}
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	return s.signer.Verify(a.msg)
}

// wait waits for the answer to a request, which is not valid any more afterwards. Meanwhile it
// decrypts whatever comes. When the context ends, the request is cancelled.
func (c *conn) wait(ctx context.Context, r *request) (answer, error) {
	a, err := c.receive(ctx, r)
	if err != nil {
		return answer{}, err
	}
	return c.accept(r, a)
}

// receive is wait for an answer that is to be accepted still.
func (c *conn) receive(ctx context.Context, r *request) (answer, error) {
	for {
		select {
		case a := <-r.done:
			return a, nil
		case buf := <-c.sealed:
			if err := c.open(buf); err != nil {
				c.fail(err)
			}
		case <-ctx.Done():
			if a, ok := c.abandon(r); ok {
				return a, nil
			}
			return answer{}, context.Cause(ctx)
		case <-c.failed:
			select {
			case a := <-r.done:
				return a, nil
			default:
			}
			return answer{}, c.broken()
		}
	}
}

// accept checks an answer.
func (c *conn) accept(r *request, a answer) (answer, error) {
	p := r.protect
	c.recycle(r)
	return c.judge(c.authentic(p, &a), a)
}

// judge ends the connection where an answer is not authentic.
func (c *conn) judge(authentic bool, a answer) (answer, error) {
	if authentic {
		return a, nil
	}
	status := a.Status
	unsigned := a.Flags&FlagSigned == 0
	if unsigned && status == StatusNetworkSessionExpired {
		return a, nil // it makes us log in again, which is safe whoever asks for it
	}
	a.release()
	err := error(ErrNotSigned)
	if unsigned && status == StatusUserSessionDeleted { // there is no key any more
		err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, status)
	}
	c.fail(err)
	return answer{}, err
}

func (r *request) reset() { *r = request{done: r.done, own: r.own} }

// recycle gives back a request that is not used any more.
func (c *conn) recycle(r *request) {
	r.reset()
	if !r.own {
		c.requests.Put(r)
	}
}

// abandon gives a request up, and has the server cancel it; unless its answer is there.
func (c *conn) abandon(r *request) (a answer, ok bool) {
	c.mu.Lock()
	if _, pending := c.pending[r.id]; !pending {
		c.mu.Unlock()
		select {
		case a := <-r.done:
			return a, true
		default: // the connection has failed
			return answer{}, false
		}
	}
	r.abandoned = true
	s, id, async, asyncID, protect := c.session, r.id, r.interim, r.asyncID, r.protect
	c.mu.Unlock()
	if s != nil && protect != unprotected {
		s.cancelRequest(id, async, asyncID, protect)
	}
	return answer{}, false
}

// abandonAll gives up requests that were sent and are not waited for any more.
func (c *conn) abandonAll(rs []*request) {
	for _, r := range rs {
		if a, ok := c.abandon(r); ok {
			a.release()
		}
	}
}

// ask is how many more credits are worth asking for.
func (c *conn) ask() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(0, c.cfg.maxCredits()-c.credits-c.charged)
}

func (c *conn) wakeLocked() {
	if c.granted != nil {
		close(c.granted)
		c.granted = nil
	}
}

// errFewCredits says that the server will not give as many credits as a compound needs.
var errFewCredits = errors.New("smb2: the server grants too few credits at once")

// A reservation is credits, and message ids that go with them.
type reservation struct {
	id uint64
	n  int
}

// reserve takes between least and most credits, as many as there are. It waits for the least: where
// the server grants none for as long as it may take to answer, the error is ErrNoCredits. That does
// not end the connection, in which a call of a pipe may hold the last credit.
func (c *conn) reserve(ctx context.Context, least, most int) (reservation, error) {
	res, wait, err := c.tryReserve(least, most)
	if err != nil || res.n > 0 {
		return res, err
	}
	limit := c.cfg.answerTimeout()
	var late <-chan time.Time
	if limit > 0 {
		timer := time.NewTicker(limit)
		defer timer.Stop()
		late = timer.C
	}
	begun := time.Now()
	for {
		select {
		case <-wait:
		case <-late:
			if since := c.sinceGain(begun); since >= limit {
				return reservation{}, fmt.Errorf("%w: it has granted none for %v", ErrNoCredits, since)
			}
		case buf := <-c.sealed: // it may bring credits
			if err := c.open(buf); err != nil {
				c.fail(err)
			}
		case <-ctx.Done():
			return reservation{}, context.Cause(ctx)
		case <-c.failed:
			return reservation{}, c.broken()
		}
		if res, wait, err = c.tryReserve(least, most); err != nil || res.n > 0 {
			return res, err
		}
	}
}

// sinceGain returns how long the server has granted nothing, from begun on.
func (c *conn) sinceGain(begun time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lastGain.After(begun) {
		begun = c.lastGain
	}
	return time.Since(begun)
}

// tryReserve takes credits if there are enough; otherwise it returns what is closed when there may
// be more.
func (c *conn) tryReserve(least, most int) (reservation, <-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return reservation{}, nil, c.brokenLocked()
	case c.credits >= least:
		res := reservation{c.nextID, min(c.credits, most)}
		c.credits -= res.n
		c.nextID += uint64(res.n)
		c.charged += res.n
		return res, nil, nil
	case c.busy == 0 && c.charged == c.heldLocked() && c.credits > 0:
		return reservation{}, nil, errFewCredits
	case len(c.pending) == 0 && c.charged == 0:
		c.failLocked(ErrNoCredits)
		return reservation{}, nil, ErrNoCredits
	}
	if c.granted == nil {
		c.granted = make(chan struct{})
	}
	return reservation{}, c.granted, nil
}

// heldLocked is the credits of requests that were sent. The others are reserved, and will be sent.
func (c *conn) heldLocked() int {
	n := 0
	for _, r := range c.pending {
		n += r.charge
	}
	return n
}

// send writes a frame, after its requests were made known.
func (c *conn) send(frame []byte, rs ...*request) error {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return c.broken()
	}
	now := time.Now()
	for _, r := range rs {
		r.sent = now
		c.pending[r.id] = r
		c.busy++
	}
	if len(rs) > 0 && !c.watching && c.cfg.answerTimeout() > 0 {
		c.watching = true
		c.armLocked(c.cfg.answerTimeout())
	}
	c.mu.Unlock()
	c.writing.Lock()
	_, err := c.nc.Write(frame)
	c.writing.Unlock()
	if err != nil {
		c.fail(fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err))
		return c.broken()
	}
	return nil
}

func (c *conn) armLocked(d time.Duration) {
	if c.watchdog == nil {
		c.watchdog = time.AfterFunc(d, c.watch)
	} else {
		c.watchdog.Reset(d)
	}
}

// watch ends the connection to a server that does not answer, and asks one that has long said
// nothing whether it is there.
func (c *conn) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if len(c.pending) == 0 {
		c.watching = false
		return
	}
	limit := c.cfg.answerTimeout()
	now := time.Now()
	next := limit
	for _, r := range c.pending {
		due := limit
		switch {
		case r.patient:
			continue
		case r.interim:
			if due = c.cfg.pendingTimeout(); due < 0 || r.abandoned {
				continue
			}
		}
		left := due - now.Sub(r.sent)
		if left <= 0 {
			c.failLocked(fmt.Errorf("%w: %v was sent %v ago", ErrNoAnswer, r.command, due))
			return
		}
		next = min(next, left)
	}
	if left := limit - now.Sub(c.lastRead); left > 0 {
		next = min(next, left)
	} else if !c.echoing && c.credits > 0 && c.session != nil {
		c.echoing = true
		go c.session.echo()
	}
	c.armLocked(next)
}
