package smb2

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// seal encrypts a message as the server does, with what change makes of the frame's header.
func (c *testConn) seal(msg []byte, change func(head []byte)) []byte {
	c.mu.Lock()
	c.nonce++
	b := c.keys.Seal(append(make([]byte, TransformSize), msg...), 0x77, c.nonce, true)
	c.mu.Unlock()
	change(b)
	return b
}

// notice is the break of an oplock, which nobody has asked for (MS-SMB2 2.2.23.1).
func notice() []byte {
	h := Header{Command: CommandOplockBreak, Flags: FlagResponse, MessageID: ^uint64(0)}
	b, _ := h.AppendBinary(nil)
	return append(b, make([]byte, 24)...)
}

// compound makes one frame's text of messages; each but the last must be padded.
func compound(msgs ...[]byte) (b []byte) {
	for i, m := range msgs {
		if i < len(msgs)-1 {
			le.PutUint32(m[20:], uint32(len(m)))
		}
		b = append(b, m...)
	}
	return b
}

// pad has a message end at a multiple of eight bytes, signed anew.
func (c *testConn) pad(msg []byte, next uint32) []byte {
	for len(msg)%8 != 0 {
		msg = append(msg, 0)
	}
	le.PutUint32(msg[20:], next)
	c.signer.Sign(msg)
	return msg
}

