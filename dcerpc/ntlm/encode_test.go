package ntlm

import (
	"strings"
	"testing"

	ssp "github.com/oiweiwei/go-msrpc/ssp/ntlm"
	"github.com/stretchr/testify/require"
)

// TestEncodeAgainstMSRPC has go-msrpc read what is written here.
func TestEncodeAgainstMSRPC(t *testing.T) {
	flags := baseFlags | strongFlags | negotiateSign | negotiateTargetInfo | negotiateVersion

	var n ssp.NegotiateMessage
	require.NoError(t, n.Unmarshal(t.Context(), appendNegotiate(nil, flags)))
	require.EqualValues(t, flags, n.Negotiate)
	require.Equal(t, ssp.Windows7, n.Version.ProductVersion)
	require.Equal(t, ssp.RevisionCurrent, n.Version.Revision)

	info := appendAV(appendAV(nil, msvAvNetBIOSDomainName, utf16le("BÜRO")), msvAvEOL, nil)
	var c ssp.ChallengeMessage
	require.NoError(t, c.Unmarshal(t.Context(), appendChallenge(nil, flags, [8]byte{1, 2, 3}, "BÜRO", info)))
	require.EqualValues(t, flags, c.Negotiate)
	require.Equal(t, []byte{1, 2, 3, 0, 0, 0, 0, 0}, c.ServerChallenge)
	require.Equal(t, "BÜRO", c.TargetName)
	require.Equal(t, "BÜRO", c.TargetInfo[ssp.AttrNetBIOSDomainName].NetBIOSDomainName)

	sent := authenticateMessage{
		flags: flags, lm: make([]byte, 24), nt: []byte(strings.Repeat("n",
			300)), domain: "BÜRO", user: "anna", workstation: "W",
		encryptedSessionKey: []byte("0123456789abcdef"),
	}
	b, err := sent.append(nil)
	require.NoError(t, err)
	var a ssp.AuthenticateMessage
	require.NoError(t, a.Unmarshal(t.Context(), b))
	require.EqualValues(t, flags, a.Negotiate)
	require.Equal(t, []string{"BÜRO", "anna", "W"}, []string{a.DomainName, a.UserName, a.Workstation})
	require.Equal(t, sent.nt, a.NTChallengeResponse)
	require.Equal(t, sent.lm, a.LMChallengeResponse)
	require.Equal(t, sent.encryptedSessionKey, a.EncryptedRandomSessionKey)
	got, err := parseAuthenticate(b)
	require.NoError(t, err)
	require.Equal(t, &sent, got)

	_, err = (&authenticateMessage{user: strings.Repeat("x", 1<<15)}).append(nil)
	require.ErrorContains(t, err, "UserName of 65536 bytes")
	_, err = NewAcceptor(&AcceptorConfig{Verifier: &HashFile{}, ComputerName: strings.Repeat("x", 600)})
	require.ErrorContains(t, err, "1200 bytes")
}

// TestFlagsAgainstMSRPC compares the numbers.
func TestFlagsAgainstMSRPC(t *testing.T) {
	for ours, theirs := range map[negotiateFlags]ssp.Flag{
		negotiateUnicode: ssp.NegotiateUnicode, requestTarget: ssp.RequestTarget, negotiateSign: ssp.NegotiateSign,
		negotiateSeal: ssp.NegotiateSeal, negotiateNTLM: ssp.NegotiateNTLM, anonymous: ssp.Anonymous,
		negotiateAlwaysSign: ssp.NegotiateAlwaysSign, targetTypeDomain: ssp.TargetTypeDomain, targetTypeServer: ssp.TargetTypeServer,
		negotiateExtendedSessionSecurity: ssp.NegotiateExtendedSessionSecurity, negotiateTargetInfo: ssp.NegotiateTargetInfo,
		negotiateVersion: ssp.NegotiateVersion, negotiate128: ssp.Negotiate128, negotiateKeyExchange: ssp.NegotiateKeyExchange,
		negotiate56: ssp.Negotiate56,
	} {
		require.EqualValues(t, theirs, ours)
	}
}
