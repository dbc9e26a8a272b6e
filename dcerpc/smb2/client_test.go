package smb2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDialects reads with all algorithms.
func TestDialects(t *testing.T) {
	for _, dialect := range []Dialect{SMB210, SMB300, SMB302, SMB311} {
		for _, signing := range []SigningAlgorithm{HMACSHA256, AESCMAC, AESGMAC} {
			for _, c := range []Cipher{0, AES128CCM, AES128GCM, AES256CCM, AES256GCM} {
				if dialect < SMB311 && (signing != AESCMAC || c > AES128CCM) || dialect == SMB210 && c != 0 {
					continue
				}
				for _, how := range []string{"signed", "session", "share"} {
					if c == 0 && how != "signed" {
						continue
					}
					t.Run(fmt.Sprint(dialect, signing, c, how), func(t *testing.T) {
						s := newTestServer()
						s.files["big"] = s.files["big"][:300_000]
						s.dialect, s.signing, s.cipher, s.encrypt, s.sealed = dialect, signing, c, how == "session", how == "share"
						_, tree := s.dial(t, s.config())
						require.Equal(t, how != "signed", tree.Encrypted())
						for name, want := range s.files {
							got, err := tree.ReadFile(t.Context(), name, nil, -1)
							require.NoError(t, err)
							require.True(t, bytes.Equal(want, got))
						}
						_, err := tree.ReadFile(t.Context(), "none", nil, -1)
						require.ErrorIs(t, err, fs.ErrNotExist)
						require.NoError(t, tree.Close())
						_, err = tree.Open(t.Context(), "small", nil)
						require.ErrorIs(t, err, net.ErrClosed)
					})
				}
			}
		}
	}
}

// TestCredits has servers that grant little; with one that grants nothing there is an error.
func TestCredits(t *testing.T) {
	for _, grant := range []uint16{1, 2, 3, 17} {
		s := newTestServer()
		held := atomic.Int32{}
		held.Store(1)
		s.grant = func(uint16) uint16 { return grant }
		_, tree := s.dial(t, s.config())
		for name, want := range s.files {
			got, err := tree.ReadFile(t.Context(), name, nil, -1)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got), "%s, grants of %d", name, grant)
		}
	}
	s := newTestServer()
	_, tree := s.dial(t, s.config())
	s.mu.Lock()
	s.grant = func(uint16) uint16 { return 0 }
	s.mu.Unlock()
	var err error
	for range 10_000 {
		if _, err = tree.ReadFile(t.Context(), "small", nil, -1); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, ErrNoCredits)
}

// TestSmallFile counts messages: one frame opens, reads and closes.
func TestSmallFile(t *testing.T) {
	s := newTestServer()
	_, tree := s.dial(t, s.config())
	got, err := tree.ReadFile(t.Context(), "small", nil, -1) // asks for credits
	require.NoError(t, err)
	require.Equal(t, "small", string(got))
	require.Equal(t, 1, s.seen(CommandCreate))
	require.Equal(t, 1, s.seen(CommandRead))
	require.Eventually(t, func() bool { return s.seen(CommandClose) == 1 }, time.Minute, time.Millisecond,
		"nobody waits for it")
	_, err = tree.ReadFile(t.Context(), "big", nil, 1<<20)
	require.ErrorContains(t, err, "more than 1048576 bytes")
}

// TestReader reads parts, with all sorts of windows.
func TestReader(t *testing.T) {
	s := newTestServer()
	_, tree := s.dial(t, s.config())
	f, err := tree.Open(t.Context(), "big", nil)
	require.NoError(t, err)
	want := s.files["big"]
	for _, tt := range []struct {
		off, n        int64
		chunk, window int
	}{{0, -1, 0, 0}, {0, -1, 1 << 16, 3}, {17, 100_000, 1 << 16, 8}, {5<<20 - 3, -1, 0, 1}, {5 << 20, -1, 0,
		0}, {6 << 20, 5, 0, 0}, {0, 0, 0, 0}} {
		r := f.NewReader(tt.off, tt.n, tt.chunk, tt.window)
		var got []byte
		for {
			b, err := r.Next(t.Context())
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			got = append(got, b...)
		}
		part := want[min(tt.off, int64(len(want))):]
		if tt.n >= 0 {
			part = part[:min(tt.n, int64(len(part)))]
		}
		require.True(t, bytes.Equal(part, got), "%+v", tt)
	}
	b := make([]byte, 3<<20)
	n, err := f.ReadAt(t.Context(), b, 7)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want[7:7+n], b))
	n, err = f.ReadAt(t.Context(), b[:100], 5<<20-40)
	require.Equal(t, io.EOF, err)
	require.Equal(t, 40, n)
	require.NoError(t, f.Close(t.Context()))
	_, err = f.ReadAt(t.Context(), b, 0)
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, f.CloseLater(), net.ErrClosed)
}