// TestHostileFrames has a server do these when it is asked to open a file. Not all of them concern
// the one answer; then the file is opened, and what came with it may end the connection.
func TestHostileFrames(t *testing.T) {
	ok := func(c *testConn, h Header) []byte {
		c.last[0]++
		c.open[c.last] = &testFile{data: []byte("small")}
		return c.message(h, StatusSuccess, &CreateResponse{ID: c.last})
	}
	for _, tt := range []struct {
		name    string
		want    error // of the opening; nil: it succeeds
		ends    error // the session; nil: it goes on
		encrypt bool
		do      func(c *testConn, h Header)
	}{
		{"breaks of oplocks that nobody has", nil, nil, false, func(c *testConn, h Header) {
			for range 1000 {
				c.send(notice(), false)
			}
			c.send(ok(c, h), false)
		}},
		{"a final answer that is asynchronous, without an interim one", nil, nil, false, func(c *testConn, h Header) {
			h.Flags |= FlagAsync
			c.send(ok(c, h), false)
		}},
		{"interim answers with other ids", nil, nil, false, func(c *testConn, h Header) {
			h.Flags |= FlagAsync
			for id := range uint64(100) {
				h.AsyncID = id
				c.reply(h, StatusPending, nil)
			}
			c.send(ok(c, h), false)
		}},
		{"two answers to one request", nil, ErrProtocol, false, func(c *testConn, h Header) {
			first, second := c.pad(ok(c, h), 0), ok(c, h)
			c.send(compound(c.pad(first, uint32(len(first))), second), false)
		}},
		{"a compound whose second message is nowhere", nil, ErrProtocol, false, func(c *testConn, h Header) {
			b := c.pad(ok(c, h), 0)
			c.send(c.pad(b, uint32(len(b))), false)
		}},
		{"a compound whose second message is no message", nil, ErrProtocol, false, func(c *testConn, h Header) {
			b := c.pad(ok(c, h), 0)
			c.send(append(c.pad(b, uint32(len(b))), make([]byte, 80)...), false)
		}},
		{"a long compound", ErrProtocol, ErrProtocol, false, func(c *testConn, h Header) {
			b := c.pad(ok(c, h), 0)
			msgs := [][]byte{c.pad(b, uint32(len(b)))}
			for range 10_000 {
				msgs = append(msgs, notice())
			}
			c.send(compound(msgs...), false)
		}},
		{"an answer that is padded", ErrProtocol, ErrProtocol, false, func(c *testConn, h Header) {
			b := append(ok(c, h), make([]byte, 1<<20)...)
			c.signer.Sign(b)
			c.send(b, false)
		}},
		{"an answer that is padded, encrypted", ErrProtocol, ErrProtocol, true, func(c *testConn, h Header) {
			c.send(append(ok(c, h), make([]byte, 1<<20)...), true)
		}},
		{"signed by another key", ErrNotSigned, ErrNotSigned, false, func(c *testConn, h Header) {
			b := ok(c, h)
			other, _ := NewSigner(SMB311, AESGMAC, []byte("another key of sixteen bytes"), c.hash)
			other.Sign(b)
			c.send(b, false)
		}},
		{"signed by another algorithm", ErrNotSigned, ErrNotSigned, false, func(c *testConn, h Header) {
			b := ok(c, h)
			other, _ := NewSigner(SMB311, AESCMAC, testKey, c.hash)
			other.Sign(b)
			c.send(b, false)
		}},
		{"a frame of another session", ErrProtocol, ErrProtocol, true, func(c *testConn, h Header) {
			c.send(c.seal(ok(c, h), func(b []byte) { le.PutUint64(b[44:], 0x78) }), false)
		}},
		{"a frame that says it is longer", ErrProtocol, ErrProtocol, true, func(c *testConn, h Header) {
			c.send(c.seal(ok(c, h), func(b []byte) { le.PutUint32(b[36:], 0xFFFFFFFF) }), false)
		}},
		{"a frame that says it is shorter", ErrProtocol, ErrProtocol, true, func(c *testConn, h Header) {
			c.send(c.seal(ok(c, h), func(b []byte) { le.PutUint32(b[36:], 64) }), false)
		}},
		{"a frame with other flags", ErrProtocol, ErrProtocol, true, func(c *testConn, h Header) {
			c.send(c.seal(ok(c, h), func(b []byte) { le.PutUint16(b[42:], 2) }), false)
		}},
		{"a frame with another nonce", ErrProtocol, ErrProtocol, true, func(c *testConn, h Header) {
			c.send(c.seal(ok(c, h), func(b []byte) { b[20] ^= 1 }), false)
		}},
		{"an encrypted frame within one", ErrProtocol, ErrProtocol, true, func(c *testConn, h Header) {
			c.send(c.seal(ok(c, h), func([]byte) {}), true)
		}},
		{"an encrypted frame without a message", ErrProtocol, ErrProtocol, true, func(c *testConn, _ Header) {
			c.send(nil, true)
		}},
		{"a compressed frame", ErrProtocol, ErrProtocol, false, func(c *testConn, _ Header) {
			c.send(append([]byte(MagicCompressed), make([]byte, 100)...), false)
		}},
		{"interim answers for ever", ErrNoAnswer, ErrNoAnswer, false, func(c *testConn, h Header) {
			h.Flags |= FlagAsync
			c.s.wg.Go(func() {
				for start := time.Now(); time.Since(start) < time.Hour; time.Sleep(time.Second) {
					c.reply(h, StatusPending, nil)
				}
			})
		}},
		{"one interim answer, and nothing after it", ErrNoAnswer, ErrNoAnswer, true, func(c *testConn, h Header) {
			h.Flags |= FlagAsync
			c.reply(h, StatusPending, nil)
		}},
		{"a byte a minute", ErrNoAnswer, ErrNoAnswer, false, func(c *testConn, h Header) {
			c.s.wg.Go(func() {
				_, _ = c.nc.Write([]byte{0, 0, 0, 200})
				for range 200 {
					if _, err := c.nc.Write([]byte{0xFE}); err != nil {
						return
					}
					time.Sleep(time.Minute)
				}
			})
		}},
		{"a session that expires whenever it is used", StatusNetworkSessionExpired, nil, false, func(c *testConn, h Header) {
			c.reply(h, StatusNetworkSessionExpired, nil)
		}},
		{"a status that is none", Status(0xFFFFFFFF), nil, false, func(c *testConn, h Header) {
			c.reply(h, Status(0xFFFFFFFF), nil)
		}},
		{"a status of success that is no success", Status(0x123), nil, false, func(c *testConn, h Header) {
			c.reply(h, Status(0x123), nil)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer()
				s.encrypt = tt.encrypt
				s.hook = func(c *testConn, h Header, _ []byte) bool {
					if h.Command == CommandCreate {
						tt.do(c, h)
					}
					return h.Command == CommandCreate
				}
				session, tree := s.dial(t, s.config())
				start := time.Now()
				f, err := tree.Open(t.Context(), "small", nil)
				require.LessOrEqual(t, time.Since(start), 1001*time.Second)
				if tt.want != nil {
					require.ErrorIs(t, err, tt.want)
				} else {
					require.NoError(t, err)
				}
				if tt.ends != nil {
					<-session.Done()
					require.ErrorIs(t, session.Err(), tt.ends)
					return
				}
				if err == nil {
					require.NoError(t, f.Close(t.Context()))
				}
				_, err = tree.Open(t.Context(), "small", nil)
				if tt.want == nil {
					require.NoError(t, err)
				}
				require.NoError(t, session.Err())
			})
		})
	}
}

