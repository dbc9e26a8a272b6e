package sambapipe

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

const vectorDir = "../../testdata/vectors/npa"

// vector is a hand-over that a real smbd has made.
func vector(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(vectorDir, name))
	require.NoError(tb, err)
	return b
}

func vectorNames(tb testing.TB) []string {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join(vectorDir, "*.bin"))
	require.NoError(tb, err)
	require.Len(tb, names, 7)
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	return names
}

// TestVectors decodes what smbd 4.17.12 and 4.22.11 have sent.
func TestVectors(t *testing.T) {
	const h3 = "S-1-5-21-123378238-2213539215-471023663-"
	for _, tt := range []struct {
		name            string
		level           uint32
		authenticated   bool
		encrypted       bool
		account, domain string
		user            dcerpc.SID
		sids            int // without the pseudo SIDs
		privileges      dcerpc.Privileges
		has, hasNot     []dcerpc.SID
		uid             uint64
		port            uint16
	}{
		{name: "l7_4.17.12_anonymous.bin", level: 7, user: dcerpc.SIDAnonymous, sids: 5, uid: 65534, port: 0xdde6,
			hasNot: []dcerpc.SID{dcerpc.SIDAuthenticatedUsers}},
		{name: "l7_4.17.12_h3user_groups.bin", level: 7, authenticated: true, account: "h3user", domain: "FSRVP30",
			user: h3 + "1000", sids: 9, uid: 1001, port: 0x85d2, hasNot: []dcerpc.SID{dcerpc.SIDBuiltinBackupOperators}},
		{name: "l7_4.17.12_h3user_encrypted_backupops.bin", level: 7, authenticated: true, encrypted: true, account: "h3user", domain: "FSRVP30",
			user: h3 + "1000", sids: 10, privileges: 0, uid: 1001, port: 0xad2a, has: []dcerpc.SID{dcerpc.SIDBuiltinBackupOperators, "S-1-22-2-1002"}},
		{name: "l7_4.17.12_root.bin", level: 7, authenticated: true, account: "root", hasNot: []dcerpc.SID{dcerpc.SIDBuiltinAdmins}},
		{name: "l7_4.17.12_root_builtinadmins.bin", level: 7, authenticated: true, account: "root", has: []dcerpc.SID{dcerpc.SIDBuiltinAdmins}},
		{name: "l8_4.22.11_root.bin", level: 8, authenticated: true, account: "root", hasNot: []dcerpc.SID{dcerpc.SIDBuiltinAdmins}},
		{name: "l8_4.22.11_h3user_encrypted.bin", level: 8, authenticated: true, encrypted: true, account: "h3user", uid: 1001},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parseRequest(vector(t, tt.name))
			require.NoError(t, err)
			s := r.sessionOf()
			t.Logf("%+v", s)
			require.Equal(t, tt.level, r.level)
			require.Equal(t, tt.authenticated, s.Authenticated)
			require.Equal(t, tt.encrypted, s.Encrypted)
			require.Equal(t, tt.account, s.Identity.Account)
			require.Equal(t, "smb", s.Identity.Mechanism)
			require.Equal(t, tt.uid, r.session.unixToken.uid)
			for _, sid := range tt.has {
				require.True(t, s.Identity.HasSID(sid), sid)
			}
			for _, sid := range tt.hasNot {
				require.False(t, s.Identity.HasSID(sid), sid)
			}
			for _, sid := range s.Identity.SIDs {
				require.False(t, strings.HasPrefix(string(sid), prefixFlags) ||
					strings.HasPrefix(string(sid), prefixEncrypted), sid)
			}
			if tt.user != "" {
				require.Equal(t, tt.domain, s.Identity.Domain)
				require.Equal(t, tt.user, s.Identity.SIDs[0])
				require.Len(t, s.Identity.SIDs, tt.sids)
				require.Equal(t, tt.port, r.clientPort)
			}
			require.Equal(t, "127.0.0.1", strings.Split(r.addrOfClient().String(), ":")[0])
			require.Equal(t, "tcp", r.addrOfClient().Network())
		})
	}
}