// TestShortReads has a server that returns less than it was asked for: nothing is lost.
func TestShortReads(t *testing.T) {
	s := newTestServer()
	s.hook = func(c *testConn, h Header, msg []byte) bool {
		q, err := ParseReadRequest(msg)
		if h.Command != CommandRead || err != nil || q.Length < 1000 {
			return false
		}
		f := c.file(q.ID)
		if q.Offset >= uint64(len(f.data)) {
			return false
		}
		data := f.data[q.Offset:]
		c.reply(h, StatusSuccess, &ReadResponse{Data: data[:min(len(data), int(q.Length)-777)]})
		return true
	}
	_, tree := s.dial(t, s.config())
	f, err := tree.Open(t.Context(), "big", nil)
	require.NoError(t, err)
	r := f.NewReader(0, -1, 0, 4)
	var got []byte
	for {
		b, err := r.Next(t.Context())
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		got = append(got, b...)
	}
	require.True(t, bytes.Equal(s.files["big"], got))
}

// TestReordered has answers come in another order than requests.
func TestReordered(t *testing.T) {
	s := newTestServer()
	var held []func()
	s.hook = func(c *testConn, h Header, msg []byte) bool {
		if h.Command != CommandRead {
			return false
		}
		msg = bytes.Clone(msg)
		if held = append(held, func() { c.handle(h, msg) }); len(held) == 2 {
			held[1]()
			held[0]()
			held = nil
		}
		return true
	}
	_, tree := s.dial(t, s.config())
	f, err := tree.Open(t.Context(), "big", nil)
	require.NoError(t, err)
	b := make([]byte, 4<<20) // four requests
	_, err = f.ReadAt(t.Context(), b, 0)
	require.NoError(t, err)
	require.True(t, bytes.Equal(s.files["big"][:len(b)], b))
}

// TestPairs reads with signatures that are checked two at a time: answers come in pairs, the second
// one first. From a wrong one on nothing is read.
func TestPairs(t *testing.T) {
	for _, forged := range []int{-1, 0, 1, 2, 3, 40, 41} { // number of the READ
		t.Run(fmt.Sprint(forged), func(t *testing.T) {
			s := newTestServer()
			s.signing = AESCMAC
			const chunk = 64 << 10
			var held []func()
			s.hook = func(c *testConn, h Header, msg []byte) bool {
				if h.Command != CommandRead {
					return false
				}
				q, err := ParseReadRequest(msg)
				if err != nil || q.Offset >= uint64(len(s.files["big"])) {
					return false
				}
				held = append(held, func() {
					b := c.message(h, StatusSuccess, &ReadResponse{Data: s.files["big"][q.Offset:][:q.Length]})
					if q.Offset == uint64(forged)*chunk {
						b[1000] ^= 1
					}
					c.send(b, false)
				})
				if len(held) == 2 {
					held[1]()
					held[0]()
					held = nil
				}
				return true
			}
			session, tree := s.dial(t, s.config())
			f, err := tree.Open(t.Context(), "big", nil)
			require.NoError(t, err)
			r := f.NewReader(0, -1, chunk, 8)
			var got []byte
			for {
				var b []byte
				if b, err = r.Next(t.Context()); err != nil {
					break
				}
				got = append(got, b...)
			}
			if forged < 0 {
				require.Equal(t, io.EOF, err)
				require.True(t, bytes.Equal(s.files["big"], got))
				r = f.NewReader(0, -1, chunk, 8)
				_, err = r.Next(t.Context())
				require.NoError(t, err)
				r.Stop() // with an answer that was checked already
				return
			}
			require.ErrorIs(t, err, ErrNotSigned)
			require.True(t, bytes.HasPrefix(s.files["big"], got))
			require.LessOrEqual(t, len(got), forged*chunk)
			<-session.Done()
		})
	}
}