// TestPendingTime has a server be at work on a read for a quarter of an hour, which is not too
// long.
func TestPendingTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer()
		s.hook = func(c *testConn, h Header, msg []byte) bool {
			if h.Command != CommandRead {
				return false
			}
			msg = append([]byte(nil), msg...)
			s.wg.Go(func() {
				h := h
				h.Flags |= FlagAsync
				c.reply(h, StatusPending, nil)
				time.Sleep(15 * time.Minute)
				c.handle(h, msg)
			})
			return true
		}
		_, tree := s.dial(t, s.config())
		got, err := tree.ReadFile(t.Context(), "small", nil, -1)
		require.NoError(t, err)
		require.Equal(t, "small", string(got))
	})
}

// TestNoCreditsBesideACall has a call of a pipe hold the last credit: others do not wait for ever,
// and the call goes on.
func TestNoCreditsBesideACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer()
		answer := make(chan struct{})
		s.hook = func(c *testConn, h Header, msg []byte) bool {
			if h.Command != CommandIOCTL {
				return false
			}
			msg = append([]byte(nil), msg...)
			s.wg.Go(func() {
				<-answer
				c.handle(h, msg)
			})
			return true
		}
		session, _ := s.dial(t, s.config())
		ipc, err := session.TreeConnect(t.Context(), "IPC$")
		require.NoError(t, err)
		s.mu.Lock()
		s.grant = func(uint16) uint16 { return 0 }
		s.mu.Unlock()
		pipe, err := ipc.OpenPipe(t.Context(), "pipe")
		require.NoError(t, err)
		called := make(chan error, 1)
		for session.c.credits > 1 {
			_, err := ipc.OpenPipe(t.Context(), "none")
			require.ErrorIs(t, err, StatusObjectNameNotFound)
		}
		go func() {
			_, err := pipe.Transceive(context.Background(), []byte("call"), make([]byte, 100), nil)
			called <- err
		}()
		synctest.Wait()
		start := time.Now()
		_, err = ipc.OpenPipe(t.Context(), "pipe")
		require.ErrorIs(t, err, ErrNoCredits)
		require.Equal(t, time.Minute, time.Since(start))
		require.True(t, session.Alive())
		close(answer)
		require.NoError(t, <-called)
	})
}

// endlessMechanism has always one more token to send.
type endlessMechanism struct{ dcerpc.Context }

func (endlessMechanism) AuthType() dcerpc.AuthType { return dcerpc.AuthNTLM }
func (m endlessMechanism) NewContext(string, dcerpc.AuthLevel) (dcerpc.Context, error) {
	return m, nil
}
func (endlessMechanism) Step(context.Context, []byte) ([]byte, bool, error) {
	return []byte("more"), false, nil
}

// TestEndlessLogin has a server ask for one token more, for ever.
func TestEndlessLogin(t *testing.T) {
	s := newTestServer()
	s.hook = func(c *testConn, h Header, _ []byte) bool {
		if h.Command != CommandSessionSetup {
			return false
		}
		h.SessionID = 0x77
		c.reply(h, StatusMoreProcessing, &SessionSetupResponse{Token: []byte("and more")})
		return true
	}
	cfg := s.config()
	cfg.Auth = endlessMechanism{}
	_, err := Dial(t.Context(), "server", cfg)
	require.ErrorIs(t, err, ErrProtocol)
	require.ErrorContains(t, err, "without an end")
	require.LessOrEqual(t, s.seen(CommandSessionSetup), 16)
	s.wg.Wait()
}

// TestKeyAfterRenewal has a server change its key with the log-in of an expired session, which
// keeps its keys (MS-SMB2 3.3.5.5.3).
func TestKeyAfterRenewal(t *testing.T) {
	s := newTestServer()
	expired := true
	s.hook = func(c *testConn, h Header, msg []byte) bool {
		switch {
		case h.Command == CommandCreate && expired:
			expired = false
			c.reply(h, StatusNetworkSessionExpired, nil)
			return true
		case h.Command == CommandCreate:
			c.signer, _ = NewSigner(SMB311, AESGMAC, []byte("the key of the second log-in"), c.hash)
		}
		return false
	}
	session, tree := s.dial(t, s.config())
	_, err := tree.Open(t.Context(), "small", nil)
	require.ErrorIs(t, err, ErrNotSigned)
	<-session.Done()
}

