package sambapipe

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A logBuffer is what was logged, and tells of it.
type logBuffer struct {
	mu    sync.Mutex
	b     bytes.Buffer
	wrote chan struct{}
}

func newLog() (*slog.Logger, *logBuffer) {
	l := &logBuffer{wrote: make(chan struct{}, 1)}
	return slog.New(slog.NewTextHandler(l, nil)), l
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.wrote <- struct{}{}:
	default:
	}
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// wait waits until something is in the log.
func (l *logBuffer) wait(t *testing.T, what string) {
	t.Helper()
	for !bytes.Contains([]byte(l.String()), []byte(what)) {
		select {
		case <-l.wrote:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(time.Minute):
			t.Fatalf("not in the log: %s\n%s", what, l)
		}
	}
}

// start listens in a directory of the test's own, for an smbd that this process is.
func start(t *testing.T) (*Listener, *logBuffer, string) {
	t.Helper()
	logger, log := newLog()
	dir := filepath.Join(t.TempDir(), "ncalrpc")
	l, err := listen(&Config{Dir: dir, LibexecDirs: []string{}, Logger: logger}, uint32(os.Geteuid()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l, log, dir
}

// open is what smbd does when a client opens the pipe.
func open(t *testing.T, path string, request []byte) (c net.Conn, answer []byte) {
	t.Helper()
	c, err := net.Dial("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	_, err = c.Write(request)
	require.NoError(t, err)
	answer = make([]byte, 36)
	_, err = io.ReadFull(c, answer)
	require.NoError(t, err)
	return c, answer
}

func accept(t *testing.T, l *Listener) dcerpc.SessionConn {
	t.Helper()
	c, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	s, ok := c.(dcerpc.SessionConn)
	require.True(t, ok)
	return s
}

func TestListener(t *testing.T) {
	l, log, dir := start(t)
	require.Equal(t, filepath.Join(dir, "np", "fssagentrpc"), l.Addr().String())
	for p, mode := range map[string]os.FileMode{dir: 0o755, filepath.Join(dir, "np"): 0o700} {
		fi, err := os.Stat(p)
		require.NoError(t, err)
		require.Equal(t, mode, fi.Mode().Perm(), p)
	}
	smbd, answer := open(t, l.Addr().String(), vector(t, "l7_4.17.12_h3user_encrypted_backupops.bin"))
	require.Equal(t, reply(7), answer)
	c := accept(t, l)
	s := c.Session()
	require.NoError(t, s.Refuse)
	require.Equal(t, `\pipe\FssagentRpc`, s.Endpoint)
	require.Equal(t, 4280, s.MaxFragment)
	require.True(t, s.Authenticated)
	require.True(t, s.Encrypted)
	require.Equal(t, "h3user", s.Identity.Account)
	require.Equal(t, "127.0.0.1:44330", c.RemoteAddr().String())

	_, err := smbd.Write([]byte("\x05\x00hello"))
	require.NoError(t, err)
	b := make([]byte, 100)
	n, err := c.Read(b)
	require.NoError(t, err)
	require.Equal(t, "hello", string(b[:n]))
	_, err = c.Write([]byte("world!"))
	require.NoError(t, err)
	require.NoError(t, c.(interface{ CloseWrite() error }).CloseWrite())
	got, err := io.ReadAll(smbd)
	require.NoError(t, err)
	require.Equal(t, "\x06\x00world!", string(got))
	require.NoError(t, smbd.Close())
	_, err = c.Read(b)
	require.ErrorIs(t, err, io.EOF)
	require.Empty(t, log.String())
}

// TestRefused completes hand-overs that it cannot accept, and leaves the refusal to the RPC server.
func TestRefused(t *testing.T) {
	huge := append([]byte{0, 0x20, 0, 0}, "NPAM\x08\x00\x00\x00\x08\x00\x00\x00"...)
	huge = append(huge, make([]byte, 0x200000+4-len(huge))...)
	future := vector(t, "l8_4.22.11_root.bin")
	future[8], future[12] = 42, 42
	broken := vector(t, "l7_4.17.12_root.bin")
	broken[0xc8]++ // the number of SIDs
	for _, tt := range []struct {
		name, err string
		level     uint32
		request   []byte
	}{
		{"future level", "level 42", 42, future},
		{"broken", "hand-over of level 7", 7, broken},
		{"huge", "is longer than", 8, huge},
		{"not NPAM", "no NPAM", 0x64636261, []byte("\x00\x00\x10\x00ABCDabcd....")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, log, _ := start(t)
			_, answer := open(t, l.Addr().String(), tt.request)
			require.Equal(t, reply(tt.level), answer)
			s := accept(t, l).Session()
			require.ErrorContains(t, s.Refuse, tt.err)
			require.False(t, s.Authenticated)
			require.Empty(t, s.Identity)
			require.Contains(t, log.String(), "the caller will be refused")
		})
	}
}

// TestTooShort closes what tells no level to answer with.
func TestTooShort(t *testing.T) {
	l, log, _ := start(t)
	c, err := net.Dial("unix", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte{0, 0, 0, 4, 'N', 'P', 'A', 'M'})
	require.NoError(t, err)
	_, err = io.ReadAll(c)
	if err != nil { // what was written has not been read
		require.ErrorContains(t, err, "connection reset")
	}
	log.wait(t, "too short for a level")
}

// TestPeerCredentials lets nobody in but the user that smbd runs as.
func TestPeerCredentials(t *testing.T) {
	logger, log := newLog()
	dir := filepath.Join(t.TempDir(), "ncalrpc")
	l, err := listen(&Config{Dir: dir, LibexecDirs: []string{}, Logger: logger}, uint32(os.Geteuid()+1))
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	log.wait(t, "not smbd's user")
}

// TestStalled shows that a hand-over that does not come keeps no other waiting, and that Close ends
// it.
func TestStalled(t *testing.T) {
	l, _, _ := start(t)
	stalled, err := net.Dial("unix", l.Addr().String())
	require.NoError(t, err)
	defer stalled.Close()
	_, err = stalled.Write([]byte{0, 0, 1, 0, 'N'})
	require.NoError(t, err)
	for range 3 {
		_, answer := open(t, l.Addr().String(), vector(t, "l8_4.22.11_root.bin"))
		require.Equal(t, reply(8), answer)
	}
	require.NoError(t, l.Close())
	_, err = stalled.Read(make([]byte, 1))
	require.Error(t, err)
}

func TestClose(t *testing.T) {
	l, _, dir := start(t)
	done := make(chan error)
	go func() {
		_, err := l.Accept()
		done <- err
	}()
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-done, net.ErrClosed)
	require.NoError(t, l.Close())
	_, err := l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	left, err := os.ReadDir(filepath.Join(dir, "np"))
	require.NoError(t, err)
	require.Empty(t, left)

	again, err := listen(&Config{Dir: dir, LibexecDirs: []string{}}, uint32(os.Geteuid()))
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

// rebind does to the socket what samba-dcerpcd does at its start.
func rebind(t *testing.T, path string) net.Listener {
	t.Helper()
	require.NoError(t, os.Remove(path))
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	t.Cleanup(func() { l.Close() })
	return l
}

// TestRetake takes the socket back from whoever has unlinked or replaced it.
func TestRetake(t *testing.T) {
	const back = "taken back"
	serves := func(t *testing.T, l *Listener) {
		t.Helper()
		open(t, l.Addr().String(), vector(t, "l8_4.22.11_root.bin"))
		accept(t, l)
	}
	t.Run("replaced", func(t *testing.T) {
		l, log, _ := start(t)
		rebind(t, l.Addr().String())
		log.wait(t, back)
		serves(t, l)
	})
	t.Run("removed", func(t *testing.T) {
		l, log, _ := start(t)
		require.NoError(t, os.Remove(l.Addr().String()))
		log.wait(t, back)
		serves(t, l)
	})
	t.Run("with its directories", func(t *testing.T) {
		l, log, dir := start(t)
		require.NoError(t, os.RemoveAll(dir))
		log.wait(t, back)
		serves(t, l)
	})
	t.Run("in a new directory", func(t *testing.T) {
		l, log, dir := start(t)
		require.NoError(t, os.Rename(filepath.Join(dir, "np"), filepath.Join(dir, "old")))
		log.wait(t, back)
		serves(t, l)
	})
	t.Run("again and again", func(t *testing.T) {
		l, log, _ := start(t)
		for range 3 {
			rebind(t, l.Addr().String())
			log.wait(t, back)
			serves(t, l)
			log.mu.Lock()
			log.b.Reset()
			log.mu.Unlock()
		}
	})
	t.Run("who has connected before is served", func(t *testing.T) {
		l, log, _ := start(t)
		c, err := net.Dial("unix", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		rebind(t, l.Addr().String())
		log.wait(t, back)
		_, err = c.Write(vector(t, "l8_4.22.11_root.bin"))
		require.NoError(t, err)
		accept(t, l)
	})
}

// TestForeignSocket leaves the socket of another server in its place at the end.
func TestForeignSocket(t *testing.T) {
	l, log, dir := start(t)
	// what smbd would not have, and so no reason to take anything back
	require.NoError(t, os.Chmod(filepath.Join(dir, "np"), 0o755))
	other := rebind(t, l.Addr().String())
	log.wait(t, "cannot be taken back yet")
	require.NoError(t, l.Close())
	c, err := net.Dial("unix", other.Addr().String())
	require.NoError(t, err)
	c.Close()
}

func TestListenErrors(t *testing.T) {
	uid := uint32(os.Geteuid())
	t.Run("second listener", func(t *testing.T) {
		_, _, dir := start(t)
		_, err := listen(&Config{Dir: dir, LibexecDirs: []string{}}, uid)
		require.ErrorIs(t, err, os.ErrExist)
		other, err := listen(&Config{Dir: dir, LibexecDirs: []string{}, Pipe: "Other"}, uid)
		require.NoError(t, err)
		require.NoError(t, other.Close())
	})
	t.Run("mode of np", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "np"), 0o755))
		_, err := listen(&Config{Dir: dir}, uid)
		require.ErrorContains(t, err, "mode 0700")
	})
	t.Run("np is a link", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.Symlink(t.TempDir(), filepath.Join(dir, "np")))
		_, err := listen(&Config{Dir: dir}, uid)
		require.ErrorContains(t, err, "mode 0700")
	})
	t.Run("name", func(t *testing.T) {
		for _, name := range []string{"..", ".", "a/b", `a\b`, "a\x00"} {
			_, err := listen(&Config{Dir: t.TempDir(), Pipe: name}, uid)
			require.ErrorContains(t, err, "not the name of a pipe")
		}
	})
	t.Run("path too long", func(t *testing.T) {
		_, err := listen(&Config{Dir: filepath.Join(t.TempDir(), string(bytes.Repeat([]byte("x"), 100)))}, uid)
		require.Error(t, err)
	})
}

