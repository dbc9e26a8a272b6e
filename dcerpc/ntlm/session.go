package ntlm

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rc4"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// The magic constants of SIGNKEY and SEALKEY (MS-NLMP 3.4.5.2, 3.4.5.3), with their terminating
// NUL.
const (
	magicSignClient = "session key to client-to-server signing key magic constant\x00"
	magicSignServer = "session key to server-to-client signing key magic constant\x00"
	magicSealClient = "session key to client-to-server sealing key magic constant\x00"
	magicSealServer = "session key to server-to-client sealing key magic constant\x00"
)

// A session is the message protection of an established context (MS-NLMP 3.4), with
// extended session security and 128-bit keys. The directions share nothing: one goroutine
// may send while another receives.
type session struct {
	key        [16]byte // ExportedSessionKey
	send, recv direction
}

// newSession derives the keys of both directions.
func newSession(key [16]byte, keyExchange, initiator bool) *session {
	client := newDirection(key, len(key), magicSignClient, magicSealClient, keyExchange)
	server := newDirection(key, len(key), magicSignServer, magicSealServer, keyExchange)
	if initiator {
		return &session{key: key, send: client, recv: server}
	}
	return &session{key: key, send: server, recv: client}
}

// A direction signs or checks one stream of messages.
type direction struct {
	mac     hash.Hash // HMAC-MD5 with the signing key
	sealKey [16]byte
	handle  *rc4.Cipher
	seq     uint32
	sum     [md5.Size]byte // of the message at hand
	// keyExchange makes checksums go through the RC4 handle too (MS-NLMP 3.4.4.2).
	keyExchange bool
	err         error // of the message that broke the stream
}

// newDirection derives the keys of one direction. The sealing key uses sealSize bytes of the key.
func newDirection(key [16]byte, sealSize int, signMagic, sealMagic string, keyExchange bool) direction {
	signKey := md5.Sum(append(key[:], signMagic...))
	d := direction{
		mac:         hmac.New(md5.New, signKey[:]),
		sealKey:     md5.Sum(append(key[:sealSize:sealSize], sealMagic...)),
		keyExchange: keyExchange,
	}
	d.rekey()
	return d
}

// rekey restarts the RC4 stream; the sequence numbers go on.
func (d *direction) rekey() {
	d.handle = newRC4(d.sealKey)
}

// checksum stores the HMAC over the sequence number and the plain parts in sum.
func (d *direction) checksum(header, body, trailer []byte) {
	binary.LittleEndian.PutUint32(d.sum[:], d.seq)
	d.mac.Reset()
	d.mac.Write(d.sum[:4])
	d.mac.Write(header)
	d.mac.Write(body)
	d.mac.Write(trailer)
	d.mac.Sum(d.sum[:0])
}

// finish turns the checksum in sum into an NTLMSSP_MESSAGE_SIGNATURE, and moves on to the next
// message (MS-NLMP 2.2.2.9.2).
//
//	| 01 00 00 00 | checksum, 8 bytes, through RC4 | SeqNum, uint32 |
func (d *direction) finish() {
	copy(d.sum[4:12], d.sum[:8])
	if d.keyExchange {
		d.handle.XORKeyStream(d.sum[4:12], d.sum[4:12])
	}
	binary.LittleEndian.PutUint32(d.sum[:], 1)
	binary.LittleEndian.PutUint32(d.sum[12:], d.seq)
	d.seq++
}

// ready returns an error if the direction cannot be used.
func (d *direction) ready() error {
	if d.err == nil && d.seq == math.MaxUint32 {
		d.err = errors.New("ntlm: the sequence numbers of this context are used up")
	}
	return d.err
}

// protect signs a message and, where asked to, encrypts its body.
func (d *direction) protect(header, body, trailer, token []byte, seal bool) error {
	if err := d.ready(); err != nil {
		return err
	}
	if len(token) != SignatureSize {
		return fmt.Errorf("ntlm: %d bytes of room for a signature of %d", len(token), SignatureSize)
	}
	d.checksum(header, body, trailer)
	if seal {
		d.handle.XORKeyStream(body, body)
	}
	d.finish()
	copy(token, d.sum[:])
	return nil
}

// check decrypts the body where asked to and verifies the signature. The RC4 stream moves on even
// if that fails, so the direction cannot be used after an error.
func (d *direction) check(header, body, trailer, token []byte, sealed bool) error {
	if err := d.ready(); err != nil {
		return err
	}
	if sealed {
		d.handle.XORKeyStream(body, body)
	}
	d.checksum(header, body, trailer)
	d.finish()
	if subtle.ConstantTimeCompare(d.sum[:], token) != 1 {
		d.err = ErrBadSignature
		if sealed {
			clear(body)
		}
	}
	return d.err
}

// established is the part of a Context that both sides share once they have the keys.
type established struct {
	*session
}

var errNotEstablished = errors.New("ntlm: the context is not established")

// TokenSize returns 16 at every level.
func (e *established) TokenSize(dcerpc.AuthLevel) int { return SignatureSize }

// Sign signs header, body and trailer, whether or not header signing was negotiated, as NTLM always
// does.
func (e *established) Sign(m dcerpc.Message, token []byte) error {
	if e.session == nil {
		return errNotEstablished
	}
	return e.send.protect(m.Header, m.Body, m.Trailer, token, false)
}

// Seal signs as Sign does, and encrypts the body.
func (e *established) Seal(m dcerpc.Message, token []byte) error {
	if e.session == nil {
		return errNotEstablished
	}
	return e.send.protect(m.Header, m.Body, m.Trailer, token, true)
}

// Verify returns ErrBadSignature for a message that is not the peer's next one, and for all later
// messages.
func (e *established) Verify(m dcerpc.Message, token []byte) error {
	if e.session == nil {
		return errNotEstablished
	}
	return e.recv.check(m.Header, m.Body, m.Trailer, token, false)
}

// Unseal is Verify for an encrypted body, which is zeroed on an error.
func (e *established) Unseal(m dcerpc.Message, token []byte) error {
	if e.session == nil {
		return errNotEstablished
	}
	return e.recv.check(m.Header, m.Body, m.Trailer, token, true)
}

// GetMIC signs data as the next message of this side, for SPNEGO's mechListMIC.
func (e *established) GetMIC(data []byte) ([]byte, error) {
	if e.session == nil {
		return nil, errNotEstablished
	}
	token := make([]byte, SignatureSize)
	return token, e.send.protect(nil, data, nil, token, false)
}

// VerifyMIC checks a signature that the peer made with GetMIC.
func (e *established) VerifyMIC(data, mic []byte) error {
	if e.session == nil {
		return errNotEstablished
	}
	return e.recv.check(nil, data, nil, mic, false)
}

// ResetKeys restarts the RC4 streams of both directions and keeps the sequence numbers, as required
// after mechListMICs (MS-SPNG 3.2.5.1, 3.3.5.1).
func (e *established) ResetKeys() {
	if e.session != nil {
		e.send.rekey()
		e.recv.rekey()
	}
}

// SessionKey returns a copy of the ExportedSessionKey, 16 bytes, for protocols that derive keys
// from it (SMB), or nil before the context is established.
func (e *established) SessionKey() []byte {
	if e.session == nil {
		return nil
	}
	key := e.key
	return key[:]
}