// TestHostileNegotiation has a server choose by contexts that are not as they must be.
func TestHostileNegotiation(t *testing.T) {
	preauth, enc, sign := PreauthContext([]byte("salt")), EncryptionContext(AES128GCM), SigningContext(AESGMAC)
	for _, tt := range []struct {
		name   string
		change func(r *NegotiateResponse)
		raw    func(body []byte)
	}{
		{"the wildcard", func(r *NegotiateResponse) { r.Dialect = 0x02FF }, nil},
		{"no dialect", func(r *NegotiateResponse) { r.Dialect = 0 }, nil},
		{"no context", func(r *NegotiateResponse) { r.Contexts = nil }, nil},
		{"no hash", func(r *NegotiateResponse) { r.Contexts = []NegotiateContext{enc, sign} }, nil},
		{"two hashes", func(r *NegotiateResponse) { r.Contexts = []NegotiateContext{preauth, preauth, enc} }, nil},
		{"another hash", func(r *NegotiateResponse) {
			other := PreauthContext(nil)
			le.PutUint16(other.Data[4:], 2)
			r.Contexts = []NegotiateContext{other, enc}
		}, nil},
		{"two ciphers", func(r *NegotiateResponse) { r.Contexts = []NegotiateContext{preauth, enc, enc} }, nil},
		{"a choice of two ciphers", func(r *NegotiateResponse) {
			r.Contexts = []NegotiateContext{preauth, EncryptionContext(AES128GCM, AES128CCM)}
		}, nil},
		{"a choice of no cipher", func(r *NegotiateResponse) {
			r.Contexts = []NegotiateContext{preauth, EncryptionContext()}
		}, nil},
		{"ciphers without end", func(r *NegotiateResponse) {
			c := EncryptionContext(AES128GCM)
			le.PutUint16(c.Data, 0xFFFF)
			r.Contexts = []NegotiateContext{preauth, c}
		}, nil},
		{"an empty context", func(r *NegotiateResponse) {
			r.Contexts = []NegotiateContext{preauth, {ContextEncryption, nil}}
		}, nil},
		{"two signing algorithms", func(r *NegotiateResponse) { r.Contexts = []NegotiateContext{preauth, sign, sign} }, nil},
		{"a signing algorithm that there is not", func(r *NegotiateResponse) {
			r.Contexts = []NegotiateContext{preauth, SigningContext(77)}
		}, nil},
		{"a thousand contexts", func(r *NegotiateResponse) {
			r.Contexts = []NegotiateContext{preauth}
			for range 1000 {
				r.Contexts = append(r.Contexts, NegotiateContext{Type: 0x100})
			}
		}, nil},
		{"more contexts than there are", nil, func(b []byte) { le.PutUint16(b[6:], 60) }},
		{"contexts in the header", nil, func(b []byte) { le.PutUint32(b[60:], 8) }},
		{"contexts beyond the end", nil, func(b []byte) { le.PutUint32(b[60:], 0xFFFFFFF8) }},
		{"a token beyond the end", nil, func(b []byte) { le.PutUint16(b[58:], 0xFFFF) }},
		{"reads of nothing", func(r *NegotiateResponse) { r.MaxReadSize = 0 }, nil},
		{"transactions of nothing", func(r *NegotiateResponse) { r.MaxTransactSize = 1 }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer()
			s.hook = func(c *testConn, h Header, _ []byte) bool {
				if h.Command != CommandNegotiate {
					return false
				}
				r := NegotiateResponse{SecurityMode: SigningEnabled, Dialect: SMB311, Capabilities: CapLargeMTU,
					MaxTransactSize: 1 << 20, MaxReadSize: 1 << 20, Contexts: []NegotiateContext{preauth, enc, sign}}
				if tt.change != nil {
					tt.change(&r)
				}
				body, err := r.AppendBinary(nil)
				if err != nil {
					t.Error(err)
				}
				if tt.raw != nil {
					tt.raw(body)
				}
				c.reply(h, StatusSuccess, rawBody(body))
				return true
			}
			_, err := Dial(t.Context(), "server", s.config())
			require.ErrorIs(t, err, ErrProtocol)
			s.wg.Wait()
		})
	}
}

