package ntlm

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// known gives the hash of every account's password.
func known(passwords ...string) func(domain, user string) [][16]byte {
	return func(string, string) (hashes [][16]byte) {
		for _, p := range passwords {
			hashes = append(hashes, NTHash(p))
		}
		return hashes
	}
}

// watch gives an exchange to an Observer.
func watch(t *testing.T, x exchange, hashes func(domain, user string) [][16]byte) (*Observer, error) {
	o := NewObserver(hashes)
	require.NoError(t, o.Token(FromInitiator, x.negotiate))
	require.NoError(t, o.Token(FromAcceptor, x.challenge))
	return o, o.Token(FromInitiator, x.authenticate)
}

// A sent message, and who sent it.
type sentMessage struct {
	dir   Direction
	m     dcerpc.Message
	token []byte
	clear []byte // the body
}

// converse has both sides send messages of some sizes.
func converse(t *testing.T, client, server dcerpc.Context, level dcerpc.AuthLevel, sizes ...int) (list []sentMessage) {
	for _, size := range sizes {
		for dir, c := range map[Direction]dcerpc.Context{FromInitiator: client, FromAcceptor: server} {
			s := sentMessage{dir: dir, m: message(size), clear: message(size).Body}
			var err error
			s.token, err = protect(c, level, s.m)
			require.NoError(t, err)
			list = append(list, s)
		}
	}
	return list
}

func (s *sentMessage) read(o *Observer, level dcerpc.AuthLevel) (uint64, error) {
	if level == dcerpc.LevelPrivacy {
		return o.Unseal(s.dir, s.m, s.token)
	}
	return o.Verify(s.dir, s.m, s.token)
}

func TestObserver(t *testing.T) {
	for _, level := range levels() {
		t.Run(fmt.Sprint("level ", level), func(t *testing.T) {
			client, server := newPair(t, level)
			x := establish(t, client, server)
			o, err := watch(t, x, known("another", "Secret1"))
			require.NoError(t, err)
			domain, user, ok := o.Account()
			require.True(t, ok)
			require.Equal(t, []string{"FSRVP", "backup"}, []string{domain, user})
			require.Equal(t, client.SessionKey(), o.SessionKey())
			var next [2]uint64
			for _, s := range converse(t, client, server, level, 16, 4000, 0, 64) {
				seq, err := s.read(o, level)
				require.NoError(t, err)
				require.Equal(t, next[s.dir], seq)
				require.Equal(t, s.clear, s.m.Body)
				next[s.dir]++
			}
		})
	}
}

// TestObserverOfLoss leaves messages out: the place in the key stream is found again.
func TestObserverOfLoss(t *testing.T) {
	for _, level := range levels() {
		t.Run(fmt.Sprint("level ", level), func(t *testing.T) {
			client, server := newPair(t, level)
			o, err := watch(t, establish(t, client, server), known("Secret1"))
			require.NoError(t, err)
			for i, s := range converse(t, client, server, level, 16, 1200, 40, 4000, 8, 16) {
				if i/2 == 1 || i/2 == 2 || i/2 == 4 {
					continue
				}
				_, err := s.read(o, level)
				require.NoError(t, err, i)
				require.Equal(t, s.clear, s.m.Body)
			}
		})
	}
}

// TestObserverOfTampering changes messages, and the exchange.
func TestObserverOfTampering(t *testing.T) {
	for _, level := range levels() {
		client, server := newPair(t, level)
		x := establish(t, client, server)
		o, err := watch(t, x, known("Secret1"))
		require.NoError(t, err)
		for i, s := range converse(t, client, server, level, 16, 400, 16) {
			if i/2 == 1 {
				s.m.Body[7] ^= 1
			}
			_, err := s.read(o, level)
			if i/2 == 1 {
				require.ErrorIs(t, err, ErrBadSignature)
			} else {
				require.NoError(t, err, "the others are as they were")
			}
		}
		x.negotiate[15] ^= 0x80
		o, err = watch(t, x, known("Secret1"))
		require.ErrorIs(t, err, ErrBadMIC)
		require.Equal(t, client.SessionKey(), o.SessionKey(), "it works all the same")
	}
}