// TestExpired lets the session expire while reads and a call of a pipe are underway.
func TestExpired(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		t.Run(fmt.Sprint("encrypt ", encrypt), func(t *testing.T) {
			s := newTestServer()
			s.encrypt = encrypt
			var expired atomic.Bool
			waiting, answer := make(chan struct{}), make(chan struct{})
			s.hook = func(c *testConn, h Header, msg []byte) bool {
				switch {
				case h.Command == CommandSessionSetup:
					expired.Store(false)
				case expired.Load() && h.Command != CommandClose:
					c.reply(h, StatusNetworkSessionExpired, nil)
					return true
				case h.Command == CommandIOCTL:
					msg = bytes.Clone(msg)
					s.wg.Go(func() {
						h := h
						h.Flags |= FlagAsync
						h.AsyncID = 9
						c.reply(h, StatusPending, nil)
						close(waiting)
						<-answer
						c.handle(h, msg)
					})
					return true
				}
				return false
			}
			session, tree := s.dial(t, s.config())
			ipc, err := session.TreeConnect(t.Context(), "IPC$")
			require.NoError(t, err)
			pipe, err := ipc.OpenPipe(t.Context(), "pipe")
			require.NoError(t, err)
			called := make(chan error, 1)
			out := make([]byte, 100)
			go func() {
				n, err := pipe.Transceive(context.Background(), []byte("call"), out, nil)
				if err == nil && string(out[:n]) != "call" {
					err = errors.New("another answer")
				}
				called <- err
			}()
			<-waiting
			f, err := tree.Open(t.Context(), "big", nil)
			require.NoError(t, err)
			r := f.NewReader(0, -1, 1<<16, 4)
			var got []byte
			for i := 0; ; i++ {
				if i%20 == 7 {
					expired.Store(true)
				}
				b, err := r.Next(t.Context())
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
				got = append(got, b...)
			}
			require.True(t, bytes.Equal(s.files["big"], got))
			close(answer)
			require.NoError(t, <-called)
			expired.Store(true)
			_, err = tree.ReadFile(t.Context(), "small", nil, -1)
			require.NoError(t, err)
			require.GreaterOrEqual(t, s.seen(CommandSessionSetup), 4)
			require.Equal(t, 1, s.seen(CommandNegotiate))
		})
	}
}

// TestExpiredForGood cannot log in again: the session ends, and says why.
func TestExpiredForGood(t *testing.T) {
	s := newTestServer()
	session, tree := s.dial(t, s.config())
	s.mu.Lock()
	s.hook = func(c *testConn, h Header, _ []byte) bool {
		status := StatusNetworkSessionExpired
		if h.Command == CommandSessionSetup {
			status = StatusPasswordExpired
		}
		c.reply(h, status, nil)
		return true
	}
	s.mu.Unlock()
	_, err := tree.Open(t.Context(), "small", nil)
	require.ErrorIs(t, err, StatusPasswordExpired)
	require.ErrorContains(t, err, "change the account's password")
	<-session.Done()
	require.ErrorIs(t, session.Err(), io.ErrUnexpectedEOF)
}

// TestCancel gives requests up: the server is told, what it opens afterwards is closed, and the
// session goes on.
func TestCancel(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		s := newTestServer()
		s.encrypt = encrypt
		came, cancelled := make(chan struct{}, 1), make(chan Header, 1)
		var held Header
		s.hook = func(c *testConn, h Header, msg []byte) bool {
			switch h.Command {
			case CommandCreate:
				q, _ := ParseCreateRequest(msg)
				if q.Name != "pipe" {
					return false
				}
				held = h
				h.Flags |= FlagAsync
				h.AsyncID = 99
				c.reply(h, StatusPending, nil)
				came <- struct{}{}
				return true
			case CommandCancel:
				c.handle(held, createOf("small"))
				cancelled <- h
				return true
			}
			return false
		}
		_, tree := s.dial(t, s.config())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := tree.Open(ctx, "pipe", nil)
			done <- err
		}()
		<-came
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		h := <-cancelled
		require.Equal(t, held.MessageID, h.MessageID)
		_, err := tree.ReadFile(t.Context(), "small", nil, -1)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return s.seen(CommandClose) == 2 }, time.Minute, time.Millisecond,
			"the orphan is closed")
	}
}

