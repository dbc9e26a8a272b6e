package krb5

import (
	"fmt"
	"strings"

	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// anyEtype lists every type that this package can read.
func anyEtype() []Etype { return append(defaultEtypes(), RC4HMAC) }

// A receivedAPReq is an AP-REQ that was parsed but not decrypted.
type receivedAPReq struct {
	messages.APReq
}

func parseAPReq(token []byte) (*receivedAPReq, error) {
	msg, id, err := unframe(token)
	if err != nil {
		return nil, err
	}
	if id != tokAPReq {
		return nil, fmt.Errorf("krb5: %w: token id %04x where an AP-REQ was due", ErrToken, uint16(id))
	}
	if err := checkAPReqSizes(msg); err != nil {
		return nil, err
	}
	r := &receivedAPReq{}
	if err := r.Unmarshal(msg); err != nil {
		return nil, fmt.Errorf("krb5: %w: AP-REQ: %w", ErrToken, err)
	}
	if r.PVNO != 5 || len(r.Ticket.SName.NameString) == 0 {
		return nil, fmt.Errorf("krb5: %w: AP-REQ of version %d for a service of %d names",
			ErrToken, r.PVNO, len(r.Ticket.SName.NameString))
	}
	if bit(r.APOptions, optionUseSessionKey) {
		return nil, fmt.Errorf("krb5: %w: the ticket is encrypted for user-to-user authentication", ErrNoKey)
	}
	return r, nil
}

// An openedAPReq is an AP-REQ whose ticket and authenticator were decrypted and agree with each
// other.
type openedAPReq struct {
	ticket     messages.EncTicketPart
	auth       types.Authenticator
	serviceKey types.EncryptionKey
	flags      uint32 // of the context
}

// open decrypts an AP-REQ with a key of the keytab. If only is not nil, the key's principal must
// satisfy it.
func (r *receivedAPReq) open(kt *Keytab, only func(Principal) bool, allowed []Etype) (*openedAPReq, error) {
	var o openedAPReq
	plain, key, err := kt.openTicket(&r.Ticket, only, allowed)
	if err != nil {
		return nil, err
	}
	o.serviceKey = key.wire()
	if err := o.ticket.Unmarshal(plain); err != nil {
		return nil, fmt.Errorf("krb5: %w: ticket: %w", ErrToken, err)
	}
	client := o.client()
	if len(client.Name) == 0 || client.Realm == "" {
		return nil, fmt.Errorf("krb5: %w: a ticket for nobody", ErrToken)
	}
	// A name of another type, such as an e-mail address or the well-known anonymous name, is not
	// the account with the same spelling (RFC 4120 section 6.2).
	switch t := o.ticket.CName.NameType; t {
	case nametype.KRB_NT_UNKNOWN, nametype.KRB_NT_PRINCIPAL, nametype.KRB_NT_SRV_INST, nametype.KRB_NT_SRV_HST:
	default:
		return nil, fmt.Errorf("krb5: %w: the client %v has a name of type %d, which is no account's", ErrToken, client,
			t)
	}
	if err := r.openAuthenticator(&o, allowed); err != nil {
		return nil, err
	}
	return &o, nil
}

// openWithTicket opens an AP-REQ with the session key, as its client can.
func (r *receivedAPReq) openWithTicket(t *Ticket, allowed []Etype) (*openedAPReq, error) {
	var o openedAPReq
	o.ticket.CName.NameString, o.ticket.CRealm = t.Client.Name, t.Client.Realm
	o.ticket.Key = t.SessionKey.wire()
	if err := r.openAuthenticator(&o, allowed); err != nil {
		return nil, err
	}
	return &o, nil
}

// openAuthenticator decrypts the authenticator with the ticket's session key.
func (r *receivedAPReq) openAuthenticator(o *openedAPReq, allowed []Etype) error {
	client := o.client()
	if err := checkKey(o.ticket.Key, allowed); err != nil {
		return fmt.Errorf("%w: the session key of %v", err, client)
	}
	plain, err := decrypt(r.EncryptedAuthenticator, o.ticket.Key, keyusage.AP_REQ_AUTHENTICATOR)
	if err != nil {
		return fmt.Errorf("krb5: %w: the authenticator of %v: %w", ErrToken, client, err)
	}
	if err := o.auth.Unmarshal(plain); err != nil {
		return fmt.Errorf("krb5: %w: the authenticator of %v: %w", ErrToken, client, err)
	}
	if !client.equal(Principal{o.auth.CName.NameString, o.auth.CRealm}) {
		return fmt.Errorf("krb5: %w: an authenticator of %v with a ticket of %v", ErrToken,
			Principal{o.auth.CName.NameString, o.auth.CRealm}, client)
	}
	if len(o.auth.SubKey.KeyValue) > 0 {
		if err := checkKey(o.auth.SubKey, allowed); err != nil {
			return fmt.Errorf("%w: the subkey of %v", err, client)
		}
	}
	o.flags, err = parseGSSChecksum(o.auth.Cksum)
	return err
}

func (o *openedAPReq) client() Principal {
	return Principal{o.ticket.CName.NameString, o.ticket.CRealm}
}

// agreement is what the initiator has said so far.
func (o *openedAPReq) agreement() agreement {
	return agreement{
		dceStyle:        o.flags&flagDCEStyle != 0,
		flags:           o.flags,
		sessionKey:      o.ticket.Key,
		initiatorSubkey: o.auth.SubKey,
		initiatorSeq:    wireSequence(o.auth.SeqNumber),
	}
}

// identity is the client's. With an error, which is of its PAC, it lacks the SIDs.
func (o *openedAPReq) identity(rules pacRules) (dcerpc.Identity, error) {
	id := o.clientIdentity()
	var err error
	id.SIDs, err = ticketSIDs(&o.ticket, o.serviceKey, rules)
	return id, err
}

// clientIdentity is the client's without what a PAC says.
func (o *openedAPReq) clientIdentity() dcerpc.Identity {
	client := o.client()
	return dcerpc.Identity{
		Account:   client.name(),
		Domain:    client.Realm,
		Principal: client.String(),
		Mechanism: "krb5",
	}
}

// openTicket finds the key that opens a ticket. The name in a ticket is not protected, and the
// services of one account share its key in Active Directory under whatever name the client knows;
// so any key of the ticket's type may be the one, those of the ticket's name and version first.
func (k *Keytab) openTicket(t *messages.Ticket, only func(Principal) bool, allowed []Etype) ([]byte, Key, error) {
	service := Principal{t.SName.NameString, t.Realm}
	etype := Etype(t.EncPart.EType)
	if err := checkEtype(etype, allowed); err != nil {
		return nil, Key{}, fmt.Errorf("%w: the ticket for %v", err, service)
	}
	const named, versioned = 2, 1
	rank := func(e *keytabEntry) (n int) {
		if e.principal.equalFold(service) {
			n += named
		}
		if e.sameVersion(t.EncPart.KVNO) {
			n += versioned
		}
		return n
	}
	best := -1
	for want := named + versioned; want >= 0; want-- {
		for i := range k.entries {
			e := &k.entries[i]
			if e.key.Etype != etype || rank(e) != want || only != nil && !only(e.principal) {
				continue
			}
			best = max(best, want)
			if !mayOpen(t.EncPart.Cipher, e.key) {
				continue
			}
			if plain, err := decrypt(t.EncPart, e.key.wire(), keyusage.KDC_REP_TICKET); err == nil {
				return plain, e.key, nil
			}
		}
	}
	switch {
	case best >= named+versioned:
		return nil, Key{}, fmt.Errorf("krb5: %w: %v, %v, version %d; set the account's password or export its keytab again",
			ErrWrongKey, service, etype, t.EncPart.KVNO)
	case best >= named:
		return nil, Key{}, fmt.Errorf("krb5: %w: %v, %v, version %d; export the keytab again",
			ErrKeyVersion, service, etype, t.EncPart.KVNO)
	}
	return nil, Key{}, fmt.Errorf("krb5: %w: %v, %v, version %d; it holds keys of: %s",
		ErrNoKey, service, etype, t.EncPart.KVNO, k.describe())
}

// describe names what a keytab holds, for an error's reader.
func (k *Keytab) describe() string {
	if len(k.entries) == 0 {
		return "nobody"
	}
	const most = 8
	var parts []string
	for _, e := range k.entries {
		if len(parts) == most {
			parts = append(parts, "...")
			break
		}
		parts = append(parts, fmt.Sprintf("%v %v %d", e.principal, e.key.Etype, e.kvno))
	}
	return strings.Join(parts, ", ")
}
