package fsrvp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// HandlerConfig says which calls a handler passes to its Service, and where it logs.
type HandlerConfig struct {
	// MinLevel is the lowest level that a call needs; every method answers others with
	// [ErrAccessDenied] (MS-FSRVP 3.1.4). Zero means LevelIntegrity, as in the standard.
	MinLevel dcerpc.AuthLevel
	// AllowSMBSessionAlone accepts calls without RPC security if the SMB session under the pipe has
	// authenticated the caller (Session in [dcerpc.Peer]). Samba's server does so, and its
	// rpcclient needs it by default. Without SMB signing or encryption such calls can be changed on
	// their way.
	AllowSMBSessionAlone bool
	// Refused, if not nil, is called for each call that is answered with [ErrAccessDenied] for lack
	// of protection, for example to count it in a metric. It must be safe for concurrent use.
	Refused func(op Opnum, peer *dcerpc.Peer)
	// Logger gets refused calls, and errors of the Service without a Status. Nil means
	// [slog.Default].
	Logger *slog.Logger
}

// NewHandler returns the handler that serves a Service: it decodes requests, calls the Service, and
// encodes its results, even if it failed. It answers an error with the Status that the error wraps;
// if the error itself is a [*dcerpc.Fault], with that fault; otherwise with [ErrFail]. A nil cfg
// means the zero value. Most callers want [Register].
//
// Apart from the protection that cfg demands, the Service decides who may call. The handler returns
// an error that wraps [ndr.ErrBadStub] for a stub that cannot be decoded, and
// [dcerpc.ErrOpnumRange] for an unknown opnum. It does not recover from panics of the Service; the
// [dcerpc.Server] does.
func NewHandler(s Service, cfg *HandlerConfig) dcerpc.Handler {
	h := &handler{service: s}
	if cfg != nil {
		h.cfg = *cfg
	}
	if h.cfg.MinLevel == dcerpc.LevelDefault {
		h.cfg.MinLevel = dcerpc.LevelIntegrity
	}
	if h.cfg.Logger == nil {
		h.cfg.Logger = slog.Default()
	}
	return h
}

// Register makes srv serve s with [NewHandler], and with the interface options that it needs: the
// handler itself answers unprotected calls, with a status rather than a fault.
func Register(srv *dcerpc.Server, s Service, cfg *HandlerConfig) {
	srv.Handle(Interface(), NewHandler(s, cfg), &dcerpc.InterfaceOptions{
		Opnums: int(opnums), MinLevel: dcerpc.LevelInsecureNone,
	})
}

type handler struct {
	service Service
	cfg     HandlerConfig
}

// A request can be served by a Service. The error is the method's; the response has everything but
// the status.
type request interface {
	Message
	serve(ctx context.Context, s Service) (Response, error)
}

// ServeRPC implements dcerpc.Handler.
func (h *handler) ServeRPC(ctx context.Context, call *dcerpc.Call) error {
	op := Opnum(call.Opnum)
	if !op.Valid() {
		return dcerpc.ErrOpnumRange
	}
	m, err := ParseRequest(op, call.Syntax, call.Stub)
	if err != nil {
		return err
	}
	peer, ok := dcerpc.PeerFromContext(ctx)
	var resp Response
	if ok && h.admits(&peer) {
		resp, err = Serve(ctx, h.service, m)
	} else {
		resp, err = denied(m), ErrAccessDenied
		if h.cfg.Refused != nil {
			h.cfg.Refused(op, &peer)
		}
		h.log(ctx, slog.LevelInfo, "fsrvp: call without the required protection", op, &peer, nil)
	}
	var status Status
	if err != nil && !errors.As(err, &status) {
		if ctx.Err() != nil {
			return dcerpc.ErrCancelled // nobody waits for an answer
		}
		if fault, ok := err.(*dcerpc.Fault); ok {
			return fault // a wrapped one, as from a Client, was meant for that client
		}
		h.log(ctx, slog.LevelError, "fsrvp: method failed without a status", op, &peer, err)
	}
	resp.SetStatus(StatusOf(err))
	b, err := resp.Append(call.Response, call.ResponseSyntax)
	if err != nil {
		return fmt.Errorf("fsrvp: %v response: %w", op, err)
	}
	call.Response = b
	return nil
}

// admits reports whether a call is sufficiently protected.
func (h *handler) admits(p *dcerpc.Peer) bool {
	if p.Level >= h.cfg.MinLevel {
		return true
	}
	return h.cfg.AllowSMBSessionAlone && p.Session && p.AuthType == dcerpc.AuthNone
}

// denied returns the response to a request that is refused unread.
func denied(req Message) Response {
	resp := NewResponse(req.Opnum())
	if get, ok := req.(*GetShareMappingRequest); ok {
		resp.(*GetShareMappingResponse).Level = get.Level
	}
	return resp
}

func (h *handler) log(ctx context.Context, level slog.Level, msg string, op Opnum, p *dcerpc.Peer, err error) {
	attrs := []slog.Attr{
		slog.String("op", op.String()), slog.String("account", p.Account), slog.String("domain", p.Domain),
		slog.Any("addr", p.Addr), slog.Int("level", int(p.Level)),
	}
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	h.cfg.Logger.LogAttrs(ctx, level, msg, attrs...)
}