func createOf(name string) []byte {
	msg, _ := (&Header{Command: CommandCreate}).AppendBinary(nil)
	msg, _ = (&CreateRequest{Name: name}).AppendBinary(msg)
	return msg
}

// hostile is what servers do wrong, when they are asked to open a file, and the error that comes of
// it.
var hostile = []struct {
	name    string
	want    error
	encrypt bool
	do      func(c *testConn, h Header, msg []byte)
}{
	{"wrong signature", ErrNotSigned, false, func(c *testConn, h Header, _ []byte) {
		b := c.message(h, StatusSuccess, &CreateResponse{})
		b[50] ^= 1
		c.send(b, false)
	}},
	{"unsigned", ErrNotSigned, false, func(c *testConn, h Header, _ []byte) {
		b := c.message(h, StatusSuccess, &CreateResponse{})
		le.PutUint32(b[16:], FlagResponse)
		c.send(b, false)
	}},
	{"unsigned error", ErrNotSigned, false, func(c *testConn, h Header, _ []byte) {
		b := c.message(h, StatusAccessDenied, nil)
		le.PutUint32(b[16:], FlagResponse)
		c.send(b, false)
	}},
	{"an interim answer with a wrong signature", ErrNotSigned, false, func(c *testConn, h Header, _ []byte) {
		h.Flags |= FlagAsync
		b := c.message(h, StatusPending, nil)
		b[50] ^= 1
		c.send(b, false)
	}},
	{"a session that is gone", StatusUserSessionDeleted, false, func(c *testConn, h Header, _ []byte) {
		b := c.message(h, StatusUserSessionDeleted, nil)
		le.PutUint32(b[16:], FlagResponse)
		c.send(b, false)
	}},
	{"unencrypted", ErrNotEncrypted, true, func(c *testConn, h Header, _ []byte) {
		h.Flags &^= 1 << 30
		c.send(c.message(h, StatusSuccess, &CreateResponse{}), false)
	}},
	{"an unencrypted interim answer", ErrNotEncrypted, true, func(c *testConn, h Header, _ []byte) {
		h.Flags = h.Flags&^(1<<30) | FlagAsync
		c.send(c.message(h, StatusPending, nil), false)
	}},
	{"encrypted by another key", ErrProtocol, true, func(c *testConn, h Header, _ []byte) {
		keys, _ := DeriveKeys(SMB311, AES128GCM, make([]byte, 32), Preauth{})
		b := keys.Seal(append(make([]byte, TransformSize), c.message(h, StatusSuccess, &CreateResponse{})...), 0x77, 1,
			true)
		c.send(b, false)
	}},
	{"of another session, encrypted", ErrProtocol, true, func(c *testConn, h Header, _ []byte) {
		h.SessionID = 0x78
		c.reply(h, StatusSuccess, &CreateResponse{})
	}},
	{"encrypted where it cannot be", ErrProtocol, false, func(c *testConn, h Header, _ []byte) {
		c.send(append([]byte(MagicTransform), make([]byte, 200)...), false)
	}},
	{"an answer to nothing", ErrProtocol, false, func(c *testConn, h Header, _ []byte) {
		h.MessageID += 1000
		c.reply(h, StatusSuccess, &CreateResponse{})
	}},
	{"an answer of another command", ErrProtocol, false, func(c *testConn, h Header, _ []byte) {
		h.Command = CommandRead
		c.reply(h, StatusSuccess, &ReadResponse{})
	}},
	{"a request", ErrProtocol, false, func(c *testConn, h Header, msg []byte) { c.send(msg, false) }},
	{"a replayed answer", ErrProtocol, false, func(c *testConn, h Header, _ []byte) {
		h.MessageID-- // that of the TREE_CONNECT
		h.Command = CommandTreeConnect
		c.reply(h, StatusSuccess, &TreeConnectResponse{Type: ShareDisk})
	}},
	{"PENDING that is final", ErrProtocol, false, func(c *testConn, h Header, _ []byte) { c.reply(h, StatusPending, nil) }},
	{"a short body", ErrProtocol, false, func(c *testConn, h Header, _ []byte) { c.reply(h, StatusSuccess, rawBody{89, 0}) }},
	{"an empty frame", ErrProtocol, false, func(c *testConn, _ Header, _ []byte) { c.send(nil, false) }},
	{"a huge frame", ErrProtocol, false, func(c *testConn, _ Header, _ []byte) { _, _ = c.nc.Write([]byte{0, 0xFF, 0xFF, 0xFF}) }},
	{"a frame of NetBIOS", ErrProtocol, false, func(c *testConn, _ Header, _ []byte) { _, _ = c.nc.Write([]byte{0x85, 0, 0, 100}) }},
	{"SMB1", ErrProtocol, false, func(c *testConn, _ Header, _ []byte) {
		c.send(append([]byte(MagicSMB1), make([]byte, 100)...), false)
	}},
	{"a compound that is not aligned", ErrProtocol, false, func(c *testConn, h Header, _ []byte) {
		b := c.message(h, StatusSuccess, &CreateResponse{})
		le.PutUint32(b[20:], 67)
		c.send(b, false)
	}},
	{"a compound in itself", ErrProtocol, false, func(c *testConn, h Header, _ []byte) {
		b := c.message(h, StatusSuccess, &CreateResponse{})
		le.PutUint32(b[20:], 8)
		c.send(b, false)
	}},
	{"a compound beyond its end", ErrProtocol, false, func(c *testConn, h Header, _ []byte) {
		b := c.message(h, StatusSuccess, &CreateResponse{})
		le.PutUint32(b[20:], 1<<31)
		c.send(b, false)
	}},
	{"the end of the connection", io.ErrUnexpectedEOF, false, func(c *testConn, _ Header, _ []byte) { c.nc.Close() }},
	{"half a frame", io.ErrUnexpectedEOF, false, func(c *testConn, _ Header, _ []byte) {
		_, _ = c.nc.Write([]byte{0, 0, 1, 0, 0xFE})
		c.nc.Close()
	}},
	{"silence", ErrNoAnswer, false, func(*testConn, Header, []byte) {}},
	{"an unsigned interim answer, then silence", ErrNoAnswer, false, func(c *testConn, h Header, _ []byte) {
		h.Flags |= FlagAsync
		b := c.message(h, StatusPending, nil)
		le.PutUint32(b[16:], FlagResponse|FlagAsync)
		c.send(b, false)
	}},
}