// TestVectorsEncode shows that the tests' own encoder writes what Samba's does, whatever Samba's
// has put into it.
func TestVectorsEncode(t *testing.T) {
	for _, name := range vectorNames(t) {
		b := vector(t, name)
		r, err := parseRequest(b)
		require.NoError(t, err, name)
		require.Equal(t, b, r.encode(), name)
	}
}

// requestOf makes a hand-over of some level from a real one.
func requestOf(tb testing.TB, level uint32, ticketType bool) *request {
	tb.Helper()
	r, err := parseRequest(vector(tb, "l7_4.17.12_h3user_encrypted_backupops.bin"))
	require.NoError(tb, err)
	r.level = level
	r.session.hasTicketType = ticketType
	if level == 4 {
		r.transport = 0
	}
	return r
}

// TestLevels takes the same caller through every level and layout, at every alignment of what
// follows the session key.
func TestLevels(t *testing.T) {
	want := requestOf(t, 7, true).sessionOf()
	for _, tt := range []struct {
		name       string
		level      uint32
		ticketType bool
	}{
		{"4", 4, false},
		{"5 of 4.16.0", 5, false},
		{"5 of 4.16.4", 5, true},
		{"7", 7, true},
		{"8", 8, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for n := range 17 {
				r := requestOf(t, tt.level, tt.ticketType)
				r.session.sessionKey = make([]byte, n)
				r.session.ticketType = 0
				if tt.ticketType {
					r.session.ticketType = 2
				}
				b := r.encode()
				got, err := parseRequest(b)
				require.NoError(t, err, "session key of %d bytes", n)
				require.Equal(t, want, got.sessionOf())
				require.Equal(t, r.clientPort, got.clientPort)
				require.Equal(t, r.session.ticketType, got.session.ticketType)
				require.Equal(t, r.session.unixToken, got.session.unixToken)
				require.Equal(t, r.session.user, got.session.user)
			}
		})
	}
}

// TestStrict makes single things wrong with a request that is right.
func TestStrict(t *testing.T) {
	for _, tt := range []struct {
		name, err string
		level     uint32
		change    func(*request)
		bytes     func([]byte) []byte
	}{
		{name: "nothing wrong", level: 8},
		{name: "unknown level", level: 7, err: "level 9, which is not known", bytes: func(b []byte) []byte {
			b[8], b[12] = 9, 9
			return b
		}},
		{name: "level of the union differs", level: 7, err: "union of level 8", bytes: func(b []byte) []byte { b[12] = 8; return b }},
		{name: "another protocol", level: 7, err: "no NPAM", bytes: func(b []byte) []byte { b[7] = 'N'; return b }},
		{name: "length", level: 7, err: "says that it has", bytes: func(b []byte) []byte { return append(b, 0) }},
		{name: "trailing bytes", level: 7, err: "3 bytes too many", bytes: func(b []byte) []byte {
			b = append(b, 0, 0, 0)
			binary.BigEndian.PutUint32(b, uint32(len(b)-4))
			return b
		}},
		{name: "transport", level: 7, err: "not 1, a named pipe", change: func(r *request) { r.transport = 2 }},
		{name: "no session", level: 7, err: "names no user", change: func(r *request) { r.session = nil }},
		{name: "no token", level: 7, err: "names no user", change: func(r *request) { r.session.token = nil }},
		{name: "no SIDs", level: 7, err: "names no user", change: func(r *request) { r.session.token.sids = nil }},
		{name: "torture", level: 7, err: "no form on the wire", change: func(r *request) { r.session.torture = 1 }},
		{name: "credentials", level: 7, err: "no form on the wire", change: func(r *request) { r.session.credentials = 1 }},
		{name: "device SIDs are no matter", level: 8, change: func(r *request) {
			r.session.token.deviceSIDs = []dcerpc.SID{"S-1-5-21-1-2-3-4"}
		}},
		{name: "no user", level: 8, change: func(r *request) { r.session.user = nil }},
		{name: "no Unix token", level: 8, change: func(r *request) { r.session.unixToken = nil }},
		{name: "no names at all", level: 5, change: func(r *request) {
			r.clientName, r.clientAddr, r.serverName, r.serverAddr = ndr.NullString{}, ndr.NullString{}, ndr.NullString{}, ndr.NullString{}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := requestOf(t, tt.level, tt.level != 4)
			if tt.change != nil {
				tt.change(r)
			}
			b := r.encode()
			if tt.bytes != nil {
				b = tt.bytes(b)
			}
			_, err := parseRequest(b)
			if tt.err == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.err)
		})
	}
}

