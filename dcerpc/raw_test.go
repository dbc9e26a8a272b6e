package dcerpc_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A setup is the server of a conversation and the connection to it.
type setup struct {
	server  dcerpc.Server
	mech    dcerpctest.Mechanism
	session *dcerpc.Session // not nil: a transport that knows its peer
	echo    echo
}

// raw is a client that writes PDUs by hand.
type raw struct {
	*dcerpctest.Peer
	t        *testing.T
	setup    *setup
	listener *dcerpctest.Listener
	maxXmit  int
	sign     bool // header signing
}

func newRaw(t *testing.T, s *setup) *raw {
	s.server.Acceptors = append(s.server.Acceptors, s.mech.Acceptor())
	s.server.Handle(echoInterface(), &s.echo, &dcerpc.InterfaceOptions{Opnums: opCount, MinLevel: dcerpc.LevelInsecureNone})
	s.server.Handle(otherInterface(), &s.echo, &dcerpc.InterfaceOptions{Opnums: opCount})
	r := &raw{t: t, setup: s, listener: serve(t, &s.server)}
	r.connect()
	return r
}

// connect gives r a new connection to the same server.
func (r *raw) connect() {
	if r.setup.session != nil {
		client, server := dcerpctest.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.setup.server.ServeConn(sessionConn{server, *r.setup.session})
		}()
		r.t.Cleanup(func() {
			client.Close()
			<-done
		})
		r.Peer = dcerpctest.NewPeer(client)
		return
	}
	r.connectFrom("client-1")
}

func (r *raw) connectFrom(from dcerpctest.Addr) {
	conn, err := r.listener.DialFrom(r.t.Context(), from)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { conn.Close() })
	r.Peer = dcerpctest.NewPeer(conn)
}

// sessionConn is a connection that knows its peer.
type sessionConn struct {
	*dcerpctest.Conn
	session dcerpc.Session
}

func (c sessionConn) Session() dcerpc.Session { return c.session }

const both = pdu.FirstFrag | pdu.LastFrag

// element offers one interface, in NDR 2.0 unless told otherwise.
func element(id uint16, iface dcerpc.SyntaxID, transfer ...dcerpc.SyntaxID) pdu.ContextElement {
	if transfer == nil {
		transfer = []dcerpc.SyntaxID{pdu.NDR20()}
	}
	return pdu.ContextElement{ID: id, Abstract: iface, Transfer: transfer}
}

