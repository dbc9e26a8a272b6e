package pdu

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A trailer of three commands after a stub of five bytes.
const verified = `0102030405 000000
	8ae3137102f43671
	0100 0400 01000000
	0200 2800 3c65e0a8 4427 8943 a61d7373df8b2292 0100 0000
	          045d888a eb1c c911 9fe808002b104860 0200 0000
	0340 1000 00 00 0000 10000000 07000000 0100 0800`

func verifiedRequest() *Request {
	return &Request{Header: Header{CallID: 7}, ContextID: 1, Opnum: 8}
}

func TestVerificationTrailer(t *testing.T) {
	v := NewVerificationTrailer(verifiedRequest(), fssagent(), NDR20(), true)
	b, err := v.AppendBinary([]byte("xx\x01\x02\x03\x04\x05"), 2)
	require.NoError(t, err)
	require.Equal(t, unhex(t, verified), b[2:])

	stub, got, ok := CutVerificationTrailer(b[2:])
	require.True(t, ok)
	require.Equal(t, []byte{1, 2, 3, 4, 5, 0, 0, 0}, stub)
	require.Equal(t, v, got)
	require.NoError(t, got.Verify(verifiedRequest(), fssagent(), NDR20(), true))
}

// TestCapturedVerificationTrailers checks what Samba's client sends with signed requests.
func TestCapturedVerificationTrailers(t *testing.T) {
	n := 0
	for _, b := range captured(t)["02_rpcclient_np_krb5_sign.hex"] {
		req, err := ParseRequest(b)
		if err != nil {
			continue
		}
		stub, v, ok := CutVerificationTrailer(req.Stub)
		if !ok {
			continue
		}
		n++
		require.Equal(t, uint16(VerifyBitmask1), v[0].ID)
		require.NoError(t, v.Verify(&req, fssagent(), NDR20(), true))
		require.ErrorIs(t, v.Verify(&req, fssagent(), NDR64(), true), ErrVerification)
		again, err := v.AppendBinary(append([]byte(nil), stub...), 0)
		require.NoError(t, err)
		require.Equal(t, req.Stub[:len(again)], again)
	}
	require.Equal(t, 7, n, "the first request of each pipe has one")
}

func TestVerificationMismatch(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(req *Request, abstract, transfer *SyntaxID, signing *bool)
		ok     bool
	}{
		"the same":       {func(*Request, *SyntaxID, *SyntaxID, *bool) {}, true},
		"header signing": {func(_ *Request, _, _ *SyntaxID, signing *bool) { *signing = false }, false},
		"interface":      {func(_ *Request, a, _ *SyntaxID, _ *bool) { a.Minor++ }, false},
		"syntax":         {func(_ *Request, _, s *SyntaxID, _ *bool) { *s = NDR64() }, false},
		"byte order":     {func(r *Request, _, _ *SyntaxID, _ *bool) { r.DataRep = BigEndian }, false},
		"call":           {func(r *Request, _, _ *SyntaxID, _ *bool) { r.CallID++ }, false},
		"context":        {func(r *Request, _, _ *SyntaxID, _ *bool) { r.ContextID++ }, false},
		"opnum":          {func(r *Request, _, _ *SyntaxID, _ *bool) { r.Opnum++ }, false},
		"not repeated":   {func(r *Request, _, _ *SyntaxID, _ *bool) { r.AllocHint++; r.Flags = LastFrag }, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, v, ok := CutVerificationTrailer(unhex(t, verified))
			require.True(t, ok)
			req, abstract, transfer, signing := verifiedRequest(), fssagent(), NDR20(), true
			tt.change(req, &abstract, &transfer, &signing)
			err := v.Verify(req, abstract, transfer, signing)
			if tt.ok {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, ErrVerification)
			}
		})
	}
	// Header signing on a connection whose client did not ask for it in the trailer is no attack.
	v := NewVerificationTrailer(verifiedRequest(), fssagent(), NDR20(), false)
	require.NoError(t, v.Verify(verifiedRequest(), fssagent(), NDR20(), true))
}

