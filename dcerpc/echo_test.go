package dcerpc_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// echoInterface is what the tests serve.
func echoInterface() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("0e0c0a08-0604-0200-8899-aabbccddeeff"), Major: 1}
}

// otherInterface is a second one, for presentation contexts.
func otherInterface() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("0e0c0a08-0604-0201-8899-aabbccddeeff"), Major: 1}
}

// The operations of the echo interface.
const (
	opEcho  = 0 // answers with the stub of the request
	opWait  = 1 // waits for the context's end, and says so
	opPeer  = 2 // answers with who called, in clear text
	opFault = 3 // answers with nca_s_fault_context_mismatch
	opPanic = 4
	opNDR   = 5 // reads a uint32 and answers with it
	opError = 6
	opCount = 7
)

// echo implements the echo interface.
type echo struct {
	waiting chan struct{} // gets a value when opWait has begun, where not nil
	wait    func(context.Context) error
}

func (h *echo) ServeRPC(ctx context.Context, call *dcerpc.Call) error {
	switch call.Opnum {
	case opEcho:
		call.Response = append(call.Response, call.Stub...)
	case opWait:
		if h.waiting != nil {
			h.waiting <- struct{}{}
		}
		if h.wait != nil {
			return h.wait(ctx)
		}
		<-ctx.Done()
		return ctx.Err()
	case opPeer:
		p, _ := dcerpc.PeerFromContext(ctx)
		call.Response = fmt.Appendf(call.Response, "%s type %d level %d", p.Account, p.AuthType, p.Level)
	case opFault:
		return dcerpc.ErrContextMismatch
	case opPanic:
		panic("as asked")
	case opNDR:
		d := ndr.NewDecoder(call.Stub, call.Syntax)
		v := d.Uint32()
		if d.Err() != nil {
			return d.Err()
		}
		e := ndr.NewEncoder(call.Response, call.ResponseSyntax)
		e.Uint32(v)
		call.Response, _ = e.Bytes()
	case opError:
		return fmt.Errorf("as asked")
	}
	return nil
}

func serve(t testing.TB, srv *dcerpc.Server) *dcerpctest.Listener {
	l := dcerpctest.Listen()
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-done, dcerpc.ErrServerClosed)
	})
	return l
}

func invoke(ctx context.Context, cc *dcerpc.ClientConn, opnum uint16, stub []byte) ([]byte, error) {
	call := dcerpc.Call{Opnum: opnum, Syntax: cc.Syntax(), Stub: stub}
	err := cc.Call(ctx, &call)
	return call.Response, err
}

func TestEcho(t *testing.T) {
	for _, legs := range []int{1, 2, 3, 4, 5, 6} {
		for _, level := range []dcerpc.AuthLevel{
			dcerpc.LevelInsecureNone, dcerpc.LevelInsecureConnect, dcerpc.LevelPacket, dcerpc.LevelIntegrity, dcerpc.LevelPrivacy,
		} {
			for _, noSigning := range []bool{false, true} {
				t.Run(fmt.Sprintf("legs %d level %d noSigning %v", legs, level, noSigning), func(t *testing.T) {
					mech := &dcerpctest.Mechanism{Legs: legs, Account: "backup"}
					srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{mech.Acceptor()}, MinLevel: dcerpc.LevelInsecureNone}
					srv.Handle(echoInterface(), &echo{}, nil)
					l := serve(t, srv)
					conn, err := l.Dial(t.Context())
					require.NoError(t, err)
					cfg := &dcerpc.Config{Level: level, NoHeaderSigning: noSigning}
					if level != dcerpc.LevelInsecureNone {
						cfg.Auth = mech.Initiator()
					}
					cc, err := dcerpc.NewClientConn(t.Context(), conn, echoInterface(), cfg)
					require.NoError(t, err)
					defer cc.Close()
					for _, n := range []int{0, 1, 15, 16, 17, 100, 5840, 20000} {
						for range 3 {
							stub := bytes.Repeat([]byte("x"), n)
							got, err := invoke(t.Context(), cc, opEcho, stub)
							require.NoError(t, err)
							require.Equal(t, stub, append([]byte{}, got...)[:n])
						}
					}
					got, err := invoke(t.Context(), cc, opPeer, nil)
					require.NoError(t, err)
					if level == dcerpc.LevelInsecureNone {
						require.Equal(t, " type 0 level 1", string(got))
					} else {
						require.Equal(t, fmt.Sprintf("backup type 10 level %d", level), string(got))
					}
				})
			}
		}
	}
}
