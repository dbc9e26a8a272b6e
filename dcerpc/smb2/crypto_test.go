package smb2

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	require.NoError(t, err)
	return b
}

// published is the hash and the session key of Microsoft's examples for dialect 3.1.1 (blog "SMB 2
// and SMB 3 security in Windows 10: the anatomy of signing and cryptographic keys").
const (
	publishedHash = `0DD13628CC3ED218EF9DF9772D436D0887AB9814BFAE63A80AA845F36909DB79
		28622DDDAD522D9751640A459762C5A9D6BB084CBB3CE6BDADEF5D5BCE3C6C01`
	publishedKey = "270E1BA896585EEB7AF3472D3B4C75A7"
)

func TestDeriveKeys(t *testing.T) {
	hash := Preauth(unhex(t, publishedHash))
	for _, tt := range []struct {
		dialect            Dialect
		key                string
		signing, out, into string
	}{
		{SMB300, "7CD451825D0450D235424E44BA6E78CC", "0B7E9C5CAC36C0F6EA9AB275298CEDCE", "FAD27796665B313EBB578F388632B4F7", "B0F0427F7CEB416D1D9DCC0CD4F99447"},
		{SMB311, publishedKey, "73FE7A9A77BEF0BDE49C650D8CCB5F76", "629BCBC54422A0F572B97F45989B6073", "E2AF0DCEFAC68DA71A0DFBD0D1350D74"},
	} {
		secret := unhex(t, tt.key)
		got, err := signingKey(tt.dialect, secret, hash)
		require.NoError(t, err)
		require.Equal(t, unhex(t, tt.signing), got)
		// The example is the client's: it encrypts towards the server.
		keys, err := DeriveKeys(tt.dialect, AES128GCM, secret, hash)
		require.NoError(t, err)
		for _, k := range []struct {
			want string
			aead cipher.AEAD
		}{{tt.out, keys.toServer}, {tt.into, keys.toClient}} {
			block, err := aes.NewCipher(unhex(t, k.want))
			require.NoError(t, err)
			want, err := cipher.NewGCM(block)
			require.NoError(t, err)
			nonce := make([]byte, 12)
			require.Equal(t, want.Seal(nil, nonce, []byte("text"), nil), k.aead.Seal(nil, nonce, []byte("text"), nil),
				"%v", tt.dialect)
		}
	}
	short, err := signingKey(SMB210, []byte("short"), Preauth{})
	require.NoError(t, err)
	require.Equal(t, append([]byte("short"), make([]byte, 11)...), short)
	for _, tt := range []struct {
		dialect Dialect
		cipher  Cipher
		key     []byte
	}{
		{SMB210, AES128CCM, make([]byte, 16)},
		{SMB311, 0, make([]byte, 16)},
		{SMB311, 5, make([]byte, 16)},
		{SMB311, AES128GCM, nil},
	} {
		_, err := DeriveKeys(tt.dialect, tt.cipher, tt.key, Preauth{})
		require.ErrorIs(t, err, ErrCipher)
	}
	_, err = DeriveKeys(SMB300, AES128CCM, []byte("short"), Preauth{})
	require.NoError(t, err)
	_, err = NewSigner(SMB311, 7, make([]byte, 16), Preauth{})
	require.ErrorIs(t, err, ErrCipher)
}

// TestPublishedSignature checks the signature of the SESSION_SETUP response of Microsoft's example.
func TestPublishedSignature(t *testing.T) {
	msg := unhex(t, `FE534D4240000100000000000100800009000000000000000300000000000000FFFE000000000000
		1900000000100000EBE146DA120BA25FC3376A49DFE31BC10900000048001D00A11B3019A0030A01
		00A3120410010000003B453CDC3524164200000000`)
	s, err := NewSigner(SMB311, AESCMAC, unhex(t, publishedKey), Preauth(unhex(t, publishedHash)))
	require.NoError(t, err)
	before := bytes.Clone(msg)
	require.True(t, s.Verify(msg))
	require.Equal(t, before, msg)
	for _, i := range []int{0, 20, 48, 63, len(msg) - 1} {
		bad := bytes.Clone(msg)
		bad[i] ^= 1
		require.False(t, s.Verify(bad), "byte %d", i)
	}
	msg[16] &^= FlagSigned
	require.False(t, s.Verify(msg), "without the flag")
	require.False(t, s.Verify(msg[:63]))
}

