package smb2

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A codec is one kind of message: parse reads it and writes it again.
type codec struct {
	name  string
	parse func(msg []byte) (again func(dst []byte) ([]byte, error), err error)
}

// of makes a codec of the two functions of a type.
func of[T any, P interface {
	*T
	AppendBinary([]byte) ([]byte, error)
}](name string, parse func([]byte) (T, error)) codec {
	return codec{name, func(msg []byte) (func([]byte) ([]byte, error), error) {
		v, err := parse(msg)
		return P(&v).AppendBinary, err
	}}
}

var codecs = []codec{
	of("error", ParseErrorResponse),
	of("negotiate request", ParseNegotiateRequest), of("negotiate response", ParseNegotiateResponse),
	of("session setup request", ParseSessionSetupRequest), of("session setup response", ParseSessionSetupResponse),
	of("tree connect request", ParseTreeConnectRequest), of("tree connect response", ParseTreeConnectResponse),
	of("create request", ParseCreateRequest), of("create response", ParseCreateResponse),
	of("close request", ParseCloseRequest), of("close response", ParseCloseResponse),
	of("read request", ParseReadRequest), of("read response", ParseReadResponse),
	of("write request", ParseWriteRequest), of("write response", ParseWriteResponse),
	of("ioctl request", ParseIOCTLRequest), of("ioctl response", ParseIOCTLResponse),
	of("query directory request", ParseQueryDirectoryRequest), of("query info request", ParseQueryInfoRequest),
	of("query response", ParseQueryResponse),
}

// bodies are some of every kind.
func bodies() []interface {
	AppendBinary([]byte) ([]byte, error)
} {
	id := FileID{1, 2, 3, 15: 16}
	info := FileInfo{1, 2, 3, 4, 5, 6, AttributeArchive}
	return []interface {
		AppendBinary([]byte) ([]byte, error)
	}{
		&ErrorResponse{}, &ErrorResponse{Contexts: 1, Data: []byte("data")},
		&NegotiateRequest{SecurityMode: 3, Capabilities: CapLargeMTU, ClientGUID: [16]byte{7},
			Dialects: []Dialect{SMB210, SMB300}},
		&NegotiateRequest{Dialects: []Dialect{SMB300, SMB302, SMB311}, Contexts: []NegotiateContext{
			PreauthContext([]byte("salt")), EncryptionContext(AES128GCM, AES256CCM), SigningContext(AESGMAC),
		}},
		&NegotiateResponse{SecurityMode: 1, Dialect: SMB302, ServerGUID: [16]byte{8}, Capabilities: 7,
			MaxReadSize: 1 << 20, Token: []byte("x")},
		&NegotiateResponse{Dialect: SMB311, Token: []byte("token"),
			Contexts: []NegotiateContext{PreauthContext(nil), EncryptionContext(AES256GCM)}},
		&SessionSetupRequest{SecurityMode: 3, PreviousSessionID: 9, Token: []byte("token")},
		&SessionSetupResponse{Flags: SessionEncryptData, Token: []byte("token")}, &SessionSetupResponse{},
		&TreeConnectRequest{Path: `\\server\share`},
		&TreeConnectResponse{ShareDisk, ShareFlagEncryptData, ShareCapDFS, AccessMaximumAllowed},
		&CreateRequest{Access: 1, Share: 7, Disposition: 1, Options: OptionBackupIntent,
			Name: `a\ü\💾`}, &CreateRequest{},
		&CreateResponse{1, info, id}, &CloseRequest{1, id}, &CloseResponse{1, info},
		&ReadRequest{id, 1 << 40, 1 << 20, 1}, &ReadResponse{Data: []byte("data")}, &ReadResponse{},
		&WriteRequest{ID: id, Offset: 3, Data: []byte("data")}, &WriteResponse{4},
		&IOCTLRequest{Code: FSCTLPipeTransceive, ID: id, Input: []byte("in"), MaxOutput: 1024},
		&IOCTLResponse{Code: FSCTLPipeTransceive, ID: id, Output: []byte("out")},
		&QueryDirectoryRequest{classIDBothDirectory, QueryRestart, id, "*", 65536},
		&QueryInfoRequest{infoSecurity, 0, 65536, 7, id}, &QueryResponse{[]byte("output")},
	}
}

