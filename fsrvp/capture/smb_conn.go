package capture

import (
	"bytes"
	"cmp"
	"net/netip"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"
)

// An smbConn is a TCP connection that carries SMB.
type smbConn struct {
	d        *decoder
	stream   *stream
	frames   [2]framer // from the server, from the client
	chosen   smb2.NegotiateResponse
	preauth  smb2.Preauth // of the negotiation
	sessions map[uint64]*session
	channels map[uint64]*channel    // for sessions whose signing key on this connection is known, or may soon be
	pending  map[uint64]*smbRequest // by message id
	previous *smbRequest            // in the current compound
}

// An smbRequest waits for its response.
type smbRequest struct {
	command smb2.Command
	session *session // nil for a SESSION_SETUP that has none yet
	tree    uint32
	pipe    *association // the pipe to open, read, write or close; at first that of the previous request in a compound
	token   []byte       // of a SESSION_SETUP
	cost    int
	preauth smb2.Preauth // up to and including the SESSION_SETUP
}

// Limits of one connection. Servers grant a few hundred requests at a time.
const (
	maxSMBRequests = 4096
	maxSessions    = 256
	maxPipes       = 1024
	maxTrees       = 1024
)

func newSMBConn(s *stream) *smbConn {
	c := &smbConn{
		d:        s.d,
		stream:   s,
		sessions: make(map[uint64]*session),
		channels: make(map[uint64]*channel),
		pending:  make(map[uint64]*smbRequest),
	}
	for i := range c.frames {
		f := &c.frames[i]
		*f = newFramer(smbFraming{}, s.d.cfg.MaxMessage, &s.buffers)
		f.message = func(b []byte, good, size int, why Reason, at moment) {
			c.message(f == &c.frames[1], b[netbiosHeader:max(good, netbiosHeader)], size-netbiosHeader, why, at)
		}
		f.broken = c.broken
		f.wanted = func(head []byte, size int) bool { return c.wanted(head[netbiosHeader:], size) }
	}
	return c
}

func (c *smbConn) frame(fromClient bool) *framer {
	if fromClient {
		return &c.frames[1]
	}
	return &c.frames[0]
}

func (c *smbConn) data(fromClient bool, b []byte, at moment) { c.frame(fromClient).data(b, at) }

func (c *smbConn) hole(fromClient bool, n int, why Reason, at moment) {
	c.problem(why, "bytes of an SMB connection")
	f := c.frame(fromClient)
	wasLost := f.lost
	f.hole(n, why, at)
	if f.lost && !wasLost {
		// Whole messages of any pipe may have been lost.
		for _, s := range c.sessions {
			s.lose(fromClient)
		}
	}
}

func (c *smbConn) broken(why Reason) {
	if why == ErrLimit {
		c.problem(ErrLimit, "MaxBuffered")
	} else {
		c.problem(ErrProtocol, "bytes that are not an SMB message")
	}
}

func (c *smbConn) client() netip.AddrPort { return c.stream.ends[c.stream.client] }
func (c *smbConn) server() netip.AddrPort { return c.stream.ends[1-c.stream.client] }

func (c *smbConn) problem(r Reason, detail string) { c.d.problem(r, detail, c.client(), c.server()) }

// close ends the sessions that no other connection uses.
func (c *smbConn) close() {
	for _, s := range c.sessions {
		s.leave(c.d)
	}
	clear(c.sessions)
	clear(c.channels)
	c.abandon()
}

// abandon closes the pipe that a request would have opened.
func (r *smbRequest) abandon() {
	if r.command == smb2.Create && r.pipe != nil {
		r.pipe.close()
	}
}

// abandon forgets the requests that have no response.
func (c *smbConn) abandon() {
	for id := range c.pending {
		r, _ := c.recall(id)
		r.abandon()
	}
}

// message takes one message of size bytes: b is the part that is present, and why says why the rest
// is missing.
func (c *smbConn) message(fromClient bool, b []byte, size int, why Reason, at moment) {
	if len(b) < 4 {
		return
	}
	if why == 0 && len(b) < size && size > c.d.cfg.MaxMessage-netbiosHeader {
		why = ErrLimit
	}
	switch string(b[:4]) {
	case smb2.Magic:
		c.chain(b, size, why, false, at)
	case smb2.MagicTransform:
		if b = c.decrypt(fromClient, b, size); b != nil {
			c.chain(b, len(b), why, true, at)
		}
	case smb2.MagicCompressed:
		c.problem(ErrDialect, "compressed SMB 3")
	case smb2.MagicSMB1:
		// A client may begin with SMB 1's negotiation and go on with SMB 2.
		if len(b) > 4 && b[4] != smb1Negotiate {
			c.problem(ErrDialect, "SMB 1")
		}
	}
}

