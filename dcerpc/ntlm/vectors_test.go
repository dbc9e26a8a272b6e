package ntlm

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The example of MS-NLMP 4.2.4: User of Domain with "Password", the challenge 0123456789abcdef,
// client nonce aa.., time 0, random session key 55...
const (
	exampleChallenge = "4e544c4d53535000020000000c000c003800000033828ae20123456789abcdef" +
		"00000000000000002400240044000000060070170000000f5300650072007600" +
		"6500720002000c0044006f006d00610069006e0001000c005300650072007600" +
		"6500720000000000"
	exampleAuthenticate = "4e544c4d5353500003000000180018006c00000054005400840000000c000c00" +
		"480000000800080054000000100010005c00000010001000d8000000358288e2" +
		"0501280a0000000f44006f006d00610069006e00550073006500720043004f00" +
		"4d0050005500540045005200" +
		"86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa" +
		"68cd0ab851e51c96aabc927bebef6a1c" +
		"01010000000000000000000000000000aaaaaaaaaaaaaaaa0000000002000c00" +
		"44006f006d00610069006e0001000c0053006500720076006500720000000000" +
		"00000000" +
		"c5dad2544fc9799094ce1ce90bc9d03e"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

func TestKeysOfTheStandard(t *testing.T) {
	hash := NTHash("Password")
	require.Equal(t, unhex(t, "a4f49c406510bdcab6824ee7c30fd852"), hash[:])
	key := ntowfv2(hash, "User", "Domain")
	require.Equal(t, unhex(t, "0c868a403bfd7a93a3001ef22ef02e3f"), key[:])

	m, err := parseChallenge(unhex(t, exampleChallenge))
	require.NoError(t, err)
	require.Equal(t, [8]byte(unhex(t, "0123456789abcdef")), m.challenge)

	nonce := [8]byte(unhex(t, "aaaaaaaaaaaaaaaa"))
	var pairs []byte
	for _, p := range m.targetInfo {
		pairs = appendAV(pairs, p.id, p.value)
	}
	client := appendClientChallenge(nil, 0, nonce, appendAV(pairs, msvAvEOL, nil))
	proof, base := ntProof(key, m.challenge, client)
	require.Equal(t, unhex(t, "68cd0ab851e51c96aabc927bebef6a1c"), proof[:])
	require.Equal(t, unhex(t, "8de40ccadbc14a82f15cb0ad0de95ca3"), base[:])
	require.Equal(t, unhex(t, "86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa"),
		lmv2Response(key, m.challenge, nonce))
	require.Equal(t, unhex(t, "c5dad2544fc9799094ce1ce90bc9d03e"), rc4K(base, unhex(t, strings.Repeat("55", 16))))
}

func TestAuthenticateMessageOfTheStandard(t *testing.T) {
	m, err := parseAuthenticate(unhex(t, exampleAuthenticate))
	require.NoError(t, err)
	require.Equal(t, "Domain", m.domain)
	require.Equal(t, "User", m.user)
	require.Equal(t, "COMPUTER", m.workstation)
	require.Len(t, m.nt, 0x54)
	require.Len(t, m.lm, 24)
	require.False(t, m.anonymous())

	c := &Challenge{Domain: m.domain, User: m.user, Response: m.nt,
		ServerChallenge: [8]byte(unhex(t, "0123456789abcdef"))}
	base, ok := c.Check(NTHash("Password"))
	require.True(t, ok)
	require.Equal(t, unhex(t, strings.Repeat("55", 16)), rc4K(base, m.encryptedSessionKey))
	_, ok = c.Check(NTHash("password"))
	require.False(t, ok)
}

// TestAcceptorTakesTheStandardsClient puts the acceptor into the state after the example's
// CHALLENGE_MESSAGE; the example's client sends no MIC.
func TestAcceptorTakesTheStandardsClient(t *testing.T) {
	a, err := NewAcceptor(&AcceptorConfig{Verifier: accounts{"Password"}, ComputerName: "Server", DomainName: "Domain"})
	require.NoError(t, err)
	ctx, err := a.NewContext(6)
	require.NoError(t, err)
	c := ctx.(*acceptorContext)
	c.challenge = unhex(t, exampleChallenge)
	c.serverChallenge = [8]byte(c.challenge[24:32])
	c.flags = 0xe28a8233
	out, done, err := c.Step(context.Background(), unhex(t, exampleAuthenticate))
	require.NoError(t, err)
	require.True(t, done)
	require.Empty(t, out)
	require.Equal(t, "User", c.Identity().Account)
	require.Equal(t, unhex(t, strings.Repeat("55", 16)), c.SessionKey())
}

func TestSealOfTheStandard(t *testing.T) {
	key := [16]byte(unhex(t, strings.Repeat("55", 16)))
	client, server := newSession(key, true, true), newSession(key, true, false)
	require.Equal(t, unhex(t, "59f600973cc4960a25480a7c196e4c58"), client.send.sealKey[:])

	body, token := utf16le("Plaintext"), make([]byte, SignatureSize)
	require.NoError(t, client.send.protect(nil, body, nil, token, true))
	require.Equal(t, unhex(t, "54e50165bf1936dc996020c1811b0f06fb5f"), body)
	require.Equal(t, unhex(t, "010000007fb38ec5c55d497600000000"), token)

	require.NoError(t, server.recv.check(nil, body, nil, token, true))
	require.Equal(t, utf16le("Plaintext"), body)
}

// accounts is a Verifier that lets everybody in who has this password.
type accounts struct{ password string }

func (a accounts) Verify(_ context.Context, c *Challenge) (*Result, error) {
	key, ok := c.Check(NTHash(a.password))
	if !ok {
		return nil, ErrLogonFailure
	}
	r := &Result{SessionBaseKey: key}
	r.Identity.Account, r.Identity.Domain = c.User, c.Domain
	return r, nil
}
