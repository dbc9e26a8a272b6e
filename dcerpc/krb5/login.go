package krb5

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// login gets a ticket-granting ticket with a password or a key (RFC 4120 section 3.1): first
// without a proof, which tells how the key is made, then, where the KDC wants it, with an encrypted
// time stamp.
func (s *kdcSource) login(ctx context.Context) (*Ticket, error) {
	realm := s.client.Realm
	etypes := s.credential.etypes(s.etypes)
	if len(etypes) == 0 {
		return nil, fmt.Errorf("krb5: %w: %v has none of %v in its keytab; export it again, or allow the types that it has",
			ErrNoKey, s.client, s.etypes)
	}
	req, err := messages.NewASReqForTGT(realm, s.dialer.cfg, s.client.wire())
	if err != nil {
		return nil, fmt.Errorf("krb5: AS-REQ: %w", err)
	}
	req.PAData = nil
	req.ReqBody.EType = etypeNumbers(etypes)

	rep, err := s.exchangeAS(ctx, realm, &req)
	var hints keyHints
	var e messages.KRBError
	if errors.As(err, &e) && e.ErrorCode == errorcode.KDC_ERR_PREAUTH_REQUIRED {
		if hints, err = parseKeyHints(e.EData); err == nil {
			rep, err = s.exchangeProof(ctx, realm, &req, hints)
		}
	}
	if err != nil {
		return nil, explainKDC(err, s.client, "")
	}

	// The reply may say how its own key is made.
	for _, pa := range rep.PAData {
		if pa.PADataType == patype.PA_ETYPE_INFO2 {
			if hints, err = parseETypeInfo2(pa.PADataValue); err != nil {
				return nil, err
			}
		}
	}
	etype := Etype(rep.EncPart.EType)
	if err := checkEtype(etype, etypes); err != nil {
		return nil, fmt.Errorf("%w: the KDC's answer to %v", err, s.client)
	}
	key, err := s.credential.key(hints.choose([]Etype{etype}))
	if err != nil {
		return nil, err
	}
	plain, err := decrypt(rep.EncPart, key.wire(), keyusage.AS_REP_ENCPART)
	if err != nil {
		return nil, fmt.Errorf("krb5: %w for %v: the KDC's answer cannot be read with it; give the present password, or a keytab exported since it was set: %w",
			ErrPassword, s.client, err)
	}
	return s.received(&rep.KDCRepFields, plain, req.ReqBody.Nonce)
}

func (s *kdcSource) exchangeAS(ctx context.Context, realm string, req *messages.ASReq) (*messages.ASRep, error) {
	b, err := req.Marshal()
	if err != nil {
		return nil, fmt.Errorf("krb5: AS-REQ: %w", err)
	}
	if b, err = s.dialer.ask(ctx, realm, b); err != nil {
		return nil, err
	}
	var rep messages.ASRep
	if err := rep.Unmarshal(b); err != nil {
		return nil, fmt.Errorf("krb5: %w: AS-REP of realm %s: %w", ErrToken, realm, err)
	}
	return &rep, nil
}

// exchangeProof asks again, with an encrypted time stamp.
func (s *kdcSource) exchangeProof(ctx context.Context, realm string, req *messages.ASReq,
	hints keyHints) (*messages.ASRep, error) {
	etypes := s.credential.etypes(s.etypes)
	// A KDC that knows a key of a type with a salt says so (RFC 4120 section 3.1.3).
	if !hints.haveAny(etypes) {
		return nil, fmt.Errorf("krb5: %w: the KDC has no key of %v for its login of those asked for, %v; set the account's encryption types",
			ErrEtype, s.client, etypes)
	}
	key, err := s.credential.key(hints.choose(etypes))
	if err != nil {
		return nil, err
	}
	stamp, err := encryptedTimestamp(key)
	if err != nil {
		return nil, err
	}
	req.PAData = types.PADataSequence{stamp}
	return s.exchangeAS(ctx, realm, req)
}

