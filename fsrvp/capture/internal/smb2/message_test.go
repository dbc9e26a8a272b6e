package smb2

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	require.NoError(t, err)
	return b
}

func message(t testing.TB, command Command, flags, status uint32, body []byte) []byte {
	b := make([]byte, HeaderSize)
	copy(b, Magic)
	binary.LittleEndian.PutUint16(b[4:], HeaderSize)
	binary.LittleEndian.PutUint32(b[8:], status)
	binary.LittleEndian.PutUint16(b[12:], uint16(command))
	binary.LittleEndian.PutUint32(b[16:], flags)
	binary.LittleEndian.PutUint64(b[24:], 5)
	binary.LittleEndian.PutUint32(b[36:], 7)
	binary.LittleEndian.PutUint64(b[40:], 9)
	return append(b, body...)
}

func TestHeader(t *testing.T) {
	h, ok := ParseHeader(message(t, Create, FlagResponse|FlagAsync, StatusPending, nil))
	require.True(t, ok)
	require.Equal(t, Header{Status: StatusPending, Command: Create, Flags: 3, MessageID: 5, TreeID: 7, SessionID: 9}, h)
	require.True(t, h.IsResponse())
	require.True(t, h.Interim())
	h.Flags = FlagResponse
	require.False(t, h.Interim(), "only an asynchronous one is")
	_, ok = ParseHeader(message(t, Create, 0, 0, nil)[:63])
	require.False(t, ok)
	b := message(t, Create, 0, 0, nil)
	b[4] = 65
	_, ok = ParseHeader(b)
	require.False(t, ok)
}

// TestParts checks what is returned of a range that the message has not got, or not whole.
func TestParts(t *testing.T) {
	body := make([]byte, 16+4)
	body[2] = HeaderSize + 16
	copy(body[16:], "data")
	for _, tt := range []struct {
		claimed uint32
		want    Part
	}{
		{0, Part{Bytes: []byte{}}},
		{3, Part{Bytes: []byte("dat")}},
		{4, Part{Bytes: []byte("data")}},
		{9, Part{Bytes: []byte("data"), Missing: 5}},
		{0xFFFFFFFF, Part{Bytes: []byte("data"), Missing: maxPart - 4}},
	} {
		binary.LittleEndian.PutUint32(body[4:], tt.claimed)
		got, ok := ReadResponse(message(t, Read, FlagResponse, 0, body))
		require.True(t, ok)
		require.Equal(t, tt.want, got)
	}
	got, ok := ReadResponse(message(t, Read, FlagResponse, 0, body[:16]))
	require.True(t, ok)
	require.Equal(t, Part{Missing: maxPart}, got)
	_, ok = ReadResponse(message(t, Read, FlagResponse, 0, body[:15]))
	require.False(t, ok)
}

// TestShort gives every function a message of every length up to its own.
func TestShort(t *testing.T) {
	whole := message(t, Create, 0, 0, make([]byte, 200))
	for n := range whole {
		b := whole[:n]
		ParseNegotiateResponse(b)
		SessionSetupRequest(b)
		SessionSetupResponse(b)
		TreeConnectResponse(b)
		CreateRequest(b)
		CreateResponse(b)
		CloseRequest(b)
		ReadRequest(b)
		ReadResponse(b)
		WriteRequest(b)
		IOCTLRequest(b)
		IOCTLResponse(b)
		ParseTransform(b)
	}
}

func TestRelated(t *testing.T) {
	var id FileID
	require.False(t, id.Related())
	for i := range id {
		id[i] = 0xFF
	}
	require.True(t, id.Related())
}

func TestNegotiateContexts(t *testing.T) {
	body := make([]byte, 64)
	binary.LittleEndian.PutUint16(body[4:], Dialect311)
	binary.LittleEndian.PutUint16(body[6:], 2)
	binary.LittleEndian.PutUint32(body[60:], HeaderSize+64)
	contexts := unhex(t, `0100 0600 00000000 0100 0000 0100 0000
		0200 0400 00000000 0100 0400`)
	msg := message(t, Negotiate, FlagResponse, 0, append(body, contexts...))
	r, ok := ParseNegotiateResponse(msg)
	require.True(t, ok)
	require.Equal(t, AES256GCM, r.Cipher)
	r, ok = ParseNegotiateResponse(msg[:len(msg)-2])
	require.True(t, ok)
	require.Zero(t, r.Cipher)
	binary.LittleEndian.PutUint32(msg[HeaderSize+60:], 0xFFFFFFF0)
	r, ok = ParseNegotiateResponse(msg)
	require.True(t, ok)
	require.Zero(t, r.Cipher)
	binary.LittleEndian.PutUint16(msg[HeaderSize+4:], Dialect302)
	r, _ = ParseNegotiateResponse(msg)
	require.Equal(t, AES128CCM, r.Cipher)
	binary.LittleEndian.PutUint16(msg[HeaderSize+4:], 0x0210)
	r, _ = ParseNegotiateResponse(msg)
	require.Zero(t, r.Cipher)
}

func FuzzMessage(f *testing.F) {
	f.Add(message(f, Negotiate, FlagResponse, 0, make([]byte, 80)))
	f.Add(message(f, Create, 0, 0, make([]byte, 80)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, ok := ParseNegotiateResponse(b); ok && r.Dialect != Dialect311 && r.Cipher != 0 {
			require.Equal(t, AES128CCM, r.Cipher)
		}
		SessionSetupRequest(b)
		SessionSetupResponse(b)
		TreeConnectResponse(b)
		CreateRequest(b)
		for _, get := range []func([]byte) (Part, bool){ReadResponse, IOCTLResponse} {
			if p, ok := get(b); ok {
				require.LessOrEqual(t, len(p.Bytes), len(b))
				require.GreaterOrEqual(t, p.Missing, 0)
			}
		}
		if _, p, ok := WriteRequest(b); ok {
			require.LessOrEqual(t, len(p.Bytes)+p.Missing, max(len(b), maxPart))
		}
		if _, _, p, ok := IOCTLRequest(b); ok {
			require.LessOrEqual(t, len(p.Bytes)+p.Missing, max(len(b), maxPart))
		}
	})
}
