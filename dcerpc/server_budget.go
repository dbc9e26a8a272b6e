package dcerpc

import (
	"container/list"
	"net"
	"sync/atomic"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/logs"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/netaddr"
)

// A stranger is a connection whose peer is not authenticated, neither by a session under the
// transport nor by a finished security context. Strangers have separate budgets; when one is used
// up, the oldest stranger of the address that uses the most of it is evicted, so that a newcomer
// always finds room.

// The bytes that a stranger may hold for free, before they count against the budget that all
// strangers share; the step to which the rest is rounded up, so that not every call takes the
// server's lock; and the part of the budget that one stranger may use.
const (
	strangerBase  = 4 << 10
	strangerStep  = 16 << 10
	strangerShare = 64
)

// smallStub is the number of bytes that a call of a known peer may always hold. Limits.Calls bounds
// the number of calls.
const smallStub = 8 << 10

// A block holds the counts of one address, or for IPv6 of one /64.
type block struct {
	conns     int       // all of them
	strangers list.List // of *serverConn, the oldest first
	pooled    int64     // bytes that the strangers hold beyond what each is granted
}

// A share counts what one account uses of the server, over all of its connections.
type share struct {
	account     string
	refs        int          // under Server.mu
	held, calls atomic.Int64 // bytes of large stubs; calls in flight
}

// admit makes a serverConn for conn. If there are too many connections, it evicts an old stranger,
// or refuses conn if there is none.
func (s *Server) admit(conn net.Conn) *serverConn {
	c := newServerConn(s, conn)
	s.mu.Lock()
	s.beginLocked()
	if s.limits == nil {
		s.limits = s.Limits.filled()
	}
	evicted, why := s.makeRoomLocked(c)
	if why == "" {
		s.enterLocked(c)
	}
	s.mu.Unlock()
	for _, old := range evicted {
		const why = reason("made room for another peer")
		s.observeRefusal(Refusal{Reason: RefusedLimit, Peer: old.conn.RemoteAddr(), Err: why})
		old.abort(why)
	}
	if why != "" {
		s.observeRefusal(Refusal{Reason: RefusedLimit, Peer: conn.RemoteAddr(), Err: why})
		s.refusals.Note(s.logger().With("peer", conn.RemoteAddr()), c.block, why)
		_ = conn.Close()
		return nil
	}
	return c
}

// makeRoomLocked evicts strangers until there is room for c. It returns why there is no room, or ""
// if there is.
func (s *Server) makeRoomLocked(c *serverConn) (evicted []*serverConn, why reason) {
	if s.closing {
		return nil, "the server is closing"
	}
	b := s.blocks[c.block]
	if b == nil {
		b = new(block)
	}
	evict := func(b *block) bool {
		if b == nil || b.strangers.Len() == 0 {
			return false
		}
		old := b.strangers.Front().Value.(*serverConn)
		s.leaveLocked(old)
		evicted = append(evicted, old)
		return true
	}
	byAddress := c.block != ""
	if !c.known {
		for byAddress && b.strangers.Len() >= s.limits.UnauthenticatedPerAddress && evict(b) {
		}
		for s.strangers >= s.limits.UnauthenticatedConnections && evict(s.crowdedLocked()) {
		}
	}
	if byAddress && b.conns >= s.limits.ConnectionsPerAddress && !evict(b) {
		return evicted, "too many connections of this address"
	}
	if s.admitted >= s.limits.Connections && !evict(s.crowdedLocked()) {
		return evicted, "too many connections"
	}
	return evicted, ""
}

// crowdedLocked returns the block with the most strangers, or nil.
func (s *Server) crowdedLocked() (most *block) {
	for _, b := range s.blocks {
		if b.strangers.Len() > 0 && (most == nil || b.strangers.Len() > most.strangers.Len()) {
			most = b
		}
	}
	return most
}

// greedyLocked returns the oldest stranger that holds bytes of the pool, of the block that holds
// most of it, or nil.
func (s *Server) greedyLocked() *serverConn {
	var most *block
	for _, b := range s.blocks {
		if b.pooled > 0 && (most == nil || b.pooled > most.pooled) {
			most = b
		}
	}
	if most == nil {
		return nil
	}
	for e := most.strangers.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*serverConn); c.pooled > 0 {
			return c
		}
	}
	return nil
}

func (s *Server) enterLocked(c *serverConn) {
	b := s.blocks[c.block]
	if b == nil {
		b = new(block)
		s.blocks[c.block] = b
	}
	c.start() // before Close can find it
	s.conns[c] = struct{}{}
	s.serving.Add(1)
	c.counted = true
	s.admitted++
	b.conns++
	if c.known {
		c.share = s.shareLocked(&c.session.Identity)
	} else {
		c.stranger = b.strangers.PushBack(c)
		s.strangers++
	}
}

// leaveLocked removes a connection that ends, or has been evicted, from all counts.
func (s *Server) leaveLocked(c *serverConn) {
	if !c.counted {
		return
	}
	c.counted = false
	s.admitted--
	s.strangerGoneLocked(c)
	b := s.blocks[c.block]
	if b.conns--; b.conns == 0 {
		delete(s.blocks, c.block)
	}
}

