package smb2

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// testKey is the session key of testMechanism.
var testKey = []byte("a session key of thirty-two byte")

// testMechanism logs in by one token each way, which go without SPNEGO.
type testMechanism struct{}

func (testMechanism) AuthType() dcerpc.AuthType { return dcerpc.AuthNTLM }
func (testMechanism) NewContext(string, dcerpc.AuthLevel) (dcerpc.Context, error) {
	return &testSecurity{}, nil
}

type testSecurity struct {
	dcerpc.Context
	sent bool
}

func (s *testSecurity) Step(_ context.Context, in []byte) ([]byte, bool, error) {
	if !s.sent {
		s.sent = true
		return []byte("hello"), false, nil
	}
	if string(in) != "welcome" {
		return nil, false, io.ErrUnexpectedEOF
	}
	return nil, true, nil
}

func (s *testSecurity) SessionKey() []byte { return testKey }

// A testServer is an SMB server of one share with files in memory and a pipe that echoes. Its hook
// makes it misbehave.
type testServer struct {
	dialect Dialect
	signing SigningAlgorithm
	cipher  Cipher
	encrypt bool // the session
	sealed  bool // the share
	lie     bool // about what was negotiated
	files   map[string][]byte
	list    []DirEntry
	endless bool
	grant   func(asked uint16) uint16
	// hook may answer in the server's place; it then returns true.
	hook func(c *testConn, h Header, msg []byte) bool

	wg    sync.WaitGroup
	mu    sync.Mutex
	count map[Command]int
}

func newTestServer() *testServer {
	return &testServer{
		dialect: SMB311, signing: AESGMAC, cipher: AES128GCM,
		files: map[string][]byte{"small": []byte("small"), "empty": {},
			"big": bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)},
		count: make(map[Command]int),
	}
}

func (s *testServer) seen(c Command) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count[c]
}

// config reaches the server.
func (s *testServer) config() *Config {
	return &Config{Auth: testMechanism{}, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		s.wg.Go(func() { s.serve(server) })
		return client, nil
	}}
}

// dial logs in, until the test ends.
func (s *testServer) dial(t testing.TB, cfg *Config) (*Session, *Tree) {
	t.Helper()
	session, err := Dial(t.Context(), "server", cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		session.Close()
		s.wg.Wait()
	})
	tree, err := session.TreeConnect(t.Context(), "share")
	require.NoError(t, err)
	return session, tree
}

type testConn struct {
	s      *testServer
	nc     net.Conn
	hash   Preauth
	signer *Signer
	keys   *Keys

	mu    sync.Mutex
	nonce uint64
	open  map[FileID]*testFile
	last  FileID
}

type testFile struct {
	data   []byte
	listed bool
}

func (s *testServer) serve(nc net.Conn) {
	defer nc.Close()
	c := &testConn{s: s, nc: nc, open: make(map[FileID]*testFile)}
	for {
		var size [4]byte
		if _, err := io.ReadFull(nc, size[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(nc, b); err != nil {
			return
		}
		encrypted := string(b[:4]) == MagicTransform
		if encrypted {
			var err error
			if b, err = c.keys.Open(b, false); err != nil {
				return
			}
		}
		for len(b) > 0 {
			h, err := ParseHeader(b)
			if err != nil {
				return
			}
			msg := b
			if b = nil; h.NextCommand != 0 {
				msg, b = msg[:h.NextCommand], msg[h.NextCommand:]
			}
			if c.signer != nil && !encrypted && !c.signer.Verify(msg) {
				return // it would not be heard
			}
			s.mu.Lock()
			s.count[h.Command]++
			hook := s.hook
			s.mu.Unlock()
			if encrypted {
				h.Flags |= 1 << 30 // for reply
			}
			if hook == nil || !hook(c, h, msg) {
				c.handle(h, msg)
			}
		}
	}
}

type appender interface {
	AppendBinary([]byte) ([]byte, error)
}

type rawBody []byte

func (r rawBody) AppendBinary(dst []byte) ([]byte, error) { return append(dst, r...), nil }

// message makes an answer, signed as it must be.
func (c *testConn) message(h Header, status Status, body appender) []byte {
	if body == nil {
		body = &ErrorResponse{}
	}
	h.Flags = h.Flags&(FlagAsync|1<<30) | FlagResponse
	h.Status, h.NextCommand = status, 0
	if c.s.grant != nil {
		h.Credits = c.s.grant(h.Credits)
	}
	encrypted := h.Flags&(1<<30) != 0
	h.Flags &^= 1 << 30
	msg, err := h.AppendBinary(nil)
	if err == nil {
		msg, err = body.AppendBinary(msg)
	}
	if err != nil {
		panic(err)
	}
	if c.signer != nil && !encrypted {
		c.signer.Sign(msg)
	}
	return msg
}

// reply answers a request, encrypted if that was.
func (c *testConn) reply(h Header, status Status, body appender) {
	c.send(c.message(h, status, body), h.Flags&(1<<30) != 0)
}

func (c *testConn) send(msg []byte, encrypted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if encrypted {
		c.nonce++
		msg = c.keys.Seal(append(make([]byte, TransformSize), msg...), 0x77, c.nonce, true)
	}
	_, _ = c.nc.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(msg))), msg...))
}

