package sambapipe

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A tcpPair is a connection of an SMB client with smbd, both of which this process is.
type tcpPair struct{ client, smbd *net.TCPConn }

// smbPort listens as smbd does; connect connects a client.
func smbPort(t *testing.T) (connect func() tcpPair) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return func() tcpPair {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		s, err := l.Accept()
		require.NoError(t, err)
		t.Cleanup(func() {
			c.Close()
			s.Close()
		})
		return tcpPair{c.(*net.TCPConn), s.(*net.TCPConn)}
	}
}

func (p tcpPair) channel() channel {
	return channel{p.smbd.LocalAddr().(*net.TCPAddr).AddrPort(), p.smbd.RemoteAddr().(*net.TCPAddr).AddrPort()}
}

// close ends a connection as smbd does when its client is gone: the handle of the pipe stays open.
func (p tcpPair) close(t *testing.T) {
	t.Helper()
	require.NoError(t, p.client.Close())
	_, err := p.smbd.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, p.smbd.Close())
}

// handOver is a hand-over of a client that has connected by p.
func (p tcpPair) handOver(t *testing.T) []byte {
	t.Helper()
	r, err := parseRequest(vector(t, "l8_4.22.11_root.bin"))
	require.NoError(t, err)
	c := p.channel()
	text := func(a netip.Addr) ndr.NullString { return ndr.NullString{String: a.String(), Valid: true} }
	r.clientAddr, r.clientPort = text(c.remote.Addr()), c.remote.Port()
	r.serverAddr, r.serverPort = text(c.local.Addr()), c.local.Port()
	return r.encode()
}

func openOwnDiag(t *testing.T) *diag {
	t.Helper()
	d, err := openDiag("/proc/self/ns/net")
	require.NoError(t, err)
	t.Cleanup(d.close)
	return d
}

func TestDiag(t *testing.T) {
	d := openOwnDiag(t)
	connect := smbPort(t)
	a, b := connect(), connect()
	found, err := d.find(a.channel(), anyCookie)
	require.NoError(t, err)
	require.EqualValues(t, stateEstablished, found.state)
	own, err := sockets(int32(os.Getpid()))
	require.NoError(t, err)
	require.True(t, own[found.inode])

	again, err := d.find(a.channel(), found.cookie)
	require.NoError(t, err)
	require.Equal(t, found, again)
	wrong := found.cookie
	wrong[0]++
	_, err = d.find(a.channel(), wrong)
	require.ErrorIs(t, err, errNoSocket)

	all, err := d.established(a.channel().local.Port())
	require.NoError(t, err)
	var channels []channel
	for _, s := range all {
		channels = append(channels, s.channel)
	}
	require.ElementsMatch(t, []channel{a.channel(), b.channel()}, channels)

	require.NoError(t, b.client.CloseWrite())
	_, err = b.smbd.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	half, err := d.find(b.channel(), anyCookie)
	require.NoError(t, err)
	require.NotEqualValues(t, stateEstablished, half.state)

	// The port has a listener still, which is not what was asked for.
	nobody := a.channel()
	a.close(t)
	_, err = d.find(nobody, anyCookie)
	require.ErrorIs(t, err, errNoSocket)

	d.close()
	_, err = d.find(b.channel(), anyCookie)
	require.ErrorIs(t, err, os.ErrClosed)
}

// TestDiagIPv6 finds a connection between addresses of version 6.
func TestDiagIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6: ", err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	s, err := l.Accept()
	require.NoError(t, err)
	defer s.Close()
	want := channel{s.LocalAddr().(*net.TCPAddr).AddrPort(), s.RemoteAddr().(*net.TCPAddr).AddrPort()}
	d := openOwnDiag(t)
	found, err := d.find(want, anyCookie)
	require.NoError(t, err)
	require.Equal(t, want, found.channel)
	all, err := d.established(want.local.Port())
	require.NoError(t, err)
	require.Equal(t, []tcpSocket{found}, all)
}

func TestDiagAnswers(t *testing.T) {
	d := &diag{seq: 7}
	message := func(typ uint16, seq uint32, body ...byte) []byte {
		b := []byte{byte(16 + len(body)), 0, 0, 0, byte(typ), byte(typ >> 8), 0, 0, byte(seq), 0, 0, 0, 0, 0, 0, 0}
		return append(b, body...)
	}
	none := func(tcpSocket) { t.Error("an answer was taken") }
	for name, b := range map[string][]byte{
		"short answer":    message(sockDiagByFamily, 7, make([]byte, 71)...),
		"short error":     message(2, 7, 1, 2, 3),
		"length of 0":     append([]byte{0, 0, 0, 0}, make([]byte, 12)...),
		"length too long": append([]byte{17, 0, 0, 0}, make([]byte, 12)...),
	} {
		_, err := d.takeAll(b, false, none)
		require.Error(t, err, name)
	}
	done, err := d.takeAll(append(message(sockDiagByFamily, 6, make([]byte, 72)...),
		message(2, 7, 254, 255, 255, 255)...), false, none)
	require.True(t, done)
	require.ErrorIs(t, err, errNoSocket)
	done, err = d.takeAll(message(2, 7, 255, 255, 255, 255), false, none)
	require.True(t, done)
	require.ErrorContains(t, err, "operation not permitted")
	done, err = d.takeAll(message(3, 7, 0, 0, 0, 0), true, none)
	require.True(t, done)
	require.NoError(t, err)
	done, err = d.takeAll(nil, true, none)
	require.False(t, done)
	require.NoError(t, err)
}