// bind is a bind of context 0 to the echo interface.
func bind(change ...func(*pdu.Bind)) *pdu.Bind {
	p := &pdu.Bind{
		Header:   pdu.Header{Flags: both, CallID: 1},
		MaxXmit:  5840,
		MaxRecv:  5840,
		Contexts: []pdu.ContextElement{element(0, echoInterface())},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func offer(e ...pdu.ContextElement) func(*pdu.Bind) {
	return func(p *pdu.Bind) { p.Contexts = e }
}

func flags(f pdu.Flags) func(*pdu.Bind) {
	return func(p *pdu.Bind) { p.Flags |= f }
}

func withAuth(a pdu.Auth) func(*pdu.Bind) {
	return func(p *pdu.Bind) { p.Auth = a }
}

// alter is an alter_context that offers what it is given.
func alter(e ...pdu.ContextElement) *pdu.AlterContext {
	return &pdu.AlterContext{Header: pdu.Header{Flags: both, CallID: 2}, MaxXmit: 5840, MaxRecv: 5840, Contexts: e}
}

// request is a call of one fragment on context 0.
func request(callID uint32, opnum uint16, stub []byte, change ...func(*pdu.Request)) *pdu.Request {
	p := &pdu.Request{
		Header:    pdu.Header{Flags: both, CallID: callID},
		AllocHint: uint32(len(stub)),
		Opnum:     opnum,
		Stub:      stub,
	}
	for _, f := range change {
		f(p)
	}
	return p
}

// fragment is one of several.
func fragment(callID uint32, f pdu.Flags, stub string, change ...func(*pdu.Request)) *pdu.Request {
	p := request(callID, opEcho, []byte(stub), change...)
	p.Flags = f
	return p
}

// send writes PDUs.
func (r *raw) send(p ...pdu.PDU) {
	r.t.Helper()
	require.NoError(r.t, r.Send(p...))
}

func receive[P pdu.PDU](r *raw) P {
	r.t.Helper()
	got, err := r.Receive()
	require.NoError(r.t, err)
	require.IsType(r.t, *new(P), got)
	return got.(P)
}

// ack receives a bind_ack.
func (r *raw) ack() *pdu.BindAck {
	r.t.Helper()
	return receive[*pdu.BindAck](r)
}

// fault receives a fault.
func (r *raw) fault(callID uint32, contextID uint16, status pdu.FaultStatus, f pdu.Flags) {
	r.t.Helper()
	got := receive[*pdu.Fault](r)
	require.Equal(r.t, status, got.Status)
	require.Equal(r.t, both|f, got.Flags, "flags")
	require.Equal(r.t, callID, got.CallID, "call id")
	require.Equal(r.t, contextID, got.ContextID, "context")
	require.EqualValues(r.t, 32, got.FragLength)
	require.EqualValues(r.t, 32, got.AllocHint)
	require.Zero(r.t, got.AuthLength)
}

const dne = pdu.DidNotExecute

// response receives a response of one fragment.
func (r *raw) response(callID uint32) []byte {
	r.t.Helper()
	got := receive[*pdu.Response](r)
	require.Equal(r.t, callID, got.CallID)
	require.Equal(r.t, both, got.Flags)
	return got.Stub
}

// alive makes a call.
func (r *raw) alive() {
	r.t.Helper()
	r.send(request(1000, opEcho, []byte("alive")))
	require.Equal(r.t, "alive", string(r.response(1000)))
}

// bound binds.
func (r *raw) bound(change ...func(*pdu.Bind)) *pdu.BindAck {
	r.t.Helper()
	r.send(bind(change...))
	ack := r.ack()
	r.maxXmit = int(ack.MaxRecv)
	r.sign = ack.Flags.Has(pdu.SupportHeaderSign)
	return ack
}

// results makes a result list: accepted contexts by their syntax, others by their codes.
func rejected(result pdu.Result, reason pdu.Reason) pdu.ContextResult {
	return pdu.ContextResult{Result: result, Reason: reason}
}

func accepted(s dcerpc.SyntaxID) pdu.ContextResult { return pdu.ContextResult{Transfer: s} }

// A client security context of a raw conversation.
type rawSecurity struct {
	dcerpc.Context
	id    uint32
	typ   dcerpc.AuthType
	level dcerpc.AuthLevel
}

func (s *rawSecurity) auth(token []byte) pdu.Auth {
	return pdu.Auth{Type: uint8(s.typ), Level: uint8(s.level), ContextID: s.id, Token: token}
}

// initiate returns a new context and its first token.
func (r *raw) initiate(id uint32, level dcerpc.AuthLevel) (*rawSecurity, []byte) {
	r.t.Helper()
	init := r.setup.mech.Initiator()
	ctx, err := init.NewContext("", level)
	require.NoError(r.t, err)
	token, _, err := ctx.Step(context.Background(), nil)
	require.NoError(r.t, err)
	return &rawSecurity{ctx, id, init.AuthType(), level}, token
}

// step takes the server's token.
func (r *raw) step(s *rawSecurity, in []byte) []byte {
	r.t.Helper()
	out, _, err := s.Step(context.Background(), in)
	require.NoError(r.t, err)
	return out
}

func auth3(a pdu.Auth) *pdu.Auth3 {
	return &pdu.Auth3{Header: pdu.Header{Flags: both, CallID: 1}, Auth: a}
}

// securely binds with three legs, the last one an auth3, in security context 1.
func (r *raw) securely(level dcerpc.AuthLevel, change ...func(*pdu.Bind)) *rawSecurity {
	r.t.Helper()
	sec, token := r.initiate(1, level)
	ack := r.bound(append(change, withAuth(sec.auth(token)))...)
	require.Equal(r.t, sec.auth(nil).Level, ack.Auth.Level)
	r.send(auth3(sec.auth(r.step(sec, ack.Auth.Token))))
	return sec
}

// protected returns the bytes of a request, protected by s, with the given auth padding (negative:
// as much as is usual). edit changes the PDU before it is signed.
func (r *raw) protected(s *rawSecurity, req *pdu.Request, edit ...func(*pdu.Request)) []byte {
	r.t.Helper()
	req.Auth = s.auth(make([]byte, s.TokenSize(s.level)))
	for _, f := range edit {
		f(req)
	}
	b, err := req.AppendBinary(nil)
	require.NoError(r.t, err)
	parts, err := pdu.Split(b)
	require.NoError(r.t, err)
	m := dcerpc.Message{Header: parts.Header, Body: parts.Body, Trailer: parts.Trailer, SignHeader: r.sign}
	switch s.level {
	case dcerpc.LevelPrivacy:
		require.NoError(r.t, s.Seal(m, parts.Token))
	case dcerpc.LevelPacket, dcerpc.LevelIntegrity:
		require.NoError(r.t, s.Sign(m, parts.Token))
	}
	return b
}

// sendProtected sends what protected returns.
func (r *raw) sendProtected(s *rawSecurity, req *pdu.Request, edit ...func(*pdu.Request)) {
	r.t.Helper()
	require.NoError(r.t, r.SendBytes(r.protected(s, req, edit...)))
}

// unprotected receives a protected response and returns its stub.
func (r *raw) unprotected(s *rawSecurity, callID uint32) []byte {
	r.t.Helper()
	b, err := r.ReceiveBytes()
	require.NoError(r.t, err)
	parts, err := pdu.Split(b)
	require.NoError(r.t, err)
	resp, err := pdu.ParseResponse(b)
	require.NoError(r.t, err)
	require.Equal(r.t, callID, resp.CallID)
	require.Equal(r.t, s.auth(nil).Type, resp.Auth.Type)
	require.Equal(r.t, s.auth(nil).Level, resp.Auth.Level)
	require.Equal(r.t, s.id, resp.Auth.ContextID)
	m := dcerpc.Message{Header: parts.Header, Body: parts.Body, Trailer: parts.Trailer, SignHeader: r.sign}
	if s.level == dcerpc.LevelPrivacy {
		require.NoError(r.t, s.Unseal(m, parts.Token))
	} else {
		require.NoError(r.t, s.Verify(m, parts.Token))
	}
	return resp.Stub
}

// aliveSecurely makes a protected call.
func (r *raw) aliveSecurely(s *rawSecurity) {
	r.t.Helper()
	r.sendProtected(s, request(1001, opEcho, []byte("alive")))
	require.Equal(r.t, "alive", string(r.unprotected(s, 1001)))
}

func unknownInterface() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("0e0c0a08-0604-02ff-8899-aabbccddeeff"), Major: 1}
}

func zeros(n int) []byte { return bytes.Repeat([]byte{0}, n) }
