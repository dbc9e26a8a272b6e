package spnego

import (
	"encoding/asn1"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMechToken(t *testing.T) {
	first, second := asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2,
		2, 10}
	init, err := (&NegTokenInit{MechTypes: []asn1.ObjectIdentifier{first, second},
		MechToken: []byte("token")}).AppendBinary(nil)
	require.NoError(t, err)
	resp, err := (&NegTokenResp{State: AcceptIncomplete, SupportedMech: second,
		ResponseToken: []byte("answer")}).AppendBinary(nil)
	require.NoError(t, err)
	done, err := (&NegTokenResp{State: AcceptCompleted}).AppendBinary(nil)
	require.NoError(t, err)
	for _, tt := range []struct {
		in    []byte
		token string
		mechs []asn1.ObjectIdentifier
	}{
		{init, "token", []asn1.ObjectIdentifier{first, second}},
		{resp, "answer", []asn1.ObjectIdentifier{second}},
		{done, "", nil},
		{[]byte("NTLMSSP\x00\x01\x00\x00\x00"), "NTLMSSP\x00\x01\x00\x00\x00", nil},
		{init[:len(init)-1], string(init[:len(init)-1]), nil},
		{nil, "", nil},
	} {
		token, mechs := MechToken(tt.in)
		require.Equal(t, tt.token, string(token))
		require.Equal(t, tt.mechs, mechs)
	}
}
