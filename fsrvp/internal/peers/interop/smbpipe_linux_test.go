package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// TestLifeCycle has our client drive Samba's own server, and reads the file that was there before
// the snapshot.
func TestLifeCycle(t *testing.T) {
	n := networkOnce(t)
	server, u := n.Host("fs"), n.User("backup")
	server.Claim(t)
	for _, session := range []struct {
		name string
		auth dcerpc.Initiator
	}{{"Kerberos", kerberos(t, n, u)}, {"NTLM", ntlmAuth(t, u)}} {
		for _, level := range []dcerpc.AuthLevel{dcerpc.LevelInsecureNone, dcerpc.LevelIntegrity, dcerpc.LevelPrivacy} {
			for _, kind := range []struct {
				name    string
				context fsrvp.ContextValue
			}{{"read-only", fsrvp.ContextBackup}, {"read-write", fsrvp.ContextBackup | fsrvp.AttrAutoRecovery}} {
				t.Run(fmt.Sprintf("%s/level %d/%s", session.name, level, kind.name), func(t *testing.T) {
					server.Reset(t, 0)
					d := dialer(t, n, session.auth)
					cfg := &fsrvp.Config{Transport: d, Level: level, Syntaxes: []ndr.Syntax{ndr.NDR20}}
					if level != dcerpc.LevelInsecureNone {
						cfg.Auth = session.auth
					}
					c, err := fsrvp.Dial(t.Context(), server.FQDN, cfg)
					require.NoError(t, err)
					defer c.Close()
					lifeCycle(t, c, d, server, kind.context)
				})
			}
		}
	}
}

