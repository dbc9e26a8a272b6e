package smb2

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// sealCCM is the other direction of openCCM, written from RFC 3610 step by step.
func sealCCM(block cipher.Block, nonce, aad, text []byte) (sealed, tag []byte) {
	b := append([]byte{0x40 | 7<<3 | 3}, nonce...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(aad)))
	b = append(b, aad...)
	b = append(b, make([]byte, -len(b)&15)...)
	b = append(b, text...)
	b = append(b, make([]byte, -len(b)&15)...)
	x := make([]byte, 16)
	for ; len(b) > 0; b = b[16:] {
		for i := range x {
			x[i] ^= b[i]
		}
		block.Encrypt(x, x)
	}
	key := func(i uint32) []byte {
		a := append([]byte{3}, nonce...)
		a = binary.BigEndian.AppendUint32(a, i)
		block.Encrypt(a, a)
		return a
	}
	for i, k := range key(0) {
		x[i] ^= k
	}
	sealed = bytes.Clone(text)
	for i := range sealed {
		sealed[i] ^= key(uint32(i/16 + 1))[i%16]
	}
	return sealed, x
}

func TestCCM(t *testing.T) {
	for _, size := range []int{16, 32} {
		block, err := aes.NewCipher(bytes.Repeat([]byte{7}, size))
		require.NoError(t, err)
		nonce, aad := []byte("a nonce: 11"), []byte("thirty-two bytes of other things")
		for _, n := range []int{0, 1, 15, 16, 17, 1000} {
			text := bytes.Repeat([]byte{byte(n)}, n)
			sealed, tag := sealCCM(block, nonce, aad, text)
			got := bytes.Clone(sealed)
			require.NoError(t, openCCM(block, nonce, aad, got, tag))
			require.Equal(t, text, got)
			tag[3] ^= 1
			require.Error(t, openCCM(block, nonce, aad, bytes.Clone(sealed), tag))
		}
	}
}

// TestOpen seals messages as a peer does, in every cipher and direction.
func TestOpen(t *testing.T) {
	secret := bytes.Repeat([]byte("session key 0123"), 2)
	for _, tt := range []struct {
		dialect uint16
		cipher  Cipher
	}{{Dialect300, AES128CCM}, {Dialect302, AES128CCM}, {Dialect311, AES128GCM}, {Dialect311, AES256CCM}, {Dialect311, AES256GCM}} {
		keys, err := DeriveKeys(tt.dialect, tt.cipher, secret, Preauth{}.Add([]byte("a message")))
		require.NoError(t, err)
		for _, fromServer := range []bool{false, true} {
			o := keys.toServer
			if fromServer {
				o = keys.toClient
			}
			msg := make([]byte, TransformSize)
			copy(msg, MagicTransform)
			copy(msg[20:], "nonce of sixteen")
			binary.LittleEndian.PutUint32(msg[36:], 12)
			binary.LittleEndian.PutUint64(msg[44:], 77)
			var sealed, tag []byte
			if o.gcm != nil {
				sealed = o.gcm.Seal(nil, msg[20:20+gcmNonceSize], []byte("what is sent"), msg[20:])
				sealed, tag = sealed[:12], sealed[12:]
			} else {
				sealed, tag = sealCCM(o.block, msg[20:20+ccmNonceSize], msg[20:], []byte("what is sent"))
			}
			copy(msg[4:], tag)
			msg = append(msg, sealed...)
			h, ok := ParseTransform(msg)
			require.True(t, ok)
			require.Equal(t, Transform{Size: 12, SessionID: 77}, h)

			_, err := keys.Open(bytes.Clone(msg), !fromServer)
			require.Error(t, err, "the other direction has another key")
			for _, i := range []int{4, 20, 40, TransformSize} {
				bad := bytes.Clone(msg)
				bad[i] ^= 1
				_, err := keys.Open(bad, fromServer)
				require.Error(t, err, "byte %d", i)
			}
			got, err := keys.Open(msg, fromServer)
			require.NoError(t, err)
			require.Equal(t, "what is sent", string(got))
		}
	}
	_, err := new(Keys).Open(make([]byte, 51), true)
	require.Error(t, err)
}

// TestDeriveKey compares the KDF with the published keys of MS-SMB2's example for dialect 3.0 (blog
// "Encryption in SMB 3.0: A protocol perspective").
func TestDeriveKey(t *testing.T) {
	secret := unhex(t, "B4546771B515F766A86735532DD6C4F0")
	require.Equal(t, unhex(t, "261B72350558F2E9DCF613070383EDBF"), deriveKey(secret, "SMB2AESCCM\x00", []byte("ServerIn \x00"), 16))
	require.Equal(t, unhex(t, "8FE2B57EC34D2DB5B1A9727F526BBDB5"), deriveKey(secret, "SMB2AESCCM\x00", []byte("ServerOut\x00"), 16))
}

func TestDeriveKeysErrors(t *testing.T) {
	for _, tt := range []struct {
		dialect uint16
		cipher  Cipher
		key     []byte
	}{
		{0x0210, AES128CCM, make([]byte, 16)},
		{Dialect311, 0, make([]byte, 16)},
		{Dialect311, 5, make([]byte, 16)},
		{Dialect311, AES128GCM, nil},
	} {
		_, err := DeriveKeys(tt.dialect, tt.cipher, tt.key, Preauth{})
		require.ErrorIs(t, err, ErrCipher)
	}
	_, err := DeriveKeys(Dialect300, AES128CCM, []byte("short"), Preauth{})
	require.NoError(t, err)
}