// TestHugeLimits has a server allow everything: what is kept stays within bounds.
func TestHugeLimits(t *testing.T) {
	s := newTestServer()
	s.hook = func(c *testConn, h Header, msg []byte) bool {
		if h.Command != CommandNegotiate {
			return false
		}
		out := c.message(h, StatusSuccess, &NegotiateResponse{
			SecurityMode: SigningEnabled, Dialect: SMB311, Capabilities: CapLargeMTU,
			MaxTransactSize: 0xFFFFFFFF, MaxReadSize: 0xFFFFFFFF, MaxWriteSize: 0xFFFFFFFF,
			Contexts: []NegotiateContext{PreauthContext([]byte("salt")), EncryptionContext(AES128GCM), SigningContext(AESGMAC)},
		})
		c.hash = c.hash.Add(msg).Add(out)
		c.send(out, false)
		return true
	}
	session, tree := s.dial(t, s.config())
	require.LessOrEqual(t, session.maxRead, 8<<20)
	require.Less(t, session.c.maxFrame, 9<<20)
	_, err := tree.ReadFile(t.Context(), "big", nil, -1)
	require.NoError(t, err)
}

// TestListings has listings that are not as MS-FSCC says.
func TestListings(t *testing.T) {
	two, err := appendDirEntries(nil, []DirEntry{{Name: "one name"}, {Name: "two"}})
	require.NoError(t, err)
	changed := func(change func(b []byte)) []byte {
		b := append([]byte(nil), two...)
		change(b)
		return b
	}
	named := func(names ...string) []byte {
		var list []DirEntry
		for _, n := range names {
			list = append(list, DirEntry{Name: n})
		}
		b, err := appendDirEntries(nil, list)
		require.NoError(t, err)
		return b
	}
	for name, out := range map[string][]byte{
		"an entry that leads to itself":    changed(func(b []byte) { le.PutUint32(b, 1) }),
		"an entry in the one before":       changed(func(b []byte) { le.PutUint32(b, 104) }),
		"an entry in the name before":      changed(func(b []byte) { le.PutUint32(b, 112) }),
		"an entry behind the end":          changed(func(b []byte) { le.PutUint32(b, 0x7FFFFFFF) }),
		"an entry before the start":        changed(func(b []byte) { le.PutUint32(b, 0xFFFFFFF8) }),
		"a name of odd length":             changed(func(b []byte) { le.PutUint32(b[60:], 15) }),
		"a name of four gigabytes":         changed(func(b []byte) { le.PutUint32(b[60:], 0xFFFFFFFF) }),
		"a name without a letter":          changed(func(b []byte) { le.PutUint32(b[60:], 0) }),
		"a name with a NUL":                named("a\x00b"),
		"a name with a slash":              named("a/b"),
		"a name with a backslash":          named(`a\b`),
		"a name above the directory":       named(`..\..\etc\passwd`),
		"an absolute name":                 named("/etc/passwd"),
		"a good name before one that lies": named("good", "../bad"),
		"half an entry":                    two[:60],
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer()
			s.hook = func(c *testConn, h Header, _ []byte) bool {
				if h.Command == CommandQueryDirectory {
					c.reply(h, StatusSuccess, &QueryResponse{out})
				}
				return h.Command == CommandQueryDirectory
			}
			_, tree := s.dial(t, s.config())
			dir, err := tree.Open(t.Context(), "", nil)
			require.NoError(t, err)
			list, err := dir.List(t.Context(), true)
			require.ErrorIs(t, err, ErrProtocol)
			require.Empty(t, list)
		})
	}
	got, err := ParseDirEntries(named(".", "..", "...", "a:b", " ", "-rf", "CON"), nil)
	require.NoError(t, err)
	require.Len(t, got, 5, "what a file may be called is for whoever writes it to judge")
}

