package krb5_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

// A flipped bit anywhere is found: in the header and the trailer where they are signed, in the body
// and in the token always. What is not signed has no say.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, etype krb5.Etype, seal, signHeader bool) {
		p := newPair(t, etype)
		for _, size := range []int{0, 21, 32} {
			f := protect(t, p.initiator, bytes.Repeat([]byte{0x42}, size), seal, signHeader)
			parts := map[string]func(f *frame) []byte{
				"header":  func(f *frame) []byte { return f.header },
				"body":    func(f *frame) []byte { return f.body },
				"trailer": func(f *frame) []byte { return f.trailer },
				"token":   func(f *frame) []byte { return f.token },
			}
			for name, part := range parts {
				for i := range 8 * len(part(f)) {
					changed := f.clone()
					part(changed)[i/8] ^= 1 << (i % 8)
					if !signHeader && (name == "header" || name == "trailer") {
						continue
					}
					err := changed.check(p.acceptor)
					require.Error(t, err, "%s: bit %d of byte %d", name, i%8, i/8)
					require.True(t, isMessageError(err), "%v", err)
				}
			}
			// The context took none of them, and takes the real one.
			require.NoError(t, f.check(p.acceptor))
		}
	})
}

func isMessageError(err error) bool {
	return errors.Is(err, krb5.ErrSignature) || errors.Is(err, krb5.ErrSequence) || errors.Is(err, krb5.ErrToken)
}

func TestTruncatedTokens(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, etype krb5.Etype, seal, signHeader bool) {
		p := newPair(t, etype)
		f := protect(t, p.acceptor, make([]byte, 48), seal, signHeader)
		for n := range f.token {
			cut := f.clone()
			cut.token = cut.token[:n]
			require.ErrorIs(t, cut.check(p.initiator), krb5.ErrToken, "%d bytes", n)
		}
		long := f.clone()
		long.token = append(long.token, 0)
		require.ErrorIs(t, long.check(p.initiator), krb5.ErrToken)
		// No more bytes in the body than the sender's, and no fewer.
		for _, n := range []int{0, 1, 47} {
			cut := f.clone()
			cut.body = cut.body[:n]
			require.Error(t, cut.check(p.initiator))
		}
		require.NoError(t, f.check(p.initiator))
	})
}

func TestSequence(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, etype krb5.Etype, seal, signHeader bool) {
		for _, name := range []string{"replayed", "dropped", "reordered", "reflected", "other level"} {
			p := newPair(t, etype)
			body := []byte("a body of 24 bytes .....")
			first := protect(t, p.initiator, body, seal, signHeader)
			second := protect(t, p.initiator, body, seal, signHeader)
			switch name {
			case "replayed":
				require.NoError(t, first.clone().check(p.acceptor))
				require.ErrorIs(t, first.check(p.acceptor), krb5.ErrSequence)
			case "dropped":
				require.ErrorIs(t, second.check(p.acceptor), krb5.ErrSequence)
			case "reordered":
				require.ErrorIs(t, second.check(p.acceptor), krb5.ErrSequence)
				require.NoError(t, first.check(p.acceptor))
			case "reflected":
				require.ErrorIs(t, first.check(p.initiator), krb5.ErrSignature)
			case "other level":
				first.sealed = !first.sealed
				require.ErrorIs(t, first.check(p.acceptor), krb5.ErrToken)
			}
		}
	})
}

// Messages of another context of the same two are not taken.
func TestOtherContext(t *testing.T) {
	t.Parallel()
	for _, etype := range allEtypes {
		r := newRealm(etype)
		i, a := r.Initiator(testUser), r.Acceptor()
		p, q := establish(t, i, a, dcerpc.LevelPrivacy), establish(t, i, a, dcerpc.LevelPrivacy)
		f := protect(t, p.initiator, []byte("body"), true, true)
		require.ErrorIs(t, f.check(q.acceptor), krb5.ErrSignature)
	}
}

