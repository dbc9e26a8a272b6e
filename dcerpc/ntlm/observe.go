package ntlm

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// ErrNoHash means that an [Observer] has no NT hash to try for an account.
var ErrNoHash = errors.New("ntlm: no password or NT hash of the account was given")

// Direction says which side of a security context sent a message.
type Direction uint8

// The two directions.
const (
	FromInitiator Direction = iota // client to server
	FromAcceptor                   // server to client
)

// IsMessage reports whether a token begins like an NTLM message.
func IsMessage(token []byte) bool {
	return len(token) >= 12 && string(token[:8]) == signature
}

// An Observer follows a security context from outside: given the account's NT hash and the tokens
// of the exchange, it unseals and verifies the messages of both directions. It is for decoding
// captures; it does not check times or targets.
//
// It reads NTLMv2 with extended session security, with keys of 128, 56 and 40 bits, with key
// exchange and without. It does not support NTLMv1, nor contexts without extended session security.
//
// It is not safe for concurrent use.
type Observer struct {
	hashes               func(domain, user string) [][16]byte
	negotiate, challenge []byte // as sent on the wire; the MIC covers them

	account    Challenge
	named      bool
	opened     bool
	key        [16]byte // ExportedSessionKey
	directions [2]observed
}

// observed is one direction.
type observed struct {
	direction
	next  uint32 // the sequence number due next
	found int    // the number of searches for the place in the stream
}

// NewObserver returns an Observer of one security context. The function hashes returns the NT
// hashes that an account may have, all of which are tried; it gets domain and user as the client
// sent them. If hashes is nil, the Observer only reports the account that the client names.
func NewObserver(hashes func(domain, user string) [][16]byte) *Observer {
	return &Observer{hashes: hashes}
}

// Token takes the next token of the exchange, without SPNEGO around it, and does not keep it. A
// NEGOTIATE_MESSAGE begins a new exchange.
//
// Errors of an AUTHENTICATE_MESSAGE match [ErrNoHash], [ErrLogonFailure] (no hash fits), [ErrAnonymous],
// [ErrNTLMv1], or [ErrBadMIC], after which the Observer still works.
func (o *Observer) Token(d Direction, token []byte) error {
	if !IsMessage(token) {
		return errors.New("ntlm: not an NTLMSSP message")
	}
	switch t := messageType(binary.LittleEndian.Uint32(token[8:])); {
	case t == typeNegotiate && d == FromInitiator:
		*o = Observer{hashes: o.hashes, negotiate: o.copyOf(token)}
		return nil
	case t == typeChallenge && d == FromAcceptor:
		if err := head(token, typeChallenge, 32); err != nil {
			return err
		}
		copy(o.account.ServerChallenge[:], token[24:32])
		o.challenge = o.copyOf(token)
		return nil
	case t == typeAuthenticate && d == FromInitiator:
		err := o.authenticate(token)
		o.negotiate, o.challenge = nil, nil
		return err
	default:
		return fmt.Errorf("ntlm: message of type %d from the wrong side", t)
	}
}

// copyOf copies a token for the MIC, if that may be checked.
func (o *Observer) copyOf(token []byte) []byte {
	if o.hashes == nil || len(token) > MaxTokenSize {
		return []byte{}
	}
	return slices.Clone(token)
}

// authenticate tries the hashes on an AUTHENTICATE_MESSAGE (MS-NLMP 3.2.5.1.2).
func (o *Observer) authenticate(in []byte) error {
	m, err := parseAuthenticate(in)
	if err != nil {
		return err
	}
	o.account.Domain, o.account.User, o.account.Workstation = m.domain, m.user, m.workstation
	o.named, o.opened = true, false
	switch {
	case m.anonymous():
		return ErrAnonymous
	case len(m.nt) <= 24:
		return ErrNTLMv1
	case o.hashes == nil:
		return ErrNoHash
	case o.challenge == nil:
		return errors.New("ntlm: the server's CHALLENGE_MESSAGE is missing")
	case !m.flags.IsSet(negotiateExtendedSessionSecurity):
		return errors.New("ntlm: a context without extended session security")
	}
	base, err := o.open(m)
	if err != nil {
		return err
	}
	o.key = base
	keyExchange := m.flags.IsSet(negotiateKeyExchange)
	if keyExchange {
		if len(m.encryptedSessionKey) != len(o.key) {
			return fmt.Errorf("ntlm: EncryptedRandomSessionKey of %d bytes", len(m.encryptedSessionKey))
		}
		copy(o.key[:], rc4K(base, m.encryptedSessionKey))
	}
	o.opened = true
	size := m.flags.sealingKeySize()
	o.directions = [2]observed{
		{direction: newDirection(o.key, size, magicSignClient, magicSealClient, keyExchange)},
		{direction: newDirection(o.key, size, magicSignServer, magicSealServer, keyExchange)},
	}
	return o.checkMIC(m, in)
}

