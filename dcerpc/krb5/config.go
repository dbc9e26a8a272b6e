package krb5

import (
	"context"
	"net"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
)

// An InitiatorConfig says how an Initiator gets its tickets. Nil means the defaults.
type InitiatorConfig struct {
	// Krb5Conf is the path of the configuration of realms and KDCs, or several ones with the
	// separator of the system's lists between them; the first that says something of a matter
	// counts. What they include is read too. Empty means "/etc/krb5.conf", which need not exist:
	// without a word on a realm its KDCs are those that the DNS has, unless dns_lookup_kdc is
	// false.
	Krb5Conf string
	// Config is used instead of a file where it is not nil. It must not change.
	Config *config.Config
	// Etypes are the encryption types to ask for, the best first. Nil means AES with SHA-1, then
	// with SHA-2. The lists of the krb5.conf are not used.
	Etypes []Etype
	// InsecureRC4 allows RC4-HMAC besides, for domains that know nothing better.
	InsecureRC4 bool
	// TicketLife is how long tickets for services last at most, from when they are asked for; the
	// KDC may give less. Zero means as long as the ticket-granting ticket. What a cache has already
	// is taken as it is.
	TicketLife time.Duration
	// KDCTimeout bounds the wait for one KDC, before the next one is asked. Zero means 5 seconds.
	KDCTimeout time.Duration
	// Resolver finds KDCs in the DNS. Nil means net.DefaultResolver.
	Resolver *net.Resolver
	// Dial connects to a KDC. Nil means a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (cfg *InitiatorConfig) etypes() []Etype {
	if cfg == nil {
		return defaultEtypes()
	}
	return allowedEtypes(cfg.Etypes, cfg.InsecureRC4)
}
