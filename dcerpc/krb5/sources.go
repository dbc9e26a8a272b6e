package krb5

import (
	"context"
	"fmt"
	"net"
	"time"
)

// NewInitiatorWithPassword returns an Initiator that logs in with a password when it needs a
// ticket. Principal is in the form "backup@EXAMPLE.COM"; without a realm it is in the default_realm
// of krb5.conf.
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

// NewInitiatorWithKeytab returns an Initiator that logs in with the principal's keys in a keytab.
// An empty principal means the keytab's first.
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

// NewInitiatorFromCCache returns an Initiator with the tickets of a credential cache, such as kinit
// writes:
//
//   - a file, with "FILE:" before its path or nothing
//   - the first of the caches in a directory, "DIR:/path", or one of them, "DIR::/path/tkt1"
//   - one that the Kerberos cache manager keeps (sssd-kcm, Heimdal's kcm): "KCM:", the user's
//     default one, or "KCM:name"; its socket is kcm_socket of the krb5.conf, or
//     "/var/run/.heim_org.h5l.kcm-socket"
//   - one in a keyring of Linux's, "KEYRING:persistent:1000", "KEYRING:session:name" and the like
//
// The cache is read again whenever a ticket is needed, so that tickets that another program has
// renewed are used. Nothing is written to it. If the cache cannot be read any more or now belongs
// to another client, a ticket-granting ticket that was read before is used until it ends.
// [Initiator.KeepRenewed] renews it.
func NewInitiatorFromCCache(name string, cfg *InitiatorConfig) (*Initiator, error) {
	s, err := newKDCSource(cfg)
	if err != nil {
		return nil, err
	}
	c, err := readCCache(context.Background(), name, s.kcmSocket)
	if err != nil {
		return nil, err
	}
	s.ccache, s.client = name, c.client
	return NewInitiator(s, cfg), nil
}

func newKDCSource(cfg *InitiatorConfig) (*kdcSource, error) {
	if cfg == nil {
		cfg = &InitiatorConfig{}
	}
	s := &kdcSource{
		dialer: kdcDialer{cfg: cfg.Config, timeout: cfg.KDCTimeout, dial: cfg.Dial, resolver: cfg.Resolver},
		etypes: cfg.etypes(),
		life:   cfg.TicketLife,
		turn:   make(chan struct{}, 1),
		tgts:   make(map[string]*Ticket),

		kcmSocket: defaultKCMSocket,
	}
	if s.dialer.timeout == 0 {
		s.dialer.timeout = 5 * time.Second
	}
	if s.dialer.dial == nil {
		s.dialer.dial = (&net.Dialer{}).DialContext
	}
	if s.dialer.resolver == nil {
		s.dialer.resolver = net.DefaultResolver
	}
	if s.dialer.cfg == nil {
		conf, err := readKrb5Conf(cfg.Krb5Conf)
		if err != nil {
			return nil, err
		}
		if s.dialer.cfg, err = conf.config(); err != nil {
			return nil, err
		}
		s.kcmSocket = conf.kcmSocket()
	}
	return s, nil
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
		return p, fmt.Errorf("krb5: %w: which realm is %s of? Write it after an @, or set default_realm in krb5.conf",
			ErrConfig, name)
	}
	return p, nil
}