// TestCMAC has the vectors of RFC 4493.
func TestCMAC(t *testing.T) {
	block, err := aes.NewCipher(unhex(t, "2b7e151628aed2a6abf7158809cf4f3c"))
	require.NoError(t, err)
	k1, k2 := cmacKeys(block)
	require.Equal(t, unhex(t, "fbeed618357133667c85e08f7236a8de"), k1[:])
	require.Equal(t, unhex(t, "f7ddac306ae266ccf90bc11ee46d513b"), k2[:])
	text := unhex(t, `6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51
		30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710`)
	for n, want := range map[int]string{
		0:  "bb1d6929e95937287fa37d129b756746",
		16: "070a16b46b4d4144f79bdd9dd04a287c",
		40: "dfa66747de9ae63030ca32611497c827",
		64: "51f0bebf7e3b9d92fc49741779363cfe",
	} {
		var sum [16]byte
		cmac(block, &k1, &k2, text[:n], &sum)
		require.Equal(t, unhex(t, want), sum[:], "%d bytes", n)
	}
}

// TestCCM has a vector of SP 800-38C's kind made by OpenSSL's rules: the one with a nonce of 11
// bytes is MS's own, in TestPublishedEncryption; here both directions agree for every length of the
// last block.
func TestCCM(t *testing.T) {
	for _, size := range []int{16, 32} {
		block, err := aes.NewCipher(bytes.Repeat([]byte{7}, size))
		require.NoError(t, err)
		c := ccm{block}
		nonce, aad := []byte("a nonce: 11"), []byte("thirty-two bytes of other things")
		for n := range 70 {
			text := bytes.Repeat([]byte{byte(n)}, n)
			sealed := c.Seal(nil, nonce, text, aad)
			require.Equal(t, referenceCCM(block, nonce, aad, text), sealed)
			got, err := c.Open(nil, nonce, sealed, aad)
			require.NoError(t, err)
			require.Equal(t, text, append([]byte{}, got...))
			sealed[len(sealed)-3] ^= 1
			_, err = c.Open(nil, nonce, sealed, aad)
			require.Error(t, err)
		}
		_, err = c.Open(nil, nonce, make([]byte, 15), aad)
		require.Error(t, err)
	}
}

// referenceCCM is written from RFC 3610 step by step.
func referenceCCM(block cipher.Block, nonce, aad, text []byte) []byte {
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
	sealed := bytes.Clone(text)
	for i := range sealed {
		sealed[i] ^= key(uint32(i/16 + 1))[i%16]
	}
	return append(sealed, x...)
}

