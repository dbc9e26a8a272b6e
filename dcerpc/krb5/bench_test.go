package krb5_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"fmt"
	"testing"

	gokrb5crypto "github.com/oiweiwei/gokrb5.fork/v9/crypto"
	gokrb5types "github.com/oiweiwei/gokrb5.fork/v9/types"
	"github.com/stretchr/testify/require"

	msrpc "github.com/oiweiwei/go-msrpc/ssp/krb5/crypto"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

// msrpcCipher is go-msrpc's protection of one direction with the same key: the initiator's
// messages, or the acceptor's.
func msrpcCipher(t testing.TB, etype krb5.Etype, key []byte, fromInitiator bool) msrpc.Cipher {
	t.Helper()
	et, err := gokrb5crypto.GetEtype(int32(etype))
	require.NoError(t, err)
	c, err := msrpc.NewCipher(context.Background(), msrpc.CipherSetting{
		Type:     et,
		Key:      gokrb5types.EncryptionKey{KeyType: int32(etype), KeyValue: key},
		IsSubKey: true,
		IsLocal:  fromInitiator,
		DCEStyle: true,
	})
	require.NoError(t, err)
	return c
}

var benchSizes = []int{200, 4000}

// A message of both: a header of 24 bytes, the body, a trailer of 8.
func benchMessage(size int) dcerpc.Message {
	return dcerpc.Message{Header: make([]byte, 24), Body: make([]byte, size), Trailer: make([]byte, 8),
		SignHeader: true}
}

// BenchmarkSeal is the cost of one sealed message to its sender, BenchmarkUnseal to its receiver,
// next to that of go-msrpc for the same bytes and key.
func BenchmarkSeal(b *testing.B) {
	for _, etype := range allEtypes {
		p := newPair(b, etype)
		token := make([]byte, p.initiator.TokenSize(dcerpc.LevelPrivacy))
		for _, size := range benchSizes {
			m := benchMessage(size)
			b.Run(fmt.Sprintf("%v/%d/ours", etype, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					if err := p.initiator.Seal(m, token); err != nil {
						b.Fatal(err)
					}
				}
			})
			if etype == krb5.AES128SHA2 || etype == krb5.AES256SHA2 {
				continue // go-msrpc has neither
			}
			c := msrpcCipher(b, etype, p.initiator.SessionKey(), true)
			forSign, forSeal := [][]byte{m.Header, m.Body, m.Trailer}, [][]byte{m.Body}
			b.Run(fmt.Sprintf("%v/%d/go-msrpc", etype, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				seq := uint64(0)
				for b.Loop() {
					if _, err := c.WrapEx(b.Context(), seq, forSign, forSeal); err != nil {
						b.Fatal(err)
					}
					seq++
				}
			})
		}
	}
}

// BenchmarkPrimitives is the least that any sealed message costs with AES256 and SHA-1: its HMAC
// and its encryption, or its decryption, by the standard library.
func BenchmarkPrimitives(b *testing.B) {
	for _, size := range benchSizes {
		n := (size + 32 + 16 + 16 + 15) &^ 15 // with header, trailer, confounder, filler
		buf := make([]byte, n)
		block, err := aes.NewCipher(make([]byte, 32))
		require.NoError(b, err)
		mac := hmac.New(sha1.New, make([]byte, 32))
		var sum []byte
		for name, mode := range map[string]cipher.BlockMode{
			"seal":   cipher.NewCBCEncrypter(block, make([]byte, 16)),
			"unseal": cipher.NewCBCDecrypter(block, make([]byte, 16)),
		} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					mac.Reset()
					mac.Write(buf)
					sum = mac.Sum(sum[:0])
					mode.CryptBlocks(buf, buf)
				}
			})
		}
	}
}

func BenchmarkUnseal(b *testing.B) {
	for _, etype := range allEtypes {
		p := newPair(b, etype)
		for _, size := range benchSizes {
			m := benchMessage(size)
			token := make([]byte, p.initiator.TokenSize(dcerpc.LevelPrivacy))
			first := p.initiator.SendSequence()
			require.NoError(b, p.initiator.Seal(m, token))
			sealed := append([]byte(nil), m.Body...)
			b.Run(fmt.Sprintf("%v/%d/ours", etype, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					copy(m.Body, sealed)
					p.acceptor.SetRecvSequence(first)
					if err := p.acceptor.Unseal(m, token); err != nil {
						b.Fatal(err)
					}
				}
			})
			if etype == krb5.AES128SHA2 || etype == krb5.AES256SHA2 {
				continue
			}
			c := msrpcCipher(b, etype, p.initiator.SessionKey(), true)
			forSign, forSeal := [][]byte{m.Header, m.Body, m.Trailer}, [][]byte{m.Body}
			given := append([]byte(nil), token...)
			b.Run(fmt.Sprintf("%v/%d/go-msrpc", etype, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					copy(m.Body, sealed)
					copy(token, given) // go-msrpc changes it
					ok, err := c.UnwrapEx(b.Context(), first, forSign, forSeal, token)
					if err != nil || !ok {
						b.Fatal(ok, err)
					}
				}
			})
		}
	}
}

func BenchmarkSign(b *testing.B) {
	for _, etype := range allEtypes {
		p := newPair(b, etype)
		token := make([]byte, p.initiator.TokenSize(dcerpc.LevelIntegrity))
		for _, size := range benchSizes {
			m := benchMessage(size)
			b.Run(fmt.Sprintf("%v/%d/ours", etype, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					if err := p.initiator.Sign(m, token); err != nil {
						b.Fatal(err)
					}
				}
			})
			if etype == krb5.AES128SHA2 || etype == krb5.AES256SHA2 {
				continue
			}
			c := msrpcCipher(b, etype, p.initiator.SessionKey(), true)
			forSign := [][]byte{m.Header, m.Body, m.Trailer}
			b.Run(fmt.Sprintf("%v/%d/go-msrpc", etype, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				seq := uint64(0)
				for b.Loop() {
					if _, err := c.MakeSignature(b.Context(), seq, forSign); err != nil {
						b.Fatal(err)
					}
					seq++
				}
			})
		}
	}
}
