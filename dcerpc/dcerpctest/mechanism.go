package dcerpctest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// The sizes of the mechanism's tokens. They differ, so that confusing the levels fails.
const (
	SignatureSize = 16 // at LevelPacket and LevelIntegrity
	SealSize      = 24 // at LevelPrivacy
)

// ErrSignature means that Verify or Unseal was given a changed message.
var ErrSignature = errors.New("dcerpctest: bad signature")

// A Mechanism is a security mechanism for tests: some legs of tokens in plain text, then an HMAC
// over the protected bytes with a sequence number per direction, and AES-CTR for sealed messages.
// Both sides share the Key. It protects nothing, since the default key is public.
//
// Its methods Initiator and Acceptor return its two sides.
type Mechanism struct {
	Type dcerpc.AuthType // zero means AuthNTLM
	// Legs is the number of tokens that both sides exchange together; zero means 3. If it is odd,
	// the initiator sends the last one (NTLM, Kerberos in DCE style), otherwise the acceptor
	// (SPNEGO).
	Legs int
	// Account is the identity that the initiator claims and the acceptor believes.
	Account string
	// SignAll makes signatures cover header and trailer even without header signing, like NTLM's.
	SignAll bool
	// Key is shared by both sides; nil means a fixed one.
	Key []byte
	// Refuse makes the acceptor fail at the leg of this number, from 1; zero means never.
	Refuse int
	// Observe, if not nil, is called with every message that is protected or checked, with its body
	// in clear. It must not keep the slices.
	Observe func(op string, m dcerpc.Message, token []byte)
}

// Initiator returns the client's side.
func (m *Mechanism) Initiator() dcerpc.Initiator { return initiator{m} }

// Acceptor returns the server's side.
func (m *Mechanism) Acceptor() dcerpc.Acceptor { return acceptor{m} }

func (m *Mechanism) authType() dcerpc.AuthType {
	if m.Type == 0 {
		return dcerpc.AuthNTLM
	}
	return m.Type
}

func (m *Mechanism) legs() int {
	if m.Legs == 0 {
		return 3
	}
	return m.Legs
}

func (m *Mechanism) newContext(level dcerpc.AuthLevel, initiates bool) *secContext {
	key := m.Key
	if key == nil {
		key = []byte("a key that everybody knows")
	}
	sum := sha256.Sum256(key)
	block, err := aes.NewCipher(sum[:16])
	if err != nil {
		panic(err) // 16 bytes are a valid key
	}
	return &secContext{mech: m, level: level, initiates: initiates, key: sum[16:], block: block}
}

type initiator struct{ m *Mechanism }

func (i initiator) AuthType() dcerpc.AuthType { return i.m.authType() }

func (i initiator) NewContext(target string, level dcerpc.AuthLevel) (dcerpc.Context, error) {
	c := i.m.newContext(level, true)
	c.target = target
	return c, nil
}

type acceptor struct{ m *Mechanism }

func (a acceptor) AuthType() dcerpc.AuthType { return a.m.authType() }

func (a acceptor) NewContext(level dcerpc.AuthLevel) (dcerpc.Context, error) {
	return a.m.newContext(level, false), nil
}

// secContext is one side's context. Each direction has its own mutex, since one goroutine may
// protect while another checks.
type secContext struct {
	mech      *Mechanism
	level     dcerpc.AuthLevel
	initiates bool
	target    string
	account   string
	leg       int // of the last token seen or sent
	done      bool

	key   []byte
	block cipher.Block

	sendMu, recvMu   sync.Mutex
	sendSeq, recvSeq uint64
}

// Step exchanges tokens "TOY leg/legs level account target".
func (c *secContext) Step(_ context.Context, in []byte) ([]byte, bool, error) {
	if c.done {
		return nil, false, errors.New("dcerpctest: Step after done")
	}
	legs := c.mech.legs()
	if c.leg > 0 || !c.initiates {
		if err := c.take(in); err != nil {
			return nil, false, err
		}
	}
	if c.leg == legs {
		c.done = true
		return nil, true, nil
	}
	c.leg++
	out := fmt.Appendf(nil, "TOY %d/%d %d %q %q", c.leg, legs, c.level, c.mech.Account, c.target)
	c.done = c.leg == legs
	return out, c.done, nil
}

