package krb5

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/iana"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// Flags of a context, in the authenticator's checksum (RFC 4121 section 4.1.1.1, RFC 4757 section
// 7.1).
const (
	flagMutual   = 0x02
	flagReplay   = 0x04
	flagSequence = 0x08
	flagConf     = 0x10
	flagInteg    = 0x20
	flagDCEStyle = 0x1000
)

// gssChecksumType marks the checksum of an authenticator that holds flags and channel bindings.
const gssChecksumType = 0x8003

// Bits of the ap-options and of a ticket's flags, counted from the left (RFC 4120 sections 5.5.1
// and 5.3).
const (
	optionUseSessionKey  = 1
	optionMutualRequired = 2
	ticketFlagInvalid    = 7
)

// bit reads one that may lie outside of what the peer sent.
func bit(b asn1.BitString, n int) bool { return b.At(n) == 1 }

// gssChecksum is | 16, 4 bytes | channel bindings, 16 bytes, none | flags, 4 bytes |,
// little-endian.
func gssChecksum(flags uint32) types.Checksum {
	b := make([]byte, 24)
	binary.LittleEndian.PutUint32(b, 16)
	binary.LittleEndian.PutUint32(b[20:], flags)
	return types.Checksum{CksumType: gssChecksumType, Checksum: b}
}

func parseGSSChecksum(c types.Checksum) (flags uint32, err error) {
	if c.CksumType != gssChecksumType || len(c.Checksum) < 24 || binary.LittleEndian.Uint32(c.Checksum) != 16 {
		return 0, fmt.Errorf("krb5: %w: the authenticator's checksum (type %#x, %d bytes) is not GSS-API's",
			ErrToken, c.CksumType, len(c.Checksum))
	}
	return binary.LittleEndian.Uint32(c.Checksum[20:]), nil
}

// randomSequence returns a first sequence number. It has 30 bits, as everybody's: some peers read
// it as signed.
func randomSequence() (int64, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint32(b[:]) & 0x3FFFFFFF), nil
}

// randomKey makes a key of the given type.
func randomKey(e Etype) (types.EncryptionKey, error) {
	p, ok := profileOf(e)
	if !ok {
		return types.EncryptionKey{}, fmt.Errorf("krb5: %w: %v", ErrEtype, e)
	}
	key := make([]byte, p.keySize)
	if _, err := rand.Read(key); err != nil {
		return types.EncryptionKey{}, err
	}
	return types.EncryptionKey{KeyType: int32(e), KeyValue: key}, nil
}

// kerberosTime cuts a time into the seconds and microseconds of a message.
func kerberosTime(t time.Time) (time.Time, int) {
	t = t.UTC()
	return t.Truncate(time.Second), t.Nanosecond() / 1000
}

// An apReq is an AP-REQ that holds its ticket as it came from the KDC, byte for byte.
type apReq struct {
	PVNO          int                 `asn1:"explicit,tag:0"`
	MsgType       int                 `asn1:"explicit,tag:1"`
	APOptions     asn1.BitString      `asn1:"explicit,tag:2"`
	Ticket        asn1.RawValue       `asn1:"explicit,tag:3"`
	Authenticator types.EncryptedData `asn1:"explicit,tag:4"`
}

// marshalAPReq makes a raw AP-REQ with the given ap-options.
func marshalAPReq(ticket []byte, sessionKey types.EncryptionKey, auth types.Authenticator, usage uint32,
	options ...int) ([]byte, error) {
	plain, err := auth.Marshal()
	if err != nil {
		return nil, fmt.Errorf("krb5: authenticator: %w", err)
	}
	ed, err := encrypt(plain, sessionKey, usage, 0)
	if err != nil {
		return nil, fmt.Errorf("krb5: authenticator: %w", err)
	}
	flags := types.NewKrbFlags()
	types.SetFlags(&flags, options)
	b, err := asn1.Marshal(apReq{
		PVNO:          iana.PVNO,
		MsgType:       msgtype.KRB_AP_REQ,
		APOptions:     flags,
		Ticket:        asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 3, IsCompound: true, Bytes: ticket},
		Authenticator: ed,
	})
	if err != nil {
		return nil, fmt.Errorf("krb5: AP-REQ: %w", err)
	}
	return asn1tools.AddASNAppTag(b, asnAppTag.APREQ), nil
}

