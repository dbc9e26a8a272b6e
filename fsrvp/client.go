package fsrvp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// DefaultCallTimeout is the time that a Client waits for an answer by default (MS-FSRVP 3.2.2).
const DefaultCallTimeout = 180 * time.Second

// Config configures Dial and the Client that it returns. It may be shared, and must not be changed
// while it is in use.
type Config struct {
	// Transport opens the connection to the server: an *smbpipe.Dialer, or on Windows an
	// *smbpipe.SystemDialer, for the standard's pipe; a [*dcerpc.TCPDialer] for servers that listen
	// on TCP. It is required.
	Transport dcerpc.Dialer
	// Auth is the security mechanism. If it is nil, Level must be LevelInsecureNone; servers that
	// follow the standard then answer [ErrAccessDenied].
	Auth dcerpc.Initiator
	// Level is the protection level of calls. Zero means LevelPrivacy.
	Level dcerpc.AuthLevel
	// NoHeaderSigning leaves the headers of PDUs unsigned; verification trailers then protect most
	// fields of request headers. Set it if one side cannot sign headers: a security package without
	// read-only buffers, such as Wine's Kerberos, or a server that agrees to header signing but
	// does not do it. Otherwise the first call fails with a bad signature.
	NoHeaderSigning bool
	// Target is the service principal name that Auth authenticates. Empty means "host/" and the
	// server's name as passed to Dial.
	Target string
	// Syntaxes are the transfer syntaxes to offer. Nil means NDR20 and NDR64.
	Syntaxes []ndr.Syntax

	// CallTimeout limits the time that each call waits for its answer, besides its context; methods
	// with a wait get that wait in addition. Zero means [DefaultCallTimeout]; a negative value means
	// no limit but the context's.
	CallTimeout time.Duration

	// Logger gets every call with its outcome, at debug level. Nil means none.
	Logger *slog.Logger
	// Trace sees every PDU of the connection. Nil means none.
	Trace dcerpc.Trace
}

// A Client calls a server. It implements [Service], and is safe for concurrent use.
//
// Errors are of three kinds. An [*Error] is the server's answer, and wraps its Status; results that
// came with it are still returned. A [*dcerpc.Fault] means that the call did not reach the method,
// or did not return from it. Any other error comes from the connection or the context; if it
// matches [dcerpc.ErrBadPeer], the answer was malformed. After the context of a call has ended, the
// method may still be running on the server.
//
// If no answer comes within Config.CallTimeout, the error matches [context.DeadlineExceeded] and
// the connection is closed (MS-FSRVP 3.2.5). The server keeps its shadow copy sets; dial again to
// use them.
type Client struct {
	cc      *dcerpc.ClientConn
	server  string
	timeout time.Duration // none if not positive
	logger  *slog.Logger
	serve   ServiceFunc // call
}

var _ Service = (*Client)(nil)

// Dial connects to the file server, a host name or an address, binds to the interface and
// authenticates. The context bounds only that.
func Dial(ctx context.Context, server string, cfg *Config) (*Client, error) {
	if cfg == nil || cfg.Transport == nil {
		return nil, errors.New("fsrvp: Dial needs a Config with a Transport")
	}
	target := cfg.Target
	if target == "" {
		target = "host/" + server
	}
	conn, err := cfg.Transport.DialRPC(ctx, server, Endpoint)
	if err != nil {
		return nil, fmt.Errorf("fsrvp: dial %s: %w", server, err)
	}
	cc, err := dcerpc.NewClientConn(ctx, conn, Interface(), &dcerpc.Config{
		Auth: cfg.Auth, Level: cfg.Level, Target: target, Syntaxes: cfg.Syntaxes, Logger: cfg.Logger, Trace: cfg.Trace,
		NoHeaderSigning: cfg.NoHeaderSigning,
	})
	if err != nil {
		return nil, fmt.Errorf("fsrvp: dial %s: %w", server, err)
	}
	c := NewClient(cc, cfg)
	c.server = server
	return c, nil
}

// NewClient returns a Client on a connection that is bound to [Interface]; the Client takes over
// the connection. It uses only CallTimeout and Logger of cfg, which may be nil.
func NewClient(cc *dcerpc.ClientConn, cfg *Config) *Client {
	if cfg == nil {
		cfg = &Config{}
	}
	c := &Client{cc: cc, server: cc.RemoteAddr().String(), timeout: cfg.CallTimeout, logger: cfg.Logger}
	if c.timeout == 0 {
		c.timeout = DefaultCallTimeout
	}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	c.serve = c.call
	return c
}

// Close ends the connection. Waiting calls return at once and later ones fail, both with errors
// that match [net.ErrClosed]. The server keeps its shadow copy sets.
func (c *Client) Close() error { return c.cc.Close() }

// Conn returns the connection, for further interfaces on it ([dcerpc.ClientConn.Alter]) and for its
// negotiated properties.
func (c *Client) Conn() *dcerpc.ClientConn { return c.cc }

// call sends req and returns its answer.
func (c *Client) call(ctx context.Context, req Message) (Response, error) {
	op := req.Opnum()
	began := time.Now()
	resp := NewResponse(op)
	err := c.exchange(ctx, req, resp)
	if err == nil {
		if status := resp.Status(); !status.IsSuccess() {
			err = &Error{Server: c.server, Op: op, Status: status}
		}
	} else {
		err = fmt.Errorf("fsrvp: %v on %s: %w", op, c.server, err)
	}
	c.logger.LogAttrs(ctx, slog.LevelDebug, "fsrvp: call",
		slog.String("server", c.server), slog.String("op", op.String()),
		slog.Duration("took", time.Since(began)), slog.Any("err", err))
	return resp, err
}

// exchange sends req and reads the answer into resp.
func (c *Client) exchange(ctx context.Context, req Message, resp Response) error {
	var wait time.Duration // that the request asks the method to wait
	if w, ok := req.(interface{ wait() time.Duration }); ok {
		wait = w.wait()
	}
	bounded := ctx
	if c.timeout > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, wait+c.timeout)
		defer cancel()
	}
	syntax := c.cc.Syntax()
	stub, err := req.Append(nil, syntax)
	if err != nil {
		return err
	}
	call := dcerpc.Call{Opnum: uint16(req.Opnum()), Syntax: syntax, Stub: stub}
	if err := c.cc.Call(bounded, &call); err != nil {
		if bounded.Err() != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			_ = c.cc.Close() // never fails
			return fmt.Errorf("no answer within %v: %w", wait+c.timeout, err)
		}
		return err
	}
	if err := resp.Parse(call.ResponseSyntax, call.Response); err != nil {
		return fmt.Errorf("%w: %w", dcerpc.ErrBadPeer, err)
	}
	if m, ok := resp.(*GetShareMappingResponse); ok && m.Return.IsSuccess() {
		if asked := req.(*GetShareMappingRequest).Level; m.Level != asked {
			m.ShareMapping1 = nil
			return fmt.Errorf("%w: level %d asked for, %d answered", dcerpc.ErrBadPeer, asked, m.Level)
		}
	}
	return nil
}