// TestPublishedEncryption decrypts the messages of Microsoft's examples: "Encryption in SMB 3.0: A
// protocol perspective" and "SMB 3.1.1 Encryption in Windows 10".
func TestPublishedEncryption(t *testing.T) {
	ccmKeys, err := DeriveKeys(SMB300, AES128CCM, unhex(t, "B4546771B515F766A86735532DD6C4F0"), Preauth{})
	require.NoError(t, err)
	gcmKeys, err := DeriveKeys(SMB311, AES128GCM, unhex(t, "419FDDF34C1E001909D362AE7FB6AF79"), Preauth(unhex(t, `
		B23F3CBFD69487D9832B79B1594A367CDD950909B774C3A4C412B4FCEA9EDDDB
		A7DB256BA2EA30E977F11F9B113247578E0E915C6D2A513B8F2FCA5707DC8770`)))
	require.NoError(t, err)
	for _, tt := range []struct {
		name       string
		keys       *Keys
		fromServer bool
		sealed     string
		want       string
		session    uint64
	}{
		{"CCM request", ccmKeys, false, `FD534D4281A286535415445DAE393921E44FA42E66E69A111892584FB5ED524A
			744DA3EE87000000000001001100001400E4080025C8FEE16605A437832D1CD5
			2DA9F4645333482A175FE5384563F45FCDAFAEF38BC62BA4D5C62897996625A4
			4C29BE5658DE2E6117585779E7B59FFD971278D08580D7FA899E410E910EABF5
			AA1DB43050B33B49182637759AC15D84BFCDF5B6B238993C0F4CF4D6012023F6
			C627297075D84B7803912D0A9639634453595EF3E33FFE4E7AC2AB`,
			`FE534D4240000100000000000900400008000000000000000400000000000000
			FFFE0000010000001100001400E4080000000000000000000000000000000000
			3100700017000000000000000000000015010000390000020100000039020000
			00000000000000007000000000000000536D623320656E6372797074696F6E20
			74657374696E67`, 0x8E40014000011},
		{"CCM response", ccmKeys, true, `FD534D42A6015530A18F6D9AFFE22AFAE8E66484860000000000000011000014
			00E4080050000000000001001100001400E40800DBF46435C5F14169293CE079
			E344479BF670227E49873F458672C3098DAC467DD5809F369D67409166515787
			1483E01F7BECD02064EAC3E235F913668BBC2F097980D4B378F1993EFF6E60D1
			77309E5B`,
			`FE534D4240000100000000000900210009000000000000000400000000000000
			FFFE0000010000001100001400E4080000000000000000000000000000000000
			11000000170000000000000000000000`, 0x8E40014000011},
		{"GCM request", gcmKeys, false, `FD534D42BD73D97D2BC9001BCAFAC0FDFF5FEEBCC7D6822D269CAF48904C664C0000000087000000
			0000010025000000001000006ECDD2A7AFC7B47763057A041B8FD4DAFFE990B70C9E09D36C084E02
			D14EF247F8BDE38ACF6256F8B1D3B56F77FBDEB312FEA5E92CBCC1ED8FB2EBBFAA75E49A4A394BB4
			4576545567C24D4C014D47C9FBDFDAFD2C4F9B72F8D256452620A299F48E29E53D6B61D1C13A19E9
			1AF013F00D17E3ABC2FC3D36C8C1B6B93973253852DBD442E46EE8`,
			`FE534D4240000100000000000900010008000000000000000500000000000000FFFE000001000000
			25000000001000000000000000000000000000000000000031007000170000000000000000000000
			0600000004000000010000000400000000000000000000007000000000000000536D623320656E63
			72797074696F6E2074657374696E67`, 0x100000000025},
		{"GCM response", gcmKeys, true, `FD534D42ACBE1CB7ED343ADF1725EF144D90D4B0E06831DD2E8EB7B4000000000000000050000000
			00000100250000000010000026BBBF949983A6C1C796559D0F2C510CB651D1F7B6AC8DED32A2A0B8
			F2D793A815C6F6B848D69767A215841A42D400AE6DDB5F0B44173A014973321FDD7950DA6179159B
			82E03C9E18A050FF0EA1C967`,
			`FE534D4240000100000000000900010001000000000000000500000000000000FFFE000001000000
			25000000001000000000000000000000000000000000000011000000170000000000000000000000`, 0x100000000025},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sealed, want := unhex(t, tt.sealed), unhex(t, tt.want)
			h, err := ParseTransform(sealed)
			require.NoError(t, err)
			require.Equal(t, Transform{Size: uint32(len(want)), Flags: 1, SessionID: tt.session}, h)
			_, err = tt.keys.Open(bytes.Clone(sealed), !tt.fromServer)
			require.Error(t, err, "the other direction has another key")
			for _, i := range []int{4, 20, 40, TransformSize} {
				bad := bytes.Clone(sealed)
				bad[i] ^= 1
				_, err := tt.keys.Open(bad, tt.fromServer)
				require.Error(t, err, "byte %d", i)
			}
			got, err := tt.keys.Open(sealed, tt.fromServer)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
	_, err = new(Keys).Open(make([]byte, 51), true)
	require.Error(t, err)
}

// TestSeal seals and opens with every cipher.
func TestSeal(t *testing.T) {
	secret := bytes.Repeat([]byte("session key 0123"), 2)
	for _, tt := range []struct {
		dialect Dialect
		cipher  Cipher
	}{{SMB300, AES128CCM}, {SMB302, AES128CCM}, {SMB311, AES128GCM}, {SMB311, AES256CCM}, {SMB311, AES256GCM}} {
		keys, err := DeriveKeys(tt.dialect, tt.cipher, secret, Preauth{}.Add([]byte("a message")))
		require.NoError(t, err)
		for _, fromServer := range []bool{false, true} {
			for _, spare := range []int{0, 16} {
				b := append(make([]byte, TransformSize, 200), "what is sent"...)
				b = b[: len(b) : len(b)+spare]
				sealed := keys.Seal(b, 77, 9, fromServer)
				h, err := ParseTransform(sealed)
				require.NoError(t, err)
				require.Equal(t, Transform{Size: 12, Flags: 1, SessionID: 77}, h)
				got, err := keys.Open(sealed, fromServer)
				require.NoError(t, err)
				require.Equal(t, "what is sent", string(got))
			}
		}
	}
}

// TestGMACNonce checks that direction and CANCEL have nonces of their own: signatures of else equal
// messages differ.
func TestGMACNonce(t *testing.T) {
	s, err := NewSigner(SMB311, AESGMAC, make([]byte, 16), Preauth{})
	require.NoError(t, err)
	block, err := aes.NewCipher(deriveKey(make([]byte, 16), "SMBSigningKey\x00", make([]byte, 64), 16))
	require.NoError(t, err)
	gcm, err := cipher.NewGCM(block)
	require.NoError(t, err)
	for _, tt := range []struct {
		h     Header
		nonce string
	}{
		{Header{Command: CommandRead, MessageID: 0x0102}, "020100000000000000000000"},
		{Header{Command: CommandRead, MessageID: 0x0102, Flags: FlagResponse}, "020100000000000001000000"},
		{Header{Command: CommandCancel, MessageID: 0x0102}, "020100000000000002000000"},
	} {
		msg, err := tt.h.AppendBinary(nil)
		require.NoError(t, err)
		s.Sign(msg)
		require.True(t, s.Verify(msg))
		signature := bytes.Clone(msg[48:64])
		clear(msg[48:64])
		require.Equal(t, gcm.Seal(nil, unhex(t, tt.nonce), nil, msg), signature)
	}
}

// TestVerifyPair checks messages of all lengths two at a time: the verdicts are those of Verify.
func TestVerifyPair(t *testing.T) {
	for _, a := range []SigningAlgorithm{HMACSHA256, AESCMAC, AESGMAC} {
		s, err := newSigner(a, []byte("0123456789abcdef"))
		require.NoError(t, err)
		require.Equal(t, a == AESCMAC, s.Pairs())
		message := func(size int) []byte {
			msg, err := (&Header{Command: CommandRead, Flags: FlagResponse, MessageID: uint64(size)}).AppendBinary(nil)
			require.NoError(t, err)
			for i := range size {
				msg = append(msg, byte(i))
			}
			s.Sign(msg)
			return msg
		}
		var sizes []int
		for i := range 34 {
			sizes = append(sizes, i)
		}
		for _, n := range append(sizes, 100, 1000, 4096) {
			for _, m := range append(sizes, 100, 1000, 4097) {
				for _, bad := range []int{0, 1, 2, 3} { // which of them is not authentic
					one, two := message(n), message(m)
					one[len(one)-1] ^= byte(bad & 1)
					two[len(two)-1] ^= byte(bad >> 1)
					was1, was2 := bytes.Clone(one), bytes.Clone(two)
					ok1, ok2 := s.VerifyPair(one, two)
					require.Equal(t, bad&1 == 0, ok1, "%v, %d and %d bytes", a, n, m)
					require.Equal(t, bad>>1 == 0, ok2, "%v, %d and %d bytes", a, n, m)
					require.Equal(t, was1, one)
					require.Equal(t, was2, two)
				}
			}
		}
		signed, unsigned := message(100), message(100)
		le.PutUint32(unsigned[16:], FlagResponse)
		ok1, ok2 := s.VerifyPair(signed, unsigned)
		require.True(t, ok1)
		require.False(t, ok2)
		ok1, ok2 = s.VerifyPair([]byte("short"), signed)
		require.False(t, ok1)
		require.True(t, ok2)
	}
}

func BenchmarkVerifyPair(b *testing.B) {
	s, err := newSigner(AESCMAC, make([]byte, 16))
	require.NoError(b, err)
	one, err := (&Header{Command: CommandRead, Flags: FlagResponse}).AppendBinary(nil)
	require.NoError(b, err)
	one = append(one, make([]byte, 1<<20)...)
	s.Sign(one)
	two := bytes.Clone(one)
	b.SetBytes(int64(2 * len(one)))
	for b.Loop() {
		if ok1, ok2 := s.VerifyPair(one, two); !ok1 || !ok2 {
			b.Fatal("not authentic")
		}
	}
}

func BenchmarkSign(b *testing.B) {
	msg, err := (&Header{Command: CommandRead, Flags: FlagResponse}).AppendBinary(nil)
	require.NoError(b, err)
	msg = append(msg, make([]byte, 1<<20)...)
	for _, a := range []SigningAlgorithm{HMACSHA256, AESCMAC, AESGMAC} {
		b.Run(a.String(), func(b *testing.B) {
			s, err := newSigner(a, make([]byte, 16))
			require.NoError(b, err)
			b.SetBytes(int64(len(msg)))
			for b.Loop() {
				s.Sign(msg)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, c := range []Cipher{AES128CCM, AES128GCM, AES256CCM, AES256GCM} {
		b.Run(c.String(), func(b *testing.B) {
			keys, err := DeriveKeys(SMB311, c, make([]byte, 32), Preauth{})
			require.NoError(b, err)
			sealed := keys.Seal(make([]byte, TransformSize+1<<20, TransformSize+1<<20+16), 1, 1, true)
			buf := make([]byte, len(sealed), len(sealed)+16)
			b.SetBytes(1 << 20)
			for b.Loop() {
				copy(buf, sealed)
				if _, err := keys.Open(buf, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
