package capture

import (
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
)

// Config configures [Calls]. Nil means the defaults.
type Config struct {
	// Keytab holds the keys of the servers' services (host/, cifs/). Without Keytab, Tickets and
	// NTHashes, encrypted calls cannot be read, and signatures are not checked.
	Keytab *krb5.Keytab
	// Tickets are clients' tickets with their session keys, as in a credential cache
	// ([krb5.LoadTickets]). A ticket that a client presented can replace the keytab.
	Tickets []*krb5.Ticket
	// NTHashes returns the NT hashes that an NTLM account may have: [ntlm.NTHash] of its password,
	// or those of an [ntlm.HashFile]. It gets domain and user as the client sent them, and may be
	// called for every log-on. All hashes are tried; wrong ones do no harm. Nil means none.
	NTHashes func(domain, user string) [][16]byte
	// Summary, if not nil, gets the counts while the calls are yielded.
	Summary *Summary
	// FlowTimeout is the time, by the capture's clock, after which a silent TCP connection is
	// forgotten. Zero means 1 hour: a server may take half of it to answer.
	FlowTimeout time.Duration
	// MaxConnections is the number of TCP connections that are followed at a time. Zero means
	// 16384. When it is reached, connections that were silent for a minute are forgotten; if that
	// does not help, new ones are ignored.
	MaxConnections int
	// MaxBuffered is the number of bytes of unfinished messages and calls that are kept at a time;
	// the same number again is for TCP segments that wait for others. Zero means 64 MiB. Calls that
	// do not fit fail with [ErrLimit].
	MaxBuffered int
	// MaxMessage is the number of bytes of an SMB message that are decoded. Zero means 256 KiB.
	MaxMessage int
	// MaxStub is the largest stub of a request or response, in bytes. Zero means 1 MiB.
	MaxStub int
}

// withDefaults returns the configuration with its defaults set.
func (cfg *Config) withDefaults() Config {
	var c Config
	if cfg != nil {
		c = *cfg
	}
	if c.Summary == nil {
		c.Summary = new(Summary)
	}
	if c.FlowTimeout <= 0 {
		c.FlowTimeout = time.Hour
	}
	setDefault(&c.MaxConnections, 16384)
	setDefault(&c.MaxBuffered, 64<<20)
	setDefault(&c.MaxMessage, 256<<10)
	setDefault(&c.MaxStub, 1<<20)
	return c
}

// tokenCost returns the memory for the messages of an NTLM exchange.
func (cfg *Config) tokenCost() int {
	if cfg.NTHashes == nil {
		return 0
	}
	return 2 * ntlm.MaxTokenSize
}

func setDefault(v *int, n int) {
	if *v <= 0 {
		*v = n
	}
}
