package smbpipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A pipeListener serves a pipe of this machine by the system, in message mode.
type pipeListener struct {
	path  *uint16
	name  string
	limit uint32 // of instances

	mu      sync.Mutex
	closed  bool
	waiting windows.Handle // that Accept has
}

func listenPipe(t *testing.T, limit uint32) *pipeListener {
	name := fmt.Sprintf("fsrvp-test-%d-%s", os.Getpid(), uuid.NewString())
	path, err := windows.UTF16PtrFromString(`\\.\pipe\` + name)
	require.NoError(t, err)
	return &pipeListener{path: path, name: name, limit: limit}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, net.ErrClosed
	}
	h, err := windows.CreateNamedPipe(l.path, windows.PIPE_ACCESS_DUPLEX|windows.FILE_FLAG_OVERLAPPED,
		windows.PIPE_TYPE_MESSAGE|windows.PIPE_READMODE_MESSAGE, l.limit, 1<<16, 1<<16, 0, nil)
	l.waiting = h
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	err = connectPipe(h)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = 0
	if err != nil || l.closed {
		windows.CloseHandle(h)
		return nil, net.ErrClosed
	}
	return &pipeConn{systemPipe: newSystemPipe(os.NewFile(uintptr(h), l.name), l.name), h: h}, nil
}

// connectPipe waits for a client.
func connectPipe(h windows.Handle) error {
	event, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(event)
	o := &windows.Overlapped{HEvent: event | 1} // not to be seen by Go's runtime, which may have the handle
	err = windows.ConnectNamedPipe(h, o)
	if errors.Is(err, windows.ERROR_IO_PENDING) {
		var n uint32
		err = windows.GetOverlappedResult(h, o, &n, true)
	}
	if errors.Is(err, windows.ERROR_PIPE_CONNECTED) {
		return nil
	}
	return err
}

func (l *pipeListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.waiting != 0 {
		windows.CancelIoEx(l.waiting, nil)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{path: l.name} }

// A pipeConn is the server's end.
type pipeConn struct {
	*systemPipe
	h windows.Handle
}

// accept returns the next server's end.
func (l *pipeListener) accept(t *testing.T) <-chan *pipeConn {
	out := make(chan *pipeConn, 1)
	go func() {
		defer close(out)
		if c, err := l.Accept(); err == nil {
			out <- c.(*pipeConn)
		}
	}()
	return out
}

func (l *pipeListener) dial(ctx context.Context, d *SystemDialer) (net.Conn, error) {
	for try := 0; ; try++ {
		c, err := d.DialRPC(ctx, ".", `\PIPE\`+l.name)
		if !errors.Is(err, fs.ErrNotExist) || try == 500 {
			return c, err
		}
		time.Sleep(time.Millisecond) // Accept has not made it yet
	}
}

func systemPair(t *testing.T, d *SystemDialer) (client net.Conn, server *pipeConn) {
	l := listenPipe(t, windows.PIPE_UNLIMITED_INSTANCES)
	accepted := l.accept(t)
	client, err := l.dial(t.Context(), d)
	require.NoError(t, err)
	server = <-accepted
	require.NotNil(t, server)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func echoID() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("0e0c0a08-0604-0200-8899-aabbccddeeff"), Major: 1}
}

type echoHandler struct{}

func (echoHandler) ServeRPC(ctx context.Context, call *dcerpc.Call) error {
	if call.Opnum == 1 {
		<-ctx.Done()
		return ctx.Err()
	}
	call.Response = append(call.Response, call.Stub...)
	return nil
}

// TestSystemPipeRPC makes calls of all sizes, several at once, and ends some.
func TestSystemPipeRPC(t *testing.T) {
	mech := &dcerpctest.Mechanism{Account: "backup"}
	srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{mech.Acceptor()}, Logger: slog.New(slog.DiscardHandler)}
	srv.Handle(echoID(), echoHandler{}, nil)
	l := listenPipe(t, windows.PIPE_UNLIMITED_INSTANCES)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	defer func() {
		srv.Close()
		<-done
	}()
	for _, fragment := range []int{0, 4280, 65535} {
		conn, err := l.dial(t.Context(), new(SystemDialer))
		require.NoError(t, err)
		require.Equal(t, "ncacn_np", conn.RemoteAddr().Network())
		cc, err := dcerpc.NewClientConn(t.Context(), conn, echoID(), &dcerpc.Config{
			Auth: mech.Initiator(), Syntaxes: []ndr.Syntax{ndr.NDR20}, MaxFragment: fragment,
		})
		require.NoError(t, err)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for _, n := range []int{0, 1, 100, 5840, 20000, 200000} {
					call := dcerpc.Call{Syntax: cc.Syntax(), Stub: make([]byte, n+i)}
					if err := cc.Call(t.Context(), &call); err != nil || len(call.Response) < n+i {
						t.Errorf("%d bytes: %d, %v", n, len(call.Response), err)
					}
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		call := dcerpc.Call{Opnum: 1, Syntax: cc.Syntax()}
		require.ErrorIs(t, cc.Call(ctx, &call), context.DeadlineExceeded)
		cancel()
		wg.Wait()
		cc.Close()
		require.ErrorIs(t, cc.Call(t.Context(), &dcerpc.Call{Syntax: cc.Syntax()}), net.ErrClosed)
	}
}

// fragmentOf is a PDU of n bytes, as far as its header tells.
func fragmentOf(t *testing.T, n int) []byte {
	b, err := (&pdu.Request{Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, DataRep: pdu.LittleEndian,
		CallID: 1}, Stub: make([]byte, n-24)}).AppendBinary(nil)
	require.NoError(t, err)
	require.Len(t, b, n)
	return b
}

// TestSystemPipeMessages: whatever the pieces that are written, each PDU is one message, and
// whatever the pieces that are read, nothing is lost.
func TestSystemPipeMessages(t *testing.T) {
	client, server := systemPair(t, new(SystemDialer))
	a, b := fragmentOf(t, 100), fragmentOf(t, 60000)
	go func() {
		all := append(append([]byte(nil), a...), b...)
		for len(all) > 0 {
			n := min(len(all), 7001)
			client.Write(all[:n])
			all = all[n:]
		}
	}()
	buf := make([]byte, 1<<16)
	n, err := server.f.Read(buf) // a message
	require.NoError(t, err)
	require.Equal(t, a, buf[:n])
	n, err = server.f.Read(buf)
	require.NoError(t, err)
	require.Equal(t, b, buf[:n])
	go server.Write(b)
	got := make([]byte, len(b))
	for have := 0; have < len(b); {
		n, err := client.Read(got[have:min(len(b), have+999)])
		require.NoError(t, err)
		have += n
	}
	require.Equal(t, b, got)
}

func TestSystemPipeDeadlines(t *testing.T) {
	client, server := systemPair(t, new(SystemDialer))
	buf := make([]byte, 100)
	require.NoError(t, client.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, err := client.Read(buf)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	go func() {
		time.Sleep(20 * time.Millisecond)
		client.SetReadDeadline(time.Unix(1, 0)) // works on a Read that waits
	}()
	require.NoError(t, client.SetReadDeadline(time.Time{}))
	_, err = client.Read(buf)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, client.SetDeadline(time.Time{}))
	a := fragmentOf(t, 100)
	_, err = server.Write(a)
	require.NoError(t, err)
	n, err := client.Read(buf)
	require.NoError(t, err, "a Read after a deadline")
	require.Equal(t, a, buf[:n])

	// A server that does not read fills the pipe.
	require.NoError(t, client.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	b, written := fragmentOf(t, 60000), 0
	for err = nil; err == nil; {
		n, err = client.Write(b)
		written += n
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Zero(t, written%len(b), "a part of a message is on its way")
	t.Logf("%d messages fitted", written/len(b))
	require.NoError(t, client.SetWriteDeadline(time.Time{}))
	go client.Write(b)
	for range written/len(b) + 1 {
		got := make([]byte, len(b))
		_, err := io.ReadFull(server, got)
		require.NoError(t, err)
		require.Equal(t, b, got)
	}
}

func TestSystemPipeEnds(t *testing.T) {
	t.Run("own Close", func(t *testing.T) {
		client, _ := systemPair(t, new(SystemDialer))
		time.AfterFunc(20*time.Millisecond, func() { client.Close() })
		_, err := client.Read(make([]byte, 10))
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = client.Write(fragmentOf(t, 100))
		require.ErrorIs(t, err, net.ErrClosed)
		require.ErrorIs(t, client.Close(), net.ErrClosed)
	})
	t.Run("the server's", func(t *testing.T) {
		client, server := systemPair(t, new(SystemDialer))
		_, err := server.Write(fragmentOf(t, 100))
		require.NoError(t, err)
		require.NoError(t, server.Close())
		got, err := io.ReadAll(client)
		require.NoError(t, err, "the end of the server's is io.EOF")
		require.Len(t, got, 100, "what was sent before the end")
		_, err = client.Write(fragmentOf(t, 100))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	})
}

func TestSystemPipeOpening(t *testing.T) {
	d := new(SystemDialer)
	_, err := d.DialRPC(t.Context(), ".", "fsrvp-nobody")
	t.Log(err)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, `\\.\pipe\fsrvp-nobody`)
	require.ErrorContains(t, err, "the server does not offer this service")

	l := listenPipe(t, 1)
	accepted := l.accept(t)
	first, err := l.dial(t.Context(), d)
	require.NoError(t, err)
	server := <-accepted
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = d.DialRPC(ctx, ".", l.name)
	t.Log(err)
	require.ErrorIs(t, err, context.DeadlineExceeded, "all instances are in use")
	require.Equal(t, smb2.StatusPipeNotAvailable, smb2.StatusOf(err))
	_, err = (&SystemDialer{PipeTimeout: 150 * time.Millisecond}).DialRPC(t.Context(), ".", l.name)
	require.Equal(t, smb2.StatusPipeNotAvailable, smb2.StatusOf(err))

	next := make(chan error, 1)
	go func() {
		c, err := d.DialRPC(t.Context(), ".", l.name)
		if err == nil {
			c.Close()
		}
		next <- err
	}()
	first.Close()
	require.NoError(t, windows.DisconnectNamedPipe(server.h))
	require.NoError(t, connectPipe(server.h))
	require.NoError(t, <-next, "an instance that is free again")
	require.NoError(t, server.Close())
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.DialRPC(cancelled, ".", l.name)
	require.ErrorIs(t, err, context.Canceled)
}

// TestSystemPipeImpersonation: the server may act as the client, or only learn who it is.
func TestSystemPipeImpersonation(t *testing.T) {
	for _, identify := range []bool{false, true} {
		client, server := systemPair(t, &SystemDialer{Identify: identify})
		_, err := client.Write(fragmentOf(t, 100))
		require.NoError(t, err)
		_, err = server.Read(make([]byte, 200)) // a server may impersonate once it has read
		require.NoError(t, err)
		level := impersonationLevel(t, server.h)
		if identify && windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil {
			t.Log("Wine's pipes do not take over the level")
		} else if identify {
			require.EqualValues(t, windows.SecurityIdentification, level)
		} else {
			require.EqualValues(t, windows.SecurityImpersonation, level)
		}
	}
}

func impersonationLevel(t *testing.T, pipe windows.Handle) (level uint32) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	proc := windows.NewLazySystemDLL("advapi32.dll").NewProc("ImpersonateNamedPipeClient")
	ok, _, err := proc.Call(uintptr(pipe))
	require.NotZero(t, ok, err)
	defer windows.RevertToSelf()
	var token windows.Token
	require.NoError(t, windows.OpenThreadToken(windows.CurrentThread(), windows.TOKEN_QUERY, true, &token))
	defer token.Close()
	var n uint32
	require.NoError(t, windows.GetTokenInformation(token, windows.TokenImpersonationLevel,
		(*byte)(unsafe.Pointer(&level)), 4, &n))
	return level
}
