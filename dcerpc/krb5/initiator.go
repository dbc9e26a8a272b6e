package krb5

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// A Ticket is a service ticket and what its owner must know to use it.
type Ticket struct {
	Client     Principal
	Service    Principal
	SessionKey Key
	EndTime    time.Time
	// RenewTill is the time until which a KDC may extend the ticket. Zero means that the ticket is
	// not renewable.
	RenewTill time.Time
	Raw       []byte // the Ticket of RFC 4120 section 5.3, DER
}

// A TicketSource gives tickets to an Initiator. It must be safe for concurrent use.
type TicketSource interface {
	// Ticket returns a ticket for the service, "host/fs1.example.com". The context bounds all
	// requests that the source makes.
	Ticket(ctx context.Context, service string) (*Ticket, error)
}

// An Initiator is the client's side. It is safe for concurrent use and need not be closed.
type Initiator struct {
	source  TicketSource
	allowed []Etype
}

var _ dcerpc.Initiator = (*Initiator)(nil)

// NewInitiator returns an Initiator that gets its tickets from source. Of the configuration it uses
// only Etypes and InsecureRC4; nil means the defaults.
func NewInitiator(source TicketSource, cfg *InitiatorConfig) *Initiator {
	return &Initiator{source: source, allowed: cfg.etypes()}
}

// AuthType is dcerpc.AuthKerberos.
func (i *Initiator) AuthType() dcerpc.AuthType { return dcerpc.AuthKerberos }

// OID is the mechanism's object identifier for SPNEGO, 1.2.840.113554.1.2.2.
func (i *Initiator) OID() asn1.ObjectIdentifier { return mechOID() }

// NewContext starts a context for RPC: the DCE-style exchange of three legs with mutual
// authentication. Target is a service principal name such as "host/fs1.example.com". The service's
// realm is the one named after an "@", else the one that krb5.conf gives to the host, else the
// client's. NewContext returns a *Context.
//
// The first Step asks for the ticket. Its errors match [ErrPassword], [ErrServiceUnknown] and
// similar errors of this package.
func (i *Initiator) NewContext(target string, level dcerpc.AuthLevel) (dcerpc.Context, error) {
	flags := uint32(flagMutual | flagReplay | flagSequence | flagInteg | flagDCEStyle)
	if level == dcerpc.LevelPrivacy {
		flags |= flagConf
	}
	return i.newContext(target, flags)
}

// NewSMBContext starts a context for SMB and other users of GSS-API. The exchange has two legs with
// GSS frames and mutual authentication; then SessionKey, GetMIC and VerifyMIC can be used.
func (i *Initiator) NewSMBContext(target string) (*Context, error) {
	return i.newContext(target, flagMutual|flagReplay|flagSequence|flagConf|flagInteg)
}

func (i *Initiator) newContext(target string, flags uint32) (*Context, error) {
	if _, err := ParsePrincipal(target); err != nil {
		return nil, fmt.Errorf("%w; a service principal name is needed, as in host/fs1.example.com", err)
	}
	c := &Context{}
	c.agreement.dceStyle, c.agreement.flags = flags&flagDCEStyle != 0, flags
	x := &initiation{initiator: i, c: c, target: target, flags: flags}
	c.step = x.request
	return c, nil
}

// maxAPReq is the maximum size that fits, together with the presentation contexts, into a bind of
// 65535 bytes, and into SPNEGO's frame.
const maxAPReq = 65535 - 512

// An initiation is the initiator's side of an exchange.
type initiation struct {
	initiator *Initiator
	c         *Context
	target    string
	flags     uint32
	auth      types.Authenticator
}

