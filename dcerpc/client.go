package dcerpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// Defaults of a Config, and the sizes of MS-RPCE 3.3.3.5.
const (
	defaultFragment = 5840    // what Windows offers
	minFragment     = 1432    // MustRecvFragSize, C706 12.6.3
	defaultResponse = 4 << 20 // as much as servers take
)

// Config configures a [ClientConn]. It may be shared, and must not be changed while it is in use.
type Config struct {
	// Auth is the security mechanism. If it is nil, Level must be [LevelInsecureNone].
	Auth Initiator
	// Level is the level of protection. Zero means [LevelPrivacy].
	Level AuthLevel
	// Target is the service principal name that Auth authenticates, "host/fs1.example.com".
	Target string

	// Syntaxes are the transfer syntaxes to offer, in rising order of preference; nil means NDR20
	// and NDR64. A single one is forced. NDR20BE, which may replace NDR20, makes the PDUs of the
	// client big-endian.
	Syntaxes []ndr.Syntax
	// NoMultiplexing asks for a connection that carries one call at a time.
	NoMultiplexing bool
	// NoHeaderSigning leaves PDU headers unsigned, for servers that do not support header signing.
	// Verification trailers then protect some of their fields.
	NoHeaderSigning bool
	// NoFeatures leaves out the bind-time feature negotiation (MS-RPCE 3.3.1.5.3).
	NoFeatures bool
	// AssociationGroup joins the association group of another connection to the same endpoint, see
	// [ClientConn.AssociationGroup]. Zero makes a new one.
	AssociationGroup uint32
	// MaxFragment is the largest fragment to offer for either direction, in bytes, from 1432 to
	// 65535. Zero means 5840.
	MaxFragment int
	// MaxResponse is the largest stub of a response to accept, in bytes; zero means 4 MiB. A larger
	// one ends the connection.
	MaxResponse int

	// Logger gets debug messages about events that no error reports. Nil means none.
	Logger *slog.Logger
	// Trace sees every PDU of the connection. Nil means none.
	Trace Trace
}

// A ClientConn calls the operations of one interface, in one security context, over a connection
// that other ClientConns may share (Alter). All methods are safe for concurrent use: if the server
// supports multiplexing, concurrent calls share the connection; otherwise they run one after the
// other.
type ClientConn struct {
	link      *link
	iface     SyntaxID
	syntax    ndr.Syntax
	contextID uint16
	sec       *securityContext // nil without security
	// verified: a call has succeeded, so the server has checked the bind's part of a verification
	// trailer.
	verified atomic.Bool
}

// NewClientConn binds to an interface over conn, a fresh connection to an RPC endpoint. The context
// bounds the bind alone. The [ClientConn] takes over the connection, and closes it if the bind fails.
//
// Besides the errors of the transport and of Config.Auth, it returns [*BindError], [*RejectedError]
// and [ErrBadPeer]. A nil cfg is an error, since a connection without security must be asked for.
func NewClientConn(ctx context.Context, conn net.Conn, iface SyntaxID, cfg *Config) (*ClientConn, error) {
	cc, err := newClientConn(ctx, conn, iface, cfg)
	if err != nil {
		_ = conn.Close() // the bind's error says more
		return nil, fmt.Errorf("dcerpc: bind to %v: %w", iface, err)
	}
	return cc, nil
}

func newClientConn(ctx context.Context, conn net.Conn, iface SyntaxID, cfg *Config) (*ClientConn, error) {
	n, err := newNegotiation(iface, cfg)
	if err != nil {
		return nil, err
	}
	l := newLink(conn, cfg)
	cc, err := n.bind(ctx, l)
	if err != nil {
		l.close(err)
		return nil, err
	}
	return cc, nil
}

// Alter negotiates a further interface on the same connection and returns a ClientConn for it
// (alter_context, MS-RPCE 3.3.1.5.6); iface may also be the interface of cc itself. With a nil cfg
// the result shares the security context of cc; otherwise it negotiates a new one with Auth, Level
// and Target. The only other field used is Syntaxes.
//
// If the server rejects only the interface ([*RejectedError]), or the context ends, the connection
// stays usable, unless a security context was being negotiated: servers accept no calls in the
// middle of an exchange. After other errors most servers drop the connection. The context bounds
// the negotiation alone.
func (cc *ClientConn) Alter(ctx context.Context, iface SyntaxID, cfg *Config) (*ClientConn, error) {
	next, err := cc.alter(ctx, iface, cfg)
	if err != nil {
		return nil, fmt.Errorf("dcerpc: alter context to %v: %w", iface, err)
	}
	return next, nil
}

