package ntlm

import (
	"bytes"
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// levels are those that protect calls.
func levels() []dcerpc.AuthLevel {
	return []dcerpc.AuthLevel{dcerpc.LevelPacket, dcerpc.LevelIntegrity, dcerpc.LevelPrivacy}
}

// sessionPair is a pair as after a handshake, without its cost.
func sessionPair() (client, server *established) {
	key := [16]byte([]byte("0123456789abcdef"))
	return &established{newSession(key, true, true)}, &established{newSession(key, true, false)}
}

// contextOf makes an established part usable as a dcerpc.Context.
func contextOf(e *established) dcerpc.Context { return &initiatorContext{established: *e} }

func TestProtectedMessages(t *testing.T) {
	for _, level := range levels() {
		t.Run(fmt.Sprint("level ", level), func(t *testing.T) {
			client, server := newPair(t, level)
			establish(t, client, server)
			for i, size := range []int{0, 16, 64, 4000, 16, 65000} {
				for _, dir := range []struct{ from, to dcerpc.Context }{{client, server}, {server, client},
					{client, server}} {
					m, want := message(size), message(size)
					token, err := protect(dir.from, level, m)
					require.NoError(t, err)
					require.Equal(t, want.Header, m.Header)
					require.Equal(t, want.Trailer, m.Trailer)
					if level == dcerpc.LevelPrivacy && size > 0 {
						require.NotEqual(t, want.Body, m.Body)
					} else {
						require.Equal(t, want.Body, m.Body)
					}
					require.NoError(t, check(dir.to, level, m, token), "message %d", i)
					require.Equal(t, want, m)
				}
			}
		})
	}
}

// TestFlippedBits flips every bit of a message and its token.
func TestFlippedBits(t *testing.T) {
	for _, level := range levels() {
		m := message(64)
		parts := []struct {
			name string
			size int
		}{{"header", len(m.Header)}, {"body", len(m.Body)}, {"trailer", len(m.Trailer)}, {"token", SignatureSize}}
		for p, part := range parts {
			for bit := range 8 * part.size {
				client, server := sessionPair()
				from, to := contextOf(client), contextOf(server)
				m := message(64)
				token, err := protect(from, level, m)
				require.NoError(t, err)
				[][]byte{m.Header, m.Body, m.Trailer, token}[p][bit/8] ^= 1 << (bit % 8)
				err = check(to, level, m, token)
				require.ErrorIs(t, err, ErrBadSignature, "level %d, bit %d of the %s", level, bit, part.name)
				if level == dcerpc.LevelPrivacy {
					require.Equal(t, make([]byte, len(m.Body)), m.Body, "a body that failed is not to be seen")
				}

				// Nothing is accepted on that stream any more.
				m = message(64)
				token, err = protect(from, level, m)
				require.NoError(t, err)
				require.ErrorIs(t, check(to, level, m, token), ErrBadSignature)
			}
		}
	}
}

func TestTokenOfOtherLength(t *testing.T) {
	for _, level := range levels() {
		for size := range 40 {
			if size == SignatureSize {
				continue
			}
			client, server := sessionPair()
			m := message(32)
			token, err := protect(contextOf(client), level, m)
			require.NoError(t, err)
			token = append(token, make([]byte, 40)...)[:size]
			require.ErrorIs(t, check(contextOf(server), level, m, token), ErrBadSignature)

			require.Error(t, contextOf(client).Sign(m, make([]byte, size)))
		}
	}
}

// sent is a message as it went over the wire.
type sent struct {
	m     dcerpc.Message
	token []byte
}

func (s sent) copy() sent {
	s.m.Body = bytes.Clone(s.m.Body)
	return s
}

func TestSequence(t *testing.T) {
	// Each case gives the order in which messages 0, 1, 2 of the client arrive; the last one
	// must be refused, the others accepted.
	for name, order := range map[string][]int{
		"replay":         {0, 1, 1},
		"replay, older":  {0, 1, 0},
		"dropped":        {0, 2},
		"dropped, first": {1},
		"reordered":      {1, 0},
	} {
		for _, level := range levels() {
			t.Run(fmt.Sprint(name, " level ", level), func(t *testing.T) {
				client, server := newPair(t, level)
				establish(t, client, server)
				var msgs []sent
				for range 3 {
					m := message(48)
					token, err := protect(client, level, m)
					require.NoError(t, err)
					msgs = append(msgs, sent{m, token})
				}
				for n, i := range order {
					s := msgs[i].copy()
					err := check(server, level, s.m, s.token)
					if i == n {
						require.NoError(t, err)
						continue
					}
					require.ErrorIs(t, err, ErrBadSignature)
					break
				}
			})
		}
	}
}

func TestReflected(t *testing.T) {
	for _, level := range levels() {
		client, server := newPair(t, level)
		establish(t, client, server)
		for _, side := range []dcerpc.Context{client, server} {
			m := message(48)
			token, err := protect(side, level, m)
			require.NoError(t, err)
			require.ErrorIs(t, check(side, level, m, token), ErrBadSignature)
		}
	}
}

// TestOtherSession has a message of one connection arrive on another of the same account.
func TestOtherSession(t *testing.T) {
	for _, level := range levels() {
		client1, server1 := newPair(t, level)
		establish(t, client1, server1)
		client2, server2 := newPair(t, level)
		establish(t, client2, server2)
		m := message(48)
		token, err := protect(client1, level, m)
		require.NoError(t, err)
		require.ErrorIs(t, check(server2, level, m, token), ErrBadSignature)
	}
}

// TestMICBeforeMessages is SPNEGO's use: MICs over the list of mechanisms, new RC4 streams,
// then messages whose numbers go on at 1.
func TestMICBeforeMessages(t *testing.T) {
	list := []byte("a list of mechanisms")
	for _, level := range levels() {
		client, server := newPair(t, level)
		establish(t, client, server)
		mic, err := client.GetMIC(list)
		require.NoError(t, err)
		require.NoError(t, server.VerifyMIC(list, mic))
		mic, err = server.GetMIC(list)
		require.NoError(t, err)
		require.NoError(t, client.VerifyMIC(list, mic))
		client.ResetKeys()
		server.ResetKeys()
		require.Equal(t, []byte("a list of mechanisms"), list)

		for _, dir := range []struct{ from, to dcerpc.Context }{{client, server}, {server, client}} {
			m := message(32)
			token, err := protect(dir.from, level, m)
			require.NoError(t, err)
			require.EqualValues(t, 1, token[12], "the sequence number after a MIC")
			require.NoError(t, check(dir.to, level, m, token))
		}
	}

	client, server := newPair(t, dcerpc.LevelPrivacy)
	establish(t, client, server)
	mic, err := client.GetMIC(list)
	require.NoError(t, err)
	require.ErrorIs(t, server.VerifyMIC(list[1:], mic), ErrBadSignature)
}

// TestWithoutKeyExchange is the connect level of a client that does not ask for signing: its
// checksums do not go through RC4 (MS-NLMP 3.4.4.2).
func TestWithoutKeyExchange(t *testing.T) {
	key := [16]byte([]byte("0123456789abcdef"))
	client, server := newSession(key, false, true), newSession(key, false, false)
	first, second := make([]byte, SignatureSize), make([]byte, SignatureSize)
	require.NoError(t, client.send.protect(nil, []byte("x"), nil, first, false))
	require.NoError(t, client.send.protect(nil, []byte("x"), nil, second, false))
	require.NoError(t, server.recv.check(nil, []byte("x"), nil, first, false))
	require.NoError(t, server.recv.check(nil, []byte("x"), nil, second, false))
}

func TestSequenceNumbersRunOut(t *testing.T) {
	client, server := sessionPair()
	client.send.seq, server.recv.seq = math.MaxUint32-1, math.MaxUint32-1
	m := message(16)
	token, err := protect(contextOf(client), dcerpc.LevelIntegrity, m)
	require.NoError(t, err)
	require.NoError(t, check(contextOf(server), dcerpc.LevelIntegrity, m, token))
	_, err = protect(contextOf(client), dcerpc.LevelIntegrity, m)
	require.ErrorContains(t, err, "used up")
}

func TestNotEstablished(t *testing.T) {
	client, server := newPair(t, dcerpc.LevelPrivacy)
	for _, c := range []micContext{client, server} {
		m, token := message(16), make([]byte, SignatureSize)
		require.Error(t, c.Sign(m, token))
		require.Error(t, c.Seal(m, token))
		require.Error(t, c.Verify(m, token))
		require.Error(t, c.Unseal(m, token))
		require.Error(t, c.VerifyMIC(nil, token))
		_, err := c.GetMIC(nil)
		require.Error(t, err)
		require.Nil(t, c.SessionKey())
		c.ResetKeys()
	}
}

// TestBothDirectionsAtOnce is for the race detector.
func TestBothDirectionsAtOnce(t *testing.T) {
	client, server := newPair(t, dcerpc.LevelPrivacy)
	establish(t, client, server)
	stream := func(from, to dcerpc.Context) {
		for range 200 {
			m := message(64)
			token, err := protect(from, dcerpc.LevelPrivacy, m)
			if err == nil {
				err = check(to, dcerpc.LevelPrivacy, m, token)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { stream(client, server) })
	wg.Go(func() { stream(server, client) })
	wg.Wait()
}

func BenchmarkSeal(b *testing.B) {
	for _, size := range []int{200, 4000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			client, server := sessionPair()
			m, token := message(size), make([]byte, SignatureSize)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := client.Seal(m, token); err != nil {
					b.Fatal(err)
				}
				if err := server.Unseal(m, token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
