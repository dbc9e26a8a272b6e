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

// Config says how a ClientConn talks. It may be shared and must not be changed
// while it is used.
type Config struct {
	// Auth is the security mechanism. Without one, Level must be LevelInsecureNone.
	Auth Initiator
	// Level is what is protected. Zero means LevelPrivacy.
	Level AuthLevel
	// Target is the service principal name that Auth authenticates, "host/fs1.example.com".
	Target string

	// Syntaxes are the transfer syntaxes that are offered, in rising order of preference; nil means
	// NDR20 and NDR64. One alone is forced. NDR20BE, which may stand in place of NDR20, makes
	// the PDUs of the client big-endian.
	Syntaxes []ndr.Syntax
	// NoMultiplexing asks for a connection that carries one call after the other.
	NoMultiplexing bool
	// NoHeaderSigning leaves PDU headers out of what is signed, for servers that cannot do better.
	// Verification trailers then protect some of their fields.
	NoHeaderSigning bool
	// NoFeatures leaves out the bind-time feature negotiation (MS-RPCE 3.3.1.5.3).
	NoFeatures bool
	// AssociationGroup joins the association group of another connection to the same
	// endpoint, see ClientConn.AssociationGroup. Zero makes a new one.
	AssociationGroup uint32
	// MaxFragment is the largest fragment that is offered for either direction, in bytes, from 1432
	// to 65535. Zero means 5840.
	MaxFragment int
	// MaxResponse is the largest stub of a response that is taken, in bytes; zero means 4 MiB. A
	// larger one ends the connection.
	MaxResponse int

	// Logger gets what is otherwise silent, at debug level. Nil means none.
	Logger *slog.Logger
	// Trace sees every PDU of the connection. Nil means none.
	Trace Trace
}

// A ClientConn calls the operations of one interface, in one security context, over a connection
// that other ClientConns may share (Alter). All methods may be called by several goroutines at
// once: where the server supports multiplexing, their calls run at once on the one connection,
// otherwise one after the other.
type ClientConn struct {
	link      *link
	iface     SyntaxID
	syntax    ndr.Syntax
	contextID uint16
	sec       *securityContext // nil without security
	// verified: a call has succeeded, so that the server has seen and believed what a verification
	// trailer says of the bind.
	verified atomic.Bool
}

// NewClientConn binds to an interface over conn, which is a connection to an RPC endpoint that
// nobody has used yet. The context bounds the bind alone. From the call on, the connection belongs
// to the ClientConn; where the bind fails it is closed.
//
// Beside transport errors and those of Config.Auth there are *BindError, *RejectedError and
// ErrBadPeer. A nil cfg fails, since no security must be asked for.
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
// the result has the security context of cc; otherwise it gets a context of its own by Auth, Level
// and Target. Of the other fields only Syntaxes is used.
//
// Where the server only rejects the interface (*RejectedError), or the context ends, the connection
// lives on, unless a security context was being negotiated: servers take no calls during half
// an exchange. After other errors most servers drop the connection. The context bounds the
// negotiation alone.
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
		cc.link.fail(fmt.Errorf("a security exchange was broken off (%w): %w", err, net.ErrClosed))
	}
	return next, err
}

// Call sends call.Stub as a request of call.Opnum, waits for the response, and appends its stub to
// call.Response; call.ResponseSyntax is then its syntax. call.Syntax must be Syntax(). The stub is
// only read, and until Call returns.
//
// A *Fault is what the server answered in place of a response. When the context ends, Call returns
// at once with its error, and the server is told; the connection and its other calls live on. After
// Close errors match net.ErrClosed, and where the server has gone, io.ErrUnexpectedEOF.
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

// Close ends the connection, and with it every ClientConn that shares it. Calls that wait return at
// once. It returns after the connection's goroutines have ended; a second Close does nothing.
func (cc *ClientConn) Close() error {
	cc.link.close(net.ErrClosed)
	return nil
}

// Interface returns the interface that is called.
func (cc *ClientConn) Interface() SyntaxID { return cc.iface }

// Syntax returns what stubs must be encoded in.
func (cc *ClientConn) Syntax() ndr.Syntax { return cc.syntax }

// Level returns how calls are protected: LevelInsecureNone where there is no security context.
func (cc *ClientConn) Level() AuthLevel {
	if cc.sec == nil {
		return LevelInsecureNone
	}
	return cc.sec.level
}

// Identity returns the authenticated server; what it holds is up to the mechanism.
func (cc *ClientConn) Identity() Identity {
	if cc.sec == nil {
		return Identity{}
	}
	return cc.sec.Identity()
}

// AssociationGroup returns the id of the connection's association group, for
// Config.AssociationGroup of another connection.
func (cc *ClientConn) AssociationGroup() uint32 { return cc.link.group }

// Multiplexed reports whether calls run at once on the connection, or one after the other.
func (cc *ClientConn) Multiplexed() bool { return cc.link.turn == nil }

// RemoteAddr returns the server's address.
func (cc *ClientConn) RemoteAddr() net.Addr { return cc.link.out.conn.RemoteAddr() }

// verificationTrailer returns what is appended to the stub of a request so that the server notices
// changes to what nothing else protects: the bind's flags and contexts until a call has succeeded,
// and, without header signing, the request's header (MS-RPCE 2.2.2.13). Without a signature there
// is nothing to append.
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