// TestClientOfSeveralConnections goes by the rule of multichannel: a client is there as long as
// smbd's process for it has a connection.
func TestClientOfSeveralConnections(t *testing.T) {
	d := openOwnDiag(t)
	connect := smbPort(t)
	first, second := connect(), connect()
	socket, err := d.find(first.channel(), anyCookie)
	require.NoError(t, err)
	cl := &client{smbd: int32(os.Getpid()), diag: d, socket: socket}
	require.False(t, cl.gone())
	first.close(t)
	require.False(t, cl.gone())
	require.Equal(t, second.channel(), cl.socket.channel)
	require.False(t, cl.gone())
	second.close(t)
	require.False(t, cl.gone(), "another connection may be on its way to the process")
	third := connect()
	require.False(t, cl.gone())
	require.Equal(t, third.channel(), cl.socket.channel)
	third.close(t)
	require.False(t, cl.gone())
	require.True(t, cl.gone())

	// Another process has the connections: nothing is known of a client whose process cannot be
	// seen.
	fourth := connect()
	socket, err = d.find(fourth.channel(), anyCookie)
	require.NoError(t, err)
	cl = &client{smbd: -1, diag: d, socket: socket}
	fourth.close(t)
	for range 3 {
		require.False(t, cl.gone())
	}
}

// TestClientGone has a client go while smbd keeps the handle open, as Samba 4.22 does while a call
// waits.
func TestClientGone(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, p tcpPair){
		"smbd has closed": func(t *testing.T, p tcpPair) { p.close(t) },
		"smbd has not": func(t *testing.T, p tcpPair) {
			require.NoError(t, p.client.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			connect := smbPort(t)
			leaving, staying := connect(), connect()
			logger, log := newLog()
			dir := t.TempDir() + "/ncalrpc"
			l, err := listen(&Config{Dir: dir, LibexecDirs: []string{}, Logger: logger}, uint32(os.Geteuid()))
			require.NoError(t, err)
			defer l.Close()
			smbd, _ := open(t, l.Addr().String(), leaving.handOver(t))
			c := accept(t, l)
			require.Equal(t, leaving.client.LocalAddr().String(), c.RemoteAddr().String())
			_, err = smbd.Write([]byte("\x01\x00a"))
			require.NoError(t, err)
			b := make([]byte, 10)
			n, err := c.Read(b)
			require.NoError(t, err)
			require.Equal(t, "a", string(b[:n]))

			// This process is smbd's for both clients. It keeps the connection that the hand-over
			// does not name.
			require.NoError(t, staying.smbd.Close())
			begun := time.Now()
			leave(t, leaving)
			_, err = c.Read(b)
			require.ErrorIs(t, err, io.EOF)
			require.Less(t, time.Since(begun), time.Minute)
			_, err = c.Write([]byte("late")) // smbd still takes what is written
			require.NoError(t, err)
			answer := make([]byte, 6)
			_, err = io.ReadFull(smbd, answer)
			require.NoError(t, err)
			require.Equal(t, "\x04\x00late", string(answer))
			require.NoError(t, c.Close())
			require.Empty(t, log.String())
		})
	}
}

// TestClientGoneEndsCalls has a dcerpc.Server end the contexts of its calls with the client.
func TestClientGoneEndsCalls(t *testing.T) {
	iface := dcerpc.SyntaxID{UUID: [16]byte{1, 2, 3}, Major: 1}
	begun, ended := make(chan struct{}), make(chan error, 1)
	srv := &dcerpc.Server{Logger: slog.New(slog.DiscardHandler)}
	srv.Handle(iface, waitingHandler{begun, ended}, &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone})
	l, _, _ := start(t)
	served := make(chan error)
	go func() { served <- srv.Serve(l) }()
	defer func() {
		require.NoError(t, srv.Close())
		require.Error(t, <-served)
	}()
	p := smbPort(t)()
	smbd, _ := open(t, l.Addr().String(), p.handOver(t))
	cc, err := dcerpc.NewClientConn(t.Context(), reading(smbd).over(smbd), iface,
		&dcerpc.Config{Level: dcerpc.LevelInsecureNone})
	require.NoError(t, err)
	called := make(chan error, 1)
	go func() { called <- cc.Call(t.Context(), &dcerpc.Call{Syntax: cc.Syntax()}) }()
	<-begun
	p.close(t)
	select {
	case err := <-ended:
		require.ErrorIs(t, err, context.Canceled)
	case <-time.After(time.Minute):
		t.Error("the call has not ended")
	}
	<-called
	require.NoError(t, cc.Close())
}

type waitingHandler struct {
	begun chan<- struct{}
	ended chan<- error
}

func (h waitingHandler) ServeRPC(ctx context.Context, _ *dcerpc.Call) error {
	h.begun <- struct{}{}
	<-ctx.Done()
	h.ended <- ctx.Err()
	return ctx.Err()
}

// over has a conn that reads write, and close, too.
func (c *conn) over(inner net.Conn) *conn {
	c.Conn, c.client = inner, inner.RemoteAddr()
	return c
}

// TestUnwatched lets clients be whose connections it cannot see.
func TestUnwatched(t *testing.T) {
	l, log, _ := start(t)
	p := smbPort(t)()
	gone := p.handOver(t)
	p.close(t)
	for _, request := range [][]byte{vector(t, "l7_4.17.12_root.bin"), gone} {
		open(t, l.Addr().String(), request)
		c := accept(t, l)
		require.Empty(t, l.clients.open)
		require.NoError(t, c.Close())
	}
	require.Empty(t, log.String())

	// What is watched is not any more when the handle is closed.
	p = smbPort(t)()
	open(t, l.Addr().String(), p.handOver(t))
	c := accept(t, l)
	l.clients.mu.Lock()
	require.Len(t, l.clients.open, 1)
	require.Len(t, l.clients.spaces, 1)
	l.clients.mu.Unlock()
	require.NoError(t, c.Close())
	require.Empty(t, l.clients.open)
	require.Empty(t, l.clients.spaces)
}
