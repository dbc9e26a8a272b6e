package dcerpc_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// holdRequest sends all fragments of a request but the last.
func holdRequest(p *dcerpctest.Peer, size int) error {
	for flags := pdu.FirstFrag; size > 0; flags = 0 {
		n := min(size, 5000)
		size -= n
		if err := p.Send(&pdu.Request{Header: pdu.Header{Flags: flags, CallID: 2}, Opnum: 1, Stub: zeros(n)}); err != nil {
			return err
		}
	}
	return nil
}

// TestHeldBytes has peers without security that hold requests of 4 MiB each, of an interface that
// takes such calls and of mgmt, which every server has. A caller that authenticates notices
// nothing, and nothing of the requests is kept.
func TestHeldBytes(t *testing.T) {
	for name, iface := range map[string]dcerpc.SyntaxID{"own": echoInterface(), "mgmt": mgmtInterface()} {
		t.Run(name, func(t *testing.T) {
			mech := &dcerpctest.Mechanism{Account: "backup"}
			srv := echoServer(mech, &echo{})
			l := serve(t, srv)
			before := heap()
			var hostile []*dcerpctest.Peer
			for range 64 {
				conn, err := l.DialFrom(t.Context(), "hostile:1")
				require.NoError(t, err)
				t.Cleanup(func() { conn.Close() })
				p := dcerpctest.NewPeer(conn)
				require.NoError(t, p.Send(bind(offer(element(0, iface)))))
				_, err = p.Receive()
				require.NoError(t, err)
				require.NoError(t, holdRequest(p, 4<<20-5000))
				hostile = append(hostile, p)
			}
			require.Less(t, heap()-before, 16<<20)
			cc := dial(t, l, &dcerpc.Config{Auth: mech.Initiator()})
			_, err := invoke(t.Context(), cc, opEcho, zeros(1<<20))
			require.NoError(t, err)
			// Refused only now, since it might have been ended otherwise.
			require.NoError(t, hostile[63].Send(&pdu.Request{Header: pdu.Header{Flags: pdu.LastFrag, CallID: 2}, Opnum: 1}))
			got, err := hostile[63].Receive()
			require.NoError(t, err)
			require.Equal(t, pdu.FaultServerTooBusy, got.(*pdu.Fault).Status)
		})
	}
}

// TestPoolOfStrangers has peers whose unfinished PDUs and requests use up what all strangers share:
// those of the address that holds most go, and the others stay.
func TestPoolOfStrangers(t *testing.T) {
	srv := echoServer(nil, &echo{})
	srv.Limits.UnauthenticatedBytes = 1 << 20
	srv.Limits.UnauthenticatedPerAddress = 120
	l := serve(t, srv)
	modest, err := connectFrom(t, l, "modest:1")
	require.NoError(t, err)
	require.NoError(t, holdRequest(modest, 10000))
	var hostile []*dcerpctest.Peer
	for i := range 120 {
		conn, err := l.DialFrom(t.Context(), dcerpctest.Addr(fmt.Sprint("hostile:", i)))
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		p := dcerpctest.NewPeer(conn)
		b := zeros(15000) // of a bind of 65535 bytes
		copy(b, []byte{5, 0, 11, 3, 0x10, 0, 0, 0, 0xFF, 0xFF, 0, 0, 1, 0, 0, 0})
		require.NoError(t, p.SendBytes(b))
		hostile = append(hostile, p)
	}
	gone := 0
	for deadline := time.Now().Add(5 * time.Second); gone == 0 && time.Now().Before(deadline); {
		for _, p := range hostile {
			if ended(p) {
				gone++
			}
		}
	}
	require.NotZero(t, gone)
	require.False(t, ended(modest))
	require.False(t, ended(hostile[63]), "the newest stays")
}

// TestShares has an account that holds all that it may: it is refused more, and others are not.
func TestShares(t *testing.T) {
	greedy, other := &dcerpctest.Mechanism{Account: "greedy"}, &dcerpctest.Mechanism{Account: "backup", Type: dcerpc.AuthKerberos}
	srv := echoServer(greedy, &echo{})
	srv.Acceptors = append(srv.Acceptors, other.Acceptor())
	srv.Limits.HeldBytes = 1 << 20
	l := serve(t, srv)
	r := &raw{t: t, setup: &setup{mech: *greedy}, listener: l}
	var last *rawSecurity
	send := func(flags pdu.Flags, n int) {
		p := request(2, opEcho, zeros(n))
		p.Flags = flags
		r.sendProtected(last, p)
	}
	for range 4 { // each holds a quarter
		r.connectFrom("greedy")
		last = r.securely(dcerpc.LevelIntegrity)
		r.aliveSecurely(last)
		for i := range 256 << 10 / 5000 {
			send(map[bool]pdu.Flags{true: pdu.FirstFrag}[i == 0], 5000)
		}
	}
	send(pdu.LastFrag, 1)
	r.fault(2, 0, pdu.FaultServerTooBusy, dne)
	r.aliveSecurely(last)
	cc := dial(t, l, &dcerpc.Config{Auth: other.Initiator()})
	for range 3 {
		_, err := invoke(t.Context(), cc, opEcho, zeros(200<<10))
		require.NoError(t, err)
	}
}

// heap returns the bytes of the heap that are in use.
func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