// received turns a reply, whose encrypted part is plain, into a Ticket.
func (s *kdcSource) received(rep *messages.KDCRepFields, plain []byte, nonce int) (*Ticket, error) {
	var part messages.EncKDCRepPart
	if err := part.Unmarshal(plain); err != nil {
		return nil, fmt.Errorf("krb5: %w: KDC's answer: %w", ErrToken, err)
	}
	if part.Nonce != nonce {
		return nil, fmt.Errorf("krb5: %w: the KDC answered another request", ErrToken)
	}
	if err := checkKey(part.Key, s.etypes); err != nil {
		return nil, fmt.Errorf("%w: the session key for %v", err, s.client)
	}
	now := time.Now()
	t := &Ticket{
		Client:     Principal{rep.CName.NameString, rep.CRealm},
		Service:    Principal{part.SName.NameString, part.SRealm},
		SessionKey: Key{Etype(part.Key.KeyType), part.Key.KeyValue},
		EndTime:    part.EndTime,
	}
	if types.IsFlagSet(&part.Flags, flags.Renewable) {
		t.RenewTill = part.RenewTill
	}
	start := part.StartTime
	if start.IsZero() {
		start = part.AuthTime
	}
	if skew := s.dialer.cfg.LibDefaults.Clockskew; start.Sub(now) > skew {
		return nil, fmt.Errorf("krb5: %w: by %v with the KDC of %v, more than %v; set the clock of this host",
			ErrSkew, start.Sub(now).Round(time.Second), s.client, skew)
	}
	var err error
	if t.Raw, err = rep.Ticket.Marshal(); err != nil {
		return nil, fmt.Errorf("krb5: %w: ticket: %w", ErrToken, err)
	}
	if len(t.Client.Name) == 0 || len(t.Service.Name) == 0 {
		return nil, fmt.Errorf("krb5: %w: the KDC's ticket is of nobody, or for nobody", ErrToken)
	}
	return t, nil
}

// keyHints are a KDC's ETYPE-INFO2: the salts and parameters of a client's keys, in the KDC's
// order.
type keyHints types.ETypeInfo2

// parseKeyHints reads them from the METHOD-DATA of KDC_ERR_PREAUTH_REQUIRED (RFC 4120 section
// 5.2.7.5). Without any the types' defaults hold.
func parseKeyHints(methodData []byte) (keyHints, error) {
	var data types.PADataSequence
	if err := data.Unmarshal(methodData); err != nil {
		return nil, fmt.Errorf("krb5: %w: METHOD-DATA: %w", ErrToken, err)
	}
	for _, pa := range data {
		if pa.PADataType == patype.PA_ETYPE_INFO2 {
			return parseETypeInfo2(pa.PADataValue)
		}
	}
	return nil, nil
}

func parseETypeInfo2(b []byte) (keyHints, error) {
	var info types.ETypeInfo2
	if err := info.Unmarshal(b); err != nil {
		return nil, fmt.Errorf("krb5: %w: ETYPE-INFO2: %w", ErrToken, err)
	}
	return keyHints(info), nil
}

func (h keyHints) haveAny(list []Etype) bool {
	return slices.ContainsFunc(h, func(x types.ETypeInfo2Entry) bool { return slices.Contains(list, Etype(x.EType)) })
}

// choose returns the KDC's first type that is in the list, which is not empty, with its salt and
// parameters; or the list's first.
func (h keyHints) choose(list []Etype) (e Etype, salt string, params []byte) {
	for _, x := range h {
		if slices.Contains(list, Etype(x.EType)) {
			return Etype(x.EType), x.Salt, x.S2KParams
		}
	}
	return list[0], "", nil
}

// encryptedTimestamp is PA-ENC-TIMESTAMP (RFC 4120 section 5.2.7.2).
func encryptedTimestamp(key Key) (types.PAData, error) {
	var stamp types.PAEncTSEnc
	stamp.PATimestamp, stamp.PAUSec = kerberosTime(time.Now())
	plain, err := asn1.Marshal(stamp)
	if err != nil {
		return types.PAData{}, fmt.Errorf("krb5: time stamp: %w", err)
	}
	ed, err := encrypt(plain, key.wire(), keyusage.AS_REQ_PA_ENC_TIMESTAMP, 0)
	if err != nil {
		return types.PAData{}, fmt.Errorf("krb5: time stamp: %w", err)
	}
	b, err := ed.Marshal()
	if err != nil {
		return types.PAData{}, fmt.Errorf("krb5: time stamp: %w", err)
	}
	return types.PAData{PADataType: patype.PA_ENC_TIMESTAMP, PADataValue: b}, nil
}

func etypeNumbers(list []Etype) []int32 {
	out := make([]int32, len(list))
	for i, e := range list {
		out[i] = int32(e)
	}
	return out
}