// One goroutine may protect while another checks, on either side.
func TestBothDirectionsAtOnce(t *testing.T) {
	t.Parallel()
	for _, etype := range allEtypes {
		p := newPair(t, etype)
		ends := []*krb5.Context{p.initiator, p.acceptor}
		var wg sync.WaitGroup
		for d := range ends {
			from, to := ends[d], ends[1-d]
			frames := make(chan *frame, 4)
			wg.Go(func() {
				defer close(frames)
				for n := range 200 {
					frames <- protect(t, from, make([]byte, n), n%2 == 0, true)
				}
			})
			wg.Go(func() {
				for f := range frames {
					if err := f.check(to); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestNoAllocations(t *testing.T) {
	for _, etype := range allEtypes {
		p := newPair(t, etype)
		for _, size := range benchSizes {
			m := benchMessage(size)
			mic := make([]byte, p.initiator.TokenSize(dcerpc.LevelIntegrity))
			token := make([]byte, p.initiator.TokenSize(dcerpc.LevelPrivacy))
			var err error
			n := testing.AllocsPerRun(50, func() {
				err = firstError(err, p.initiator.Sign(m, mic), p.acceptor.Verify(m, mic),
					p.initiator.Seal(m, token), p.acceptor.Unseal(m, token))
			})
			require.NoError(t, err)
			want := 0.0
			if etype == krb5.RC4HMAC {
				want = 6 // an rc4.Cipher for each sequence number and for each sealed body
			}
			require.LessOrEqual(t, n, want, "%v, %d bytes", etype, size)
		}
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestMIC(t *testing.T) {
	t.Parallel()
	for _, etype := range allEtypes {
		p := newPair(t, etype)
		list := []byte("a list of mechanisms")
		mic, err := p.initiator.GetMIC(list)
		require.NoError(t, err)
		require.NoError(t, p.acceptor.VerifyMIC(list, mic))
		back, err := p.acceptor.GetMIC(list)
		require.NoError(t, err)
		require.ErrorIs(t, p.initiator.VerifyMIC([]byte("another"), back), krb5.ErrSignature)
		require.NoError(t, p.initiator.VerifyMIC(list, back))
		// MICs count: the next message has the next number.
		require.NoError(t, protect(t, p.initiator, []byte("x"), true, true).check(p.acceptor))
		require.NoError(t, protect(t, p.acceptor, []byte("y"), true, true).check(p.initiator))
	}
}

// A flipped bit anywhere in a leg ends the exchange, but for what the text of RFC 4120 leaves
// unprotected: then the other side sees the same client nevertheless.
func TestBitFlipsInLegs(t *testing.T) {
	t.Parallel()
	r := newRealm(krb5.AES256SHA1)
	a := r.Acceptor()
	good := establish(t, r.Initiator(testUser), a, dcerpc.LevelPrivacy)
	want := good.acceptor.Identity()

	taken := 0
	for i := range 8 * len(good.apReq) {
		b := bytes.Clone(good.apReq)
		b[i/8] ^= 1 << (i % 8)
		c, err := r.Acceptor().NewContext(dcerpc.LevelPrivacy)
		require.NoError(t, err)
		out, done, err := c.Step(t.Context(), b)
		require.False(t, done)
		if err == nil {
			require.NotEmpty(t, out)
			require.Equal(t, want, c.Identity())
			taken++
		}
	}
	// Names, versions and options outside of what is encrypted: some 60 bytes.
	require.Less(t, taken, 8*80)

	for i := range 8 * len(good.apRep) {
		b := bytes.Clone(good.apRep)
		b[i/8] ^= 1 << (i % 8)
		ic, err := r.Initiator(testUser).NewContext(testService, dcerpc.LevelPrivacy)
		require.NoError(t, err)
		_, _, err = ic.Step(t.Context(), nil)
		require.NoError(t, err)
		_, done, err := ic.Step(t.Context(), b)
		require.Error(t, err)
		require.False(t, done)
	}
}
