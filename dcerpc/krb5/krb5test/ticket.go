package krb5test

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana"
	"github.com/jcmturner/gokrb5/v8/iana/adtype"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

// Ticket makes a service ticket for a user, with a signed PAC. A user or a service that was not
// added is an error that matches krb5.ErrClientUnknown or krb5.ErrServiceUnknown.
func (r *Realm) Ticket(userName, service string, o *TicketOptions) (*krb5.Ticket, error) {
	if o == nil {
		o = &TicketOptions{}
	}
	service = strings.TrimSuffix(service, "@"+r.name)
	r.mu.Lock()
	u, key := r.users[userName], r.services[service]
	r.mu.Unlock()
	if u == nil {
		return nil, fmt.Errorf("krb5test: %w %s", krb5.ErrClientUnknown, userName)
	}
	if key.Value == nil {
		return nil, fmt.Errorf("krb5test: %w %s", krb5.ErrServiceUnknown, service)
	}
	if o.Key != nil {
		key = *o.Key
	}
	start, end := o.StartTime, o.EndTime
	if start.IsZero() {
		start = time.Now()
	}
	if end.IsZero() {
		end = start.Add(10 * time.Hour)
	}
	start, end = start.UTC().Truncate(time.Second), end.UTC().Truncate(time.Second)
	sessionEtype := key.Etype
	if o.SessionEtype != 0 {
		sessionEtype = o.SessionEtype
	}
	session := newKey(sessionEtype)

	part := messages.EncTicketPart{
		Flags:     types.NewKrbFlags(),
		Key:       wire(session),
		CRealm:    r.name,
		CName:     types.NewPrincipalName(cmp.Or(o.NameType, nametype.KRB_NT_PRINCIPAL), userName),
		AuthTime:  start,
		StartTime: start,
		EndTime:   end,
	}
	if o.Invalid {
		types.SetFlag(&part.Flags, flags.Invalid)
	}
	if !o.NoPAC {
		pac, err := r.pac(userName, u, start, wire(key), o)
		if err != nil {
			return nil, err
		}
		inner, err := asn1.Marshal(types.AuthorizationData{{ADType: adtype.ADWin2KPAC, ADData: pac}})
		if err != nil {
			return nil, err
		}
		part.AuthorizationData = types.AuthorizationData{{ADType: adtype.ADIfRelevant, ADData: inner}}
	}
	plain, err := asn1.Marshal(part)
	if err != nil {
		return nil, fmt.Errorf("krb5test: ticket: %w", err)
	}
	version := keyVersion
	if o.Version != 0 {
		version = o.Version
	}
	ed, err := crypto.GetEncryptedData(asn1tools.AddASNAppTag(plain, asnAppTag.EncTicketPart), wire(key),
		keyusage.KDC_REP_TICKET, version)
	if err != nil {
		return nil, fmt.Errorf("krb5test: ticket: %w", err)
	}
	t := messages.Ticket{
		TktVNO:  iana.PVNO,
		Realm:   r.name,
		SName:   types.NewPrincipalName(nametype.KRB_NT_SRV_INST, service),
		EncPart: ed,
	}
	if o.Realm != "" {
		t.Realm = o.Realm
	}
	raw, err := t.Marshal()
	if err != nil {
		return nil, fmt.Errorf("krb5test: ticket: %w", err)
	}
	return &krb5.Ticket{
		Client:     krb5.Principal{Name: []string{userName}, Realm: r.name},
		Service:    krb5.Principal{Name: t.SName.NameString, Realm: r.name},
		SessionKey: session,
		EndTime:    end,
		Raw:        raw,
	}, nil
}

func wire(k krb5.Key) types.EncryptionKey {
	return types.EncryptionKey{KeyType: int32(k.Etype), KeyValue: k.Value}
}