// TestHostile has a server do each of these, and the client say what is wrong, within its time.
func TestHostile(t *testing.T) {
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer()
				s.encrypt = tt.encrypt
				s.hook = func(c *testConn, h Header, msg []byte) bool {
					if h.Command == CommandCreate {
						tt.do(c, h, msg)
					}
					return h.Command == CommandCreate
				}
				session, tree := s.dial(t, s.config())
				start := time.Now()
				_, err := tree.Open(t.Context(), "small", nil)
				require.ErrorIs(t, err, tt.want)
				require.LessOrEqual(t, time.Since(start), 60*time.Second)
				<-session.Done()
				_, err = tree.Open(t.Context(), "small", nil)
				require.Error(t, err)
			})
		})
	}
}

// TestSilence has a server fall silent at each step.
func TestSilence(t *testing.T) {
	for _, tt := range []struct {
		at    Command
		limit time.Duration
	}{
		{CommandNegotiate, 30 * time.Second}, {CommandSessionSetup, time.Minute}, {CommandTreeConnect, time.Minute},
		{CommandCreate, time.Minute}, {CommandRead, time.Minute}, {CommandQueryDirectory, time.Minute}, {CommandQueryInfo, time.Minute},
	} {
		t.Run(tt.at.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer()
				s.hook = func(_ *testConn, h Header, _ []byte) bool { return h.Command == tt.at }
				start := time.Now()
				err := everything(t.Context(), s.config())
				require.Error(t, err)
				require.True(t, errors.Is(err, ErrNoAnswer) || errors.Is(err, context.DeadlineExceeded), "%v", err)
				require.Equal(t, tt.limit, time.Since(start))
				s.wg.Wait()
			})
		})
	}
}