func (cc *ClientConn) alter(ctx context.Context, iface SyntaxID, cfg *Config) (*ClientConn, error) {
	if cfg == nil {
		n := &negotiation{iface: iface, syntaxes: []ndr.Syntax{ndr.NDR20, ndr.NDR64}}
		next, err := n.alter(ctx, cc.link)
		if err == nil {
			next.sec = cc.sec
		}
		return next, err
	}
	n, err := newNegotiation(iface, cfg)
	if err != nil {
		return nil, err
	}
	next, err := n.alter(ctx, cc.link)
	if err != nil && n.begun {
		cc.link.fail(fmt.Errorf("the security exchange was interrupted (%w): %w", err, net.ErrClosed))
	}
	return next, err
}

// Call sends call.Stub as a request of call.Opnum, waits for the response, and appends its stub to
// call.Response; call.ResponseSyntax is then its syntax. call.Syntax must be Syntax(). Call reads
// the stub until it returns, and never changes it.
//
// If the server answers with a fault, Call returns a [*Fault]. When the context ends, Call returns
// its error at once and tells the server; the connection and its other calls go on. After Close,
// errors match [net.ErrClosed]; if the server has gone, they match [io.ErrUnexpectedEOF].
func (cc *ClientConn) Call(ctx context.Context, call *Call) error {
	if call.Syntax != cc.syntax {
		return fmt.Errorf("dcerpc: stub in %v on a connection that speaks %v", call.Syntax, cc.syntax)
	}
	if err := cc.link.call(ctx, cc, call); err != nil {
		var fault *Fault
		if errors.As(err, &fault) {
			return fault
		}
		return fmt.Errorf("dcerpc: call of opnum %d: %w", call.Opnum, err)
	}
	cc.verified.Store(true)
	return nil
}

// Close ends the connection, and with it every ClientConn that shares it. Waiting calls return at
// once. Close returns after the connection's goroutines have ended; a second Close does nothing.
func (cc *ClientConn) Close() error {
	cc.link.close(net.ErrClosed)
	return nil
}

// Interface returns the interface that cc calls.
func (cc *ClientConn) Interface() SyntaxID { return cc.iface }

// Syntax returns the syntax in which stubs must be encoded.
func (cc *ClientConn) Syntax() ndr.Syntax { return cc.syntax }

// Level returns how calls are protected: [LevelInsecureNone] if there is no security context.
func (cc *ClientConn) Level() AuthLevel {
	if cc.sec == nil {
		return LevelInsecureNone
	}
	return cc.sec.level
}

// Identity returns the authenticated server; which fields are set depends on the mechanism.
func (cc *ClientConn) Identity() Identity {
	if cc.sec == nil {
		return Identity{}
	}
	return cc.sec.Identity()
}

// AssociationGroup returns the id of the connection's association group, for
// Config.AssociationGroup of another connection.
func (cc *ClientConn) AssociationGroup() uint32 { return cc.link.group }

// Multiplexed reports whether several calls may be in flight on the connection at once.
func (cc *ClientConn) Multiplexed() bool { return cc.link.turn == nil }

// RemoteAddr returns the server's address.
func (cc *ClientConn) RemoteAddr() net.Addr { return cc.link.out.conn.RemoteAddr() }

// verificationTrailer returns the trailer that lets the server notice changes to what nothing else
// protects: the bind's flags and contexts until a call has succeeded, and, without header signing,
// the request's header (MS-RPCE 2.2.2.13). It returns nil if requests are not signed.
func (cc *ClientConn) verificationTrailer(f *pdu.Fragmenter) pdu.VerificationTrailer {
	if !cc.sec.protects() {
		return nil
	}
	seen, signed := cc.verified.Load(), cc.link.out.signHeader
	if seen && signed {
		return nil
	}
	req := pdu.Request{Header: pdu.Header{DataRep: f.DataRep, CallID: f.CallID}, ContextID: f.ContextID, Opnum: f.Opnum}
	all := pdu.NewVerificationTrailer(&req, cc.iface, transferSyntax(cc.syntax), cc.link.signOffered)
	switch {
	case signed:
		return all[:2] // bitmask, pcontext
	case seen:
		return all[2:] // header2
	}
	return all
}