// TestQueries has answers to queries that are not as MS-FSCC says, or longer than what was asked
// for.
func TestQueries(t *testing.T) {
	stream := func(next uint32, name string, odd uint32) []byte {
		n, err := AppendName(nil, name)
		require.NoError(t, err)
		b := le.AppendUint32(nil, next)
		b = le.AppendUint32(b, uint32(len(n))-odd)
		return append(append(b, make([]byte, 16)...), n...)
	}
	type ask func(ctx context.Context, f *File) error
	streams := func(ctx context.Context, f *File) error { _, err := f.Streams(ctx); return err }
	stat := func(ctx context.Context, f *File) error { _, err := f.Stat(ctx); return err }
	tag := func(ctx context.Context, f *File) error { _, err := f.ReparseTag(ctx); return err }
	descriptor := func(ctx context.Context, f *File) error { _, err := f.Descriptor(ctx, SecurityOwner); return err }
	for _, tt := range []struct {
		name string
		ask  ask
		out  appender
	}{
		{"a stream that leads to itself", streams, &QueryResponse{stream(1, "::$DATA", 0)}},
		{"a stream in the one before", streams,
			&QueryResponse{append(stream(24, ":a long name:$DATA", 0), make([]byte, 40)...)}},
		{"a stream behind the end", streams, &QueryResponse{stream(1<<30, "::$DATA", 0)}},
		{"a stream with a name of odd length", streams, &QueryResponse{stream(0, ":name:$DATA", 1)}},
		{"a stream without a colon", streams, &QueryResponse{stream(0, "name", 0)}},
		{"a stream above the file", streams, &QueryResponse{stream(0, `:..\..\x:$DATA`, 0)}},
		{"a stream of a type with a path", streams, &QueryResponse{stream(0, ":x:$DATA/../y", 0)}},
		{"a stream of a type in two parts", streams, &QueryResponse{stream(0, ":x:$DATA:y", 0)}},
		{"half a stream", streams, &QueryResponse{stream(0, "::$DATA", 0)[:20]}},
		{"half of what is known", stat, &QueryResponse{make([]byte, 40)}},
		{"half a tag", tag, &QueryResponse{make([]byte, 7)}},
		{"a descriptor of more than was asked for", descriptor, &QueryResponse{make([]byte, outputSize+1)}},
		{"a descriptor beyond the end", descriptor, rawBody{9, 0, 72, 0, 255, 255, 0, 0, 1}},
		{"a descriptor in the header", descriptor, rawBody{9, 0, 8, 0, 1, 0, 0, 0, 1}},
		{"a descriptor of four gigabytes", descriptor, rawBody{9, 0, 72, 0, 255, 255, 255, 255, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer()
			s.hook = func(c *testConn, h Header, _ []byte) bool {
				if h.Command == CommandQueryInfo {
					c.reply(h, StatusSuccess, tt.out)
				}
				return h.Command == CommandQueryInfo
			}
			session, tree := s.dial(t, s.config())
			f, err := tree.Open(t.Context(), "small", nil)
			require.NoError(t, err)
			require.ErrorIs(t, tt.ask(t.Context(), f), ErrProtocol)
			<-session.Done()
		})
	}
}

// TestRangesThatLie asks for the allocated ranges of a file of one megabyte.
func TestRangesThatLie(t *testing.T) {
	const size = 1 << 20
	ranges := func(v ...uint64) (out []byte) {
		for _, x := range v {
			out = le.AppendUint64(out, x)
		}
		return out
	}
	for _, tt := range []struct {
		name   string
		status Status
		out    []byte
		want   []Range // nil: an error
	}{
		{"overlapping", StatusSuccess, ranges(0, 4096, 2048, 4096), []Range{{0, 4096}, {4096, 2048}}},
		{"one within the other", StatusSuccess, ranges(0, 8192, 4096, 4096), nil},
		{"backwards", StatusSuccess, ranges(8192, 4096, 0, 4096), nil},
		{"beyond the end", StatusSuccess, ranges(4096, 1<<62), []Range{{4096, size - 4096}}},
		{"all of it beyond the end", StatusSuccess, ranges(size, 4096), []Range{}},
		{"empty", StatusSuccess, ranges(4096, 0), nil},
		{"negative", StatusSuccess, ranges(1<<63, 4096), nil},
		{"of negative length", StatusSuccess, ranges(0, 1<<63), nil},
		{"around the end of all numbers", StatusSuccess, ranges(1<<62, 1<<62), nil},
		{"half a range", StatusSuccess, ranges(0), nil},
		{"more to come, and none now", StatusBufferOverflow, nil, nil},
		{"more to come, and these beyond the end", StatusBufferOverflow, ranges(size, 4096), nil},
		{"more to come, and the same again", StatusBufferOverflow, ranges(0, 4096), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer()
			s.hook = func(c *testConn, h Header, _ []byte) bool {
				if h.Command == CommandIOCTL {
					c.reply(h, tt.status, &IOCTLResponse{Code: FSCTLQueryAllocatedRanges, Output: tt.out})
				}
				return h.Command == CommandIOCTL
			}
			_, tree := s.dial(t, s.config())
			f, err := tree.Open(t.Context(), "small", nil)
			require.NoError(t, err)
			got, err := f.AllocatedRanges(t.Context(), 0, size)
			if tt.want == nil {
				require.ErrorIs(t, err, ErrProtocol)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, append([]Range{}, got...))
		})
	}
	t.Run("one byte at a time", func(t *testing.T) {
		s := newTestServer()
		s.hook = func(c *testConn, h Header, msg []byte) bool {
			if h.Command != CommandIOCTL {
				return false
			}
			q, _ := ParseIOCTLRequest(msg)
			c.reply(h, StatusBufferOverflow, &IOCTLResponse{Output: ranges(le.Uint64(q.Input), 1)})
			return true
		}
		_, tree := s.dial(t, s.config())
		f, err := tree.Open(t.Context(), "small", nil)
		require.NoError(t, err)
		_, err = f.AllocatedRanges(t.Context(), 0, 1<<40)
		require.ErrorIs(t, err, ErrProtocol)
		require.Less(t, s.seen(CommandIOCTL), 10_000)
	})
}