// everything does what can be done with a server.
func everything(ctx context.Context, cfg *Config) error {
	session, err := Dial(ctx, "server", cfg)
	if err != nil {
		return err
	}
	defer session.Close()
	tree, err := session.TreeConnect(ctx, "share")
	if err != nil {
		return err
	}
	f, err := tree.Open(ctx, "big", nil)
	if err != nil {
		return err
	}
	defer f.CloseLater()
	r := f.NewReader(0, 2<<20, 0, 0)
	defer r.Stop()
	for {
		if _, err = r.Next(ctx); err != nil {
			break
		}
	}
	if err != io.EOF {
		return err
	}
	for range 3 {
		if _, err := f.List(ctx, false); err != nil {
			if err != io.EOF {
				return err
			}
			break
		}
	}
	if _, err := f.Stat(ctx); err != nil {
		return err
	}
	if _, err := f.Streams(ctx); err != nil {
		return err
	}
	if _, err := f.AllocatedRanges(ctx, 0, 1<<40); err != nil {
		return err
	}
	if _, err := tree.ReadFile(ctx, "small", nil, 1<<20); err != nil {
		return err
	}
	return tree.Close()
}

// TestPatience lets a call of a pipe take half an hour, as long as the server answers ECHO; and not
// longer than that.
func TestPatience(t *testing.T) {
	for _, dead := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newTestServer()
			s.hook = func(c *testConn, h Header, msg []byte) bool {
				switch h.Command {
				case CommandEcho:
					return dead
				case CommandIOCTL:
					msg = bytes.Clone(msg)
					s.wg.Go(func() {
						if !dead {
							time.Sleep(30 * time.Minute)
							c.handle(h, msg)
						}
					})
					return true
				}
				return false
			}
			session, _ := s.dial(t, s.config())
			ipc, err := session.TreeConnect(t.Context(), "IPC$")
			require.NoError(t, err)
			pipe, err := ipc.OpenPipe(t.Context(), "pipe")
			require.NoError(t, err)
			start := time.Now()
			_, err = pipe.Transceive(t.Context(), []byte("call"), make([]byte, 100), nil)
			if dead {
				require.ErrorIs(t, err, ErrNoAnswer)
				require.Equal(t, 2*time.Minute, time.Since(start))
				return
			}
			require.NoError(t, err)
			require.Equal(t, 30*time.Minute, time.Since(start))
			require.Greater(t, s.seen(CommandEcho), 20)
		})
	}
}

// TestLies has answers that claim more than there is, or than was asked for.
func TestLies(t *testing.T) {
	for name, reply := range map[string]func(c *testConn, h Header, q ReadRequest){
		"more than was asked for": func(c *testConn, h Header, q ReadRequest) {
			c.reply(h, StatusSuccess, &ReadResponse{Data: make([]byte, q.Length+1)})
		},
		"more than there is": func(c *testConn, h Header, q ReadRequest) {
			b, _ := (&ReadResponse{Data: []byte("data")}).AppendBinary(nil)
			le.PutUint32(b[4:], q.Length)
			c.reply(h, StatusSuccess, rawBody(b))
		},
		"an offset into the header": func(c *testConn, h Header, _ ReadRequest) {
			b, _ := (&ReadResponse{Data: []byte("data")}).AppendBinary(nil)
			b[2] = 0
			c.reply(h, StatusSuccess, rawBody(b))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer()
			s.hook = func(c *testConn, h Header, msg []byte) bool {
				if h.Command != CommandRead {
					return false
				}
				q, _ := ParseReadRequest(msg)
				reply(c, h, q)
				return true
			}
			_, tree := s.dial(t, s.config())
			_, err := tree.ReadFile(t.Context(), "small", nil, -1)
			require.ErrorIs(t, err, ErrProtocol)
		})
	}
	t.Run("a directory entry that leads elsewhere", func(t *testing.T) {
		s := newTestServer()
		s.list = []DirEntry{{Name: "../../etc/passwd"}}
		_, tree := s.dial(t, s.config())
		dir, err := tree.Open(t.Context(), "", nil)
		require.NoError(t, err)
		_, err = dir.List(t.Context(), true)
		require.ErrorIs(t, err, ErrProtocol)
	})
	t.Run("a size of eight exabytes", func(t *testing.T) {
		s := newTestServer()
		s.hook = func(c *testConn, h Header, _ []byte) bool {
			if h.Command != CommandCreate {
				return false
			}
			c.last[0]++
			c.open[c.last] = &testFile{data: []byte("data")}
			c.reply(h, StatusSuccess, &CreateResponse{Info: FileInfo{EndOfFile: 1<<63 - 1}, ID: c.last})
			return true
		}
		_, tree := s.dial(t, s.config())
		got, err := tree.ReadFile(t.Context(), "small", nil, -1)
		require.NoError(t, err)
		require.Equal(t, "data", string(got))
	})
}