const smb1Negotiate = 0x72

// decrypt returns the contents of an encrypted message, or nil.
func (c *smbConn) decrypt(fromClient bool, b []byte, size int) []byte {
	t, ok := smb2.ParseTransform(b)
	if !ok {
		return nil // it is counted as a hole
	}
	s := c.session(t.SessionID)
	switch {
	case s == nil || !s.established:
		c.problem(ErrEncrypted, "the capture lacks the beginning of the session")
		return nil
	case s.keys == nil:
		c.problem(ErrEncrypted, cause(s.handshake.missing(ErrEncrypted)))
		return nil
	case len(b) < size:
		return nil // it is counted as a hole, or as one over the limit
	}
	inside, err := s.keys.Open(b, !fromClient)
	if err != nil {
		c.problem(ErrEncrypted, "the session has another key")
		return nil
	}
	s.encrypted = true
	if bytes.HasPrefix(inside, []byte(smb2.MagicCompressed)) {
		c.problem(ErrDialect, "compressed SMB 3")
		return nil
	}
	return inside
}

// chain takes the messages of a compound, or a single message (MS-SMB2 3.3.5.2.7).
func (c *smbConn) chain(b []byte, size int, why Reason, encrypted bool, at moment) {
	c.previous = nil
	defer func() { c.d.tampered = false }()
	for {
		h, ok := smb2.ParseHeader(b)
		if !ok {
			if why == 0 {
				c.problem(ErrProtocol, "SMB header")
			}
			return
		}
		next := int(h.NextCommand)
		if next != 0 && (next < smb2.HeaderSize || next > size) {
			c.problem(ErrProtocol, "SMB compound")
			return
		}
		msg := b
		if next != 0 {
			msg = b[:min(next, len(b))]
		}
		whole := !encrypted && len(msg) == min(size, cmp.Or(next, size))
		// A server signs the end of a log-on with the new key.
		login := h.Command == smb2.SessionSetup && h.IsResponse()
		c.d.tampered = whole && !login && !c.verify(&h, msg)
		if h.IsResponse() {
			c.response(&h, msg, why, at)
		} else {
			c.request(&h, msg, why, at)
		}
		if login && whole {
			c.verify(&h, msg)
		}
		if next == 0 || next >= len(b) {
			return
		}
		b = b[next:]
		size -= next
	}
}

// session returns the session with an id, or nil. Another connection may have opened it (a channel,
// MS-SMB2 3.2.4.1.7).
func (c *smbConn) session(id uint64) *session {
	if s := c.sessions[id]; s != nil || id == 0 || len(c.sessions) >= maxSessions {
		return s
	}
	s := c.d.sessions[c.sessionKey(id)]
	if s != nil {
		s.connections++
		c.sessions[id] = s
	}
	return s
}

// midwaySession is session for one whose beginning is not in the capture.
func (c *smbConn) midwaySession(id uint64) *session {
	s := c.session(id)
	if s == nil && id != 0 && len(c.sessions) < maxSessions {
		s = c.newSession(id)
	}
	return s
}

// newSession returns nil if there is no room for a session.
func (c *smbConn) newSession(id uint64) *session {
	key := c.sessionKey(id)
	s := newSession(c.d, key)
	if !s.buffers.take(sessionCost + c.d.cfg.tokenCost()) {
		c.problem(ErrLimit, "MaxBuffered")
		return nil
	}
	if old := c.sessions[id]; old != nil {
		old.leave(c.d)
	}
	delete(c.channels, id)
	c.sessions[id] = s
	c.d.sessions[key] = s
	return s
}

// sessionKey identifies servers by their GUID, since channels may use other addresses.
func (c *smbConn) sessionKey(id uint64) sessionKey {
	if c.chosen.ServerGUID != [16]byte{} {
		return sessionKey{guid: c.chosen.ServerGUID, id: id}
	}
	return sessionKey{addr: c.server().Addr(), id: id}
}

// remember keeps a request until its response comes.
func (c *smbConn) remember(id uint64, r *smbRequest) {
	if len(c.pending) >= maxSMBRequests {
		c.problem(ErrLimit, "SMB requests without a response")
		c.abandon()
	}
	if old, again := c.recall(id); again {
		old.abandon()
	}
	r.cost = requestCost + len(r.token)
	if !c.stream.buffers.take(r.cost) {
		c.problem(ErrLimit, "MaxBuffered")
		r.abandon()
		return
	}
	c.pending[id] = r
}

// recall returns the request that a response answers, and forgets it.
func (c *smbConn) recall(id uint64) (*smbRequest, bool) {
	r, ok := c.pending[id]
	if ok {
		delete(c.pending, id)
		c.stream.buffers.give(r.cost)
	}
	return r, ok
}
