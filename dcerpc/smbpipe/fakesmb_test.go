package smbpipe

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
)

// Commands of SMB2, in the order of their numbers (MS-SMB2 2.2.1.2).
const (
	cmdNegotiate = iota
	cmdSessionSetup
	cmdLogoff
	cmdTreeConnect
	cmdTreeDisconnect
	cmdCreate
	cmdClose
	cmdFlush
	cmdRead
	cmdWrite
	cmdLock
	cmdIoctl
	cmdCancel
)

const fsctlPipeTransceive = 0x11C017

// An intercept may answer a command in the server's place: with a status, or with what it sends
// itself.
type intercept func(c *fakeConn, cmd uint16, body []byte) (status Status, done bool)

// A fakeServer is an SMB 2.1 server that has pipes and nothing else: signed sessions by NTLM, and
// asynchronous answers.
type fakeServer struct {
	t  testing.TB
	l  net.Listener
	wg sync.WaitGroup

	// pipe serves one handle that a client has opened.
	pipe func(name string, c net.Conn)

	mu       sync.Mutex
	before   intercept
	conns    map[net.Conn]struct{}
	commands []uint16 // that have come
}

const fakePassword = "Passw0rd"

func (s *fakeServer) Verify(_ context.Context, c *ntlm.Challenge) (*ntlm.Result, error) {
	key, ok := c.Check(ntlm.NTHash(fakePassword))
	if !ok {
		return nil, ntlm.ErrLogonFailure
	}
	return &ntlm.Result{SessionBaseKey: key, Identity: dcerpc.Identity{Account: c.User}}, nil
}

func newFakeServer(t testing.TB, pipe func(name string, c net.Conn)) *fakeServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &fakeServer{t: t, l: l, pipe: pipe, conns: map[net.Conn]struct{}{}}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[c] = struct{}{}
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.dropAll()
		s.wg.Wait()
	})
	return s
}

// intercept has f look at all commands from now on; nil ends that.
func (s *fakeServer) intercept(f intercept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// dropAll closes all connections.
func (s *fakeServer) dropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

// count returns how often a command has come.
func (s *fakeServer) count(cmd uint16) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.commands {
		if c == cmd {
			n++
		}
	}
	return n
}

// dialer returns a Dialer for the server.
func (s *fakeServer) dialer() *Dialer {
	_, port, err := net.SplitHostPort(s.l.Addr().String())
	require.NoError(s.t, err)
	d := s.newDialer()
	d.Port = port
	s.t.Cleanup(func() { require.NoError(s.t, d.Close()) })
	return d
}

// newDialer returns a Dialer that does not know yet where the server is.
func (s *fakeServer) newDialer() *Dialer {
	auth, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "D", User: "backup", Password: fakePassword})
	require.NoError(s.t, err)
	return &Dialer{Auth: auth, Dialect: SMB210}
}

// A fakeConn is one connection with one session.
type fakeConn struct {
	s    *fakeServer
	c    net.Conn
	wmu  sync.Mutex
	auth dcerpc.Context
	key  []byte
	head []byte // of the command that an intercept looks at

	mu     sync.Mutex
	files  map[uint64]*fakePipe
	lastID uint64
}

// A fakePipe is an open handle. Its reader goes by messages.
type fakePipe struct {
	c  net.Conn
	mu sync.Mutex
	r  *pdu.Framer
}

func (s *fakeServer) serve(c net.Conn) {
	f := &fakeConn{s: s, c: c, files: map[uint64]*fakePipe{}}
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, p := range f.files {
			p.c.Close()
		}
		c.Close()
	}()
	for {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		cmd := binary.LittleEndian.Uint16(b[12:])
		s.mu.Lock()
		s.commands = append(s.commands, cmd)
		before := s.before
		s.mu.Unlock()
		if before != nil {
			f.head = b[:64]
			if status, done := before(f, cmd, b[64:]); done {
				if status != 0 {
					f.answer(b[:64], status, nil, false)
				}
				continue
			}
		}
		f.handle(cmd, b[:64], b[64:])
	}
}

// answer sends a response, signed once there is a key. An error's body is made here.
func (f *fakeConn) answer(request []byte, status Status, body []byte, async bool) {
	if body == nil {
		body = []byte{9, 0, 0, 0, 0, 0, 0, 0, 0}
	}
	b := make([]byte, 64, 64+len(body))
	copy(b, "\xfeSMB\x40\x00\x01\x00")
	binary.LittleEndian.PutUint32(b[8:], uint32(status))
	copy(b[12:14], request[12:14])
	// credits as they were asked for
	binary.LittleEndian.PutUint16(b[14:], max(1, binary.LittleEndian.Uint16(request[14:])))
	flags := uint32(1)
	copy(b[24:32], request[24:32])
	copy(b[32:48], request[32:48])
	if async {
		flags |= 2
		binary.LittleEndian.PutUint64(b[32:], 77) // AsyncId
	}
	binary.LittleEndian.PutUint64(b[40:], 0x1234) // SessionId
	b = append(b, body...)
	if f.key != nil && status != 0x103 {
		binary.LittleEndian.PutUint32(b[16:], flags|8)
		h := hmac.New(sha256.New, f.key)
		h.Write(b)
		copy(b[48:64], h.Sum(nil))
	} else {
		binary.LittleEndian.PutUint32(b[16:], flags)
	}
	f.send(b)
}

func (f *fakeConn) send(b []byte) {
	f.wmu.Lock()
	defer f.wmu.Unlock()
	_, _ = f.c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
}