// TestNegotiation has servers that choose what was not offered, or that somebody has changed.
func TestNegotiation(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(s *testServer, cfg *Config)
		want error
	}{
		{"a dialect that was not offered", func(s *testServer, cfg *Config) { s.dialect, cfg.Dialects = SMB300, []Dialect{SMB311} }, ErrProtocol},
		{"SMB 2.0.2", func(s *testServer, _ *Config) { s.dialect = 0x0202 }, ErrProtocol},
		{"a cipher that was not offered", func(s *testServer, cfg *Config) { cfg.Ciphers = []Cipher{AES256GCM} }, ErrProtocol},
		{"a signing algorithm that was not offered", func(s *testServer, cfg *Config) { cfg.Signing = []SigningAlgorithm{AESCMAC} }, ErrProtocol},
		{"no cipher where one is demanded", func(s *testServer, cfg *Config) { s.cipher, cfg.Encrypt = 0, true }, ErrNotEncrypted},
		{"SMB 2.1 where encryption is demanded", func(s *testServer, cfg *Config) { s.dialect, cfg.Encrypt = SMB210, true }, ErrNotEncrypted},
		{"a share that encrypts without a cipher", func(s *testServer, _ *Config) { s.cipher, s.sealed = 0, true }, ErrNotEncrypted},
		{"a session that encrypts without a cipher", func(s *testServer, _ *Config) { s.cipher, s.encrypt = 0, true }, ErrNotEncrypted},
		{"a dialect that is not the server's", func(s *testServer, _ *Config) { s.dialect, s.lie = SMB302, true }, ErrDowngrade},
		{"SMB 2.1 that is not the server's", func(s *testServer, _ *Config) { s.dialect, s.lie = SMB210, true }, ErrDowngrade},
		{"a guest", func(s *testServer, _ *Config) {
			s.hook = func(c *testConn, h Header, _ []byte) bool {
				if h.Command == CommandSessionSetup {
					h.SessionID = 0x77
					c.reply(h, StatusSuccess, &SessionSetupResponse{Flags: SessionIsGuest, Token: []byte("welcome")})
				}
				return h.Command == CommandSessionSetup
			}
		}, ErrGuest},
		{"a log-in without the server's proof", func(s *testServer, _ *Config) {
			s.hook = func(c *testConn, h Header, _ []byte) bool {
				if h.Command == CommandSessionSetup {
					h.SessionID = 0x77
					c.reply(h, StatusSuccess, &SessionSetupResponse{})
				}
				return h.Command == CommandSessionSetup
			}
		}, io.ErrUnexpectedEOF}, // the mechanism's own error
		{"a log-in whose end is not signed", func(s *testServer, _ *Config) {
			s.hook = func(c *testConn, h Header, _ []byte) bool {
				if h.Command == CommandSessionSetup {
					h.SessionID = 0x77
					c.reply(h, StatusSuccess, &SessionSetupResponse{Token: []byte("welcome")})
				}
				return h.Command == CommandSessionSetup
			}
		}, ErrNotSigned},
		{"a changed negotiation", func(s *testServer, _ *Config) { // the keys of 3.1.1 prove it
			s.hook = func(c *testConn, h Header, _ []byte) bool {
				if h.Command == CommandSessionSetup {
					c.hash[0] ^= 1
				}
				return false
			}
		}, ErrNotSigned},
		{"no lists in common", func(s *testServer, _ *Config) {
			s.hook = func(c *testConn, h Header, _ []byte) bool { c.reply(h, StatusNotSupported, nil); return true }
		}, StatusNotSupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer()
			cfg := s.config()
			tt.set(s, cfg)
			err := everything(t.Context(), cfg)
			require.ErrorIs(t, err, tt.want)
			t.Log(err)
			s.wg.Wait()
		})
	}
}

