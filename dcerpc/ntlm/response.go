package ntlm

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rc4"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/oiweiwei/go-msrpc/ssp/crypto"
)

// NTHash returns the NT hash of a password, MD4 of its UTF-16 (NTOWFv1, MS-NLMP 3.3.1): the hash
// that a [HashFile] holds. Whoever has it needs no password.
func NTHash(password string) [16]byte {
	sum, err := crypto.MD4(utf16le(password))
	if err != nil {
		panic(err) // a hash accepts all bytes
	}
	return [16]byte(sum)
}

// ntowfv2 is NTOWFv2 (MS-NLMP 3.3.2).
func ntowfv2(hash [16]byte, user, domain string) [16]byte {
	return hmacMD5(hash[:], utf16le(strings.ToUpper(user)+domain))
}

// clientChallengeSize is the length of an NTLMv2_CLIENT_CHALLENGE without its AV pairs (MS-NLMP
// 2.2.2.7).
//
//	| RespType 1 | HiRespType 1 | 0, 6 bytes | TimeStamp, 8 | ChallengeFromClient, 8 | 0, 4 | AvPairs |
const clientChallengeSize = 28

// appendClientChallenge appends the NTLMv2_CLIENT_CHALLENGE with these AV pairs, which end with
// MsvAvEOL. Zeros follow, as in "temp" of MS-NLMP 3.3.2.
func appendClientChallenge(b []byte, filetime uint64, challenge [8]byte, pairs []byte) []byte {
	b = append(b, 1, 1, 0, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, filetime)
	b = append(b, challenge[:]...)
	b = append(b, 0, 0, 0, 0)
	b = append(b, pairs...)
	return append(b, 0, 0, 0, 0)
}

// parseClientChallenge returns the AV pairs of an NTLMv2_RESPONSE: 16 bytes of NTProofStr, then
// the NTLMv2_CLIENT_CHALLENGE.
func parseClientChallenge(response []byte) ([]avPair, error) {
	if len(response) < md5.Size+clientChallengeSize {
		return nil, errors.New("ntlm: NTLMv2 response is truncated")
	}
	b := response[md5.Size:]
	if b[0] != 1 || b[1] != 1 {
		return nil, errors.New("ntlm: NTLMv2 response of an unknown version")
	}
	return parseAVPairs(b[clientChallengeSize:])
}

// ntProof returns the NTProofStr over the client's part of a response, and the session base key
// derived from it (MS-NLMP 3.3.2).
func ntProof(key [16]byte, serverChallenge [8]byte, clientChallenge []byte) (proof, sessionBaseKey [16]byte) {
	proof = hmacMD5(key[:], serverChallenge[:], clientChallenge)
	return proof, hmacMD5(key[:], proof[:])
}

// lmv2Response returns the LMv2_RESPONSE (MS-NLMP 2.2.2.4), for servers that send no timestamp.
func lmv2Response(key [16]byte, serverChallenge, clientChallenge [8]byte) []byte {
	sum := hmacMD5(key[:], serverChallenge[:], clientChallenge[:])
	return append(sum[:], clientChallenge[:]...)
}

// clientAVPairs returns the AvPairs of a client's answer: the server's unchanged, except that the
// client sets the flag of the MIC, absent channel bindings and the target's name (MS-NLMP
// 3.1.5.1.2).
func clientAVPairs(server []avPair, target string) ([]byte, error) {
	flags, err := avFlags(server)
	if err != nil {
		return nil, err
	}
	var b []byte
	for _, p := range server {
		if !slices.Contains([]avID{msvAvFlags, msvAvChannelBindings, msvAvTargetName}, p.id) {
			b = appendAV(b, p.id, p.value)
		}
	}
	b = appendAV(b, msvAvFlags, binary.LittleEndian.AppendUint32(nil, uint32(flags|micProvided)))
	b = appendAV(b, msvAvChannelBindings, make([]byte, md5.Size))
	b = appendAV(b, msvAvTargetName, utf16le(target))
	return appendAV(b, msvAvEOL, nil), nil
}

// unixEpoch is 1970 in seconds since 1601.
const unixEpoch = 11644473600

// filetime returns t in units of 100 ns since 1601 (MS-DTYP 2.3.3).
func filetime(t time.Time) uint64 {
	return uint64(t.Unix()+unixEpoch)*1e7 + uint64(t.Nanosecond()/100)
}

// hmacMD5 returns HMAC_MD5(key, parts concatenated).
func hmacMD5(key []byte, parts ...[]byte) (sum [16]byte) {
	h := hmac.New(md5.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}

// micOf returns the MIC over the three messages, with zeros in place of the MIC in the last one
// (MS-NLMP 3.1.5.1.2).
func micOf(key [16]byte, negotiate, challenge, authenticate []byte) [16]byte {
	return hmacMD5(key[:], negotiate, challenge, authenticate[:micOffset], make([]byte, micEnd-micOffset),
		authenticate[micEnd:])
}

// rc4K returns RC4K(key, b) (MS-NLMP 6).
func rc4K(key [16]byte, b []byte) []byte {
	out := make([]byte, len(b))
	newRC4(key).XORKeyStream(out, b)
	return out
}

func newRC4(key [16]byte) *rc4.Cipher {
	c, err := rc4.NewCipher(key[:])
	if err != nil {
		panic(err) // 16 bytes are a valid key
	}
	return c
}
