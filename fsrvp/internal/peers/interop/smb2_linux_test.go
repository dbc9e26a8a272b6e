package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/sharefs"
)

// smbConfig reaches servers from the client's host.
func smbConfig(n *peers.Network, auth dcerpc.Initiator) *smb2.Config {
	return &smb2.Config{Auth: auth, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		return n.Host("cl").Dial(ctx, network, address)
	}}
}

// smbSession logs in to a server until the test ends.
func smbSession(tb testing.TB, h *peers.Host, cfg *smb2.Config) *smb2.Session {
	tb.Helper()
	s, err := smb2.Dial(tb.Context(), h.FQDN, cfg)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return s
}

func smbShare(tb testing.TB, s *smb2.Session, share string) *sharefs.FS {
	tb.Helper()
	t, err := s.TreeConnect(tb.Context(), share)
	require.NoError(tb, err)
	f := sharefs.New(t, nil)
	tb.Cleanup(func() { require.NoError(tb, f.Close()) })
	return f
}

// setGlobal sets parameters of a server, such as "server smb encrypt=required", until the test
// ends.
func setGlobal(tb testing.TB, h *peers.Host, params ...string) {
	tb.Helper()
	for _, p := range params {
		key, value, _ := strings.Cut(p, "=")
		h.Output(tb, "net", "conf", "setparm", "global", key, value)
		tb.Cleanup(func() { h.Output(tb, "net", "conf", "delparm", "global", key) })
	}
	h.Output(tb, "smbcontrol", "smbd", "reload-config")
	tb.Cleanup(func() { h.Output(tb, "smbcontrol", "smbd", "reload-config") })
}

// randomFile writes a file of random bytes, and returns its sum.
func randomFile(tb testing.TB, name string, size int) [sha256.Size]byte {
	tb.Helper()
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // has no errors
	require.NoError(tb, os.WriteFile(name, b, 0o644))
	return sha256.Sum256(b)
}

// sum reads a file whole.
func sum(tb testing.TB, fsys fs.FS, name string) [sha256.Size]byte {
	tb.Helper()
	f, err := fsys.Open(name)
	require.NoError(tb, err)
	defer f.Close()
	h := sha256.New()
	_, err = f.(io.WriterTo).WriteTo(h)
	require.NoError(tb, err)
	return [sha256.Size]byte(h.Sum(nil))
}

// TestSMBMatrix reads with every dialect, every algorithm alone and in the default lists, and every
// mechanism.
func TestSMBMatrix(t *testing.T) {
	n := networkOnce(t)
	fileServer, u := n.Host("fs"), n.User("backup")
	fileServer.Claim(t)
	want := randomFile(t, fileServer.Path("/srv/btrfs/data/matrix"), 3<<20+17)
	krb, ntl := kerberos(t, n, u), ntlmAuth(t, u)
	negotiate, err := spnego.NewInitiator(krb.(spnego.InitiatorMechanism), ntl.(spnego.InitiatorMechanism))
	require.NoError(t, err)
	all := []dcerpc.Initiator{krb, negotiate, ntl}
	read := func(t *testing.T, cfg *smb2.Config) *smb2.Session {
		t.Helper()
		s := smbSession(t, fileServer, cfg)
		f := smbShare(t, s, "data")
		require.Equal(t, want, sum(t, f, "matrix"))
		b, err := f.ReadFile("matrix")
		require.NoError(t, err)
		require.Equal(t, want, sha256.Sum256(b))
		return s
	}
	for _, auth := range all {
		for _, dialect := range []smb2.Dialect{0, smb2.SMB210, smb2.SMB300, smb2.SMB302, smb2.SMB311} {
			for _, encrypt := range []bool{false, true} {
				t.Run(fmt.Sprintf("%T, %v, encrypt %t", auth, dialect, encrypt), func(t *testing.T) {
					cfg := smbConfig(n, auth)
					cfg.Encrypt = encrypt
					if dialect != 0 {
						cfg.Dialects = []smb2.Dialect{dialect}
					}
					if encrypt && dialect == smb2.SMB210 {
						_, err := smb2.Dial(t.Context(), fileServer.FQDN, cfg)
						require.ErrorIs(t, err, smb2.ErrNotEncrypted)
						return
					}
					s := read(t, cfg)
					require.Equal(t, encrypt, s.Encrypted())
					if dialect != 0 {
						require.Equal(t, dialect, s.Dialect())
					} else {
						require.Equal(t, smb2.SMB311, s.Dialect())
						require.Equal(t, smb2.AESGMAC, s.Signing())
					}
				})
			}
		}
	}
	t.Run("downgrade is checked", func(t *testing.T) { // by VALIDATE_NEGOTIATE_INFO: the server's best is below ours
		setGlobal(t, fileServer, "server max protocol=SMB3_02")
		require.Equal(t, smb2.SMB302, read(t, smbConfig(n, krb)).Dialect())
	})
	for _, a := range []smb2.SigningAlgorithm{smb2.HMACSHA256, smb2.AESCMAC, smb2.AESGMAC} {
		t.Run("the server signs by "+a.String()+" alone", func(t *testing.T) {
			setGlobal(t, fileServer, "server smb3 signing algorithms="+a.String(), "server signing=mandatory")
			require.Equal(t, a, read(t, smbConfig(n, ntl)).Signing())
		})
		t.Run("the client signs by "+a.String()+" alone", func(t *testing.T) {
			cfg := smbConfig(n, ntl)
			cfg.Signing = []smb2.SigningAlgorithm{a}
			require.Equal(t, a, read(t, cfg).Signing())
		})
	}
	for _, c := range []smb2.Cipher{smb2.AES128CCM, smb2.AES128GCM, smb2.AES256CCM, smb2.AES256GCM} {
		for _, auth := range all {
			t.Run(fmt.Sprintf("the server encrypts by %v alone, %T", c, auth), func(t *testing.T) {
				setGlobal(t, fileServer, "server smb3 encryption algorithms="+c.String(), "server smb encrypt=required")
				s := read(t, smbConfig(n, auth))
				require.Equal(t, c, s.Cipher())
				require.True(t, s.Encrypted())
			})
		}
		t.Run("the client encrypts by "+c.String()+" alone", func(t *testing.T) {
			cfg := smbConfig(n, krb)
			cfg.Ciphers, cfg.Encrypt = []smb2.Cipher{c}, true
			require.Equal(t, c, read(t, cfg).Cipher())
		})
	}
	t.Run("no cipher in common", func(t *testing.T) {
		setGlobal(t, fileServer, "server smb3 encryption algorithms=AES-256-GCM")
		cfg := smbConfig(n, krb)
		cfg.Ciphers = []smb2.Cipher{smb2.AES128GCM}
		s := read(t, cfg) // signing does
		require.Zero(t, s.Cipher())
		cfg.Encrypt = true
		_, err := smb2.Dial(t.Context(), fileServer.FQDN, cfg)
		require.ErrorIs(t, err, smb2.ErrNotEncrypted)
	})
	t.Run("a share that demands encryption", func(t *testing.T) {
		addShare(t, fileServer, "sealed", "/srv/btrfs/data", "server smb encrypt=required")
		s := smbSession(t, fileServer, smbConfig(n, krb))
		require.False(t, s.Encrypted())
		f, plain := smbShare(t, s, "sealed"), smbShare(t, s, "data")
		require.True(t, f.Tree().Encrypted())
		require.Equal(t, want, sum(t, f, "matrix"))
		require.Equal(t, want, sum(t, plain, "matrix"))
	})
}

