package fsrvp

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

var syntaxes = []ndr.Syntax{ndr.NDR20, ndr.NDR64, ndr.NDR20BE}

// Generators of what messages are made of.
var (
	genU32 = rapid.Uint32()
	genID  = rapid.Custom(func(t *rapid.T) (id [16]byte) {
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		return id
	})
	// A string of any code units but NUL, as a peer may send it, lone surrogates included.
	genString = rapid.Custom(func(t *rapid.T) string {
		units := rapid.SliceOf(rapid.OneOf(
			rapid.Uint16Range(1, 0x7F), rapid.Uint16Min(1), rapid.Uint16Range(0xD7FF, 0xE000),
		)).Draw(t, "units")
		stub := ndr.NewEncoder(nil, ndr.NDR20)
		stub.Uint32(uint32(len(units)) + 1)
		stub.Uint32(0)
		stub.Uint32(uint32(len(units)) + 1)
		for _, u := range append(units, 0) {
			stub.Uint16(u)
		}
		b, _ := stub.Bytes()
		d := ndr.NewDecoder(b, ndr.NDR20)
		s := d.WString()
		require.NoError(t, d.Err())
		return s
	})
	genNull = rapid.Custom(func(t *rapid.T) ndr.NullString {
		if rapid.Bool().Draw(t, "null") {
			return ndr.NullString{}
		}
		return ndr.StringOf(genString.Draw(t, "string"))
	})
)

// randomMessage draws the request or response of a method with random values.
func randomMessage(t *rapid.T) Message {
	u32 := func() uint32 { return genU32.Draw(t, "u32") }
	set := func() SetID { return genID.Draw(t, "set") }
	cpy := func() CopyID { return genID.Draw(t, "copy") }
	share := func() ndr.WTF8 { return ndr.WTF8(genString.Draw(t, "share")) }
	status := func() Status { return Status(u32()) }

	op := Opnum(rapid.Uint16Range(0, uint16(opnums)-1).Draw(t, "op"))
	var m Message = NewRequest(op)
	if rapid.Bool().Draw(t, "response") {
		m = NewResponse(op)
	}
	switch m := m.(type) {
	case *GetSupportedVersionRequest:
	case *GetSupportedVersionResponse:
		*m = GetSupportedVersionResponse{MinVersion: u32(), MaxVersion: u32(), Return: status()}
	case *SetContextRequest:
		m.Context = ContextValue(u32())
	case *SetContextResponse:
		m.Return = status()
	case *StartShadowCopySetRequest:
		m.ClientShadowCopySetID = set()
	case *StartShadowCopySetResponse:
		*m = StartShadowCopySetResponse{ShadowCopySetID: set(), Return: status()}
	case *AddToShadowCopySetRequest:
		*m = AddToShadowCopySetRequest{ClientShadowCopyID: cpy(), ShadowCopySetID: set(), ShareName: share()}
	case *AddToShadowCopySetResponse:
		*m = AddToShadowCopySetResponse{ShadowCopyID: cpy(), Return: status()}
	case *CommitShadowCopySetRequest:
		*m = CommitShadowCopySetRequest{ShadowCopySetID: set(), TimeOutInMilliseconds: u32()}
	case *CommitShadowCopySetResponse:
		m.Return = status()
	case *ExposeShadowCopySetRequest:
		*m = ExposeShadowCopySetRequest{ShadowCopySetID: set(), TimeOutInMilliseconds: u32()}
	case *ExposeShadowCopySetResponse:
		m.Return = status()
	case *RecoveryCompleteShadowCopySetRequest:
		m.ShadowCopySetID = set()
	case *RecoveryCompleteShadowCopySetResponse:
		m.Return = status()
	case *AbortShadowCopySetRequest:
		m.ShadowCopySetID = set()
	case *AbortShadowCopySetResponse:
		m.Return = status()
	case *IsPathSupportedRequest:
		m.ShareName = share()
	case *IsPathSupportedResponse:
		*m = IsPathSupportedResponse{SupportedByThisProvider: u32(), OwnerMachineName: genNull.Draw(t, "owner"),
			Return: status()}
	case *IsPathShadowCopiedRequest:
		m.ShareName = share()
	case *IsPathShadowCopiedResponse:
		*m = IsPathShadowCopiedResponse{ShadowCopyPresent: u32(), ShadowCopyCompatibility: Compatibility(u32()),
			Return: status()}
	case *GetShareMappingRequest:
		*m = GetShareMappingRequest{ShadowCopyID: cpy(), ShadowCopySetID: set(), ShareName: share(), Level: u32()}
	case *GetShareMappingResponse:
		*m = GetShareMappingResponse{Level: rapid.SampledFrom([]uint32{1, 1, 0, 2, 0xFFFFFFFF}).Draw(t, "level"),
			Return: status()}
		if m.Level == 1 && rapid.Bool().Draw(t, "mapping") {
			m.ShareMapping1 = &ShareMapping1{
				ShadowCopySetID: set(), ShadowCopyID: cpy(),
				ShareNameUNC: genNull.Draw(t, "unc"), ShadowCopyShareName: genNull.Draw(t, "exposed"),
				CreationTimestamp: Filetime(rapid.Int64().Draw(t, "created")),
			}
		}
	case *DeleteShareMappingRequest:
		*m = DeleteShareMappingRequest{ShadowCopySetID: set(), ShadowCopyID: cpy(), ShareName: share()}
	case *DeleteShareMappingResponse:
		m.Return = status()
	case *PrepareShadowCopySetRequest:
		*m = PrepareShadowCopySetRequest{ShadowCopySetID: set(), TimeOutInMilliseconds: u32()}
	case *PrepareShadowCopySetResponse:
		m.Return = status()
	default:
		t.Fatalf("no generator for %T", m)
	}
	return m
}