// TestConcurrent has many goroutines on one session.
func TestConcurrent(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		s := newTestServer()
		s.encrypt = encrypt
		_, tree := s.dial(t, s.config())
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 2 {
					for name, want := range s.files {
						if got, err := tree.ReadFile(t.Context(), name, nil, -1); err != nil ||
							!bytes.Equal(want, got) {
							t.Error(name, err)
						}
					}
				}
			})
		}
		wg.Wait()
	}
}

// TestNonces ends a session whose key has encrypted as much as it may.
func TestNonces(t *testing.T) {
	s := newTestServer()
	s.encrypt = true
	session, tree := s.dial(t, s.config())
	session.nonce.Store(maxNonce - 1)
	_, err := tree.Open(t.Context(), "small", nil)
	require.NoError(t, err)
	_, err = tree.Open(t.Context(), "small", nil)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorContains(t, err, "as many messages as it may")
	require.EqualValues(t, maxNonce, session.nonce.Load())
}

// FuzzServer has a client talk to a server whose answers the fuzzer changes: there is an error or
// not, and nothing that hangs, panics or is left behind.
func FuzzServer(f *testing.F) {
	f.Add([]byte{}, uint8(0), uint16(0), false)
	f.Add([]byte{0xFF, 0xFF, 0xFF, 0xFF}, uint8(4), uint16(68), false)
	f.Add([]byte{1}, uint8(6), uint16(8), true)
	// Bodies that lie, each in place of some answers.
	list, err := appendDirEntries(nil, []DirEntry{{Name: "one name"}, {Name: "two"}})
	require.NoError(f, err)
	le.PutUint32(list, 112) // the second entry begins in the name of the first
	for _, r := range []appender{
		&QueryResponse{list}, &QueryResponse{make([]byte, 7)},
		&IOCTLResponse{Output: le.AppendUint64(le.AppendUint64(nil, 1<<50), 4096)},
		&ReadResponse{Data: make([]byte, 100)},
	} {
		b, err := r.AppendBinary(nil)
		require.NoError(f, err)
		for nth := uint8(5); nth < 12; nth++ {
			f.Add(b, nth, uint16(0), nth%2 == 0)
		}
		f.Add(b, uint8(9), uint16(0x800), false) // as a warning: there is more
	}
	f.Fuzz(func(t *testing.T, change []byte, nth uint8, at uint16, encrypt bool) {
		s := newTestServer()
		s.files["big"] = s.files["big"][:1<<20]
		s.encrypt = encrypt
		s.list = []DirEntry{{Name: "a"}, {Name: "b"}}
		n := uint8(0)
		s.hook = func(c *testConn, h Header, msg []byte) bool {
			if n++; n != nth%16 {
				return false
			}
			body := append([]byte{}, change...)
			if at%2 == 0 { // with a header of its own
				c.reply(h, Status(at)<<20, rawBody(body))
				return true
			}
			b := c.message(h, StatusSuccess, &ErrorResponse{Data: change})
			copy(b[min(int(at), len(b)):], change)
			c.send(b, encrypt && c.keys != nil && at%3 == 0)
			return true
		}
		cfg := s.config()
		cfg.AnswerTimeout, cfg.LoginTimeout, cfg.NegotiateTimeout = 500*time.Millisecond, 500*time.Millisecond, 500*time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := everything(ctx, cfg)
		require.NoError(t, ctx.Err(), "%v", err)
		s.wg.Wait()
	})
}