func TestObserverWithoutKey(t *testing.T) {
	client, server := newPair(t, dcerpc.LevelPrivacy)
	x := establish(t, client, server)
	for _, tt := range []struct {
		hashes func(domain, user string) [][16]byte
		want   error
	}{{nil, ErrNoHash}, {known(), ErrNoHash}, {known("wrong"), ErrLogonFailure}} {
		o, err := watch(t, x, tt.hashes)
		require.ErrorIs(t, err, tt.want)
		require.False(t, o.Opened())
		require.Nil(t, o.SessionKey())
		_, user, ok := o.Account()
		require.True(t, ok)
		require.Equal(t, "backup", user)
		_, err = o.Unseal(FromAcceptor, message(16), make([]byte, SignatureSize))
		require.Error(t, err)
	}
	o := NewObserver(known("Secret1"))
	require.ErrorContains(t, o.Token(FromInitiator, x.authenticate), "CHALLENGE_MESSAGE is missing")
	require.Error(t, o.Token(FromAcceptor, x.negotiate))
	require.Error(t, o.Token(FromInitiator, []byte("hello")))
}

// TestObserverOfWeakerContexts reads what our own sides refuse: shorter keys, no key exchange,
// names in the OEM code page.
func TestObserverOfWeakerContexts(t *testing.T) {
	for _, flags := range []negotiateFlags{
		baseFlags | negotiateKeyExchange | negotiate56, baseFlags | negotiateKeyExchange, baseFlags | negotiate128, baseFlags,
		baseFlags&^negotiateUnicode | negotiate128,
	} {
		client, server := newPair(t, dcerpc.LevelPrivacy)
		x := establish(t, client, server)
		m, err := parseAuthenticate(x.authenticate)
		require.NoError(t, err)
		m.flags = flags
		c := Challenge{Domain: m.domain, User: m.user, ServerChallenge: [8]byte(x.challenge[24:32]), Response: m.nt}
		key, ok := c.Check(NTHash("Secret1"))
		require.True(t, ok)
		if flags.IsSet(negotiateKeyExchange) {
			copy(key[:], rc4K(key, m.encryptedSessionKey))
		}
		x.authenticate, err = m.append(nil)
		require.NoError(t, err)
		if !flags.IsSet(negotiateUnicode) {
			x.authenticate = append(x.authenticate, "FSRVPbackup"...)
			for at, v := range map[int][2]int{28: {5, 11}, 36: {6, 6}} {
				binary.LittleEndian.PutUint16(x.authenticate[at:], uint16(v[0]))
				binary.LittleEndian.PutUint32(x.authenticate[at+4:], uint32(len(x.authenticate)-v[1]))
			}
		}
		o, err := watch(t, x, known("Secret1"))
		require.ErrorIs(t, err, ErrBadMIC, "the flags are others than when it was made")
		require.Equal(t, key[:], o.SessionKey())
		sender := newDirection(key, flags.sealingKeySize(), magicSignServer, magicSealServer,
			flags.IsSet(negotiateKeyExchange))
		for range 3 {
			s := sentMessage{dir: FromAcceptor, m: message(40), clear: message(40).Body,
				token: make([]byte, SignatureSize)}
			require.NoError(t, sender.protect(s.m.Header, s.m.Body, s.m.Trailer, s.token, true))
			_, err := s.read(o, dcerpc.LevelPrivacy)
			require.NoError(t, err)
			require.Equal(t, s.clear, s.m.Body)
		}
	}
	require.Equal(t, 16, negotiateFlags(negotiate128|negotiate56).sealingKeySize())
	require.Equal(t, 7, negotiate56.sealingKeySize())
	require.Equal(t, 5, negotiateFlags(0).sealingKeySize())
}

func FuzzObserver(f *testing.F) {
	x := tokens(f)
	f.Add(x.negotiate, x.challenge, x.authenticate, []byte("body"), make([]byte, SignatureSize))
	f.Fuzz(func(t *testing.T, negotiate, challenge, authenticate, body, token []byte) {
		o := NewObserver(known("Secret1"))
		_ = o.Token(FromInitiator, negotiate)
		_ = o.Token(FromAcceptor, challenge)
		_ = o.Token(FromInitiator, authenticate)
		for _, d := range []Direction{FromInitiator, FromAcceptor} {
			_, err := o.Unseal(d, dcerpc.Message{Body: body}, token)
			if err == nil {
				t.Fatal("a forged message")
			}
		}
	})
}
