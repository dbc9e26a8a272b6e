package ntlm

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	ssp "github.com/oiweiwei/go-msrpc/ssp/ntlm"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

func TestHandshake(t *testing.T) {
	for _, level := range append(levels(), dcerpc.LevelInsecureConnect) {
		t.Run(fmt.Sprint("level ", level), func(t *testing.T) {
			client, server := newPair(t, level)
			x := establish(t, client, server)
			id := server.Identity()
			require.Equal(t, "backup", id.Account)
			require.Equal(t, "FSRVP", id.Domain)
			require.Equal(t, "ntlm", id.Mechanism)
			require.Equal(t, dcerpc.Identity{Mechanism: "ntlm"}, client.Identity())
			require.Len(t, client.SessionKey(), 16)
			require.Equal(t, client.SessionKey(), server.SessionKey())
			require.LessOrEqual(t, len(x.authenticate), MaxTokenSize)

			m, err := parseAuthenticate(x.authenticate)
			require.NoError(t, err)
			require.Equal(t, make([]byte, 24), m.lm, "no LMv2 response besides a timestamp")
			require.Equal(t, level == dcerpc.LevelPrivacy, m.flags.IsSet(negotiateSeal))
			pairs, err := parseClientChallenge(m.nt)
			require.NoError(t, err)
			flags, err := avFlags(pairs)
			require.NoError(t, err)
			require.True(t, flags.IsSet(micProvided))
			target, ok := findAV(pairs, msvAvTargetName)
			require.True(t, ok)
			require.Equal(t, utf16le("host/fs.fsrvp.test"), target)
			bindings, ok := findAV(pairs, msvAvChannelBindings)
			require.True(t, ok)
			require.Equal(t, make([]byte, 16), bindings)
			names := map[avID]string{
				msvAvNetBIOSComputerName: "FS", msvAvNetBIOSDomainName: "FSRVP", msvAvDNSComputerName: "fs.fsrvp.test",
			}
			for id, want := range names {
				v, ok := findAV(pairs, id)
				require.True(t, ok)
				require.Equal(t, utf16le(want), v)
			}

			_, _, err = client.Step(context.Background(), x.challenge)
			require.Error(t, err)
			_, _, err = server.Step(context.Background(), x.authenticate)
			require.Error(t, err)
		})
	}
}

func TestNTHashInPlaceOfThePassword(t *testing.T) {
	hash := NTHash("Secret1")
	i, err := NewInitiator(Credentials{Domain: "FSRVP", User: "backup", NTHash: hash[:]})
	require.NoError(t, err)
	client, err := i.NewContext("host/fs", dcerpc.LevelPrivacy)
	require.NoError(t, err)
	_, server := newPair(t, dcerpc.LevelPrivacy)
	establish(t, client.(micContext), server)
}

func TestCredentialsRefused(t *testing.T) {
	for want, c := range map[string]Credentials{
		"without a user":                      {Password: "x"},
		"neither a password nor":              {User: "u", Domain: "D"},
		"both a password and an NT hash":      {User: "u", Password: "x", NTHash: make([]byte, 16)},
		`the NT hash of D\u is 15 bytes long`: {User: "u", Domain: "D", NTHash: make([]byte, 15)},
	} {
		_, err := NewInitiator(c)
		require.ErrorContains(t, err, want)
	}
	for _, cfg := range []*AcceptorConfig{nil, {}} {
		_, err := NewAcceptor(cfg)
		require.ErrorContains(t, err, "without a Verifier")
	}
}

func TestWrongPassword(t *testing.T) {
	client, err := newInitiator(t, "backup", "secret1").NewContext("host/fs", dcerpc.LevelPrivacy)
	require.NoError(t, err)
	_, server := newPair(t, dcerpc.LevelPrivacy)
	err = lastStep(t, client, server, nil)
	require.ErrorIs(t, err, ErrLogonFailure)
	require.ErrorContains(t, err, `FSRVP\\backup`)
	require.Empty(t, server.Identity())
	require.Nil(t, server.(*acceptorContext).SessionKey())
}

// lastStep runs an exchange in which change may alter the AUTHENTICATE_MESSAGE, and returns what
// the server says to it.
func lastStep(t testing.TB, client, server dcerpc.Context, change func(b []byte) []byte) error {
	t.Helper()
	ctx := context.Background()
	tok, _, err := client.Step(ctx, nil)
	require.NoError(t, err)
	tok, _, err = server.Step(ctx, tok)
	require.NoError(t, err)
	tok, _, err = client.Step(ctx, tok)
	require.NoError(t, err)
	if change != nil {
		tok = change(tok)
	}
	out, done, err := server.Step(ctx, tok)
	require.Empty(t, out)
	require.Equal(t, err == nil, done)
	return err
}