// TestCodec appends, parses and appends again: the bytes are the same, and every cut is an error or
// a loss that is told of.
func TestCodec(t *testing.T) {
	for _, v := range bodies() {
		head, err := (&Header{Command: CommandRead, MessageID: 5}).AppendBinary(nil)
		require.NoError(t, err)
		msg, err := v.AppendBinary(head)
		require.NoError(t, err)
		same := 0
		for _, c := range codecs {
			again, err := c.parse(msg)
			if err != nil {
				continue
			}
			got, err := again(msg[:HeaderSize:HeaderSize])
			if err == nil && bytes.Equal(msg, got) {
				same++
			}
		}
		require.Positive(t, same, "%T", v)
		for n := range msg {
			for _, c := range codecs {
				_, _ = c.parse(msg[:n]) // does not panic
			}
		}
	}
}

func TestHeader(t *testing.T) {
	for _, h := range []Header{
		{CreditCharge: 1, Status: StatusPending, Command: CommandCreate, Credits: 3, Flags: FlagResponse | FlagAsync, NextCommand: 8, MessageID: 5, AsyncID: 1 << 40, SessionID: 9, Signature: [16]byte{1}},
		{Command: CommandRead, MessageID: 1<<64 - 1, TreeID: 7},
	} {
		b, err := h.AppendBinary(nil)
		require.NoError(t, err)
		require.Len(t, b, HeaderSize)
		got, err := ParseHeader(b)
		require.NoError(t, err)
		require.Equal(t, h, got)
		require.Equal(t, h.Status == StatusPending, got.Interim())
		_, err = ParseHeader(b[:63])
		require.ErrorIs(t, err, ErrMessage)
		b[4]++
		_, err = ParseHeader(b)
		require.ErrorIs(t, err, ErrMessage)
	}
	require.Equal(t, "TREE_CONNECT", CommandTreeConnect.String())
	require.Equal(t, "command 0x0013", Command(0x13).String())
}

// TestParts checks what is returned of a range that the message has not got, or not whole.
func TestParts(t *testing.T) {
	head, err := (&Header{Command: CommandRead}).AppendBinary(nil)
	require.NoError(t, err)
	msg, err := (&ReadResponse{Data: []byte("data")}).AppendBinary(head)
	require.NoError(t, err)
	for _, tt := range []struct {
		claimed uint32
		want    ReadResponse
		fails   bool
	}{
		{0, ReadResponse{}, false},
		{3, ReadResponse{Data: []byte("dat")}, false},
		{4, ReadResponse{Data: []byte("data")}, false},
		{9, ReadResponse{Data: []byte("data"), Missing: 5}, false},
		{1<<32 - 1, ReadResponse{}, true},
	} {
		le.PutUint32(msg[HeaderSize+4:], tt.claimed)
		got, err := ParseReadResponse(msg)
		require.Equal(t, tt.fails, err != nil)
		require.Equal(t, tt.want, got)
	}
	le.PutUint32(msg[HeaderSize+4:], 4)
	msg[HeaderSize+2] = 10 // into the header
	_, err = ParseReadResponse(msg)
	require.ErrorIs(t, err, ErrMessage)
}

// TestNames has names that are not valid UTF-16, which survive, and others that are not valid
// UTF-8, which cannot be sent.
func TestNames(t *testing.T) {
	for _, units := range [][]uint16{
		{}, {'a', 0xFC, 0x20AC}, {0xD83D, 0xDCBE}, {0xD83D}, {0xDCBE}, {0xDCBE, 0xD83D}, {'x', 0xD83D, 'y'}, {0xD83D, 0xD83D, 0xDCBE}, {0xFFFD}, {0xFFFF},
	} {
		var b []byte
		for _, u := range units {
			b = le.AppendUint16(b, u)
		}
		s := DecodeName(b)
		got, err := AppendName(nil, s)
		require.NoError(t, err)
		require.Equal(t, b, got, "%q", s)
	}
	for _, s := range []string{"\xff", "a\x80", "\xed\xa0", "\xed\xa0x"} {
		_, err := AppendName(nil, s)
		require.Error(t, err, "%q", s)
	}
}