// take checks the peer's token.
func (c *secContext) take(in []byte) error {
	var leg, legs int
	var level dcerpc.AuthLevel
	var account, target string
	if _, err := fmt.Sscanf(string(in), "TOY %d/%d %d %q %q", &leg, &legs, &level, &account, &target); err != nil {
		return fmt.Errorf("dcerpctest: bad token %q: %w", in, err)
	}
	if leg != c.leg+1 || legs != c.mech.legs() || level != c.level {
		return fmt.Errorf("dcerpctest: token %q is not leg %d of %d at level %d", in, c.leg+1, c.mech.legs(), c.level)
	}
	c.leg = leg
	if !c.initiates && c.mech.Refuse == leg {
		return errors.New("dcerpctest: refused")
	}
	if !c.initiates && leg == 1 {
		c.account = account
	}
	return nil
}

func (c *secContext) TokenSize(level dcerpc.AuthLevel) int {
	if level == dcerpc.LevelPrivacy {
		return SealSize
	}
	return SignatureSize
}

func (c *secContext) Sign(m dcerpc.Message, token []byte) error {
	return c.protect(m, token, SignatureSize, false)
}

func (c *secContext) Seal(m dcerpc.Message, token []byte) error {
	return c.protect(m, token, SealSize, true)
}

func (c *secContext) protect(m dcerpc.Message, token []byte, size int, seal bool) error {
	if len(token) != size {
		return fmt.Errorf("dcerpctest: token of %d bytes, want %d", len(token), size)
	}
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	c.observe("protect", m, token)
	c.sign(token, m, c.initiates, c.sendSeq)
	if seal {
		c.crypt(m.Body, c.initiates, c.sendSeq)
	}
	c.sendSeq++
	return nil
}

func (c *secContext) Verify(m dcerpc.Message, token []byte) error {
	return c.check(m, token, SignatureSize, false)
}

func (c *secContext) Unseal(m dcerpc.Message, token []byte) error {
	return c.check(m, token, SealSize, true)
}

func (c *secContext) check(m dcerpc.Message, token []byte, size int, sealed bool) error {
	if len(token) != size {
		return ErrSignature
	}
	c.recvMu.Lock()
	defer c.recvMu.Unlock()
	if sealed {
		c.crypt(m.Body, !c.initiates, c.recvSeq)
	}
	want := make([]byte, size)
	c.sign(want, m, !c.initiates, c.recvSeq)
	if !hmac.Equal(want, token) {
		return ErrSignature
	}
	c.recvSeq++
	c.observe("check", m, token)
	return nil
}

func (c *secContext) observe(op string, m dcerpc.Message, token []byte) {
	if c.mech.Observe != nil {
		c.mech.Observe(op, m, token)
	}
}

// sign fills token with the HMAC of the direction, the sequence number and the signed parts of m.
func (c *secContext) sign(token []byte, m dcerpc.Message, fromInitiator bool, seq uint64) {
	h := hmac.New(sha256.New, c.key)
	h.Write(nonce(fromInitiator, seq))
	if m.SignHeader || c.mech.SignAll {
		h.Write(m.Header)
	}
	h.Write(m.Body)
	if m.SignHeader || c.mech.SignAll {
		h.Write(m.Trailer)
	}
	copy(token, h.Sum(nil))
}

// crypt encrypts or decrypts b in place.
func (c *secContext) crypt(b []byte, fromInitiator bool, seq uint64) {
	cipher.NewCTR(c.block, nonce(fromInitiator, seq)).XORKeyStream(b, b)
}

func nonce(fromInitiator bool, seq uint64) []byte {
	n := make([]byte, aes.BlockSize)
	if fromInitiator {
		n[0] = 1
	}
	binary.LittleEndian.PutUint64(n[1:], seq)
	return n
}

func (c *secContext) Identity() dcerpc.Identity {
	return dcerpc.Identity{Account: c.account, Mechanism: "toy"}
}
