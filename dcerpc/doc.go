// Package dcerpc is a runtime for connection-oriented DCE/RPC version 5.0 (C706, MS-RPCE): a client
// and a server over any [net.Conn].
//
// A [ClientConn] calls one interface on one connection:
//
//	cc, err := dcerpc.NewClientConn(ctx, conn, iface, &dcerpc.Config{Auth: initiator, Target: "host/fs1"})
//	call := dcerpc.Call{Opnum: 8, Syntax: cc.Syntax(), Stub: stub}
//	err = cc.Call(ctx, &call) // then call.Response, in call.ResponseSyntax
//
// A [Server] passes the calls of registered interfaces to each interface's [Handler]:
//
//	srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{acceptor}}
//	srv.Handle(iface, handler, nil)
//	err := srv.Serve(listener)
//
// Security mechanisms implement the interfaces [Initiator] and [Acceptor]; packages krb5, ntlm,
// spnego and sspi do. A client without a mechanism must ask for [LevelInsecureNone], and a server
// accepts unsigned calls only for interfaces that allow them.
//
// Stubs are encoded with package ndr; package pdu reads and writes single PDUs.
package dcerpc