// TestTamperedExchange flips every bit of every token of an exchange: one side or the other
// has to notice.
func TestTamperedExchange(t *testing.T) {
	ctx := context.Background()
	client, server := newPair(t, dcerpc.LevelPrivacy)
	sizes := establish(t, client, server)
	initiator, acceptor := newInitiator(t, "backup", "Secret1"), newAcceptor(t, accounts{"Secret1"})
	for leg, size := range []int{len(sizes.negotiate), len(sizes.challenge), len(sizes.authenticate)} {
		for bit := range 8 * size {
			client, err := initiator.NewContext("host/fs.fsrvp.test", dcerpc.LevelPrivacy)
			require.NoError(t, err)
			server, err := acceptor.NewContext(dcerpc.LevelPrivacy)
			require.NoError(t, err)
			sides, tok := []dcerpc.Context{client, server, client, server}, []byte(nil)
			for n, side := range sides {
				if tok, _, err = side.Step(ctx, tok); err != nil {
					require.Greater(t, n, leg)
					break
				}
				if n == leg {
					tok[bit/8] ^= 1 << (bit % 8)
				}
			}
			require.Error(t, err, "leg %d, bit %d", leg, bit)
		}
	}
}

// TestTruncatedTokens cuts every token at every length.
func TestTruncatedTokens(t *testing.T) {
	ctx := context.Background()
	client, server := newPair(t, dcerpc.LevelPrivacy)
	x := establish(t, client, server)
	for size := range len(x.challenge) {
		client, _ := newPair(t, dcerpc.LevelPrivacy)
		_, _, err := client.Step(ctx, nil)
		require.NoError(t, err)
		_, _, err = client.Step(ctx, x.challenge[:size])
		require.Error(t, err)
	}
	for size := range len(x.authenticate) {
		client, server := newPair(t, dcerpc.LevelPrivacy)
		require.Error(t, lastStep(t, client, server, func(b []byte) []byte { return b[:size] }))
	}
	for size := range len(x.negotiate) {
		_, server := newPair(t, dcerpc.LevelPrivacy)
		_, _, err := server.Step(ctx, x.negotiate[:size])
		require.Equal(t, size < 16, err != nil, "the fields after the flags mean nothing")
	}
}

func TestBytesAfterTheMessage(t *testing.T) {
	// Windows takes them; the MIC covers them.
	client, server := newPair(t, dcerpc.LevelPrivacy)
	err := lastStep(t, client, server, func(b []byte) []byte { return append(b, 0) })
	require.ErrorIs(t, err, ErrBadMIC)

	ctx := context.Background()
	client, server = newPair(t, dcerpc.LevelPrivacy)
	tok, _, err := client.Step(ctx, nil)
	require.NoError(t, err)
	_, _, err = server.Step(ctx, append(tok, make([]byte, MaxTokenSize-len(tok))...))
	require.NoError(t, err)

	_, server = newPair(t, dcerpc.LevelPrivacy)
	_, _, err = server.Step(ctx, append(tok, make([]byte, MaxTokenSize)...))
	require.ErrorContains(t, err, "more than 2888")
}

