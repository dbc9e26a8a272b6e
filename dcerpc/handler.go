package dcerpc

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A Handler serves the calls of one interface. ServeRPC is called in a goroutine of
// its own for every call, at once for calls on several connections and, where the client
// asked for multiplexing, on one.
type Handler interface {
	// ServeRPC answers one call. The context carries the Peer and ends when the
	// client cancels or orphans the call, when its connection ends, and when the server is
	// closed.
	//
	// An error that is a *Fault is sent as it is; one that came of a Decoder (ErrBadStub)
	// as nca_s_fault_ndr (0x000006F7); any other as nca_s_fault_unspec, and logged.
	// Whatever a protocol says inside its response, a status included, is no error.
	ServeRPC(ctx context.Context, call *Call) error
}

// A Call is one request and the room for its response.
type Call struct {
	Opnum  uint16
	Syntax ndr.Syntax // of the request; the response's is ResponseSyntax
	// Stub is the request's stub data without verification trailer. It belongs to the
	// server and is valid until ServeRPC returns.
	Stub []byte
	// ResponseSyntax is what the response must be written in: little-endian always.
	ResponseSyntax ndr.Syntax
	// Response is the response's stub. ServeRPC appends to it; the server
	// gives it with room for a short response.
	Response []byte
}