// parseLike parses a stub as another message of m's type.
func parseLike(m Message, s ndr.Syntax, stub []byte) (Message, error) {
	if _, ok := m.(Response); ok {
		return ParseResponse(m.Opnum(), s, stub)
	}
	return ParseRequest(m.Opnum(), s, stub)
}

// Random messages survive append, parse, append, and their JSON form.
func TestMessageRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := randomMessage(t)
		s := rapid.SampledFrom(syntaxes).Draw(t, "syntax")
		stub, err := m.Append(nil, s)
		require.NoError(t, err)
		got, err := parseLike(m, s, stub)
		require.NoError(t, err)
		require.Equal(t, m, got)
		again, err := got.Append(nil, s)
		require.NoError(t, err)
		require.Equal(t, stub, again)

		text, err := json.Marshal(m)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, got))
		require.Equal(t, m, got)
	})
}

func TestMessageUnknownOpnum(t *testing.T) {
	_, err := ParseRequest(13, ndr.NDR20, nil)
	require.EqualError(t, err, "fsrvp: no method has opnum 13")
	require.NotErrorIs(t, err, ndr.ErrBadStub)
	_, err = ParseResponse(13, ndr.NDR20, nil)
	require.Error(t, err)
}

func TestMessageParseError(t *testing.T) {
	_, err := ParseRequest(OpAddToShadowCopySet, ndr.NDR20, make([]byte, 44))
	require.ErrorIs(t, err, ndr.ErrBadStub)
	require.ErrorContains(t, err, "AddToShadowCopySet request")
	require.ErrorContains(t, err, "offset 32")
	_, err = ParseResponse(OpSetContext, ndr.NDR20, []byte{0})
	require.ErrorContains(t, err, "SetContext response")
}

// A message that has no encoding leaves the buffer as it was.
func TestMessageAppendError(t *testing.T) {
	for _, m := range []Message{
		&IsPathSupportedRequest{ShareName: "a\x00b"},
		&IsPathSupportedRequest{ShareName: "\xff"},
		&GetShareMappingResponse{Level: 2, ShareMapping1: &ShareMapping1{}},
	} {
		dst, err := m.Append([]byte("abc"), ndr.NDR20)
		require.ErrorIs(t, err, ndr.ErrBadValue)
		require.NotErrorIs(t, err, ndr.ErrBadStub)
		require.Equal(t, []byte("abc"), dst)
	}
}

// A response parsed into one that was used before holds nothing of it.
func TestMessageParseReuse(t *testing.T) {
	m := &GetShareMappingResponse{Level: 1, ShareMapping1: &ShareMapping1{ShareNameUNC: ndr.StringOf("x")}}
	require.NoError(t, m.Parse(ndr.NDR20, []byte{1, 0, 0, 0, 0, 0, 0, 0, 8, 0x23, 4, 0x80}))
	require.Equal(t, &GetShareMappingResponse{Level: 1, Return: ErrObjectNotFound}, m)
	p := &IsPathSupportedResponse{OwnerMachineName: ndr.StringOf("x")}
	require.NoError(t, p.Parse(ndr.NDR20, make([]byte, 12)))
	require.Equal(t, &IsPathSupportedResponse{}, p)
}

// GetShareMapping and DeleteShareMapping take the two ids in opposite order.
func TestMessageIDOrder(t *testing.T) {
	set, cpy := SetID{1}, CopyID{2}
	get, err := (&GetShareMappingRequest{ShadowCopyID: cpy, ShadowCopySetID: set}).Append(nil, ndr.NDR20BE)
	require.NoError(t, err)
	del, err := (&DeleteShareMappingRequest{ShadowCopyID: cpy, ShadowCopySetID: set}).Append(nil, ndr.NDR20BE)
	require.NoError(t, err)
	require.Equal(t, []byte{2, 1}, []byte{get[0], get[16]})
	require.Equal(t, []byte{1, 2}, []byte{del[0], del[16]})
}