// TestSMBFiles reads what a backup reads besides contents.
func TestSMBFiles(t *testing.T) {
	n := networkOnce(t)
	fileServer := n.Host("fs")
	fileServer.Claim(t)
	root := fileServer.Path("/srv/btrfs/data")
	addShare(t, fileServer, "streams", "/srv/btrfs/data", "vfs objects=streams_xattr acl_xattr")
	s := smbSession(t, fileServer, smbConfig(n, kerberos(t, n, n.User("backup"))))
	f := smbShare(t, s, "data")
	open := func(t *testing.T, fsys *sharefs.FS, name string) *sharefs.File {
		t.Helper()
		opened, err := fsys.OpenFile(name, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, opened.Close()) })
		return opened
	}
	t.Run("descriptor", func(t *testing.T) {
		randomFile(t, root+"/file", 100)
		d, err := open(t, f, "file").Descriptor(smb2.SecurityOwner | smb2.SecurityGroup | smb2.SecurityDACL)
		require.NoError(t, err)
		require.Greater(t, len(d), 40)
		require.EqualValues(t, 1, d[0])                                             // revision
		require.NotZero(t, binary.LittleEndian.Uint16(d[2:])&0x8000)                // self-relative
		require.Less(t, binary.LittleEndian.Uint32(d[4:]), uint32(len(d)), "owner") // offsets
		require.NotZero(t, binary.LittleEndian.Uint32(d[16:]), "there is no DACL")  // offset
		_, err = f.OpenFile("file", &smb2.OpenOptions{Access: smb2.AccessSystemSecurity | smb2.AccessReadControl})
		if err != nil { // Backup Operators need not have the privilege
			require.ErrorIs(t, err, fs.ErrPermission)
		}
	})
	t.Run("streams", func(t *testing.T) {
		randomFile(t, root+"/streamed", 10)
		require.NoError(t, unix.Setxattr(root+"/streamed", "user.DosStream.Zone.Identifier:$DATA",
			[]byte("[ZoneTransfer]\x00"), 0))
		file := open(t, smbShare(t, s, "streams"), "streamed")
		list, err := file.Streams()
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, "Zone.Identifier", list[0].Name)
		stream, err := file.OpenStream("Zone.Identifier")
		require.NoError(t, err)
		defer stream.Close()
		b, err := io.ReadAll(stream)
		require.NoError(t, err)
		require.Equal(t, "[ZoneTransfer]", string(b))
	})
	t.Run("link of DFS", func(t *testing.T) {
		dir := root + "/dfs"
		require.NoError(t, os.MkdirAll(dir+"/plain", 0o755))
		require.NoError(t, os.Symlink(`msdfs:elsewhere.fsrvp.test\share`, dir+"/link"))
		addShare(t, fileServer, "dfs", "/srv/btrfs/data/dfs", "msdfs root=yes")
		f := smbShare(t, s, "dfs")
		require.True(t, f.Tree().DFS())
		list, err := f.ReadDir(".")
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, "link", list[0].Name())
		require.False(t, list[0].IsDir(), "a walk would leave the share")
		info, err := list[0].Info()
		require.NoError(t, err)
		require.Equal(t, smb2.ReparseDFSLink, info.Sys().(*sharefs.Attributes).Reparse())
		require.True(t, list[1].IsDir())
		_, err = f.Stat("link")
		require.ErrorIs(t, err, smb2.StatusPathNotCovered)
	})
	t.Run("sparse file of 100 GiB", func(t *testing.T) {
		out, err := os.Create(root + "/sparse")
		require.NoError(t, err)
		defer out.Close()
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20/16)
		for i := range int64(8) {
			_, err = out.WriteAt(data, i*12<<30)
			require.NoError(t, err)
		}
		require.NoError(t, out.Truncate(100<<30))
		require.NoError(t, out.Sync())
		require.NoError(t, out.Chmod(0o666))
		// Samba tells of holes in files that were made sparse by SMB.
		const writeAttributes, setSparse = 0x100, 0x000900C4
		writable, err := f.Tree().Open(t.Context(), "sparse",
			&smb2.OpenOptions{Access: smb2.AccessWriteData | writeAttributes})
		require.NoError(t, err)
		_, err = writable.Control(t.Context(), setSparse, nil)
		require.NoError(t, err)
		require.NoError(t, writable.Close(t.Context()))
		file := open(t, f, "sparse")
		ranges, err := file.Ranges()
		require.NoError(t, err)
		total := int64(0)
		for _, r := range ranges {
			total += r.Length
		}
		require.Less(t, total, int64(16<<20), "%v", ranges)
		target := &rangeSink{sums: map[int64][]byte{}}
		start := time.Now()
		copied, err := file.DataTo(target)
		require.NoError(t, err)
		require.Equal(t, total, copied)
		t.Log(copied, "bytes of", 100<<30, "in", time.Since(start))
		for i := range int64(8) {
			require.Equal(t, data, target.sums[i*12<<30], i)
		}
	})
	t.Run("links and names", func(t *testing.T) {
		require.NoError(t, os.MkdirAll(root+"/names", 0o755))
		for _, name := range []string{"ü", "💾", "a b", "x"} {
			require.NoError(t, os.WriteFile(root+"/names/"+name, []byte(name), 0o644))
		}
		entries, err := f.ReadDir("names")
		require.NoError(t, err)
		require.Len(t, entries, 4)
		for _, e := range entries {
			b, err := f.ReadFile("names/" + e.Name())
			require.NoError(t, err)
			require.Equal(t, e.Name(), string(b))
			fi, err := e.Info()
			require.NoError(t, err)
			require.NotZero(t, fi.Sys().(*sharefs.Attributes).ID)
		}
	})
	t.Run("a listing in pieces", func(t *testing.T) {
		require.NoError(t, os.MkdirAll(root+"/pieces", 0o755))
		for i := range 2500 {
			require.NoError(t, os.WriteFile(fmt.Sprintf("%s/pieces/a name that is not short %04d", root, i), nil,
				0o644))
		}
		seen := map[string]bool{}
		for dir := open(t, f, "pieces"); ; {
			some, err := dir.ReadDir(100)
			for _, e := range some {
				require.False(t, seen[e.Name()])
				seen[e.Name()] = true
			}
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			require.LessOrEqual(t, len(some), 100)
		}
		require.Len(t, seen, 2500)
	})
	t.Run("backup intent", func(t *testing.T) {
		require.NoError(t, os.WriteFile(root+"/locked", []byte("x"), 0o600)) // root's
		_, err := sharefs.New(f.Tree(), &sharefs.Config{NoBackupIntent: true}).ReadFile("locked")
		require.ErrorIs(t, err, fs.ErrPermission)
		_, err = f.ReadFile("locked") // Samba judges backup intent by the privilege, which its members need to be given
		if err != nil {
			require.ErrorIs(t, err, fs.ErrPermission)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		want := randomFile(t, root+"/big", 20<<20)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				got := sha256.New()
				file, err := f.Open("big")
				if err == nil {
					_, err = io.Copy(got, file)
					file.Close()
				}
				if err != nil || !bytes.Equal(want[:], got.Sum(nil)) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// A rangeSink keeps what is written, by the offset at which a part begins.
type rangeSink struct {
	sums map[int64][]byte
	end  int64
	at   int64
}

func (s *rangeSink) WriteAt(b []byte, off int64) (int, error) {
	if off != s.end || off == 0 {
		s.at = off
	}
	s.sums[s.at] = append(s.sums[s.at], b...)
	s.end = off + int64(len(b))
	return len(b), nil
}