// TestCounts makes each count of a request another one.
func TestCounts(t *testing.T) {
	r := requestOf(t, 8, true)
	r.session.token.deviceSIDs = []dcerpc.SID{"S-1-5-21-1-2-3-4"}
	b := r.encode()
	_, err := parseRequest(b)
	require.NoError(t, err)
	sids := len(r.session.token.sids)
	found := 0
	for off := headSize; off+4 <= len(b); off += 4 { // every word that could be a count of SIDs or groups
		n := binary.LittleEndian.Uint32(b[off:])
		if n != uint32(sids) && n != uint32(len(r.session.unixToken.groups)) && n != 1 {
			continue
		}
		for _, v := range []uint32{n + 1, n - 1, 0xffffffff, 0x7fffffff} {
			c := append([]byte(nil), b...)
			binary.LittleEndian.PutUint32(c[off:], v)
			if got, err := parseRequest(c); err == nil {
				require.Len(t, got.session.token.sids, sids)
				require.Len(t, got.session.unixToken.groups, len(r.session.unixToken.groups))
			} else {
				found++
			}
		}
	}
	require.Greater(t, found, 20)
}

// TestClaims refuses tokens with claims of any kind, and says so.
func TestClaims(t *testing.T) {
	r := requestOf(t, 8, true)
	// The numbers of local, user, device claims and device SIDs stand after the rights, which are
	// unlike anything else here.
	r.session.token.rights = 0x5a5a1234
	b := r.encode()
	at := strings.Index(string(b), "\x34\x12\x5a\x5a") + 4
	require.Greater(t, at, 4)
	for kind := range 3 {
		c := append([]byte(nil), b...)
		binary.LittleEndian.PutUint32(c[at+4*kind:], 1)
		_, err := parseRequest(c)
		require.ErrorIs(t, err, ndr.ErrBadStub)
		require.ErrorContains(t, err, "are not supported")
	}
}

// TestTruncated cuts real requests at every length, with the length told truly.
func TestTruncated(t *testing.T) {
	for _, name := range vectorNames(t) {
		b := vector(t, name)
		for n := range len(b) {
			c := append([]byte(nil), b[:n]...)
			if n >= 4 {
				binary.BigEndian.PutUint32(c, uint32(n-4))
			}
			_, err := parseRequest(c)
			require.Error(t, err, "%s, %d bytes of %d", name, n, len(b))
		}
	}
}

func TestReply(t *testing.T) {
	b := reply(7)
	require.Len(t, b, 36)
	require.Equal(t, []byte{0, 0, 0, 32, 'N', 'P', 'A', 'M', 7, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0xff, 0x05, 0, 0, 0, 0, 0,
		0x10, 0, 0}, b[:28])
	require.Equal(t, make([]byte, 8), b[28:])
}

// FuzzRequest looks for a hand-over that is taken and is not what its bytes say.
func FuzzRequest(f *testing.F) {
	for _, name := range vectorNames(f) {
		f.Add(vector(f, name))
	}
	f.Add(requestOf(f, 4, false).encode())
	f.Add(requestOf(f, 5, false).encode())
	f.Add(requestOf(f, 5, true).encode())
	f.Add(requestOf(f, 8, true).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4 {
			b = append([]byte(nil), b...)
			binary.BigEndian.PutUint32(b, uint32(len(b)-4))
		}
		r, err := parseRequest(b)
		if err != nil {
			return
		}
		s := r.sessionOf()
		require.LessOrEqual(t, 8*len(r.session.token.sids), len(b))
		if s.Authenticated {
			require.True(t, s.Identity.HasSID(dcerpc.SIDAuthenticatedUsers))
			require.False(t, s.Identity.HasSID(dcerpc.SIDAnonymous))
		}
		require.NotEmpty(t, r.addrOfClient().String())
		// What was read says the same when it is written and read again.
		again, err := parseRequest(r.encode())
		require.NoError(t, err)
		require.Equal(t, s, again.sessionOf())
	})
}