// TestRefusedClients changes what a client sends; the change is signed again where it would
// be hidden by a bad MIC.
func TestRefusedClients(t *testing.T) {
	flags := func(b []byte, f func(negotiateFlags) negotiateFlags) []byte {
		binary.LittleEndian.PutUint32(b[60:], uint32(f(negotiateFlags(binary.LittleEndian.Uint32(b[60:])))))
		return b
	}
	setLen := func(b []byte, field, n int) []byte {
		binary.LittleEndian.PutUint16(b[field:], uint16(n))
		return b
	}
	for name, tc := range map[string]struct {
		change func(b []byte) []byte
		err    error  // or
		text   string // of the error
	}{
		"NTLMv1":                {func(b []byte) []byte { return setLen(b, 20, 24) }, ErrNTLMv1, ""},
		"LM alone":              {func(b []byte) []byte { return setLen(b, 20, 0) }, ErrNTLMv1, ""},
		"anonymous by flag":     {func(b []byte) []byte { return flags(b, func(f negotiateFlags) negotiateFlags { return f | anonymous }) }, ErrAnonymous, ""},
		"anonymous by its name": {func(b []byte) []byte { return setLen(setLen(b, 36, 0), 20, 0) }, ErrAnonymous, ""},
		"without a user":        {func(b []byte) []byte { return setLen(b, 36, 0) }, ErrLogonFailure, ""},
		"sealing taken back": {func(b []byte) []byte {
			return flags(b, func(f negotiateFlags) negotiateFlags { return f &^ negotiateSeal })
		}, nil, "withdrew"},
		"56 bits": {func(b []byte) []byte {
			return flags(b, func(f negotiateFlags) negotiateFlags { return f &^ negotiate128 })
		}, nil, "withdrew"},
		"OEM": {func(b []byte) []byte {
			return flags(b, func(f negotiateFlags) negotiateFlags { return f &^ negotiateUnicode })
		}, nil, "Unicode"},
		"no session key":         {func(b []byte) []byte { return setLen(b, 52, 0) }, nil, "EncryptedRandomSessionKey of 0"},
		"half a session key":     {func(b []byte) []byte { return setLen(b, 52, 8) }, nil, "EncryptedRandomSessionKey of 8"},
		"half a character":       {func(b []byte) []byte { return setLen(b, 36, 11) }, nil, "odd number"},
		"field past the end":     {func(b []byte) []byte { return setLen(b, 52, 65535) }, nil, "field of 65535 bytes"},
		"offset past the end":    {func(b []byte) []byte { b[59] = 0xff; return b }, nil, "field of 16 bytes"},
		"short response":         {func(b []byte) []byte { return setLen(b, 20, 40) }, nil, "truncated"},
		"AV pairs without end":   {func(b []byte) []byte { return setLen(b, 20, 50) }, nil, "run past"},
		"challenge of a server":  {func(b []byte) []byte { b[8] = 2; return b }, nil, "type 2"},
		"not NTLM":               {func(b []byte) []byte { b[0] = 'X'; return b }, nil, "not an NTLMSSP message"},
		"MIC zeroed":             {func(b []byte) []byte { clear(b[micOffset:micEnd]); return b }, ErrBadMIC, ""},
		"session key of another": {func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, ErrBadMIC, ""},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := newPair(t, dcerpc.LevelPrivacy)
			err := lastStep(t, client, server, tc.change)
			if tc.err != nil {
				require.ErrorIs(t, err, tc.err)
			} else {
				require.ErrorContains(t, err, tc.text)
			}
		})
	}
}

// TestStrippedMIC takes the MIC and its flag away, as CVE-2019-1040 did: the flag is signed
// with the account's key.
func TestStrippedMIC(t *testing.T) {
	client, server := newPair(t, dcerpc.LevelPrivacy)
	err := lastStep(t, client, server, func(b []byte) []byte {
		flags := appendAV(nil, msvAvFlags, []byte{2, 0, 0, 0})
		at := bytes.Index(b, flags)
		require.Positive(t, at)
		b[at+4] = 0
		clear(b[micOffset:micEnd])
		return b
	})
	require.ErrorIs(t, err, ErrLogonFailure)
}

func TestWeakClients(t *testing.T) {
	ctx := context.Background()
	for _, missing := range []negotiateFlags{
		negotiateUnicode, negotiateNTLM, negotiateExtendedSessionSecurity,
		negotiate128, negotiateKeyExchange, negotiateSign, negotiateSeal,
	} {
		client, server := newPair(t, dcerpc.LevelPrivacy)
		tok, _, err := client.Step(ctx, nil)
		require.NoError(t, err)
		binary.LittleEndian.PutUint32(tok[12:], binary.LittleEndian.Uint32(tok[12:])&^uint32(missing))
		_, _, err = server.Step(ctx, tok)
		if missing&(negotiateSign|negotiateSeal) != 0 {
			require.NoError(t, err, "the log-on may end well; see TestPartialProtection")
		} else {
			require.ErrorContains(t, err, "too weak")
		}

		// And the other way: a server that does not grant it.
		client, server = newPair(t, dcerpc.LevelPrivacy)
		tok, _, err = client.Step(ctx, nil)
		require.NoError(t, err)
		tok, _, err = server.Step(ctx, tok)
		require.NoError(t, err)
		binary.LittleEndian.PutUint32(tok[20:], binary.LittleEndian.Uint32(tok[20:])&^uint32(missing))
		_, _, err = client.Step(ctx, tok)
		require.ErrorContains(t, err, "does not offer what this context needs")
	}
}

// TestPartialProtection lets clients log on that do not ask for what a level needs, and says so, as
// Windows does.
func TestPartialProtection(t *testing.T) {
	for _, test := range []struct {
		without    negotiateFlags
		sign, seal bool
	}{
		{0, true, true},
		{negotiateSeal, true, false},
		{negotiateSign, false, false},
		{negotiateSign | negotiateSeal, false, false},
	} {
		client, _ := newPair(t, dcerpc.LevelPrivacy)
		_, server := newPair(t, dcerpc.LevelPrivacy)
		i := client.(*initiatorContext)
		i.ask &^= test.without
		i.need &^= test.without
		establish(t, client, server)
		sign, seal := server.(dcerpc.PartialContext).Protection()
		require.Equal(t, test.sign, sign, "%#08x", test.without)
		require.Equal(t, test.seal, seal, "%#08x", test.without)
	}
}

