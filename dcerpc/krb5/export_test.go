package krb5

import (
	"context"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// SendSequence and SetRecvSequence let a test send or take one message more than once.
func (c *Context) SendSequence() uint64     { return c.sendSeq }
func (c *Context) SetRecvSequence(n uint64) { c.recvSeq = n }

// MarshalAuthenticator makes the plain text of an authenticator.
func MarshalAuthenticator(t *Ticket, at time.Time, flags uint32) []byte {
	a := types.Authenticator{AVNO: 5, CRealm: t.Client.Realm, CName: t.Client.wire(), Cksum: gssChecksum(flags),
		SeqNumber: 1}
	a.CTime, a.Cusec = kerberosTime(at)
	b, err := a.Marshal()
	if err != nil {
		panic(err)
	}
	return b
}

// MarshalAPReq makes an AP-REQ of a ticket and the plain text of an authenticator.
func MarshalAPReq(t *Ticket, authenticator []byte) ([]byte, error) {
	ed, err := encrypt(authenticator, t.SessionKey.wire(), keyusage.AP_REQ_AUTHENTICATOR, 0)
	if err != nil {
		return nil, err
	}
	b, err := asn1.Marshal(apReq{
		PVNO: 5, MsgType: msgtype.KRB_AP_REQ, APOptions: types.NewKrbFlags(),
		Ticket:        asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 3, IsCompound: true, Bytes: t.Raw},
		Authenticator: ed,
	})
	return asn1tools.AddASNAppTag(b, asnAppTag.APREQ), err
}

// MarshalAPRepPart makes the plain text of what an AP-REP holds.
func MarshalAPRepPart(at time.Time, subkey Key) []byte {
	part := messages.EncAPRepPart{Subkey: subkey.wire(), SequenceNumber: 1}
	part.CTime, part.Cusec = kerberosTime(at)
	b, err := asn1.Marshal(part)
	if err != nil {
		panic(err)
	}
	return asn1tools.AddASNAppTag(b, asnAppTag.EncAPRepPart)
}

// EncryptAPRepPart makes an AP-REP of such a plain text.
func EncryptAPRepPart(plain []byte, key Key) ([]byte, error) {
	ed, err := encrypt(plain, key.wire(), keyusage.AP_REP_ENCPART, 0)
	if err != nil {
		return nil, err
	}
	b, err := asn1.Marshal(messages.APRep{PVNO: 5, MsgType: msgtype.KRB_AP_REP, EncPart: ed})
	return asn1tools.AddASNAppTag(b, asnAppTag.APREP), err
}

// LoadKrb5Conf reads a configuration.
var LoadKrb5Conf = loadKrb5Conf

// SetSendSequence has the next token of c bear a number, and returns that of the token that would
// have come.
func SetSendSequence(c *Context, n uint64) (was uint64) {
	was, c.sendSeq = c.sendSeq, n
	return was
}

// Home returns the ticket-granting ticket that an initiator holds.
func (i *Initiator) Home() *Ticket {
	s := i.source.(*kdcSource)
	return s.tgts[s.client.Realm]
}

// RenewNow renews the ticket-granting ticket as if it were time.
func (i *Initiator) RenewNow(ctx context.Context) error {
	s := i.source.(*kdcSource)
	s.renewHome(ctx)
	s.renewAt = time.Time{}
	s.renewHome(ctx)
	return s.unrenewed
}
