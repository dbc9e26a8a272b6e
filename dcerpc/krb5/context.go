package krb5

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

var errNotEstablished = errors.New("krb5: the security context is not established")

// A Context is a security context of either side: a dcerpc.Context with additional methods for
// SPNEGO and SMB.
//
// Like every dcerpc.Context, it may be used by only one goroutine at a time until Step says done.
// After that one goroutine may protect messages (Sign, Seal, GetMIC) while another checks them
// (Verify, Unseal, VerifyMIC).
type Context struct {
	// step does the next leg; nil if there is none.
	step func(ctx context.Context, in []byte) (out []byte, done bool, err error)

	agreement agreement
	identity  dcerpc.Identity

	send, recv       protector // nil before the exchange is over
	sendSeq, recvSeq uint64
}

var _ dcerpc.Context = (*Context)(nil)

// Step takes the peer's token and returns the next one, as dcerpc.Context says. In DCE style both
// are raw Kerberos messages; otherwise, or if the peer does so, they have the frame of RFC 2743. An
// initiator's first call asks the KDC for a ticket and ends with ctx; see Initiator.
func (c *Context) Step(ctx context.Context, in []byte) (out []byte, done bool, err error) {
	if c.step == nil {
		return nil, false, errors.New("krb5: the exchange of tokens is over")
	}
	step := c.step
	c.step = nil
	return step(ctx, in)
}

// establish derives the keys of both directions.
func (c *Context) establish(acceptor bool) error {
	a := &c.agreement
	send, err := a.protector(acceptor, true)
	if err != nil {
		return err
	}
	recv, err := a.protector(!acceptor, false)
	if err != nil {
		return err
	}
	c.sendSeq, c.recvSeq = a.initiatorSeq, a.acceptorSeq
	if acceptor {
		c.sendSeq, c.recvSeq = a.acceptorSeq, a.initiatorSeq
	}
	c.send, c.recv = send, recv
	return nil
}

// TokenSize is 28 bytes for a signature and 76 for a sealed message with AES and SHA-1, 32 and 80
// with AES128 and SHA-2, 40 and 88 with AES256 and SHA-2, 37 and 45 with RC4. It is zero before the
// exchange is complete, and for levels that protect nothing.
func (c *Context) TokenSize(level dcerpc.AuthLevel) int {
	if c.send == nil {
		return 0
	}
	return tokenSize(c.send, level)
}

func tokenSize(p protector, level dcerpc.AuthLevel) int {
	switch level {
	case dcerpc.LevelPrivacy:
		return p.sealSize()
	case dcerpc.LevelPacket, dcerpc.LevelIntegrity:
		return p.micSize()
	}
	return 0
}

// Sign writes a MIC token (RFC 4121 section 4.2.6.1).
func (c *Context) Sign(m dcerpc.Message, token []byte) error {
	if c.send == nil {
		return errNotEstablished
	}
	if err := c.send.sign(c.sendSeq, m, token); err != nil {
		return err
	}
	c.sendSeq++
	return nil
}

// Seal encrypts the body in place and writes the rest of a Wrap token (RFC 4121 section 4.2.6.2).
func (c *Context) Seal(m dcerpc.Message, token []byte) error {
	if c.send == nil {
		return errNotEstablished
	}
	if err := c.send.seal(c.sendSeq, m, token); err != nil {
		return err
	}
	c.sendSeq++
	return nil
}

// Verify checks a MIC token. Its errors match [ErrToken], [ErrSignature], [ErrSequence].
func (c *Context) Verify(m dcerpc.Message, token []byte) error {
	if c.recv == nil {
		return errNotEstablished
	}
	seq, err := c.recv.verify(m, token)
	if err != nil {
		return err
	}
	return c.checkSequence(seq)
}

// Unseal decrypts the body in place and checks the Wrap token. Its errors are those of Verify.
func (c *Context) Unseal(m dcerpc.Message, token []byte) error {
	if c.recv == nil {
		return errNotEstablished
	}
	seq, err := c.recv.unseal(m, token)
	if err != nil {
		return err
	}
	return c.checkSequence(seq)
}

// checkSequence requires exactly the next number, because a connection neither loses nor reorders
// messages.
func (c *Context) checkSequence(seq uint64) error {
	if want := c.recv.sequence(c.recvSeq); seq != want {
		return fmt.Errorf("krb5: %w: number %d, not %d", ErrSequence, seq, want)
	}
	c.recvSeq++
	return nil
}

// GetMIC returns a MIC token over data, for SPNEGO's mechListMIC. It uses up a sequence number, as
// every token does.
func (c *Context) GetMIC(data []byte) ([]byte, error) {
	if c.send == nil {
		return nil, errNotEstablished
	}
	mic := make([]byte, c.send.micSize())
	if err := c.Sign(dcerpc.Message{Body: data}, mic); err != nil {
		return nil, err
	}
	return mic, nil
}

// VerifyMIC checks what the peer's GetMIC returned. It uses up a sequence number too, unless the
// peer made the token with number 0, as Windows may do for a mechListMIC whatever the number of its
// first message is.
func (c *Context) VerifyMIC(data, mic []byte) error {
	if c.recv == nil {
		return errNotEstablished
	}
	seq, err := c.recv.verify(dcerpc.Message{Body: data}, mic)
	if err != nil {
		return err
	}
	if seq == c.recv.sequence(0) && seq != c.recv.sequence(c.recvSeq) {
		return nil
	}
	return c.checkSequence(seq)
}

// Protection reports, once the exchange is complete, whether the initiator has asked for integrity
// and for confidentiality (GSS_C_INTEG_FLAG and GSS_C_CONF_FLAG of its checksum, RFC 4121 section
// 4.1.1).
func (c *Context) Protection() (sign, seal bool) {
	return c.agreement.flags&flagInteg != 0, c.agreement.flags&(flagInteg|flagConf) == flagInteg|flagConf
}

// Identity returns, on an acceptor, the client's principal and, if the ticket has a PAC, the
// client's SIDs; on an initiator it returns the service's principal.
func (c *Context) Identity() dcerpc.Identity { return c.identity }

// SessionKey returns the key from which a protocol above derives its own keys: the acceptor's
// subkey, else the initiator's subkey, else the ticket's session key. It is not truncated; SMB2
// uses its first 16 bytes (MS-SMB2 3.2.5.3), and all of it for AES-256. It is nil before the
// exchange is complete. The caller gets a copy.
func (c *Context) SessionKey() []byte {
	if c.send == nil {
		return nil
	}
	key, _ := c.agreement.key()
	return append([]byte(nil), key.KeyValue...)
}

// DCEStyle reports whether the exchange had three legs, as between RPC peers.
func (c *Context) DCEStyle() bool { return c.agreement.dceStyle }