func lifeCycle(t *testing.T, c *fsrvp.Client, d *smbpipe.Dialer, server *peers.Host, kind fsrvp.ContextValue) {
	t.Helper()
	ctx, share := t.Context(), `\\`+server.FQDN+`\data`
	file := server.Path("/srv/btrfs/data/file")
	require.NoError(t, os.WriteFile(file, []byte("before"), 0o644))

	v, err := c.GetSupportedVersion(ctx)
	require.NoError(t, err)
	require.Equal(t, fsrvp.Versions{Min: 1, Max: 1}, v)
	require.NoError(t, c.SetContext(ctx, kind))
	set, err := c.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	id, err := c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, share)
	require.NoError(t, err)
	require.NoError(t, c.PrepareShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, c.CommitShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, os.WriteFile(file, []byte("after"), 0o644))
	require.NoError(t, c.ExposeShadowCopySet(ctx, set, time.Minute))
	m, err := c.GetShareMapping(ctx, id, set, share, 1)
	require.NoError(t, err)

	exposed, closer, err := d.OpenShare(ctx, `\\`+server.FQDN+`\`+m.Exposed)
	require.NoError(t, err)
	b, err := fs.ReadFile(exposed, "file")
	require.NoError(t, err)
	require.Equal(t, "before", string(b))
	require.NoError(t, closer.Close())

	require.NoError(t, c.RecoveryCompleteShadowCopySet(ctx, set))
	require.NoError(t, c.DeleteShareMapping(ctx, set, id, share))
	_, _, err = d.OpenShare(ctx, `\\`+server.FQDN+`\`+m.Exposed)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "no such share")
}

// TestCredentials logs in by everything that there is.
func TestCredentials(t *testing.T) {
	n := networkOnce(t)
	server, u := n.Host("fs"), n.User("backup")
	server.Claim(t)
	for name, auth := range map[string]func() (dcerpc.Initiator, error){
		"keytab": func() (dcerpc.Initiator, error) {
			kt, err := krb5.LoadKeytab(n.Keytab("backup"))
			require.NoError(t, err)
			return krb5.NewInitiatorWithKeytab(u.Principal(), kt, kerberosConfig(n))
		},
		"ccache": func() (dcerpc.Initiator, error) {
			return krb5.NewInitiatorFromCCache(n.CCache(t, u), kerberosConfig(n))
		},
		"ccache with services' tickets": func() (dcerpc.Initiator, error) {
			cfg := kerberosConfig(n)
			cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no KDC is needed") }
			return krb5.NewInitiatorFromCCache(n.CCache(t, u, "host/fs.fsrvp.test", "cifs/fs.fsrvp.test"), cfg)
		},
	} {
		t.Run(name, func(t *testing.T) {
			auth, err := auth()
			require.NoError(t, err)
			c, err := fsrvp.Dial(t.Context(), server.FQDN, &fsrvp.Config{Transport: dialer(t, n, auth), Auth: auth})
			require.NoError(t, err)
			defer c.Close()
			_, err = c.GetSupportedVersion(t.Context())
			require.NoError(t, err)
		})
	}
	t.Run("SPNEGO", func(t *testing.T) {
		krb, password := kerberos(t, n, u).(*krb5.Initiator), ntlmAuth(t, u).(*ntlm.Initiator)
		wrong := kerberos(t, n, peers.User{Name: "backup", Password: "wrong"}).(*krb5.Initiator)
		for _, auth := range []dcerpc.Initiator{negotiate(t, krb), negotiate(t, krb, password), negotiate(t, wrong, password), negotiate(t, password)} {
			c, err := fsrvp.Dial(t.Context(), server.FQDN, &fsrvp.Config{Transport: dialer(t, n, auth), Auth: auth})
			require.NoError(t, err)
			_, err = c.GetSupportedVersion(t.Context())
			require.NoError(t, err)
			require.NoError(t, c.Close())
		}
	})
	dial := func(t *testing.T, auth dcerpc.Initiator, server, pipe string) error {
		t.Helper()
		_, err := dialer(t, n, auth).DialRPC(t.Context(), server, pipe)
		require.Error(t, err)
		t.Log(err)
		return err
	}
	wrong := peers.User{Name: "backup", Password: "wrong"}
	t.Run("wrong password, Kerberos", func(t *testing.T) {
		require.ErrorIs(t, dial(t, kerberos(t, n, wrong), server.FQDN, fsrvp.Endpoint), krb5.ErrPassword)
	})
	t.Run("wrong password, NTLM", func(t *testing.T) {
		require.ErrorContains(t, dial(t, ntlmAuth(t, wrong), server.FQDN, fsrvp.Endpoint), "STATUS_LOGON_FAILURE")
	})
	t.Run("address in place of a name", func(t *testing.T) {
		require.ErrorContains(t, dial(t, kerberos(t, n, u), server.Addr.String(), fsrvp.Endpoint), "cifs/10.99.0.2")
	})
	t.Run("no such host", func(t *testing.T) {
		require.ErrorContains(t, dial(t, kerberos(t, n, u), "gone.fsrvp.test", fsrvp.Endpoint), "gone.fsrvp.test")
	})
	t.Run("no such pipe", func(t *testing.T) {
		require.ErrorIs(t, dial(t, kerberos(t, n, u), server.FQDN, "nothing"), fs.ErrNotExist)
	})
}

// Operations of the pipe's server in these tests.
const (
	opEcho = iota
	opWait
	opSleep
)

// testServer has those operations, under FSRVP's interface.
func testServer(waiting, ended chan<- struct{}) *dcerpc.Server {
	srv := &dcerpc.Server{Logger: slog.New(slog.DiscardHandler)}
	srv.Handle(fsrvp.Interface(), handlerFunc(func(ctx context.Context, call *dcerpc.Call) error {
		switch call.Opnum {
		case opEcho:
			call.Response = append(call.Response, call.Stub...)
		case opWait:
			waiting <- struct{}{}
			<-ctx.Done()
			ended <- struct{}{}
		case opSleep:
			select {
			case <-ctx.Done():
			case <-time.After(12 * time.Second):
			}
		}
		return nil
	}), &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone})
	return srv
}

// bind opens the pipe and binds.
func bind(t *testing.T, d *smbpipe.Dialer, server *peers.Host, cfg dcerpc.Config) *dcerpc.ClientConn {
	t.Helper()
	conn, err := d.DialRPC(t.Context(), server.FQDN, fsrvp.Endpoint)
	require.NoError(t, err)
	if cfg.Auth == nil {
		cfg.Level = dcerpc.LevelInsecureNone
	}
	cc, err := dcerpc.NewClientConn(t.Context(), conn, fsrvp.Interface(), &cfg)
	require.NoError(t, err)
	t.Cleanup(func() { cc.Close() })
	return cc
}

func echo(t *testing.T, cc *dcerpc.ClientConn, stub []byte) {
	t.Helper()
	call := dcerpc.Call{Opnum: opEcho, Syntax: cc.Syntax(), Stub: stub}
	require.NoError(t, cc.Call(t.Context(), &call))
	require.True(t, bytes.Equal(stub, call.Response))
}

// countingConn counts what is written: SMB messages.
type countingConn struct {
	net.Conn
	n *atomic.Int64
}

func (c countingConn) Write(b []byte) (int, error) {
	c.n.Add(1)
	return c.Conn.Write(b)
}

// TestPipe has our client talk to our server through Samba's smbd.
func TestPipe(t *testing.T) {
	n := networkOnce(t)
	nas, u := n.Host("nas"), n.User("backup")
	nas.Claim(t)
	waiting, ended := make(chan struct{}, 8), make(chan struct{}, 8)
	srv := testServer(waiting, ended)
	srv.Acceptors = []dcerpc.Acceptor{kerberosAcceptor(t, n, "nas")}
	serve(t, nas, srv, nil)
	krb := kerberos(t, n, u)

	t.Run("long stubs", func(t *testing.T) {
		cc := bind(t, dialer(t, n, krb), nas, dcerpc.Config{Auth: krb, Target: "host/" + nas.FQDN})
		require.Equal(t, ndr.NDR64, cc.Syntax())
		for _, size := range []int{16, 10_000, 1_000_000} {
			echo(t, cc, bytes.Repeat([]byte("0123456789abcdef"), size/16))
		}
	})
	t.Run("round trips", func(t *testing.T) {
		var sent atomic.Int64
		d := dialer(t, n, krb)
		inner := d.Dial
		d.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := inner(ctx, network, address)
			return countingConn{c, &sent}, err
		}
		cc := bind(t, d, nas, dcerpc.Config{})
		echo(t, cc, []byte("12345678"))
		before := sent.Load()
		for range 20 {
			echo(t, cc, []byte("12345678"))
		}
		require.Equal(t, int64(20), sent.Load()-before)
	})
	t.Run("many at once", func(t *testing.T) {
		d := dialer(t, n, krb)
		var wg sync.WaitGroup
		for p := range 4 {
			cc := bind(t, d, nas, dcerpc.Config{NoMultiplexing: p%2 == 1})
			for c := range 8 {
				wg.Go(func() {
					for i := range 10 {
						echo(t, cc, bytes.Repeat([]byte{byte(p), byte(c), byte(i), 0}, 4*(1+c*i*20)))
					}
				})
			}
		}
		wg.Wait()
	})
	t.Run("cancel", func(t *testing.T) {
		cc := bind(t, dialer(t, n, krb), nas, dcerpc.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- cc.Call(ctx, &dcerpc.Call{Opnum: opWait, Syntax: cc.Syntax()}) }()
		<-waiting
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		<-ended
		echo(t, cc, []byte("12345678"))
	})
	t.Run("close under a call", func(t *testing.T) {
		d := dialer(t, n, krb)
		for range 3 {
			cc := bind(t, d, nas, dcerpc.Config{})
			done := make(chan error)
			go func() { done <- cc.Call(t.Context(), &dcerpc.Call{Opnum: opWait, Syntax: cc.Syntax()}) }()
			<-waiting
			require.NoError(t, cc.Close())
			require.ErrorIs(t, <-done, net.ErrClosed)
			<-ended // the server's side of the pipe is closed
		}
	})
	t.Run("close one of two under a call", func(t *testing.T) {
		d := dialer(t, n, krb)
		cc, other := bind(t, d, nas, dcerpc.Config{}), bind(t, d, nas, dcerpc.Config{})
		done := make(chan error)
		go func() { done <- cc.Call(t.Context(), &dcerpc.Call{Opnum: opWait, Syntax: cc.Syntax()}) }()
		<-waiting
		require.NoError(t, cc.Close())
		require.ErrorIs(t, <-done, net.ErrClosed)
		echo(t, other, []byte("12345678"))
		echo(t, bind(t, d, nas, dcerpc.Config{}), []byte("12345678"))
		echo(t, other, []byte("12345678"))
		require.NoError(t, other.Close())
		<-ended
	})
	t.Run("smbd dies under a call", func(t *testing.T) {
		d := dialer(t, n, krb)
		cc := bind(t, d, nas, dcerpc.Config{})
		done := make(chan error)
		go func() { done <- cc.Call(t.Context(), &dcerpc.Call{Opnum: opWait, Syntax: cc.Syntax()}) }()
		<-waiting
		nas.Output(t, "sh", "-c", "kill -KILL $(pgrep -P $(cat /run/samba/smbd.pid) -f smbd)")
		require.ErrorIs(t, <-done, io.ErrUnexpectedEOF)
		<-ended
		echo(t, bind(t, d, nas, dcerpc.Config{}), []byte("12345678")) // over another session
	})
	t.Run("dialects", func(t *testing.T) {
		for _, dialect := range []smbpipe.Dialect{0, smbpipe.SMB210, smbpipe.SMB300, smbpipe.SMB302, smbpipe.SMB311} {
			for _, encrypt := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v, encrypt %t", dialect, encrypt), func(t *testing.T) {
					d := dialer(t, n, krb)
					d.Dialect, d.Encrypt = dialect, encrypt
					if dialect == smbpipe.SMB210 && encrypt {
						_, err := d.DialRPC(t.Context(), nas.FQDN, fsrvp.Endpoint)
						require.ErrorContains(t, err, "does not encrypt")
						return
					}
					echo(t, bind(t, d, nas, dcerpc.Config{}), bytes.Repeat([]byte("x"), 20_000))
				})
			}
		}
	})
	t.Run("longer than any hidden time-out", func(t *testing.T) {
		if testing.Short() {
			t.Skip("it sleeps for 12 s")
		}
		cc := bind(t, dialer(t, n, krb), nas, dcerpc.Config{})
		require.NoError(t, cc.Call(t.Context(), &dcerpc.Call{Opnum: opSleep, Syntax: cc.Syntax()}))
	})
}

// TestEncryption asks the server's side whether a session was encrypted: by the client's wish, and
// by the server's.
func TestEncryption(t *testing.T) {
	n := networkOnce(t)
	nas, u := n.Host("nas"), n.User("backup")
	nas.Claim(t)
	asked := make(chan dcerpc.Peer, 1)
	serve(t, nas, versionServer(asked), nil)
	encrypted := func(encrypt bool, auth dcerpc.Initiator) bool {
		t.Helper()
		d := dialer(t, n, auth)
		d.Encrypt = encrypt
		c, err := fsrvp.Dial(t.Context(), nas.FQDN, &fsrvp.Config{Transport: d, Level: dcerpc.LevelInsecureNone})
		require.NoError(t, err)
		defer c.Close()
		_, err = c.GetSupportedVersion(t.Context())
		require.NoError(t, err)
		return (<-asked).SessionEncrypted
	}
	for _, auth := range []dcerpc.Initiator{kerberos(t, n, u), ntlmAuth(t, u)} {
		require.False(t, encrypted(false, auth))
		require.True(t, encrypted(true, auth))
	}
	nas.Output(t, "net", "conf", "setparm", "global", "server smb encrypt", "required")
	t.Cleanup(func() {
		nas.Output(t, "net", "conf", "delparm", "global", "server smb encrypt")
		nas.Output(t, "smbcontrol", "smbd", "reload-config")
	})
	nas.Output(t, "smbcontrol", "smbd", "reload-config")
	require.True(t, encrypted(false, kerberos(t, n, u)))
}

// TestShare reads a share by package fs.
func TestShare(t *testing.T) {
	n := networkOnce(t)
	server := n.Host("nas")
	server.Claim(t)
	root := server.Path("/srv/btrfs/data")
	big := bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)
	var names []string
	write := func(name string, content []byte) {
		t.Helper()
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			require.NoError(t, os.MkdirAll(root+"/"+name[:i], 0o755))
		}
		require.NoError(t, os.WriteFile(root+"/"+name, content, 0o644))
		names = append(names, name)
	}
	write("hello.txt", []byte("hello"))
	write("empty", nil)
	write("medium", big[:2000])
	write("a/b/c/deep", []byte("deep"))
	write("a/umlaut \u00fc \U0001f4be", []byte("names"))
	require.NoError(t, os.Mkdir(root+"/nothing", 0o755))
	require.NoError(t, os.Symlink("hello.txt", root+"/link"))

	d := dialer(t, n, kerberos(t, n, n.User("backup")))
	share, closer, err := d.OpenShare(t.Context(), `\\`+server.FQDN+`\data`)
	require.NoError(t, err)

	t.Run("fstest", func(t *testing.T) {
		require.NoError(t, fstest.TestFS(share, append(names, "nothing")...))
	})
	require.NoError(t, os.WriteFile(root+"/big", big, 0o644))
	require.NoError(t, os.Mkdir(root+"/many", 0o755))
	for i := range 1500 {
		require.NoError(t, os.WriteFile(fmt.Sprintf("%s/many/%04d", root, i), []byte{byte(i)}, 0o644))
	}
	t.Run("contents", func(t *testing.T) {
		b, err := fs.ReadFile(share, "big")
		require.NoError(t, err)
		require.True(t, bytes.Equal(big, b))
		entries, err := fs.ReadDir(share, "many")
		require.NoError(t, err)
		require.Len(t, entries, 1500)
		b, err = fs.ReadFile(share, "link")
		require.NoError(t, err)
		require.Equal(t, "hello", string(b))
		fi, err := fs.Stat(share, "big")
		require.NoError(t, err)
		require.EqualValues(t, len(big), fi.Size())
		local, err := os.Stat(root + "/big")
		require.NoError(t, err)
		require.WithinDuration(t, local.ModTime(), fi.ModTime(), time.Microsecond)
		require.IsType(t, (*smbpipe.Attributes)(nil), fi.Sys())
	})
	t.Run("parallel", func(t *testing.T) {
		f, err := share.Open("big")
		require.NoError(t, err)
		defer f.Close()
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				b := make([]byte, 200_000)
				off := int64(i * 300_000)
				if _, err := f.(io.ReaderAt).ReadAt(b, off); err != nil || !bytes.Equal(b, big[off:][:len(b)]) {
					t.Error(i, err)
				}
				if b, err := fs.ReadFile(share, fmt.Sprintf("many/%04d", i)); err != nil || !bytes.Equal(b, []byte{byte(i)}) {
					t.Error(i, err)
				}
			})
		}
		wg.Wait()
		_, err = f.(io.ReaderAt).ReadAt(make([]byte, 10), int64(len(big))-5)
		require.ErrorIs(t, err, io.EOF)
	})
	t.Run("errors", func(t *testing.T) {
		_, err := share.Open("none")
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, `\\nas.fsrvp.test\data\none`)
		_, err = share.Open("a/../b")
		require.ErrorIs(t, err, fs.ErrInvalid)
		_, err = share.Open(`a\b`)
		require.ErrorIs(t, err, fs.ErrInvalid)
		require.NoError(t, os.WriteFile(root+"/secret", nil, 0))
		_, err = share.Open("secret")
		require.ErrorIs(t, err, fs.ErrPermission)
		_, _, err = d.OpenShare(t.Context(), `\\`+server.FQDN+`\none`)
		require.ErrorContains(t, err, "no such share")
	})
	t.Run("close", func(t *testing.T) {
		f, err := share.Open("big")
		require.NoError(t, err)
		require.NoError(t, closer.Close())
		_, err = f.Read(make([]byte, 10))
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = share.Open("hello.txt")
		require.ErrorIs(t, err, net.ErrClosed)
	})
}
