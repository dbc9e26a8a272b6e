package krb5

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// A kdcSource gets tickets from KDCs for one client. It keeps ticket-granting tickets until they
// end, but asks for a new service ticket every time. That costs one round trip, but contexts do not
// fail for hours after the service has got a new key. It asks for one ticket at a time.
type kdcSource struct {
	dialer     kdcDialer
	client     Principal
	etypes     []Etype
	life       time.Duration // of tickets for services; 0: as long as can be
	credential credential    // nil if a cache has the ticket-granting ticket
	ccache     string        // its name
	kcmSocket  string        // of the cache manager

	turn chan struct{}      // has room for one, whose turn it is to use tgts
	tgts map[string]*Ticket // ticket-granting tickets by realm
	// renewAt is the time at which to renew renewing, a ticket-granting ticket of the home realm.
	renewing *Ticket
	renewAt  time.Time
	// unrenewed is the reason why it could not be renewed; nil if it was.
	unrenewed error
	// refused is the KDC's error for the credential, and refusedAt its time.
	refused   error
	refusedAt time.Time
}

// refusal is how long a credential that the KDC has refused is not sent again, so that a caller who
// asks for many tickets does not get the account locked.
const refusal = time.Minute

// spare is how long a ticket must still last to be used again, if a new one can be obtained.
const spare = time.Minute

func (t *Ticket) lasts(d time.Duration) bool { return t != nil && time.Until(t.EndTime) > d }

// Ticket implements TicketSource.
func (s *kdcSource) Ticket(ctx context.Context, target string) (*Ticket, error) {
	service, err := ParsePrincipal(target)
	if err != nil {
		return nil, err
	}
	if err := s.lock(ctx); err != nil {
		return nil, fmt.Errorf("krb5: %w: a ticket for %s: %w", ErrUnreachable, target, err)
	}
	defer s.unlock()
	if s.ccache != "" {
		t, err := s.cached(ctx, service)
		if err != nil {
			return nil, err
		}
		if t != nil {
			return t, nil
		}
	}
	realm := service.Realm
	if realm == "" {
		realm = s.dialer.cfg.ResolveRealm(strings.ToLower(service.Name[len(service.Name)-1]))
	}
	if realm == "" {
		realm = s.client.Realm
	}
	tgt, err := s.tgt(ctx, realm)
	if err != nil {
		return nil, err
	}
	return s.grant(ctx, tgt, realm, Principal{Name: service.Name})
}

// lock waits until it is the caller's turn.
func (s *kdcSource) lock(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *kdcSource) unlock() { <-s.turn }

// tgt returns a ticket-granting ticket of a realm: the client's own realm, or a neighbour for which
// its KDC gives one.
func (s *kdcSource) tgt(ctx context.Context, realm string) (*Ticket, error) {
	home := s.tgts[s.client.Realm]
	switch {
	case home.lasts(spare):
	case s.credential != nil:
		if s.refused != nil && time.Since(s.refusedAt) < refusal {
			return nil, fmt.Errorf("%w (not tried again for %v)", s.refused, refusal)
		}
		t, err := s.login(ctx)
		if errors.Is(err, ErrPassword) || errors.Is(err, ErrClientRevoked) {
			s.refused, s.refusedAt = err, time.Now()
		}
		if err != nil {
			return nil, err
		}
		s.refused = nil
		s.setHome(t)
		home = t
	case home == nil:
		return nil, fmt.Errorf("krb5: %w: the credential cache %s of %v has no ticket-granting ticket; run kinit",
			ErrExpired, s.ccache, s.client)
	case !home.lasts(0):
		err := fmt.Errorf("krb5: %w: that of %v in %s ended at %v; run kinit", ErrExpired, s.client, s.ccache, home.EndTime)
		if s.unrenewed != nil {
			err = fmt.Errorf("%w; it was not renewed: %w", err, s.unrenewed)
		}
		return nil, err
	}
	if realm == s.client.Realm {
		return home, nil
	}
	if t := s.tgts[realm]; t.lasts(spare) {
		return t, nil
	}
	t, err := s.grant(ctx, home, s.client.Realm, Principal{Name: []string{"krbtgt", realm}})
	if err != nil {
		return nil, err
	}
	s.tgts[realm] = t
	return t, nil
}

// grant gets a ticket for a service of a realm with that realm's ticket-granting ticket (RFC 4120
// section 3.3). It follows the KDC's referrals to other realms (RFC 6806 section 8).
func (s *kdcSource) grant(ctx context.Context, tgt *Ticket, realm string, service Principal) (*Ticket, error) {
	const maxReferrals = 8
	for range maxReferrals {
		t, err := s.exchangeTGS(ctx, tgt, realm, service, s.till(tgt, service), flags.Canonicalize)
		if err != nil {
			return nil, err
		}
		referred := len(t.Service.Name) == 2 && t.Service.Name[0] == "krbtgt" && service.Name[0] != "krbtgt"
		if !referred {
			return t, nil
		}
		tgt, realm = t, t.Service.Name[1]
	}
	return nil, fmt.Errorf("krb5: %w %v: %d realms referred to one another", ErrServiceUnknown, service, maxReferrals)
}

