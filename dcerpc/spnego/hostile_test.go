package spnego_test

import (
	"bytes"
	"context"
	"encoding/asn1"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
)

type nobody struct{}

func (nobody) Verify(context.Context, *ntlm.Challenge) (*ntlm.Result, error) {
	return nil, ntlm.ErrLogonFailure
}

// hostileAcceptors are NTLM, Kerberos with a keytab of many keys of one type, and SPNEGO around
// both.
func hostileAcceptors(t testing.TB) []dcerpc.Acceptor {
	keys := &krb5.Keytab{}
	for i := range 24 {
		keys = keys.Add(krb5.Principal{Name: []string{"host", "fs"}, Realm: "R"}, uint32(i),
			krb5.Key{Etype: krb5.AES256SHA1, Value: bytes.Repeat([]byte{byte(i + 1)}, 32)})
	}
	kerberos, err := krb5.NewAcceptor(&krb5.AcceptorConfig{Keytab: keys})
	require.NoError(t, err)
	nt, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: nobody{}, ComputerName: "FS1"})
	require.NoError(t, err)
	both, err := spnego.NewAcceptor(kerberos, nt)
	require.NoError(t, err)
	return []dcerpc.Acceptor{kerberos, nt, both}
}

// tlv is one DER element.
func tlv(tag byte, content ...[]byte) []byte {
	b := bytes.Join(content, nil)
	switch n := len(b); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, b...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, b...)
	}
	return append([]byte{tag, 0x82, byte(len(b) >> 8), byte(len(b))}, b...)
}

// apReqOf is an AP-REQ (RFC 4120 section 5.5.1) with a ticket that no key opens.
func apReqOf(names [][]byte, realm string, etype byte, ticket, authenticator int) []byte {
	encrypted := func(n int) []byte {
		return tlv(0x30, tlv(0xA0, tlv(2, []byte{etype})), tlv(0xA1, tlv(2, []byte{1})),
			tlv(0xA2, tlv(4, make([]byte, n))))
	}
	list := make([][]byte, len(names))
	for i, n := range names {
		list[i] = tlv(0x1B, n)
	}
	tkt := tlv(0x61, tlv(0x30,
		tlv(0xA0, tlv(2, []byte{5})), tlv(0xA1, tlv(0x1B, []byte(realm))),
		tlv(0xA2, tlv(0x30, tlv(0xA0, tlv(2, []byte{2})), tlv(0xA1, tlv(0x30, list...)))),
		tlv(0xA3, encrypted(ticket))))
	return tlv(0x6E, tlv(0x30, tlv(0xA0, tlv(2, []byte{5})), tlv(0xA1, tlv(2, []byte{14})),
		tlv(0xA2, tlv(3, make([]byte, 5))),
		tlv(0xA3, tkt), tlv(0xA4, encrypted(authenticator))))
}

func offerOf(t testing.TB, n int, oid asn1.ObjectIdentifier) []byte {
	tok := &spnego.NegTokenInit{MechToken: []byte("x")}
	for range n {
		tok.MechTypes = append(tok.MechTypes, oid)
	}
	b, err := tok.AppendBinary(nil)
	require.NoError(t, err)
	return b
}