// TestRival warns of what samba-dcerpcd could start.
func TestRival(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, mode))
	}
	write("rpcd_fsrvp", 0o644)
	write("disabled.rpcd_fsrvp", 0o755)
	write("rpcd_classic", 0o755)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "rpcd_fsrvp.d"), 0o755))
	require.Empty(t, rivals([]string{dir}))
	write("rpcd_fsrvp.distrib", 0o755)
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(dir, link))
	want := filepath.Join(dir, "rpcd_fsrvp.distrib")
	require.Equal(t, []string{want}, rivals([]string{dir, link, filepath.Join(dir, "none")}))

	logger, log := newLog()
	l, err := listen(&Config{Dir: filepath.Join(t.TempDir(), "d"), LibexecDirs: []string{dir}, Logger: logger}, 0)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.Contains(t, log.String(), want)
}

// TestMany opens and closes many handles at once.
func TestMany(t *testing.T) {
	l, _, _ := start(t)
	request := vector(t, "l8_4.22.11_root.bin")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	var clients sync.WaitGroup
	for range 32 {
		clients.Go(func() {
			for i := range 20 {
				c, err := net.Dial("unix", l.Addr().String())
				if err != nil || ctx.Err() != nil {
					t.Error(err)
					return
				}
				_, _ = c.Write(request)
				b := make([]byte, 36)
				if _, err := io.ReadFull(c, b); err != nil {
					t.Error(err)
				}
				msg := binary.LittleEndian.AppendUint16(nil, 1)
				msg = append(msg, byte(i))
				_, _ = c.Write(msg)
				if _, err := io.ReadFull(c, b[:3]); err != nil || !bytes.Equal(b[:3], msg) {
					t.Error(err, b[:3])
				}
				c.Close()
			}
		})
	}
	clients.Wait()
	stop()
	require.NoError(t, l.Close())
	wg.Wait()
}