func TestDirEntries(t *testing.T) {
	list := []DirEntry{
		{Name: ".", Info: FileInfo{Attributes: AttributeDirectory}},
		{Name: "..", Info: FileInfo{Attributes: AttributeDirectory}},
		{Name: "file", Info: FileInfo{1, 2, 3, 4, 5, 6, AttributeArchive}, ID: 7},
		{Name: "link \xed\xa0\x80", Info: FileInfo{Attributes: AttributeReparsePoint}, ReparseTag: ReparseSymlink},
	}
	b, err := appendDirEntries(nil, list)
	require.NoError(t, err)
	got, err := ParseDirEntries(b, nil)
	require.NoError(t, err)
	require.Equal(t, list[2:], got)
	for n := range b {
		got, _ := ParseDirEntries(b[:n], nil) // does not panic
		require.LessOrEqual(t, len(got), 2)
	}
	for _, name := range []string{"", "a/b", `a\b`, "a\x00", "../x"} {
		b, err := appendDirEntries(nil, []DirEntry{{Name: name}})
		require.NoError(t, err)
		_, err = ParseDirEntries(b, nil)
		require.ErrorIs(t, err, ErrMessage, "%q", name)
	}
}

func TestRanges(t *testing.T) {
	b := func(v ...uint64) (out []byte) {
		for _, x := range v {
			out = le.AppendUint64(out, x)
		}
		return out
	}
	got, err := ParseRanges(b(0, 10, 20, 5), 0)
	require.NoError(t, err)
	require.Equal(t, []Range{{0, 10}, {20, 5}}, got)
	for _, bad := range [][]byte{b(1), b(1<<63, 1), b(0, 0), b(0, 1<<63), b(1<<62, 1<<62), b(5, 5, 0, 10)} {
		_, err := ParseRanges(bad, 0)
		require.ErrorIs(t, err, ErrMessage)
	}
}

func TestStreams(t *testing.T) {
	name, err := AppendName(nil, ":Zone.Identifier:$DATA")
	require.NoError(t, err)
	b := le.AppendUint32(nil, 0)
	b = le.AppendUint32(b, uint32(len(name)))
	b = le.AppendUint64(le.AppendUint64(b, 26), 4096)
	b = append(b, name...)
	got, err := ParseStreams(b)
	require.NoError(t, err)
	require.Equal(t, []Stream{{"Zone.Identifier", "$DATA", 26, 4096}}, got)
	for n := 1; n < len(b); n++ {
		_, err := ParseStreams(b[:n])
		require.Error(t, err)
	}
}

func TestFileTime(t *testing.T) {
	require.True(t, FileTime(0).IsZero())
	require.Equal(t, "2020-01-01T00:00:00.0000001Z",
		FileTime(132223104000000001).UTC().Format("2006-01-02T15:04:05.9999999Z"))
}

func FuzzMessage(f *testing.F) {
	for i, v := range bodies() {
		head, err := (&Header{Command: CommandRead, MessageID: 5}).AppendBinary(nil)
		require.NoError(f, err)
		msg, err := v.AppendBinary(head)
		require.NoError(f, err)
		f.Add(msg, uint8(i))
	}
	f.Fuzz(func(t *testing.T, msg []byte, kind uint8) {
		c := codecs[int(kind)%len(codecs)]
		if again, err := c.parse(msg); err == nil {
			b, err := again(msg[:HeaderSize:HeaderSize])
			if err != nil {
				return // a name that has no UTF-16
			}
			// What was written is read as the same.
			twice, err := c.parse(b)
			require.NoError(t, err, c.name)
			got, err := twice(b[:HeaderSize:HeaderSize])
			require.NoError(t, err, c.name)
			require.Equal(t, b, got, c.name)
		}
		if h, err := ParseHeader(msg); err == nil {
			b, err := h.AppendBinary(nil)
			require.NoError(t, err)
			h2, err := ParseHeader(b)
			require.NoError(t, err)
			require.Equal(t, h, h2)
		}
		_, _ = ParseDirEntries(msg, nil)
		_, _ = ParseStreams(msg)
		_, _ = ParseRanges(msg, 0)
		_, _ = ParseValidateNegotiateResponse(msg)
		name := DecodeName(msg)
		b, err := AppendName(nil, name)
		require.NoError(t, err)
		require.Equal(t, msg[:len(msg)&^1], append([]byte{}, b...))
	})
}

// FuzzTransform opens what may be an encrypted message.
func FuzzTransform(f *testing.F) {
	keys, err := DeriveKeys(SMB311, AES128GCM, make([]byte, 16), Preauth{})
	require.NoError(f, err)
	f.Add(keys.Seal(append(make([]byte, TransformSize), "text"...), 1, 1, true))
	f.Fuzz(func(t *testing.T, msg []byte) {
		_, _ = ParseTransform(msg)
		if text, err := keys.Open(bytes.Clone(msg), true); err == nil {
			require.Len(t, text, len(msg)-TransformSize)
		}
	})
}
