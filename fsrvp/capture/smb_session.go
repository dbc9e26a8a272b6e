package capture

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"
)

// A sessionKey identifies a session of a server. The address is set if the server's GUID is not
// known.
type sessionKey struct {
	guid [16]byte
	addr netip.Addr
	id   uint64
}

// A session is an SMB session, on one or more connections.
type session struct {
	key         sessionKey
	connections int
	handshake   *handshake
	preauth     smb2.Preauth // so far
	opening     bool         // seen from its first leg on
	established bool
	keys        *smb2.Keys      // nil if not known
	encrypted   bool            // some messages were
	trees       map[uint32]bool // by tree id: whether it is the tree of the pipes
	pipes       map[smb2.FileID]*association
	buffers     account
}

func newSession(d *decoder, key sessionKey) *session {
	return &session{
		key:         key,
		connections: 1,
		handshake:   newHandshake(&d.cfg),
		trees:       make(map[uint32]bool),
		pipes:       make(map[smb2.FileID]*association),
		buffers:     account{budget: &d.buffers},
	}
}

// establish derives the keys when the authentication is over.
func (s *session) establish(chosen smb2.NegotiateResponse, hash smb2.Preauth) {
	s.established = true
	if key := s.handshake.sessionKey(); key != nil && s.hashed(chosen) {
		s.keys, _ = smb2.DeriveKeys(chosen.Dialect, chosen.Cipher, key, hash)
	}
}

// hashed reports whether the preauthentication hash of the session is known, which needs all of its
// messages, or not needed.
func (s *session) hashed(chosen smb2.NegotiateResponse) bool {
	return s.opening || chosen.Dialect != smb2.Dialect311
}

// openPipe gives a pipe its id.
func (s *session) openPipe(id smb2.FileID, p *association) {
	p.id = id
	if old := s.pipes[id]; old != nil {
		old.close()
	}
	s.pipes[id] = p
}

// lose records that messages of one direction may have been lost.
func (s *session) lose(fromClient bool) {
	for _, p := range s.pipes {
		p.lose(fromClient)
	}
}

// leave ends the session when its last connection has ended.
func (s *session) leave(d *decoder) {
	if s.connections--; s.connections > 0 {
		return
	}
	byNumber := func(a, b *association) int { return cmp.Compare(a.number, b.number) }
	for _, p := range slices.SortedFunc(maps.Values(s.pipes), byNumber) {
		p.close()
	}
	clear(s.pipes)
	s.buffers.close()
	if d.sessions[s.key] == s {
		delete(d.sessions, s.key)
	}
}