// hostileTokens are first tokens of nearly the size of a bind, in all sorts of forms.
func hostileTokens(t testing.TB) map[string]struct {
	typ   dcerpc.AuthType
	token []byte
} {
	one := [][]byte{[]byte("host")}
	many := func(n int, of []byte) [][]byte {
		l := make([][]byte, n)
		for i := range l {
			l[i] = of
		}
		return l
	}
	type first = struct {
		typ   dcerpc.AuthType
		token []byte
	}
	kerberos := asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}
	inner := tlv(0x60, []byte{6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x12, 1, 2, 2, 1, 0},
		apReqOf(one, "R", 18, 60000, 64))
	wrapped, err := (&spnego.NegTokenInit{MechTypes: []asn1.ObjectIdentifier{kerberos},
		MechToken: inner}).AppendBinary(nil)
	require.NoError(t, err)
	tokens := map[string]first{
		"a large ticket":               {dcerpc.AuthKerberos, apReqOf(one, "R", 18, 60000, 64)},
		"a large authenticator":        {dcerpc.AuthKerberos, apReqOf(one, "R", 18, 200, 60000)},
		"a service of many names":      {dcerpc.AuthKerberos, apReqOf(many(29000, nil), "R", 18, 200, 64)},
		"a service of some names":      {dcerpc.AuthKerberos, apReqOf(many(900, nil), "R", 18, 60000, 64)},
		"a long realm":                 {dcerpc.AuthKerberos, apReqOf(one, strings.Repeat("R", 60000), 18, 200, 64)},
		"another type of key":          {dcerpc.AuthKerberos, apReqOf(one, "R", 17, 60000, 64)},
		"deep nesting":                 {dcerpc.AuthKerberos, bytes.Repeat([]byte{0x6E, 0x82, 0x20, 0}, 15000)},
		"many unknown mechanisms":      {dcerpc.AuthSPNEGO, offerOf(t, 10000, asn1.ObjectIdentifier{1, 2, 127, 127})},
		"many short mechanisms":        {dcerpc.AuthSPNEGO, offerOf(t, 20000, asn1.ObjectIdentifier{1, 2})},
		"a large ticket within SPNEGO": {dcerpc.AuthSPNEGO, wrapped},
		"zeros":                        {dcerpc.AuthSPNEGO, make([]byte, 60000)},
		"NTLM":                         {dcerpc.AuthNTLM, append([]byte("NTLMSSP\x00\x01\x00\x00\x00\x37\x82\x08\xe2"), make([]byte, 60000)...)},
	}
	for _, fill := range []string{"a", "\x00", "\xff", `\`, "\u00ad"} {
		name := []byte(strings.Repeat(fill, 60000/len(fill)))
		tokens[fmt.Sprintf("a long name of %q", fill)] = first{dcerpc.AuthKerberos,
			apReqOf([][]byte{name}, "R", 18, 64, 64)}
		tokens[fmt.Sprintf("a name of %q", fill)] = first{dcerpc.AuthKerberos,
			apReqOf([][]byte{name[:1800]}, "R", 18, 64, 64)}
	}
	return tokens
}

// TestFirstTokenCosts measures what a first token costs that is refused: less than 1 ms of CPU,
// whatever its form.
func TestFirstTokenCosts(t *testing.T) {
	acceptors := hostileAcceptors(t)
	for name, first := range hostileTokens(t) {
		t.Run(name, func(t *testing.T) {
			best := time.Hour
			for range 9 {
				for _, a := range acceptors {
					if a.AuthType() != first.typ {
						continue
					}
					c, err := a.NewContext(dcerpc.LevelPrivacy)
					require.NoError(t, err)
					begin := time.Now()
					_, _, err = c.Step(t.Context(), first.token)
					best = min(best, time.Since(begin))
					require.Error(t, err)
				}
			}
			t.Logf("%v for %d bytes", best, len(first.token))
			require.Less(t, best, time.Millisecond*raceFactor)
		})
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Len()
}

func hostileServer(t testing.TB, log io.Writer) (*dcerpctest.Listener, dcerpc.SyntaxID) {
	iface := dcerpc.SyntaxID{UUID: uuid.MustParse("0e0c0a08-0604-0200-8899-aabbccddeeff"), Major: 1}
	srv := &dcerpc.Server{Acceptors: hostileAcceptors(t), Logger: slog.New(slog.NewTextHandler(log, nil))}
	srv.Handle(iface, nothing{}, &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone})
	l := dcerpctest.Listen()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-served, net.ErrClosed)
	})
	return l, iface
}

type nothing struct{}

func (nothing) ServeRPC(context.Context, *dcerpc.Call) error { return nil }

func hostileBind(iface dcerpc.SyntaxID, auth pdu.Auth) *pdu.Bind {
	return &pdu.Bind{
		Header:  pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 1},
		MaxXmit: 5840, MaxRecv: 5840,
		Contexts: []pdu.ContextElement{
			{Abstract: iface, Transfer: []pdu.SyntaxID{pdu.NDR20()}},
			{ID: 1, Abstract: iface, Transfer: []pdu.SyntaxID{pdu.FeatureSyntax(pdu.SecurityContextMultiplexing)}},
		},
		Auth: auth,
	}
}

// TestRefusedBindsInTheLog writes little of a refused bind into the log, and next to nothing of
// those that follow.
func TestRefusedBindsInTheLog(t *testing.T) {
	for name, first := range hostileTokens(t) {
		t.Run(name, func(t *testing.T) {
			var log lockedBuffer
			l, iface := hostileServer(t, &log)
			for range 20 {
				conn, err := l.DialFrom(t.Context(), "10.0.0.9:1")
				require.NoError(t, err)
				p := dcerpctest.NewPeer(conn)
				require.NoError(t, p.Send(hostileBind(iface,
					pdu.Auth{Type: uint8(first.typ), Level: 6, Token: first.token})))
				nak, err := p.Receive()
				require.NoError(t, err)
				require.Equal(t, pdu.NakInvalidChecksum, nak.(*pdu.BindNak).Reason)
				require.NoError(t, conn.Close())
			}
			require.NotZero(t, log.len())
			require.Less(t, log.len(), 1500, "the text of 256 bytes, quoted")
		})
	}
}

// TestUnfinishedContexts opens as many security contexts as an anonymous peer may, each with an
// offer as long as is taken.
func TestUnfinishedContexts(t *testing.T) {
	l, iface := hostileServer(t, io.Discard)
	tok := &spnego.NegTokenInit{}
	for i := range 130 {
		tok.MechTypes = append(tok.MechTypes, asn1.ObjectIdentifier{1, 2, 1000000 + i})
	}
	tok.MechTypes = append(tok.MechTypes, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 10})
	offer, err := tok.AppendBinary(nil)
	require.NoError(t, err)
	measure := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc + m.StackInuse)
	}
	before := measure()
	const conns = 32
	var all []*dcerpctest.Peer
	for range conns {
		conn, err := l.Dial(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		p := dcerpctest.NewPeer(conn)
		require.NoError(t, p.Send(hostileBind(iface, pdu.Auth{})))
		_, err = p.Receive()
		require.NoError(t, err)
		for k := range uint32(3) {
			require.NoError(t, p.Send(&pdu.AlterContext{
				Header:   pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 10 + k},
				Contexts: []pdu.ContextElement{{Abstract: iface, Transfer: []pdu.SyntaxID{pdu.NDR20()}}},
				Auth:     pdu.Auth{Type: uint8(dcerpc.AuthSPNEGO), Level: 6, ContextID: k + 1, Token: offer},
			}))
			got, err := p.Receive()
			require.NoError(t, err)
			if k < 2 {
				require.IsType(t, &pdu.AlterContextResp{}, got)
			}
			if k == 1 && len(all) < conns-1 {
				break // the last one alone opens a third
			}
			if k == 2 {
				require.Equal(t, pdu.FaultProtocolError, got.(*pdu.Fault).Status)
			}
		}
		all = append(all, p)
	}
	each := (measure() - before) / conns
	t.Logf("%d bytes for each, with the client's end", each)
	require.Less(t, each, 40<<10)
	runtime.KeepAlive(all)
}
