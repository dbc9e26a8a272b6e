package dcerpc

import (
	"context"
	"net"
)

// A Peer is who made a call.
type Peer struct {
	// Identity is that of the call's security context; for a call without one, that of
	// the session under the transport (a pipe behind an SMB server), or nothing.
	Identity
	// Addr is the peer's address; for a pipe behind an SMB server that of the SMB client.
	Addr net.Addr
	// AuthType and Level are those of the call itself: AuthNone and LevelInsecureNone
	// where the call carried no security of RPC's.
	AuthType AuthType
	Level    AuthLevel
	// Session tells that a session under the transport has authenticated the peer, as SMB does.
	Session bool
	// SessionIdentity is who that session belongs to, whatever the call's own security context
	// says.
	SessionIdentity Identity
	// SessionEncrypted tells that the session under the transport encrypts its traffic.
	SessionEncrypted bool
}

// A SessionConn is a net.Conn of a transport that knows more of its peer than an address:
// a pipe that an SMB server hands over. A Server asks its connections for it.
type SessionConn interface {
	net.Conn
	// Session is known once the listener has returned the connection.
	Session() Session
}

// A Session is what a transport knows of one connection.
type Session struct {
	// Endpoint is the server's own endpoint, the secondary address of a bind_ack:
	// "\pipe\FssagentRpc", "49152".
	Endpoint string
	// MaxFragment is the transport's limit of a fragment in bytes; zero means 5840, TCP's.
	MaxFragment int
	// Authenticated, Identity and Encrypted describe the session under the transport.
	Authenticated bool
	Identity      Identity
	Encrypted     bool
	// Refuse, where not nil, makes the server refuse every bind on this
	// connection with this reason in its log: a peer that the transport could not vouch for.
	Refuse error
}

type peerKey struct{}

// WithPeer returns a context that carries p. A Server gives every handler such a context;
// tests and in-process callers of a handler make their own.
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerFromContext returns who made the call that ctx belongs to.
func PeerFromContext(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}
