package fsrvp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// HandlerConfig says whose calls a Handler lets through to its Service, and where it logs.
type HandlerConfig struct {
	// MinLevel is the least protection that a call needs; others are answered with ErrAccessDenied
	// by every method (MS-FSRVP 3.1.4). Zero means LevelIntegrity, as the standard has it.
	MinLevel dcerpc.AuthLevel
	// AllowSMBSessionAlone lets calls through that have no security of RPC's, where the caller was
	// authenticated by the session under the pipe (dcerpc.Peer.Session). Samba's server does so,
	// and its rpcclient needs it by default. Without SMB signing or encryption such calls can be
	// altered on their way.
	AllowSMBSessionAlone bool
	// Refused is called for each call that is answered with ErrAccessDenied for want of protection,
	// for metrics; by several goroutines at once. Nil means none.
	Refused func(op Opnum, peer *dcerpc.Peer)
	// Logger gets calls that are refused, and errors of the Service that have no Status. Nil means
	// slog.Default.
	Logger *slog.Logger
}

// NewHandler returns the handler that serves a Service: it decodes requests, calls the Service, and
// encodes what it returned, results included where it failed. The answer to an error is the Status
// that it wraps; or, if it is a *dcerpc.Fault and not only wraps one, that fault; or ErrFail. A nil
// cfg means its zero value. Most callers want Register.
//
// Who may call is the business of the Service, beside what cfg says of the call's protection. A
// stub that cannot be decoded is returned as an error that wraps ndr.ErrBadStub, an unknown opnum
// as dcerpc.ErrOpnumRange. A panic of the Service is left to the dcerpc.Server.
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

// Register makes srv serve s by NewHandler, with the options that this takes: the handler itself
// answers unprotected calls, with a status and not with a fault.
func Register(srv *dcerpc.Server, s Service, cfg *HandlerConfig) {
	srv.Handle(Interface(), NewHandler(s, cfg), &dcerpc.InterfaceOptions{
		Opnums: int(opnums), MinLevel: dcerpc.LevelInsecureNone,
	})
}

type handler struct {
	service Service
	cfg     HandlerConfig
}

// A request can be served. The error is the method's; the response has everything but the status.
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
		h.log(ctx, slog.LevelInfo, "fsrvp: call without the protection that is required", op, &peer, nil)
	}
	var status Status
	if err != nil && !errors.As(err, &status) {
		if ctx.Err() != nil {
			return dcerpc.ErrCancelled // nobody waits for an answer
		}
		if fault, ok := err.(*dcerpc.Fault); ok {
			return fault // one that is wrapped, as by a Client, was meant for somebody else
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

// admits reports whether a call is protected as it must be.
func (h *handler) admits(p *dcerpc.Peer) bool {
	if p.Level >= h.cfg.MinLevel {
		return true
	}
	return h.cfg.AllowSMBSessionAlone && p.Session && p.AuthType == dcerpc.AuthNone
}

// denied returns the response to a request that nobody looked at.
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
