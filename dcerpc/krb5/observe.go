package krb5

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/jcmturner/gokrb5/v8/messages"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// Direction says which side of a security context sent a message.
type Direction uint8

// The two directions.
const (
	FromInitiator Direction = iota // client to server
	FromAcceptor                   // server to client
)

// An Observer is a security context seen from outside. From the service's keytab or the client's
// tickets, and the exchange's tokens as they were on the wire, it unseals and verifies the messages
// of both directions. It is for decoding captures; it checks neither times nor replays.
//
// It is not safe for concurrent use.
type Observer struct {
	keytab     *Keytab
	tickets    []*Ticket
	agreement  agreement
	identity   dcerpc.Identity
	protectors [2]protector // by Direction; nil before APRep
}

// NewObserver returns an Observer for one security context. It also reads RC4. The keytab may be
// nil. The tickets are those that clients had ([LoadTickets]): if the keytab has no key for the
// ticket that a client presented, the session key comes from the matching one of these tickets, and
// then the Identity has no SIDs.
func NewObserver(kt *Keytab, tickets ...*Ticket) *Observer {
	return &Observer{keytab: kt, tickets: tickets}
}

// APReq takes the initiator's first token: a raw AP-REQ (auth type 16), one with GSS framing, or
// either inside a SPNEGO NegTokenInit or NegTokenResp. It decrypts the ticket with the keytab.
// Errors match [ErrNoKey], [ErrKeyVersion], [ErrWrongKey], [ErrEtype], [ErrPAC] or [ErrToken].
// After ErrPAC everything else works, but the Identity has no SIDs.
func (o *Observer) APReq(token []byte) error {
	token, err := mechToken(token)
	if err != nil {
		return err
	}
	req, err := parseAPReq(token)
	if err != nil {
		return err
	}
	var opened *openedAPReq
	if o.keytab != nil {
		opened, err = req.open(o.keytab, nil, anyEtype())
	} else {
		err = fmt.Errorf("krb5: %w: the ticket is none of those given", ErrNoKey)
	}
	known := o.ticketOf(req)
	if err != nil && known != nil {
		opened, err = req.openWithTicket(known, anyEtype())
	}
	if err != nil {
		return err
	}
	o.protectors = [2]protector{}
	o.agreement = opened.agreement()
	if len(opened.serviceKey.KeyValue) == 0 {
		o.identity = opened.clientIdentity()
		return nil
	}
	o.identity, err = opened.identity(pacRules{local: true})
	return err
}

// ticketOf returns the ticket that an AP-REQ presents, if it is one of those given.
func (o *Observer) ticketOf(r *receivedAPReq) *Ticket {
	for _, t := range o.tickets {
		// A Ticket ends with the encrypted part (RFC 4120 section 5.3).
		if cipher := r.Ticket.EncPart.Cipher; len(cipher) > 0 && bytes.HasSuffix(t.Raw, cipher) {
			return t
		}
	}
	return nil
}

// APRep takes the acceptor's answer in any of the same wrappings. After it Verify and Unseal work.
func (o *Observer) APRep(token []byte) error {
	if len(o.agreement.sessionKey.KeyValue) == 0 {
		return errors.New("krb5: an AP-REP before its AP-REQ")
	}
	part, err := o.parseReply(token)
	if err != nil {
		return err
	}
	if len(part.Subkey.KeyValue) > 0 {
		if err := checkKey(part.Subkey, anyEtype()); err != nil {
			return err
		}
	}
	o.agreement.acceptorSubkey = part.Subkey
	o.agreement.acceptorSeq = wireSequence(part.SequenceNumber)
	for _, d := range []Direction{FromInitiator, FromAcceptor} {
		if o.protectors[d], err = o.agreement.protector(d == FromAcceptor, false); err != nil {
			return err
		}
	}
	return nil
}

// ThirdLeg takes the initiator's last token of the DCE-style exchange and checks it. Nothing is
// lost if a capture lacks this token.
func (o *Observer) ThirdLeg(token []byte) error {
	if o.protectors[0] == nil {
		return errors.New("krb5: a third leg before the AP-REP")
	}
	part, err := o.parseReply(token)
	if err != nil {
		return err
	}
	if wireSequence(part.SequenceNumber) != o.agreement.acceptorSeq {
		return fmt.Errorf("krb5: %w: the third leg answers another AP-REP", ErrMutual)
	}
	return nil
}

