package krb5

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/krberror"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// NewInitiatorWithPassword returns an Initiator that logs in with a password when it needs a ticket. Principal is
// "backup@EXAMPLE.COM"; without a realm it is of the krb5.conf's default_realm.
func NewInitiatorWithPassword(principal, password string, cfg *InitiatorConfig) (*Initiator, error) {
	s, err := newKDCSource(cfg)
	if err != nil {
		return nil, err
	}
	if s.client, err = s.clientPrincipal(principal); err != nil {
		return nil, err
	}
	s.credential = &passwordCredential{s.client, password}
	return NewInitiator(s, cfg), nil
}

// NewInitiatorWithKeytab returns an Initiator that logs in with the principal's keys in a keytab. An empty principal
// means the keytab's first.
func NewInitiatorWithKeytab(principal string, kt *Keytab, cfg *InitiatorConfig) (*Initiator, error) {
	s, err := newKDCSource(cfg)
	if err != nil {
		return nil, err
	}
	if names := kt.Principals(); principal == "" && len(names) > 0 {
		principal = names[0].String()
	}
	if s.client, err = s.clientPrincipal(principal); err != nil {
		return nil, err
	}
	keys := kt.clientKeys(s.client)
	if len(keys) == 0 {
		return nil, fmt.Errorf("krb5: %w: %v; it holds keys of: %s", ErrNoKey, s.client, kt.describe())
	}
	s.credential = &clientKeytab{s.client, keys}
	return NewInitiator(s, cfg), nil
}

// NewInitiatorFromCCache returns an Initiator with the tickets of a credential cache file, as kinit leaves it ("FILE:" before
// the path is allowed). The file is read once more whenever a ticket is needed; nothing is written to it.
func NewInitiatorFromCCache(path string, cfg *InitiatorConfig) (*Initiator, error) {
	s, err := newKDCSource(cfg)
	if err != nil {
		return nil, err
	}
	c, err := loadCCacheFile(path)
	if err != nil {
		return nil, err
	}
	s.ccache, s.client = path, c.client
	return NewInitiator(s, cfg), nil
}

// NewInitiatorFromClient returns an Initiator that gets its tickets from a gokrb5 client; Etypes and InsecureRC4 of the
// configuration say which are taken. The client knows no context: Step returns when ctx ends, but what the client has
// begun goes on by itself for up to 10 seconds per KDC, and the next Step waits for it. Its
// Destroy is its owner's.
func NewInitiatorFromClient(cl *client.Client, cfg *InitiatorConfig) *Initiator {
	return NewInitiator(&clientSource{cl: cl, turn: make(chan struct{}, 1)}, cfg)
}

func newKDCSource(cfg *InitiatorConfig) (*kdcSource, error) {
	if cfg == nil {
		cfg = &InitiatorConfig{}
	}
	s := &kdcSource{
		dialer: kdcDialer{cfg: cfg.Config, timeout: cfg.KDCTimeout, dial: cfg.Dial},
		etypes: cfg.etypes(),
		turn:   make(chan struct{}, 1),
		tgts:   make(map[string]*Ticket),
	}
	if s.dialer.timeout == 0 {
		s.dialer.timeout = 5 * time.Second
	}
	if s.dialer.dial == nil {
		s.dialer.dial = (&net.Dialer{}).DialContext
	}
	if s.dialer.cfg == nil {
		path := cfg.Krb5Conf
		if path == "" {
			path = "/etc/krb5.conf"
		}
		var err error
		if s.dialer.cfg, err = loadKrb5Conf(path); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// loadKrb5Conf reads a configuration. gokrb5 panics at some lines that are none.
func loadKrb5Conf(path string) (c *config.Config, err error) {
	defer func() {
		if p := recover(); p != nil {
			c, err = nil, fmt.Errorf("krb5: %w: %s is malformed (%v)", ErrConfig, path, p)
		}
	}()
	c, err = config.Load(path)
	var unsupported config.UnsupportedDirective
	if err != nil && !errors.As(err, &unsupported) {
		return nil, fmt.Errorf("krb5: %w: %s: %w", ErrConfig, path, err)
	}
	return c, nil
}

// clientPrincipal reads a client's name and gives it a realm.
func (s *kdcSource) clientPrincipal(name string) (Principal, error) {
	p, err := ParsePrincipal(name)
	if err != nil {
		return p, err
	}
	if p.Realm == "" {
		p.Realm = s.dialer.cfg.LibDefaults.DefaultRealm
	}
	if p.Realm == "" {
		return p, fmt.Errorf("krb5: %w: which realm is %s of? Write it after an @, or set default_realm in krb5.conf", ErrConfig, name)
	}
	return p, nil
}

// A clientSource is a gokrb5 client. Its methods race with themselves, so one at a time is used.
type clientSource struct {
	cl   *client.Client
	turn chan struct{}
}

// Ticket implements TicketSource.
func (s *clientSource) Ticket(ctx context.Context, target string) (*Ticket, error) {
	who := Principal{s.cl.Credentials.CName().NameString, s.cl.Credentials.Domain()}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("krb5: %w: a ticket for %s: %w", ErrUnreachable, target, ctx.Err())
	}
	type result struct {
		ticket messages.Ticket
		key    types.EncryptionKey
		err    error
	}
	got := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil { // gokrb5 trusts the shape of what a KDC sends
				r.err = fmt.Errorf("krb5: %w: gokrb5: %v", ErrToken, p)
			}
			<-s.turn
			got <- r
		}()
		r.ticket, r.key, r.err = s.cl.GetServiceTicket(target)
	}()
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("krb5: %w: a ticket for %s: %w", ErrUnreachable, target, ctx.Err())
	case r := <-got:
		if r.err != nil {
			return nil, explainClient(r.err, who, target)
		}
		raw, err := r.ticket.Marshal()
		if err != nil {
			return nil, fmt.Errorf("krb5: %w: ticket: %w", ErrToken, err)
		}
		return &Ticket{
			Client:     who,
			Service:    Principal{r.ticket.SName.NameString, r.ticket.Realm},
			SessionKey: Key{Etype(r.key.KeyType), r.key.KeyValue},
			Raw:        raw,
		}, nil
	}
}

// explainClient tells the errors of gokrb5's client apart.
func explainClient(err error, who Principal, target string) error {
	if _, ok := kdcErrorCode(err); ok {
		return explainKDC(err, who, target)
	}
	var k krberror.Krberror
	text := err.Error()
	switch {
	case errors.As(err, &k) && k.RootCause == krberror.NetworkingError:
		return fmt.Errorf("krb5: %w: for %v; see [realms] in krb5.conf, and whether port 88 is open: %w", ErrUnreachable, who, err)
	case strings.Contains(text, "no valid existing session"):
		return fmt.Errorf("krb5: %w: that of %v; run kinit: %w", ErrExpired, who, err)
	case strings.Contains(text, "password/keytab incorrect"):
		return fmt.Errorf("krb5: %w for %v: %w", ErrPassword, who, err)
	case strings.Contains(text, "clock skew"):
		return fmt.Errorf("krb5: %w: this host's and the KDC's of %v: %w", ErrSkew, who, err)
	case strings.Contains(text, "not found in keytab"):
		return fmt.Errorf("krb5: %w: of %v: %w", ErrNoKey, who, err)
	}
	return fmt.Errorf("krb5: a ticket of %v for %s: %w", who, target, err)
}
