package smbpipe

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

func TestPipeName(t *testing.T) {
	for in, want := range map[string]string{
		`\PIPE\FssagentRpc`: "FssagentRpc",
		`\pipe\fssagentrpc`: "fssagentrpc",
		`FssagentRpc`:       "FssagentRpc",
		`pipe\FssagentRpc`:  "FssagentRpc",
		`pipe`:              "pipe",
		`\a\b`:              `a\b`,
		``:                  "",
		`\PIPE\`:            "",
		`\\srv\pipe\x`:      "",
		"a/b":               "",
		"a\x00":             "",
	} {
		got, err := pipeName(in)
		require.Equal(t, want, got, in)
		require.Equal(t, want == "", err != nil, in)
	}
}

func TestSplitUNC(t *testing.T) {
	for in, want := range map[string][2]string{
		`\\fs1\data`:        {"fs1", "data"},
		`\\fs1\data\`:       {"fs1", "data"},
		`//fs1/data@{GUID}`: {"fs1", "data@{GUID}"},
		`\\fs1`:             {},
		`\\fs1\`:            {},
		`\\\data`:           {},
		`\\fs1\data\sub`:    {},
		`fs1\data`:          {},
		``:                  {},
	} {
		server, share, err := smb2.SplitUNC(in)
		if want == [2]string{} {
			require.ErrorContains(t, err, "not a share's name", in)
			continue
		}
		require.NoError(t, err, in)
		require.Equal(t, want, [2]string{server, share}, in)
	}
}

// noPipes is a server whose pipes end at once.
func noPipes(_ string, c net.Conn) { c.Close() }

func dialError(t *testing.T, d *Dialer) *Error {
	t.Helper()
	_, err := d.DialRPC(t.Context(), "127.0.0.1", "Test")
	var e *Error
	require.ErrorAs(t, err, &e)
	t.Log(err)
	return e
}

func TestLoginErrors(t *testing.T) {
	t.Run("wrong password", func(t *testing.T) {
		s := newFakeServer(t, noPipes)
		d := s.dialer()
		var err error
		d.Auth, err = ntlm.NewInitiator(ntlm.Credentials{User: "backup", Password: "wrong"})
		require.NoError(t, err)
		e := dialError(t, d)
		require.Equal(t, smb2.StatusLogonFailure, e.Status)
		require.Equal(t, "cifs/127.0.0.1", e.Target)
		require.ErrorContains(t, e, "check user name and password")
	})
	t.Run("no mechanism", func(t *testing.T) {
		d := newFakeServer(t, noPipes).dialer()
		d.Auth = nil
		require.ErrorContains(t, dialError(t, d), "no Auth")
	})
	t.Run("a mechanism that SPNEGO does not know", func(t *testing.T) { // its tokens go as they are
		d := newFakeServer(t, noPipes).dialer()
		d.Auth = (&dcerpctest.Mechanism{Type: dcerpc.AuthKerberos}).Initiator()
		require.Equal(t, smb2.StatusLogonFailure, dialError(t, d).Status)
	})
	t.Run("mechanism fails", func(t *testing.T) {
		d := newFakeServer(t, noPipes).dialer()
		d.Auth = failing{d.Auth.(*ntlm.Initiator)}
		require.ErrorIs(t, dialError(t, d), errNoTicket)
	})
	t.Run("nobody listens", func(t *testing.T) {
		s := newFakeServer(t, noPipes)
		d := s.dialer()
		s.l.Close()
		e := dialError(t, d)
		require.Equal(t, smb2.OpConnect, e.Op)
		require.ErrorContains(t, e, "TCP 445")
	})
	t.Run("nobody answers", func(t *testing.T) {
		s := newFakeServer(t, noPipes)
		s.intercept(func(*fakeConn, uint16, []byte) (Status, bool) { return 0, true })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := s.dialer().DialRPC(ctx, "127.0.0.1", "Test")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("no such pipe", func(t *testing.T) {
		s := newFakeServer(t, noPipes)
		s.intercept(func(_ *fakeConn, cmd uint16, _ []byte) (Status, bool) {
			return smb2.StatusObjectNameNotFound, cmd == cmdCreate
		})
		e := dialError(t, s.dialer())
		require.ErrorIs(t, e, fs.ErrNotExist)
		require.ErrorContains(t, e, `\\127.0.0.1\pipe\Test`)
		require.ErrorContains(t, e, "File Server VSS Agent Service")
	})
	t.Run("nobody behind the pipe", func(t *testing.T) {
		s := newFakeServer(t, noPipes)
		s.intercept(func(_ *fakeConn, cmd uint16, _ []byte) (Status, bool) {
			return smb2.StatusConnRefused, cmd == cmdCreate
		})
		e := dialError(t, s.dialer())
		require.Equal(t, smb2.StatusConnRefused, e.Status)
		require.ErrorContains(t, e, "the service is not running")
	})
	t.Run("access denied", func(t *testing.T) {
		s := newFakeServer(t, noPipes)
		s.intercept(func(_ *fakeConn, cmd uint16, _ []byte) (Status, bool) {
			return smb2.StatusAccessDenied, cmd == cmdTreeConnect
		})
		e := dialError(t, s.dialer())
		require.ErrorIs(t, e, fs.ErrPermission)
		require.ErrorContains(t, e, `\\127.0.0.1\IPC$`)
	})
	t.Run("no encryption", func(t *testing.T) {
		d := newFakeServer(t, noPipes).dialer()
		d.Encrypt = true
		require.ErrorIs(t, dialError(t, d), smb2.ErrNotEncrypted)
	})
	t.Run("another dialect", func(t *testing.T) {
		d := newFakeServer(t, noPipes).dialer()
		d.Dialect = SMB311
		require.Error(t, dialError(t, d))
	})
}

var errNoTicket = errors.New("no ticket")

// failing is a mechanism without its first token.
type failing struct{ *ntlm.Initiator }

func (failing) NewContext(string, dcerpc.AuthLevel) (dcerpc.Context, error) { return nil, errNoTicket }

func TestDialerClose(t *testing.T) {
	rpc := newRPCServer(t)
	s := newFakeServer(t, rpc.pipe)
	d := s.dialer()
	cc, _ := bind(t, d, nil)
	done := make(chan error)
	go func() { done <- cc.Call(t.Context(), &dcerpc.Call{Opnum: opWait}) }()
	<-rpc.waiting
	require.NoError(t, d.Close())
	require.ErrorIs(t, <-done, net.ErrClosed)
	<-rpc.ended
	_, err := d.DialRPC(t.Context(), "127.0.0.1", "Test")
	require.ErrorIs(t, err, net.ErrClosed)
	_, _, err = d.OpenShare(t.Context(), `\\127.0.0.1\data`)
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, d.Close())
}

// TestHostile has servers answer with what go-smb2 would trip over: each ends in an error.
func TestHostile(t *testing.T) {
	le := binary.LittleEndian
	header := func(status Status, cmd uint16, id uint64) []byte {
		b := make([]byte, 64)
		copy(b, "\xfeSMB\x40\x00")
		le.PutUint32(b[8:], uint32(status))
		le.PutUint16(b[12:], cmd)
		le.PutUint32(b[16:], 1)
		le.PutUint64(b[24:], id)
		return b
	}
	guest := append(header(smb2.StatusMoreProcessing, cmdSessionSetup, 1), 9, 0, 1, 0, 72, 0, 0, 0)
	compound := append(header(0, cmdNegotiate, 0), make([]byte, 65)...)
	le.PutUint32(compound[20:], 0xffff)
	overflow := append(header(0, cmdNegotiate, 0), make([]byte, 65)...)
	le.PutUint16(overflow[64:], 65)
	le.PutUint16(overflow[64+4:], 0x0311)
	le.PutUint16(overflow[64+6:], 1)          // one context
	le.PutUint32(overflow[64+60:], 0xffffff0) // far away
	for _, tt := range []struct {
		name string
		cmd  uint16
		send []byte
	}{
		{"empty frame", cmdNegotiate, nil},
		{"short frame", cmdNegotiate, make([]byte, 20)},
		{"half a header", cmdNegotiate, header(0, 0, 0)[:60]},
		{"another protocol", cmdNegotiate, make([]byte, 100)},
		{"SMB1", cmdNegotiate, append([]byte("\xffSMB"), make([]byte, 100)...)},
		{"encrypted before there is a key", cmdNegotiate, append([]byte("\xfdSMB"), make([]byte, 200)...)},
		{"encrypted in a session that is not", cmdTreeConnect, append([]byte("\xfdSMB"), make([]byte, 200)...)},
		{"compound", cmdNegotiate, compound},
		{"header alone", cmdNegotiate, header(0, cmdNegotiate, 0)},
		{"context out of range", cmdNegotiate, overflow},
		{"guest", cmdSessionSetup, guest},
		{"header of a session setup alone", cmdSessionSetup, header(smb2.StatusMoreProcessing, cmdSessionSetup, 1)},
		{"an answer to another command", cmdSessionSetup, header(0, cmdCreate, 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newFakeServer(t, noPipes)
			s.intercept(func(c *fakeConn, cmd uint16, _ []byte) (Status, bool) {
				if cmd == tt.cmd {
					c.send(tt.send)
				}
				return 0, cmd == tt.cmd
			})
			dialError(t, s.dialer())
		})
	}
	t.Run("huge frame", func(t *testing.T) {
		s := newFakeServer(t, noPipes)
		s.intercept(func(c *fakeConn, _ uint16, _ []byte) (Status, bool) {
			_, _ = c.c.Write([]byte{0, 0xff, 0xff, 0xff})
			return 0, true
		})
		require.ErrorIs(t, dialError(t, s.dialer()), smb2.ErrProtocol)
	})
	t.Run("unsigned", func(t *testing.T) {
		s := newFakeServer(t, noPipes)
		s.intercept(func(c *fakeConn, cmd uint16, _ []byte) (Status, bool) {
			if cmd == cmdTreeConnect {
				b := header(0, cmd, 3)
				le.PutUint64(b[40:], 0x1234)
				c.send(append(b, 16, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
			}
			return 0, cmd == cmdTreeConnect
		})
		require.ErrorIs(t, dialError(t, s.dialer()), smb2.ErrNotSigned)
	})
	t.Run("offsets that overflow", func(t *testing.T) {
		rpc := newRPCServer(t)
		s := newFakeServer(t, rpc.pipe)
		conn, err := s.dialer().DialRPC(t.Context(), "127.0.0.1", "Test")
		require.NoError(t, err)
		defer conn.Close()
		s.intercept(func(c *fakeConn, cmd uint16, _ []byte) (Status, bool) {
			if cmd != cmdIoctl {
				return 0, false
			}
			body := make([]byte, 49)
			body[0] = 49
			le.PutUint32(body[32:], 0xfffffff0) // OutputOffset
			le.PutUint32(body[36:], 0x00000050) // OutputCount: the sum is small
			head := header(0, cmd, 5)
			le.PutUint16(head[14:], 1)
			c.answer(head, 0, body, false)
			return 0, true
		})
		_, err = dcerpc.NewClientConn(t.Context(), conn, testInterface, &dcerpc.Config{Level: dcerpc.LevelInsecureNone})
		require.Error(t, err)
		t.Log(err)
	})
}

func TestStrings(t *testing.T) {
	require.Equal(t, "SMB 3.1.1", SMB311.String())
	require.Equal(t, "SMB 2.1", SMB210.String())
	require.Equal(t, "SMB dialect 0x0202", Dialect(0x202).String())
	require.Equal(t, "STATUS_PIPE_BROKEN (0xC000014B)", smb2.StatusPipeBroken.String())
	require.Equal(t, "NTSTATUS 0xC0000001", Status(0xC0000001).String())
	e := &Error{Op: smb2.OpOpenShare, Path: `\\fs1\data`, Status: smb2.StatusBadNetworkName}
	require.EqualError(t, e,
		`smb: open share \\fs1\data: STATUS_BAD_NETWORK_NAME (0xC00000CC): the server has no such share`)
	require.ErrorIs(t, e, fs.ErrNotExist)
	e = &Error{Op: "read", Path: `\\fs1\data\file`, Status: smb2.StatusNetworkNameDeleted}
	require.EqualError(t, e,
		`smb: read \\fs1\data\file: STATUS_NETWORK_NAME_DELETED (0xC00000C9): the server has removed the share, or disconnected all that used it`)
}