// renew gets a ticket-granting ticket of the home realm in place of one that has not ended (RFC
// 4120 section 3.3.3).
func (s *kdcSource) renew(ctx context.Context, tgt *Ticket) (*Ticket, error) {
	return s.exchangeTGS(ctx, tgt, s.client.Realm, tgt.Service, tgt.RenewTill, flags.Renew, flags.Renewable)
}

// till returns the end time to ask for in a ticket for a service.
func (s *kdcSource) till(tgt *Ticket, service Principal) time.Time {
	if end := time.Now().Add(s.life); s.life > 0 && service.Name[0] != "krbtgt" && end.Before(tgt.EndTime) {
		return end
	}
	return tgt.EndTime
}

// exchangeTGS asks the KDC of a realm once.
func (s *kdcSource) exchangeTGS(ctx context.Context, tgt *Ticket, realm string, service Principal, till time.Time,
	options ...int) (*Ticket, error) {
	req, err := s.tgsReq(tgt, realm, service, till, options...)
	if err != nil {
		return nil, err
	}
	b, err := req.Marshal()
	if err != nil {
		return nil, fmt.Errorf("krb5: TGS-REQ: %w", err)
	}
	if b, err = s.dialer.ask(ctx, realm, b); err != nil {
		return nil, explainKDC(err, s.client, Principal{service.Name, realm}.String())
	}
	var rep messages.TGSRep
	if err := rep.Unmarshal(b); err != nil {
		return nil, fmt.Errorf("krb5: %w: TGS-REP of realm %s: %w", ErrToken, realm, err)
	}
	plain, err := decrypt(rep.EncPart, tgt.SessionKey.wire(), keyusage.TGS_REP_ENCPART_SESSION_KEY)
	if err != nil {
		return nil, fmt.Errorf("krb5: %w: TGS-REP of realm %s: %w", ErrToken, realm, err)
	}
	return s.received(&rep.KDCRepFields, plain, req.ReqBody.Nonce)
}

// tgsReq makes the request. gokrb5's own function names the wrong realm for a client of another
// realm.
func (s *kdcSource) tgsReq(tgt *Ticket, realm string, service Principal, till time.Time,
	options ...int) (*messages.TGSReq, error) {
	var nonce [4]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, fmt.Errorf("krb5: TGS-REQ: %w", err)
	}
	req := &messages.TGSReq{KDCReqFields: messages.KDCReqFields{
		PVNO:    iana.PVNO,
		MsgType: msgtype.KRB_TGS_REQ,
		ReqBody: messages.KDCReqBody{
			KDCOptions: types.NewKrbFlags(),
			Realm:      realm,
			SName:      service.wire(),
			Till:       till.UTC(),
			Nonce:      int(binary.BigEndian.Uint32(nonce[:]) & 0x7FFFFFFF),
			EType:      etypeNumbers(s.etypes),
		},
	}}
	for _, o := range options {
		types.SetFlag(&req.ReqBody.KDCOptions, o)
	}
	body, err := req.ReqBody.Marshal()
	if err != nil {
		return nil, fmt.Errorf("krb5: TGS-REQ: %w", err)
	}
	key := tgt.SessionKey.wire()
	et, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		return nil, fmt.Errorf("krb5: TGS-REQ: %w", err)
	}
	sum, err := et.GetChecksumHash(key.KeyValue, body, keyusage.TGS_REQ_PA_TGS_REQ_AP_REQ_AUTHENTICATOR_CHKSUM)
	if err != nil {
		return nil, fmt.Errorf("krb5: TGS-REQ: %w", err)
	}
	auth := types.Authenticator{
		AVNO:   iana.PVNO,
		CRealm: tgt.Client.Realm,
		CName:  tgt.Client.wire(),
		Cksum:  types.Checksum{CksumType: et.GetHashID(), Checksum: sum},
	}
	auth.CTime, auth.Cusec = kerberosTime(time.Now())
	ap, err := marshalAPReq(tgt.Raw, key, auth, keyusage.TGS_REQ_PA_TGS_REQ_AP_REQ_AUTHENTICATOR)
	if err != nil {
		return nil, err
	}
	req.PAData = types.PADataSequence{{PADataType: patype.PA_TGS_REQ, PADataValue: ap}}
	return req, nil
}