// strangerGoneLocked removes a connection that is no longer a stranger from the strangers' budgets.
func (s *Server) strangerGoneLocked(c *serverConn) {
	if c.stranger == nil {
		return
	}
	b := s.blocks[c.block]
	b.strangers.Remove(c.stranger)
	b.pooled -= c.pooled
	s.pooled -= c.pooled
	s.strangers--
	c.stranger, c.pooled = nil, 0
}

// dismiss forgets a connection that has ended.
func (s *Server) dismiss(c *serverConn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.leaveLocked(c)
	if sh := c.share; sh != nil {
		if sh.refs--; sh.refs == 0 {
			delete(s.shares, sh.account)
		}
	}
	s.mu.Unlock()
	s.serving.Done()
}

// authenticated records the account of c. From now on its calls count against the account's share.
func (s *Server) authenticated(c *serverConn, id *Identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.known {
		return
	}
	c.known = true
	s.strangerGoneLocked(c)
	c.share = s.shareLocked(id)
}

func (s *Server) shareLocked(id *Identity) *share {
	account := id.Principal
	if account == "" {
		account = id.Domain + `\` + id.Account
	}
	sh := s.shares[account]
	if sh == nil {
		sh = &share{account: account}
		s.shares[account] = sh
	}
	sh.refs++
	return sh
}

const errOverBudget = reason("the peer holds too many bytes without having authenticated")

// charge adds n, which may be negative, to the bytes that a stranger makes the server hold, and
// returns an error if they are too many. The caller must give them back even then.
func (c *serverConn) charge(n int) error {
	over := func(held int64) int64 {
		return (max(0, held-strangerBase) + strangerStep - 1) / strangerStep * strangerStep
	}
	held := c.held.Add(int64(n))
	if delta := over(held) - over(held-int64(n)); delta != 0 && !c.server.pool(c, delta) {
		return errOverBudget
	}
	if n > 0 && !c.known && held-strangerBase > int64(c.limits.UnauthenticatedBytes)/strangerShare {
		return errOverBudget
	}
	return nil
}

// pool counts bytes of a stranger in the budget that all strangers share. If that is used up, it
// evicts the oldest strangers of the address that holds the most of it. It reports whether c stays.
func (s *Server) pool(c *serverConn, n int64) bool {
	var evicted []*serverConn
	s.mu.Lock()
	stays := true
	if c.stranger != nil {
		c.pooled += n
		s.pooled += n
		s.blocks[c.block].pooled += n
		for s.pooled > int64(s.limits.UnauthenticatedBytes) {
			old := s.greedyLocked()
			if old == nil {
				break
			}
			s.leaveLocked(old)
			evicted = append(evicted, old)
			stays = stays && old != c
		}
	}
	s.mu.Unlock()
	for _, old := range evicted {
		old.abort(errOverBudget)
	}
	return stays
}

// hold counts n more bytes of the stub of a call, and reports false if its caller holds too many.
func (c *serverConn) hold(call *serverCall, n int) bool {
	if call.share == nil {
		call.held += int64(n)
		return c.charge(n) == nil
	}
	over := max(0, call.held+int64(n)-smallStub) - max(0, call.held-smallStub)
	call.held += int64(n)
	if over == 0 {
		return true
	}
	// An account may hold no more than remains free for others.
	limit, total := int64(c.limits.HeldBytes), c.server.stats.held.Add(over)
	return call.share.held.Add(over) <= limit-total
}

// unhold gives back the bytes that hold has counted.
func (c *serverConn) unhold(call *serverCall) {
	if call.share == nil {
		_ = c.charge(-int(call.held))
	} else if over := call.held - smallStub; over > 0 {
		c.server.stats.held.Add(-over)
		call.share.held.Add(-over)
	}
	call.held = 0
}

// countIn counts a call that is about to go to a handler, or returns why it may not.
func (c *serverConn) countIn(call *serverCall) *refusal {
	calls, limit := &c.server.stats.inFlight, int64(c.limits.Calls)
	if call.share == nil {
		calls = &c.server.stats.strange
		if calls.Add(1) > max(1, limit/4) {
			calls.Add(-1)
			return tooBusy("too many calls of peers that have not authenticated")
		}
		return nil
	}
	total := calls.Add(1)
	if of := call.share.calls.Add(1); total > limit || of > max(1, limit-total) {
		calls.Add(-1)
		call.share.calls.Add(-1)
		return tooBusy("too many calls on the server")
	}
	return nil
}

// countOut undoes countIn.
func (c *serverConn) countOut(call *serverCall) {
	if call.share == nil {
		c.server.stats.strange.Add(-1)
		return
	}
	c.server.stats.inFlight.Add(-1)
	call.share.calls.Add(-1)
}

// blockOf returns the key under which the connections of an address are counted.
func blockOf(addr net.Addr) string { return logs.Cut(netaddr.Block(netaddr.Host(addr))) }