func (f *fakeConn) handle(cmd uint16, head, body []byte) {
	le := binary.LittleEndian
	switch cmd {
	case cmdNegotiate:
		out := make([]byte, 65)
		le.PutUint16(out, 65)
		le.PutUint16(out[2:], 1)      // signing enabled
		le.PutUint16(out[4:], 0x0210) // SMB 2.1
		for _, off := range []int{28, 32, 36} {
			le.PutUint32(out[off:], 1<<16)
		}
		le.PutUint16(out[56:], 128)
		f.answer(head, 0, out, false)
	case cmdSessionSetup:
		f.sessionSetup(head, body)
	case cmdLogoff:
		f.answer(head, 0, []byte{4, 0, 0, 0}, false)
	case cmdTreeConnect:
		out := make([]byte, 16)
		out[0], out[2] = 16, 2 // a pipe
		f.answer(head, 0, out, false)
	case cmdCreate:
		f.create(head, body)
	case cmdClose:
		f.mu.Lock()
		id := le.Uint64(body[8:])
		p := f.files[id]
		delete(f.files, id)
		f.mu.Unlock()
		out := make([]byte, 60)
		out[0] = 60
		f.answer(head, 0, out, false)
		p.c.Close()
	case cmdWrite:
		p := f.file(body[16:])
		off, n := le.Uint16(body[2:]), le.Uint32(body[4:])
		data := body[off-64:][:n]
		f.s.wg.Go(func() {
			if _, err := p.c.Write(data); err != nil {
				f.answer(head, smb2.StatusPipeDisconnected, nil, false)
				return
			}
			out := make([]byte, 17)
			out[0] = 17
			le.PutUint32(out[4:], n)
			f.answer(head, 0, out, false)
		})
	case cmdRead:
		p := f.file(body[16:])
		f.s.wg.Go(func() {
			f.read(p, head, func(b []byte) []byte {
				out := make([]byte, 16, 17+len(b))
				out[0], out[2] = 17, 80
				le.PutUint32(out[4:], uint32(len(b)))
				return append(out, b...)
			})
		})
	case cmdIoctl:
		if le.Uint32(body[4:]) != fsctlPipeTransceive {
			f.answer(head, smb2.StatusNotSupported, nil, false)
			return
		}
		p := f.file(body[8:])
		off, n := le.Uint32(body[24:]), le.Uint32(body[28:])
		if _, err := p.c.Write(body[off-64:][:n]); err != nil {
			f.answer(head, smb2.StatusConnDisconnected, nil, false)
			return
		}
		f.s.wg.Go(func() {
			f.read(p, head, func(b []byte) []byte {
				out := make([]byte, 48, 49+len(b))
				out[0] = 49
				copy(out[4:24], body[4:24])
				le.PutUint32(out[32:], 112)
				le.PutUint32(out[36:], uint32(len(b)))
				return append(out, b...)
			})
		})
	case cmdCancel: // what it ends, the CLOSE behind it ends here
	default:
		f.answer(head, smb2.StatusNotSupported, nil, false)
	}
}

func (f *fakeConn) file(id []byte) *fakePipe {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.files[binary.LittleEndian.Uint64(id)]
}

// read answers with the next message of a pipe: pending first, as servers do.
func (f *fakeConn) read(p *fakePipe, head []byte, body func([]byte) []byte) {
	f.answer(head, 0x103, nil, true)
	p.mu.Lock()
	defer p.mu.Unlock()
	_, b, err := p.r.Next()
	if err != nil {
		f.answer(head, smb2.StatusPipeDisconnected, nil, true)
		return
	}
	f.answer(head, 0, body(b), true)
}

func (f *fakeConn) sessionSetup(head, body []byte) {
	if f.auth == nil {
		mech, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: f.s, ComputerName: "FAKE"})
		require.NoError(f.s.t, err)
		a, err := spnego.NewAcceptor(mech)
		require.NoError(f.s.t, err)
		f.auth, err = a.NewContext(dcerpc.LevelPrivacy)
		require.NoError(f.s.t, err)
	}
	off, n := binary.LittleEndian.Uint16(body[12:]), binary.LittleEndian.Uint16(body[14:])
	token, done, err := f.auth.Step(context.Background(), body[off-64:][:n])
	if err != nil {
		f.answer(head, smb2.StatusLogonFailure, nil, false)
		return
	}
	out := make([]byte, 8, 8+len(token))
	out[0] = 9
	binary.LittleEndian.PutUint16(out[4:], 72)
	binary.LittleEndian.PutUint16(out[6:], uint16(len(token)))
	out = append(out, token...)
	if !done {
		f.answer(head, smb2.StatusMoreProcessing, out, false)
		return
	}
	if f.key == nil { // not when the session is logged in again
		f.key = f.auth.(interface{ SessionKey() []byte }).SessionKey()[:16]
	}
	f.auth = nil
	f.answer(head, 0, out, false)
}

func (f *fakeConn) create(head, body []byte) {
	off, n := binary.LittleEndian.Uint16(body[44:]), binary.LittleEndian.Uint16(body[46:])
	var name []byte
	for i := range int(n) / 2 {
		name = append(name, body[int(off)-64+2*i])
	}
	client, server := dcerpctest.Pipe()
	f.mu.Lock()
	f.lastID++
	id := f.lastID
	f.files[id] = &fakePipe{c: client, r: pdu.NewFramer(client, 0)}
	f.mu.Unlock()
	f.s.wg.Go(func() { f.s.pipe(string(name), server) })
	out := make([]byte, 89)
	out[0] = 89
	binary.LittleEndian.PutUint64(out[64:], id)
	f.answer(head, 0, out, false)
}
