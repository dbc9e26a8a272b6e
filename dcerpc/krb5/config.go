package krb5

import (
	"context"
	"net"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
)

// An InitiatorConfig says how an Initiator gets its tickets. Nil means the defaults.
type InitiatorConfig struct {
	// Krb5Conf is the path of the file that configures realms and KDCs, or a list of paths with the
	// system's list separator between them; for each setting the first file that has it counts.
	// Files that these include are read too. Empty means "/etc/krb5.conf", which need not exist: if
	// no file configures a realm, the DNS is asked for its KDCs, unless dns_lookup_kdc is false.
	Krb5Conf string
	// Config, if not nil, is used instead of a file. It must not change.
	Config *config.Config
	// Etypes are the encryption types to ask for, the best first. Nil means AES with SHA-1, then
	// with SHA-2. The lists in krb5.conf are not used.
	Etypes []Etype
	// InsecureRC4 allows RC4-HMAC besides, for domains that know nothing better.
	InsecureRC4 bool
	// TicketLife is the maximum lifetime to ask for in tickets for services; the KDC may give less.
	// Zero means as long as the ticket-granting ticket lasts. Tickets that a cache already has are
	// used as they are.
	TicketLife time.Duration
	// KDCTimeout is how long to wait for one KDC before the next one is asked. Zero means 5
	// seconds.
	KDCTimeout time.Duration
	// Resolver finds KDCs in the DNS. Nil means [net.DefaultResolver].
	Resolver *net.Resolver
	// Dial connects to a KDC. Nil means a [net.Dialer].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (cfg *InitiatorConfig) etypes() []Etype {
	if cfg == nil {
		return defaultEtypes()
	}
	return allowedEtypes(cfg.Etypes, cfg.InsecureRC4)
}