// TestOutputs has outputs of control codes that lie about their length.
func TestOutputs(t *testing.T) {
	body := func(off, n uint32) rawBody {
		b, _ := (&IOCTLResponse{Output: []byte("reparse data")}).AppendBinary(nil)
		le.PutUint32(b[32:], off)
		le.PutUint32(b[36:], n)
		return b
	}
	for name, out := range map[string]appender{
		"more than there is":      body(HeaderSize+48, 100),
		"in the header":           body(1, 10),
		"behind the end":          body(1<<31, 10),
		"around":                  body(0xFFFFFFFF, 0xFFFFFFFF),
		"four gigabytes":          body(HeaderSize+48, 0xFFFFFFFF),
		"more than was asked for": &IOCTLResponse{Output: make([]byte, outputSize+1)},
		"nothing of it":           rawBody{49, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer()
			s.hook = func(c *testConn, h Header, _ []byte) bool {
				if h.Command == CommandIOCTL {
					c.reply(h, StatusSuccess, out)
				}
				return h.Command == CommandIOCTL
			}
			session, tree := s.dial(t, s.config())
			f, err := tree.Open(t.Context(), "small", nil)
			require.NoError(t, err)
			_, err = f.ReparsePoint(t.Context())
			require.ErrorIs(t, err, ErrProtocol)
			<-session.Done()
		})
	}
}

// TestSilentCompound answers a part of a compound.
func TestSilentCompound(t *testing.T) {
	for n, silent := range []Command{CommandCreate, CommandRead, CommandClose} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer()
				s.hook = func(_ *testConn, h Header, _ []byte) bool { return h.Command == silent }
				session, tree := s.dial(t, s.config())
				start := time.Now()
				_, err := tree.ReadFile(t.Context(), "small", nil, -1)
				if silent == CommandClose { // nobody waits for it
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, ErrNoAnswer)
				}
				<-session.Done()
				require.ErrorIs(t, session.Err(), ErrNoAnswer)
				require.Equal(t, time.Minute, time.Since(start))
			})
		})
	}
}

// TestReadsThatStop has a file end before its end, or go on behind it.
func TestReadsThatStop(t *testing.T) {
	s := newTestServer()
	reads := 0
	s.hook = func(c *testConn, h Header, msg []byte) bool {
		if h.Command != CommandRead {
			return false
		}
		q, _ := ParseReadRequest(msg)
		reads++
		switch {
		case q.Offset >= 1<<20:
			c.reply(h, StatusSuccess, &ReadResponse{}) // nothing, without an error
		default:
			c.reply(h, StatusSuccess, &ReadResponse{Data: make([]byte, min(q.Length, 1<<18))})
		}
		return true
	}
	_, tree := s.dial(t, s.config())
	f, err := tree.Open(t.Context(), "big", nil)
	require.NoError(t, err)
	r := f.NewReader(0, -1, 0, 0)
	n := 0
	for {
		b, err := r.Next(t.Context())
		if err != nil {
			require.Equal(t, io.EOF, err)
			break
		}
		n += len(b)
	}
	require.Equal(t, 1<<20, n)
	r.Stop()
	require.NoError(t, f.CloseLater())
	require.ErrorIs(t, f.CloseLater(), net.ErrClosed)
}