func (o *Observer) parseReply(token []byte) (messages.EncAPRepPart, error) {
	token, err := mechToken(token)
	if err != nil {
		return messages.EncAPRepPart{}, err
	}
	return parseAPRep(token, o.agreement.sessionKey)
}

// TokenSize is like that of a dcerpc.Context, for the tokens that this package would make.
func (o *Observer) TokenSize(level dcerpc.AuthLevel) int {
	if o.protectors[0] == nil {
		return 0
	}
	return tokenSize(o.protectors[0], level)
}

// Verify checks the signature of a message and returns its sequence number. A capture may lack
// messages, so any number is accepted. Errors match [ErrSignature] and [ErrToken].
func (o *Observer) Verify(d Direction, m dcerpc.Message, token []byte) (seq uint64, err error) {
	if d > FromAcceptor || o.protectors[d] == nil {
		return 0, errNotEstablished
	}
	return o.protectors[d].verify(m, token)
}

// Unseal decrypts m.Body in place, checks the signature, and returns the sequence number. After an
// error the body must not be used. Errors are those of Verify.
func (o *Observer) Unseal(d Direction, m dcerpc.Message, token []byte) (seq uint64, err error) {
	if d > FromAcceptor || o.protectors[d] == nil {
		return 0, errNotEstablished
	}
	return o.protectors[d].unseal(m, token)
}

// VerifyMIC checks a MIC over data, for SPNEGO's mechListMIC.
func (o *Observer) VerifyMIC(d Direction, data, mic []byte) error {
	_, err := o.Verify(d, dcerpc.Message{Body: data}, mic)
	return err
}

// Identity returns the initiator's identity, from the ticket and its PAC. It is empty before APReq.
func (o *Observer) Identity() dcerpc.Identity { return o.identity }

// FirstSequence returns the number of the first message in a direction.
func (o *Observer) FirstSequence(d Direction) uint64 {
	if d == FromAcceptor {
		return o.agreement.acceptorSeq
	}
	return o.agreement.initiatorSeq
}

// SessionKey returns the key from which a protocol above derives its own keys (SMB2: MS-SMB2
// 3.2.5.3): the acceptor's subkey, else the initiator's subkey, else the ticket's session key. It
// is not truncated; SMB uses its first 16 bytes. It is nil before APReq. After APReq but without an
// AP-REP it is the key of an exchange without mutual authentication. The caller gets a copy.
func (o *Observer) SessionKey() []byte {
	key, _ := o.agreement.key()
	return bytes.Clone(key.KeyValue)
}

// mechToken returns the Kerberos token inside SPNEGO's messages (RFC 4178 section 4.2), or the
// token itself where it is none of them:
//
//	NegTokenInit  60 | 06 06 2B 06 01 05 05 02 | A0 | SEQUENCE | ... [2] mechToken OCTET STRING ...
//	NegTokenResp  A1 | SEQUENCE | ... [2] responseToken OCTET STRING ...
func mechToken(token []byte) ([]byte, error) {
	if len(token) == 0 || token[0] != 0x60 && token[0] != 0xA0 && token[0] != 0xA1 {
		return token, nil
	}
	var outer asn1.RawValue
	if _, err := asn1.Unmarshal(token, &outer); err != nil {
		return nil, fmt.Errorf("krb5: %w: %w", ErrToken, err)
	}
	if token[0] == 0x60 {
		var oid asn1.ObjectIdentifier
		rest, err := asn1.Unmarshal(outer.Bytes, &oid)
		if err != nil || !oid.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 2}) {
			return token, nil
		}
		if _, err := asn1.Unmarshal(rest, &outer); err != nil {
			return nil, fmt.Errorf("krb5: %w: SPNEGO: %w", ErrToken, err)
		}
	}
	var sequence asn1.RawValue
	if _, err := asn1.Unmarshal(outer.Bytes, &sequence); err != nil {
		return nil, fmt.Errorf("krb5: %w: SPNEGO: %w", ErrToken, err)
	}
	for rest := sequence.Bytes; len(rest) > 0; {
		var field asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &field); err != nil {
			return nil, fmt.Errorf("krb5: %w: SPNEGO: %w", ErrToken, err)
		}
		if field.Class == asn1.ClassContextSpecific && field.Tag == 2 {
			var inner []byte
			if _, err := asn1.Unmarshal(field.Bytes, &inner); err != nil {
				return nil, fmt.Errorf("krb5: %w: SPNEGO: %w", ErrToken, err)
			}
			return inner, nil
		}
	}
	return nil, fmt.Errorf("krb5: %w: SPNEGO without a Kerberos token", ErrToken)
}
