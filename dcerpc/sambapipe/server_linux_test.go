package sambapipe

import (
	"bufio"
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// peerHandler answers with the account that the session under the pipe belongs to.
type peerHandler struct{}

func (peerHandler) ServeRPC(ctx context.Context, call *dcerpc.Call) error {
	p, _ := dcerpc.PeerFromContext(ctx)
	call.Response = append(call.Response, p.SessionIdentity.Account...)
	return nil
}

// TestServer has a dcerpc.Server behind the Listener: it knows the callers that smbd vouches for,
// and refuses the others at their bind.
func TestServer(t *testing.T) {
	iface := dcerpc.SyntaxID{UUID: [16]byte{1, 2, 3}, Major: 1}
	srv := &dcerpc.Server{Logger: slog.New(slog.DiscardHandler)}
	srv.Handle(iface, peerHandler{}, &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone})
	l, _, _ := start(t)
	served := make(chan error)
	go func() { served <- srv.Serve(l) }()
	defer func() {
		require.NoError(t, srv.Close())
		require.Error(t, <-served)
	}()
	// bind is what smbd and a client behind it do. Messages have the same frame in both directions.
	bind := func(request []byte) (*dcerpc.ClientConn, error) {
		c, answer := open(t, l.Addr().String(), request)
		require.Equal(t, request[8:12], answer[8:12], "the level")
		return dcerpc.NewClientConn(t.Context(), &conn{Conn: c, r: bufio.NewReader(c), client: c.RemoteAddr()}, iface,
			&dcerpc.Config{Level: dcerpc.LevelInsecureNone, Syntaxes: []ndr.Syntax{ndr.NDR20}})
	}
	for name, account := range map[string]string{"l7_4.17.12_h3user_groups.bin": "h3user",
		"l8_4.22.11_root.bin": "root", "l7_4.17.12_anonymous.bin": ""} {
		cc, err := bind(vector(t, name))
		require.NoError(t, err)
		call := dcerpc.Call{}
		require.NoError(t, cc.Call(t.Context(), &call))
		require.Equal(t, account, string(call.Response))
		require.NoError(t, cc.Close())
	}
	future := vector(t, "l8_4.22.11_root.bin")
	binary.LittleEndian.PutUint32(future[8:], 9)
	binary.LittleEndian.PutUint32(future[12:], 9)
	_, err := bind(future)
	var refused *dcerpc.BindError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, pdu.NakReasonNotSpecified, refused.Reason)
}

var _ net.Listener = (*Listener)(nil)