// request is the first leg: the AP-REQ.
func (x *initiation) request(ctx context.Context, in []byte) ([]byte, bool, error) {
	if len(in) != 0 {
		return nil, false, fmt.Errorf("krb5: %w: a token of %d bytes before our first", ErrToken, len(in))
	}
	ticket, err := x.initiator.source.Ticket(ctx, x.target)
	if err != nil {
		return nil, false, err
	}
	a := &x.c.agreement
	a.sessionKey = ticket.SessionKey.wire()
	if err := checkKey(a.sessionKey, x.initiator.allowed); err != nil {
		return nil, false, fmt.Errorf("%w: the session key for %s", err, x.target)
	}
	if a.initiatorSubkey, err = randomKey(ticket.SessionKey.Etype); err != nil {
		return nil, false, err
	}
	seq, err := randomSequence()
	if err != nil {
		return nil, false, fmt.Errorf("krb5: sequence number: %w", err)
	}
	a.initiatorSeq = uint64(seq)
	x.c.identity = dcerpc.Identity{
		Account:   ticket.Service.name(),
		Domain:    ticket.Service.Realm,
		Principal: ticket.Service.String(),
		Mechanism: "krb5",
	}

	x.auth = types.Authenticator{
		AVNO:      5,
		CRealm:    ticket.Client.Realm,
		CName:     ticket.Client.wire(),
		Cksum:     gssChecksum(x.flags),
		SubKey:    a.initiatorSubkey,
		SeqNumber: seq,
	}
	x.auth.CTime, x.auth.Cusec = kerberosTime(time.Now())
	out, err := marshalAPReq(ticket.Raw, a.sessionKey, x.auth, keyusage.AP_REQ_AUTHENTICATOR, optionMutualRequired)
	if err != nil {
		return nil, false, err
	}
	if len(out) > maxAPReq {
		return nil, false, fmt.Errorf("krb5: %w: %s: the ticket of %v has %d bytes, and an RPC bind has room for %d; put the account into fewer groups, "+
			"or into ones of the server's domain", ErrTooLarge, x.target, ticket.Client, len(ticket.Raw), maxAPReq)
	}
	if !a.dceStyle {
		if out, err = frame(tokAPReq, out); err != nil {
			return nil, false, fmt.Errorf("krb5: AP-REQ: %w", err)
		}
	}
	x.c.step = x.finish
	return out, false, nil
}

// finish takes the AP-REP and returns the third leg of DCE style, or nothing.
func (x *initiation) finish(_ context.Context, in []byte) ([]byte, bool, error) {
	a := &x.c.agreement
	part, err := parseAPRep(in, a.sessionKey)
	if err != nil {
		return nil, false, x.explain(err)
	}
	if !part.CTime.Equal(x.auth.CTime) || part.Cusec != x.auth.Cusec {
		return nil, false, fmt.Errorf("krb5: %w: %s answered another request", ErrMutual, x.target)
	}
	if len(part.Subkey.KeyValue) > 0 {
		if err := checkKey(part.Subkey, x.initiator.allowed); err != nil {
			return nil, false, fmt.Errorf("%w: the subkey of %s", err, x.target)
		}
		a.acceptorSubkey = part.Subkey
	}
	a.acceptorSeq = wireSequence(part.SequenceNumber)

	var out []byte
	if a.dceStyle {
		reply := messages.EncAPRepPart{SequenceNumber: part.SequenceNumber}
		reply.CTime, reply.Cusec = kerberosTime(time.Now())
		if out, err = marshalAPRep(reply, a.sessionKey); err != nil {
			return nil, false, err
		}
	}
	if err := x.c.establish(false); err != nil {
		return nil, false, err
	}
	return out, true, nil
}

// explain says what a KRB-ERROR of the service means.
func (x *initiation) explain(err error) error {
	var e messages.KRBError
	if !errors.As(err, &e) {
		return fmt.Errorf("%w (answer of %s)", err, x.target)
	}
	switch e.ErrorCode {
	case errorcode.KRB_AP_ERR_SKEW:
		return fmt.Errorf("krb5: %w: %s has another time (%s there); set both clocks: %w",
			ErrSkew, x.target, e.STime.Format(time.RFC3339), e)
	case errorcode.KRB_AP_ERR_TKT_EXPIRED:
		return fmt.Errorf("krb5: %w: %s says so of our ticket; log in again: %w", ErrExpired, x.target, e)
	case errorcode.KRB_AP_ERR_TKT_NYV:
		return fmt.Errorf("krb5: %w: %s says so of our ticket; set its clock: %w", ErrNotYetValid, x.target, e)
	case errorcode.KRB_AP_ERR_REPEAT:
		return fmt.Errorf("krb5: %w: %s says so: %w", ErrReplay, x.target, e)
	case errorcode.KRB_AP_ERR_NOKEY:
		return fmt.Errorf("krb5: %w: the keytab of %s has no key for it; export it again: %w", ErrNoKey, x.target, e)
	case errorcode.KRB_AP_ERR_BADKEYVER:
		return fmt.Errorf("krb5: %w: the keytab of %s is out of date; export it again, or log in again: %w",
			ErrKeyVersion, x.target, e)
	case errorcode.KRB_AP_ERR_MODIFIED, errorcode.KRB_AP_ERR_BAD_INTEGRITY:
		return fmt.Errorf("krb5: %w: %s cannot read our ticket; see whether the name belongs to that host, and export its keytab again: %w",
			ErrWrongKey, x.target, e)
	}
	return fmt.Errorf("krb5: %w: %s refused our ticket: %w", ErrMutual, x.target, e)
}