func (c *testConn) handle(h Header, msg []byte) {
	s := c.s
	switch h.Command {
	case CommandNegotiate:
		r := &NegotiateResponse{
			SecurityMode: SigningEnabled, Dialect: s.dialect, ServerGUID: [16]byte{1}, Capabilities: CapLargeMTU,
			MaxTransactSize: 1 << 20, MaxReadSize: 1 << 20, MaxWriteSize: 1 << 20,
		}
		if s.dialect == SMB311 {
			r.Contexts = []NegotiateContext{PreauthContext([]byte("salt")), EncryptionContext(s.cipher),
				SigningContext(s.signing)}
		} else if s.dialect >= SMB300 && s.cipher != 0 {
			r.Capabilities |= CapEncryption
		}
		out := c.message(h, StatusSuccess, r)
		c.hash = c.hash.Add(msg).Add(out)
		c.send(out, false)
	case CommandSessionSetup:
		c.sessionSetup(h, msg)
	case CommandTreeConnect:
		h.TreeID = 5
		r := &TreeConnectResponse{Type: ShareDisk}
		if s.sealed {
			r.Flags = ShareFlagEncryptData
		}
		if q, _ := ParseTreeConnectRequest(msg); q.Path == `\\server\IPC$` {
			r.Type = SharePipe
		}
		c.reply(h, StatusSuccess, r)
	case CommandCreate:
		q, _ := ParseCreateRequest(msg)
		data, ok := s.files[q.Name]
		if !ok && q.Name != "" && q.Name != "pipe" {
			c.reply(h, StatusObjectNameNotFound, nil)
			c.last = FileID{}
			return
		}
		c.last[0]++
		c.open[c.last] = &testFile{data: data}
		c.reply(h, StatusSuccess, &CreateResponse{Info: FileInfo{EndOfFile: uint64(len(data))}, ID: c.last})
	case CommandClose:
		q, _ := ParseCloseRequest(msg)
		delete(c.open, q.ID)
		c.reply(h, StatusSuccess, &CloseResponse{})
	case CommandRead:
		q, _ := ParseReadRequest(msg)
		f := c.file(q.ID)
		switch {
		case f == nil:
			c.reply(h, StatusFileClosed, nil)
		case q.Offset >= uint64(len(f.data)):
			c.reply(h, StatusEndOfFile, nil)
		default:
			data := f.data[q.Offset:]
			c.reply(h, StatusSuccess, &ReadResponse{Data: data[:min(len(data), int(q.Length))]})
		}
	case CommandQueryDirectory:
		q, _ := ParseQueryDirectoryRequest(msg)
		f := c.file(q.ID)
		if f.listed && !s.endless {
			c.reply(h, StatusNoMoreFiles, nil)
			return
		}
		f.listed = true
		out, _ := appendDirEntries(nil, s.list)
		c.reply(h, StatusSuccess, &QueryResponse{out})
	case CommandIOCTL:
		q, _ := ParseIOCTLRequest(msg)
		out := q.Input
		if q.Code == FSCTLValidateNegotiateInfo {
			v := ValidateNegotiateInfo{Capabilities: CapLargeMTU, GUID: [16]byte{1}, SecurityMode: SigningEnabled,
				Dialects: []Dialect{s.dialect}}
			if s.dialect >= SMB300 && s.cipher != 0 {
				v.Capabilities |= CapEncryption
			}
			if s.lie {
				v.Dialects[0] = SMB311
			}
			out = v.AppendResponse(nil)
		}
		c.reply(h, StatusSuccess, &IOCTLResponse{Code: q.Code, Output: out})
	case CommandTreeDisconnect, CommandEcho, CommandLogoff:
		c.reply(h, StatusSuccess, rawBody(appendSimple(nil)))
	case CommandCancel:
	default:
		c.reply(h, StatusNotSupported, nil)
	}
}

func (c *testConn) file(id FileID) *testFile {
	if id.Related() {
		id = c.last
	}
	return c.open[id]
}

func (c *testConn) sessionSetup(h Header, msg []byte) {
	q, _ := ParseSessionSetupRequest(msg)
	if string(q.Token) != "hello" {
		c.reply(h, StatusLogonFailure, nil)
		return
	}
	h.SessionID = 0x77
	r := &SessionSetupResponse{Token: []byte("welcome")}
	if c.s.encrypt {
		r.Flags = SessionEncryptData
	}
	if c.signer == nil { // else it is logged in again, under the keys that it has
		c.hash = c.hash.Add(msg)
		signing := c.s.signing
		switch {
		case c.s.dialect == SMB210:
			signing = HMACSHA256
		case c.s.dialect < SMB311:
			signing = AESCMAC
		}
		c.signer, _ = NewSigner(c.s.dialect, signing, testKey, c.hash)
		if c.s.cipher != 0 && c.s.dialect >= SMB300 {
			c.keys, _ = DeriveKeys(c.s.dialect, c.s.cipher, testKey, c.hash)
		}
	}
	c.reply(h, StatusSuccess, r)
}