// marshalAPRep makes a raw AP-REP, encrypted with the ticket's session key.
func marshalAPRep(part messages.EncAPRepPart, sessionKey types.EncryptionKey) ([]byte, error) {
	plain, err := asn1.Marshal(part)
	if err != nil {
		return nil, fmt.Errorf("krb5: AP-REP: %w", err)
	}
	ed, err := encrypt(asn1tools.AddASNAppTag(plain, asnAppTag.EncAPRepPart), sessionKey, keyusage.AP_REP_ENCPART, 0)
	if err != nil {
		return nil, fmt.Errorf("krb5: AP-REP: %w", err)
	}
	b, err := asn1.Marshal(messages.APRep{PVNO: iana.PVNO, MsgType: msgtype.KRB_AP_REP, EncPart: ed})
	if err != nil {
		return nil, fmt.Errorf("krb5: AP-REP: %w", err)
	}
	return asn1tools.AddASNAppTag(b, asnAppTag.APREP), nil
}

// parseAPRep reads a token that holds an AP-REP, framed or not, and opens it. A KRB-ERROR becomes
// an error that holds it.
func parseAPRep(token []byte, sessionKey types.EncryptionKey) (messages.EncAPRepPart, error) {
	var part messages.EncAPRepPart
	msg, id, err := unframe(token)
	if err != nil {
		return part, err
	}
	if id == tokKRBError {
		var e messages.KRBError
		if err := e.Unmarshal(msg); err != nil {
			return part, fmt.Errorf("krb5: %w: KRB-ERROR: %w", ErrToken, err)
		}
		return part, e
	}
	if id != tokAPRep {
		return part, fmt.Errorf("krb5: %w: token id %04x where an AP-REP was due", ErrToken, uint16(id))
	}
	var rep messages.APRep
	if err := rep.Unmarshal(msg); err != nil {
		return part, fmt.Errorf("krb5: %w: AP-REP: %w", ErrToken, err)
	}
	plain, err := decrypt(rep.EncPart, sessionKey, keyusage.AP_REP_ENCPART)
	if err != nil {
		return part, fmt.Errorf("krb5: %w: AP-REP: %w", ErrMutual, err)
	}
	if err := part.Unmarshal(plain); err != nil {
		return part, fmt.Errorf("krb5: %w: AP-REP: %w", ErrToken, err)
	}
	return part, nil
}

// agreement is what both sides know when the exchange is over, and an observer with the service's
// key.
type agreement struct {
	dceStyle        bool
	flags           uint32              // of the initiator
	sessionKey      types.EncryptionKey // the ticket's
	initiatorSubkey types.EncryptionKey // empty where there is none
	acceptorSubkey  types.EncryptionKey // likewise
	initiatorSeq    uint64
	acceptorSeq     uint64
}

// key chooses the key that protects messages (RFC 4121 section 2).
func (a *agreement) key() (key types.EncryptionKey, acceptors bool) {
	switch {
	case len(a.acceptorSubkey.KeyValue) > 0:
		return a.acceptorSubkey, true
	case len(a.initiatorSubkey.KeyValue) > 0:
		return a.initiatorSubkey, false
	}
	return a.sessionKey, false
}

// protector makes the one for messages that the initiator, or the acceptor, sends.
func (a *agreement) protector(byAcceptor, seals bool) (protector, error) {
	key, acceptors := a.key()
	return newProtector(key, origin{acceptor: byAcceptor, acceptorSubkey: acceptors, dceStyle: a.dceStyle}, seals)
}

// wireSequence reads a sequence number, which is 32 bits wide and which some peers send as a signed
// number.
func wireSequence(n int64) uint64 { return uint64(uint32(n)) }