func TestVerificationUnknownCommands(t *testing.T) {
	v := VerificationTrailer{{ID: 0x44, Value: []byte("any")}}
	require.NoError(t, v.Verify(verifiedRequest(), fssagent(), NDR20(), true))
	v[0].MustProcess = true
	require.ErrorIs(t, v.Verify(verifiedRequest(), fssagent(), NDR20(), true), ErrVerification)
	// Values of known commands that nobody has parsed may have any length.
	for id := range uint16(4) {
		v = VerificationTrailer{{ID: id, MustProcess: true}}
		require.ErrorIs(t, v.Verify(verifiedRequest(), fssagent(), NDR20(), true), ErrVerification)
	}
}

func TestVerificationWhere(t *testing.T) {
	whole := unhex(t, verified)
	trailer := whole[8:]
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, tt := range []struct {
		name string
		stub []byte
		want int // length of the stub, or -1
	}{
		{"only a trailer", trailer, 0},
		{"padding after it", join(whole, make([]byte, 16)), 8},
		{"too much after it", join(whole, make([]byte, 17)), -1},
		{"not aligned", whole[1:], -1},
		{"cut", whole[:len(whole)-1], -1},
		{"no commands", whole[:16], -1},
		{"no end", join(whole[:16], unhex(t, "1000 0000")), -1},
		{"wrong length of a known one", join(whole[:16], unhex(t, "0140 0800 0000000000000000")), -1},
		{"signature in the stub before", join(whole[8:16], whole[:8], trailer), 16},
		{"signature in a value", join(whole[:16], unhex(t, "1140 0800 8ae3137102f43671")), 8},
		{"far from the end", join(make([]byte, 4000), trailer), 4000},
		{"just near enough", join(make([]byte, 8), verifySignature(), unhex(t, "1100 f003"), make([]byte, 1008), unhex(t, "1140 0000")), 8},
		{"too long", join(make([]byte, 8), verifySignature(), unhex(t, "1100 f403"), make([]byte, 1012), unhex(t, "1140 0000")), -1},
		{"nothing", nil, -1},
		{"short", trailer[:7], -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stub, v, ok := CutVerificationTrailer(tt.stub)
			require.Equal(t, tt.want >= 0, ok)
			if !ok {
				require.Nil(t, v)
				require.Equal(t, tt.stub, stub)
				return
			}
			require.Equal(t, tt.stub[:tt.want], stub)
			require.NotEmpty(t, v)
		})
	}
}

func TestVerificationLimits(t *testing.T) {
	b, err := VerificationTrailer{}.AppendBinary([]byte("kept"), 0)
	require.ErrorIs(t, err, ErrCount)
	require.Equal(t, "kept", string(b))
	b, err = VerificationTrailer{{Value: make([]byte, 0x10000)}}.AppendBinary([]byte("kept"), 0)
	require.ErrorIs(t, err, ErrCount)
	require.Equal(t, "kept", string(b))
}

func TestVerificationRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := VerificationTrailer(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) VerificationCommand {
			return VerificationCommand{
				ID:          rapid.Uint16Range(4, 0x3fff).Draw(t, "id"),
				MustProcess: rapid.Bool().Draw(t, "must"),
				Value:       append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "value")...),
			}
		}), 1, 12).Draw(t, "trailer"))
		stub := genBytes(t, "stub")
		b, err := v.AppendBinary(bytes.Clone(stub), 0)
		require.NoError(t, err)
		rest, got, ok := CutVerificationTrailer(b)
		require.True(t, ok)
		require.Equal(t, v, got)
		require.Equal(t, stub, rest[:len(stub)])
		require.Less(t, len(rest)-len(stub), 4)
	})
}

func FuzzVerificationTrailer(f *testing.F) {
	f.Add(unhex(f, verified))
	f.Fuzz(func(t *testing.T, b []byte) {
		stub, v, ok := CutVerificationTrailer(b)
		require.Equal(t, b[:len(stub)], stub)
		if !ok {
			require.Len(t, stub, len(b))
			return
		}
		_ = v.Verify(verifiedRequest(), fssagent(), NDR20(), true)
		out, err := v.AppendBinary(bytes.Clone(stub), 0)
		require.NoError(t, err)
		require.Equal(t, b[:len(out)], out)
		require.LessOrEqual(t, len(b)-len(out), verifyAfter)
	})
}
