// Package dcerpc is a runtime for connection-oriented DCE/RPC version 5.0 (C706, MS-RPCE): a client
// and a server over any net.Conn.
//
// A ClientConn calls one interface on one connection:
//
//	cc, err := dcerpc.NewClientConn(ctx, conn, iface, &dcerpc.Config{Auth: initiator, Target: "host/fs1"})
//	call := dcerpc.Call{Opnum: 8, Syntax: cc.Syntax(), Stub: stub}
//	err = cc.Call(ctx, &call) // then call.Response, in call.ResponseSyntax
//
// A Server gives the calls of registered interfaces to Handlers:
//
//	srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{acceptor}}
//	srv.Handle(iface, handler, nil)
//	err := srv.Serve(listener)
//
// Security comes in through the interfaces Initiator and Acceptor alone; packages krb5, ntlm and
// spnego implement them. A client without one has to say LevelInsecureNone, and a server takes
// calls that are not signed only for interfaces that allow it.
//
// Stubs are encoded with package ndr; package pdu has the PDUs by themselves.
package dcerpc
