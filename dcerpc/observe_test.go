package dcerpc_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// TestRefused has peers refused for each reason, and looks at what the hook is told.
func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name      string
		limits    dcerpc.Limits
		mech      dcerpctest.Mechanism
		provoke   func(t *testing.T, l *dcerpctest.Listener, mech *dcerpctest.Mechanism)
		want      dcerpc.RefusalReason
		mechanism dcerpc.AuthType
	}{
		{
			name: "the first token", want: dcerpc.RefusedAuthentication, mechanism: dcerpc.AuthKerberos,
			mech: dcerpctest.Mechanism{Type: dcerpc.AuthKerberos, Legs: 2, Refuse: 1},
			provoke: func(t *testing.T, l *dcerpctest.Listener, mech *dcerpctest.Mechanism) {
				conn, err := l.Dial(t.Context())
				require.NoError(t, err)
				_, err = dcerpc.NewClientConn(t.Context(), conn, echoInterface(), &dcerpc.Config{Auth: mech.Initiator()})
				require.Error(t, err)
			},
		},
		{
			name: "the last token, which has no answer", want: dcerpc.RefusedAuthentication, mechanism: dcerpc.AuthNTLM,
			mech: dcerpctest.Mechanism{Legs: 3, Refuse: 3},
			provoke: func(t *testing.T, l *dcerpctest.Listener, mech *dcerpctest.Mechanism) {
				conn, err := l.Dial(t.Context())
				require.NoError(t, err)
				cc, err := dcerpc.NewClientConn(t.Context(), conn, echoInterface(), &dcerpc.Config{Auth: mech.Initiator()})
				require.NoError(t, err)
				defer cc.Close()
				_, err = invoke(t.Context(), cc, opEcho, nil)
				require.Error(t, err)
			},
		},
		{
			name: "too many connections", want: dcerpc.RefusedLimit, limits: dcerpc.Limits{UnauthenticatedPerAddress: 1},
			provoke: func(t *testing.T, l *dcerpctest.Listener, _ *dcerpctest.Mechanism) {
				_, err := connectFrom(t, l, "one:1")
				require.NoError(t, err)
				_, err = connectFrom(t, l, "one:2")
				require.NoError(t, err)
			},
		},
		{
			name: "no RPC", want: dcerpc.RefusedProtocol,
			provoke: func(t *testing.T, l *dcerpctest.Listener, _ *dcerpctest.Mechanism) {
				p, err := connectFrom(t, l, "one:1")
				require.NoError(t, err)
				require.NoError(t, p.Send(&pdu.Response{Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 2}}))
				_, _ = p.Receive()
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := echoServer(&tt.mech, &echo{})
			srv.Limits = tt.limits
			told := make(chan dcerpc.Refusal, 10)
			srv.Refused = func(r dcerpc.Refusal) { told <- r }
			l := serve(t, srv)
			tt.provoke(t, l, &tt.mech)
			r := <-told
			require.Equal(t, tt.want, r.Reason)
			require.Equal(t, tt.mechanism, r.Mechanism)
			require.Error(t, r.Err)
			require.NotNil(t, r.Peer)
		})
	}
}

// TestNothingRefused: a caller in order, whose call fails, is not refused.
func TestNothingRefused(t *testing.T) {
	mech := &dcerpctest.Mechanism{Account: "backup"}
	srv := echoServer(mech, &echo{})
	var mu sync.Mutex
	var told []dcerpc.Refusal
	srv.Refused = func(r dcerpc.Refusal) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, r)
	}
	cc := dial(t, serve(t, srv), &dcerpc.Config{Auth: mech.Initiator()})
	_, err := invoke(t.Context(), cc, opEcho, nil)
	require.NoError(t, err)
	_, err = invoke(t.Context(), cc, opFault, nil)
	require.Error(t, err)
	mu.Lock()
	defer mu.Unlock()
	require.Empty(t, told)
}
