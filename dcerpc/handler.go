package dcerpc

import (
	"context"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A Handler serves the calls of one interface. A Server runs ServeRPC in a new goroutine for every
// call. Calls on different connections run concurrently; so do those on one connection if the
// client asked for multiplexing.
type Handler interface {
	// ServeRPC answers one call. The context carries the Peer and ends when the
	// client cancels or orphans the call, when its connection ends, and when the server is
	// closed.
	//
	// The server sends a *Fault unchanged, an error of a decoder ([ndr.ErrBadStub]) as
	// nca_s_fault_ndr (0x000006F7), and any other error as nca_s_fault_unspec, which it also logs.
	// A status that the protocol returns inside its response is not an error.
	ServeRPC(ctx context.Context, call *Call) error
}

// A Call is one request and its response.
type Call struct {
	Opnum  uint16
	Syntax ndr.Syntax // of the request; the response's is ResponseSyntax
	// Stub is the request's stub data without its verification trailer. It belongs to the server
	// and is valid until ServeRPC returns.
	Stub []byte
	// ResponseSyntax is the syntax of the response, which is always little-endian.
	ResponseSyntax ndr.Syntax
	// Response is the response's stub. ServeRPC appends to it; the server provides room for a short
	// response.
	Response []byte
}