// TestConnectLevel takes a client that wants nothing signed, and so exchanges no key.
func TestConnectLevel(t *testing.T) {
	client, server := newPair(t, dcerpc.LevelInsecureConnect)
	client.(*initiatorContext).ask &^= negotiateSign | negotiateSeal | negotiateKeyExchange | negotiate128
	x := establish(t, client, server)
	m, err := parseAuthenticate(x.authenticate)
	require.NoError(t, err)
	require.Empty(t, m.encryptedSessionKey)

	_, server = newPair(t, dcerpc.LevelInsecureConnect)
	client, _ = newPair(t, dcerpc.LevelInsecureConnect)
	client.(*initiatorContext).ask &^= negotiate128
	tok, _, err := client.Step(context.Background(), nil)
	require.NoError(t, err)
	_, _, err = server.Step(context.Background(), tok)
	require.ErrorContains(t, err, "too weak", "signing with short keys is worse than none")
}

func TestTargets(t *testing.T) {
	for _, tc := range []struct {
		targets []string
		ok      bool
	}{
		{nil, true},
		{[]string{"cifs/fs.fsrvp.test", "HOST/FS.fsrvp.test"}, true},
		{[]string{"host/other.fsrvp.test"}, false},
		{[]string{}, false},
	} {
		a, err := NewAcceptor(&AcceptorConfig{Verifier: accounts{"Secret1"}, ComputerName: "FS", Targets: tc.targets})
		require.NoError(t, err)
		server, err := a.NewContext(dcerpc.LevelPrivacy)
		require.NoError(t, err)
		client, _ := newPair(t, dcerpc.LevelPrivacy)
		err = lastStep(t, client, server, nil)
		if tc.ok {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, `"host/fs.fsrvp.test", which is not this server`)
		}
	}
}

// TestServersOfOtherKinds answers with CHALLENGE_MESSAGEs that ours never sends.
func TestServersOfOtherKinds(t *testing.T) {
	names := ssp.AttrValues{
		ssp.AttrNetBIOSComputerName: {NetBIOSComputerName: "FS"},
		ssp.AttrNetBIOSDomainName:   {NetBIOSDomainName: "FSRVP"},
	}
	flags := baseFlags | strongFlags | negotiateSign | negotiateSeal | negotiateTargetInfo
	build := func(info ssp.AttrValues) []byte {
		b, err := (&ssp.ChallengeMessage{Negotiate: ssp.Flag(flags), ServerChallenge: []byte("12345678"),
			TargetName: "FSRVP", TargetInfo: info}).
			Marshal(context.Background())
		require.NoError(t, err)
		return b
	}
	step := func(b []byte) ([]byte, error) {
		client, _ := newPair(t, dcerpc.LevelPrivacy)
		_, _, err := client.Step(context.Background(), nil)
		require.NoError(t, err)
		out, _, err := client.Step(context.Background(), b)
		return out, err
	}

	// Without a timestamp the LMv2 response goes along, and the MIC all the same.
	out, err := step(build(names))
	require.NoError(t, err)
	m, err := parseAuthenticate(out)
	require.NoError(t, err)
	require.NotEqual(t, make([]byte, 24), m.lm)
	require.NotEqual(t, make([]byte, 16), out[micOffset:micEnd])

	_, err = step(build(ssp.AttrValues{ssp.AttrDNSComputerName: {DNSComputerName: "fs"}}))
	require.ErrorContains(t, err, "neither a computer nor a domain")

	// Pairs of the wrong length, at which go-msrpc's reader panics.
	for _, id := range []avID{msvAvFlags, msvAvTimestamp} {
		info := appendAV(nil, msvAvNetBIOSComputerName, utf16le("FS"))
		info = appendAV(appendAV(info, id, []byte{1, 2, 3}), msvAvEOL, nil)
		b := build(nil)
		b = append(b[:len(b)-4], info...)
		binary.LittleEndian.PutUint16(b[40:], uint16(len(info)))
		_, err = step(b)
		require.ErrorContains(t, err, "bytes long")
	}

	b := build(names)
	binary.LittleEndian.PutUint16(b[40:], 0)
	_, err = step(b)
	require.ErrorContains(t, err, "no TargetInfo")
}

func TestServerSpeaksFirst(t *testing.T) {
	client, _ := newPair(t, dcerpc.LevelPrivacy)
	_, _, err := client.Step(context.Background(), []byte("NTLMSSP\x00"))
	require.ErrorContains(t, err, "before the first one of ours")
	_, _, err = client.Step(context.Background(), nil)
	require.Error(t, err, "an error ends the context")
}