// open finds the hash that made the response, and returns the session base key.
func (o *Observer) open(m *authenticateMessage) ([16]byte, error) {
	c := o.account
	c.Response = m.nt
	hashes := o.hashes(m.domain, m.user)
	for _, h := range hashes {
		if key, ok := c.Check(h); ok {
			return key, nil
		}
	}
	if len(hashes) == 0 {
		return [16]byte{}, ErrNoHash
	}
	return [16]byte{}, ErrLogonFailure
}

// checkMIC checks the MIC of a message that has one, if everything that it covers was seen.
func (o *Observer) checkMIC(m *authenticateMessage, in []byte) error {
	pairs, err := parseClientChallenge(m.nt)
	if err != nil {
		return nil
	}
	avs, err := avFlags(pairs)
	if err != nil || !avs.IsSet(micProvided) || len(o.negotiate) == 0 || len(o.challenge) == 0 {
		return nil
	}
	if len(in) < micEnd {
		return ErrBadMIC
	}
	want := micOf(o.key, o.negotiate, o.challenge, in)
	if subtle.ConstantTimeCompare(want[:], in[micOffset:micEnd]) != 1 {
		return ErrBadMIC
	}
	return nil
}

// Account returns domain and user as the client sent them, or false before an AUTHENTICATE_MESSAGE.
func (o *Observer) Account() (domain, user string, ok bool) {
	return o.account.Domain, o.account.User, o.named
}

// Opened reports whether the keys of the context are known.
func (o *Observer) Opened() bool { return o.opened }

// SessionKey returns a copy of the ExportedSessionKey, 16 bytes, from which a protocol above
// derives its keys (SMB: MS-SMB2 3.2.5.3), or nil if it is not known.
func (o *Observer) SessionKey() []byte {
	if !o.opened {
		return nil
	}
	return slices.Clone(o.key[:])
}

// Verify checks the signature of a message; Unseal first decrypts m.Body in place. Both return the
// sequence number. They fail with [ErrBadSignature]; a sealed body then holds zeros.
//
// The RC4 key stream runs on from message to message. If the sequence numbers show that the capture
// lacks some messages, the Observer searches for the place in the key stream, a few times for each
// direction and at most 64 KiB ahead.
func (o *Observer) Verify(d Direction, m dcerpc.Message, token []byte) (seq uint64, err error) {
	return o.check(d, m, token, false)
}

// Unseal is described at [Observer.Verify].
func (o *Observer) Unseal(d Direction, m dcerpc.Message, token []byte) (seq uint64, err error) {
	return o.check(d, m, token, true)
}

func (o *Observer) check(dir Direction, m dcerpc.Message, token []byte, sealed bool) (uint64, error) {
	if !o.opened || dir > FromAcceptor {
		return 0, errNotEstablished
	}
	if len(token) != SignatureSize {
		return 0, fmt.Errorf("ntlm: a signature of %d bytes", len(token))
	}
	d := &o.directions[dir]
	seq := binary.LittleEndian.Uint32(token[12:])
	// A mechListMIC has used a number, and perhaps a part of the stream (MS-SPNG 3.2.5.1).
	if seq > d.next {
		d.find(seq, m, token, sealed)
	}
	d.seq, d.next = seq, seq+1
	err := d.check(m.Header, m.Body, m.Trailer, token, sealed)
	d.err = nil // the next message may be valid again
	return uint64(seq), err
}

// Limits of the search.
const (
	maxSearches = 16
	maxMissing  = 64 << 10 // bytes
)

// find moves the key stream forward, over missing messages, to the place that opens this one. If
// there is none, it does not move the stream.
func (d *observed) find(seq uint32, m dcerpc.Message, token []byte, sealed bool) {
	if d.found++; d.found > maxSearches {
		return
	}
	size := len(m.Body)
	if !sealed {
		size = 0
	}
	ahead := min(maxMissing, int(min(seq-d.next, 16))*(64<<10))
	stream := make([]byte, ahead+size+8)
	handle := *d.handle // its value is its whole state
	handle.XORKeyStream(stream, stream)
	body := make([]byte, size)
	plain := m.Body
	d.seq = seq
	for skip := 0; skip <= ahead; skip++ {
		if sealed {
			subtle.XORBytes(body, m.Body, stream[skip:])
			plain = body
		}
		d.checksum(m.Header, plain, m.Trailer)
		if d.keyExchange {
			subtle.XORBytes(d.sum[:8], d.sum[:8], stream[skip+size:])
		}
		if string(d.sum[:8]) == string(token[4:12]) {
			d.handle.XORKeyStream(stream[:skip], stream[:skip])
			return
		}
	}
}
