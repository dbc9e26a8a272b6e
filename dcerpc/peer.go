package dcerpc

import (
	"context"
	"net"
)

// A Peer describes the caller of an operation.
type Peer struct {
	// Identity is the identity that the call's security context authenticated; for a call without
	// one, the identity of the session under the transport (a pipe behind an SMB server), or the
	// zero value.
	Identity
	// Addr is the peer's address; for a pipe behind an SMB server, the address of the SMB client.
	Addr net.Addr
	// AuthType and Level describe the security of the call itself: [AuthNone] and [LevelInsecureNone]
	// if it had no RPC security.
	AuthType AuthType
	Level    AuthLevel
	// Session reports that a session under the transport, such as an SMB session, has authenticated
	// the peer.
	Session bool
	// SessionIdentity is the identity of that session, whatever the call's security context says.
	SessionIdentity Identity
	// SessionEncrypted reports that the session under the transport encrypts its traffic.
	SessionEncrypted bool
}

// A SessionConn is a [net.Conn] of a transport that knows more about its peer than an address, such
// as a pipe that an SMB server hands over. A [Server] checks whether its connections implement it.
type SessionConn interface {
	net.Conn
	// Session is valid as soon as the listener has returned the connection.
	Session() Session
}

// A Session is what a transport knows about one connection.
type Session struct {
	// Endpoint is the server's own endpoint, the secondary address of a bind_ack:
	// "\pipe\FssagentRpc", "49152".
	Endpoint string
	// MaxFragment is the transport's largest fragment in bytes; zero means 5840, the value for TCP.
	MaxFragment int
	// Authenticated, Identity and Encrypted describe the session under the transport.
	Authenticated bool
	Identity      Identity
	Encrypted     bool
	// Refuse, if not nil, makes the server refuse every bind on this connection and log this
	// reason. It is for peers that the transport could not verify.
	Refuse error
}

type peerKey struct{}

// WithPeer returns a context that carries p. A [Server] passes such a context to every handler;
// tests and in-process callers of a handler make their own.
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerFromContext returns the caller of the operation that ctx belongs to, if ctx carries one.
func PeerFromContext(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}
