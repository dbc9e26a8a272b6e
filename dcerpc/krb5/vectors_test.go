package krb5

import (
	"bytes"
	"crypto/hmac"
	"encoding/hex"
	"hash"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// RFC 3962 appendix B: CBC with ciphertext stealing, key "chicken teriyaki", a zero initial vector.
func TestCTSVectors(t *testing.T) {
	t.Parallel()
	key := unhex(t, "636869636b656e207465726979616b69")
	plain := []byte("I would like the General Gau's Chicken, please, and wonton soup.")
	for n, want := range map[int]string{
		17: "c6353568f2bf8cb4d8a580362da7ff7f97",
		31: "fc00783e0efdb2c1d445d4c8eff7ed2297687268d6ecccc0c07b25e25ecfe5",
		32: "39312523a78662d5be7fcbcc98ebf5a897687268d6ecccc0c07b25e25ecfe584",
		47: "97687268d6ecccc0c07b25e25ecfe584b3fffd940c16a18c1b5549d2f838029e39312523a78662d5be7fcbcc98ebf5",
		48: "97687268d6ecccc0c07b25e25ecfe5849dad8bbb96c4cdc03bc103e1a194bbd839312523a78662d5be7fcbcc98ebf5a8",
		64: "97687268d6ecccc0c07b25e25ecfe58439312523a78662d5be7fcbcc98ebf5a84807efe836ee89a526730dbc2f7bc8409dad8bbb96c4cdc03bc103e1a194bbd8",
	} {
		enc, err := newCTS(key, true)
		require.NoError(t, err)
		dec, err := newCTS(key, false)
		require.NoError(t, err)
		for range 3 { // a cts starts anew with every message
			b := append(make([]byte, 0, n+16), plain[:n]...)
			enc.encrypt(b)
			require.Equal(t, want, hexOf(b), "%d bytes", n)
			dec.decrypt(b)
			require.Equal(t, plain[:n], b)
		}
	}
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// RFC 8009 appendix A: keys derived for usage 2, and a checksum.
func TestRFC8009Vectors(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		key                   Key
		kc, ke, ki, sum, data string
	}{
		{
			Key{AES128SHA2, unhex(t, "3705D96080C17728A0E800EAB6E0D23C")},
			"b31a018a48f54776f403e9a396325dc3", "9b197dd1e8c5609d6e67c3e37c62c72e", "9fda0e56ab2d85e1569a688696c26a6c",
			"d78367186643d67b411cba9139fc1dee", "000102030405060708090a0b0c0d0e0f1011121314",
		},
		{
			Key{AES256SHA2, unhex(t, "6D404D37FAF79F9DF0D33568D320669800EB4836472EA8A026D16B7182460C52")},
			"ef5718be86cc84963d8bbb5031e9f5c4ba41f28faf69e73d",
			"56ab22bee63d82d7bc5227f6773f8ea7a5eb1c825160c38312980c442e5c7e49",
			"69b16514e3cd8e56b82010d5c73012b622c4d00ffc23ed1f",
			"45ee791567eefca37f4ac1e0222de80d43c3bfa06699672a", "000102030405060708090a0b0c0d0e0f1011121314",
		},
	} {
		t.Run(v.key.Etype.String(), func(t *testing.T) {
			t.Parallel()
			for kind, want := range map[byte]string{0x99: v.kc, 0xAA: v.ke, 0x55: v.ki} {
				got, err := deriveKey(v.key.wire(), 2, kind)
				require.NoError(t, err)
				require.Equal(t, want, hexOf(got), "%#x", kind)
			}
			p, ok := profileOf(v.key.Etype)
			require.True(t, ok)
			kc, err := deriveKey(v.key.wire(), 2, 0x99)
			require.NoError(t, err)
			h := hmacOf(p.hash, kc, unhex(t, v.data))
			require.Equal(t, v.sum, hexOf(h[:p.macSize]))
		})
	}
}

// A token that a peer rotates otherwise, or gives another number of extra bytes, is read too;
// impacket sends EC 0 to 15.
func TestUnsealForeignECAndRRC(t *testing.T) {
	t.Parallel()
	for _, etype := range []Etype{AES128SHA1, AES256SHA1, AES128SHA2, AES256SHA2} {
		key, err := randomKey(etype)
		require.NoError(t, err)
		for _, dceStyle := range []bool{true, false} {
			a := agreement{dceStyle: dceStyle, acceptorSubkey: key}
			send, err := a.protector(false, true)
			require.NoError(t, err)
			recv, err := a.protector(false, false)
			require.NoError(t, err)
			for _, size := range []int{0, 5, 16, 100} {
				for ec := 0; ec <= 20; ec++ {
					total := cfxConfounder + size + ec + cfxHeaderSize + send.(*cfxTokens).macSize
					for _, rrc := range []int{0, 1, 12, 28, 40, total - ec - 1} {
						rotation := rrc
						if dceStyle {
							rotation += ec
						}
						if rrc < 0 || rotation >= total {
							continue
						}
						body := bytes.Repeat([]byte{0xAB}, size)
						m := dcerpc.Message{Header: []byte("header"), Body: slices.Clone(body),
							Trailer: []byte("trailer"), SignHeader: true}
						token := foreignSeal(t, send.(*cfxTokens), m, 77, ec, rrc, rotation)
						seq, err := recv.unseal(m, token)
						require.NoError(t, err, "%v body %d EC %d RRC %d", etype, size, ec, rrc)
						require.EqualValues(t, 77, seq)
						require.Equal(t, body, m.Body)
					}
				}
			}
		}
	}
}

// foreignSeal makes a Wrap token straight from RFC 4121 section 4.2.4, with EC and RRC of a peer's
// choice.
func foreignSeal(t *testing.T, x *cfxTokens, m dcerpc.Message, seq uint64, ec, rrc, rotation int) []byte {
	t.Helper()
	header := make([]byte, cfxHeaderSize)
	x.putWrapHeader(header, seq, ec)
	text := slices.Concat(bytes.Repeat([]byte{0x5A}, cfxConfounder), m.Body, make([]byte, ec), header)
	text = slices.Grow(text, 16)
	var tag []byte
	if x.macOverCipher {
		x.cts.encrypt(text)
		tag = x.tag(m, text)
	} else {
		tag = x.tag(m, text)
		x.cts.encrypt(text)
	}
	cipherText := slices.Concat(text, tag)
	n := len(cipherText)
	rotated := slices.Concat(cipherText[n-rotation:], cipherText[:n-rotation])
	header[6], header[7] = byte(rrc>>8), byte(rrc)
	inToken := n - len(m.Body)
	copy(m.Body, rotated[inToken:])
	return slices.Concat(header, rotated[:inToken])
}

func hmacOf(h func() hash.Hash, key, data []byte) []byte {
	m := hmac.New(h, key)
	m.Write(data)
	return m.Sum(nil)
}
