package capture

import (
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
)

// Config says how to decode. Nil means the defaults.
type Config struct {
	// Keytab holds the keys of the servers' services (host/, cifs/). With none of Keytab, Tickets
	// and NTHashes nothing encrypted is read, and no signature is checked.
	Keytab *krb5.Keytab
	// Tickets are those that clients had, with their session keys: what a credential cache holds
	// ([krb5.LoadTickets]). One that a client presented serves as the keytab does.
	Tickets []*krb5.Ticket
	// NTHashes returns the NT hashes that an account of NTLM may have: [ntlm.NTHash] of its
	// password, or those of an [ntlm.HashFile]. Domain and user are as the client wrote them. All
	// are tried, and wrong ones do no harm. It may be called for every log-on. Nil means none.
	NTHashes func(domain, user string) [][16]byte
	// Summary, where not nil, is added to while the calls are yielded.
	Summary *Summary
	// FlowTimeout is the time, by the capture's clock, after which a silent TCP connection is
	// forgotten. Zero means 1 hour: a server may take half of it to answer.
	FlowTimeout time.Duration
	// MaxConnections is the number of TCP connections that are followed at a time. Zero means 16384.
	// When it is reached, those that were silent for a minute are forgotten, and if that does not help
	// new ones are passed over.
	MaxConnections int
	// MaxBuffered is the number of bytes of unfinished messages and calls that are kept at a time,
	// and as many again of TCP segments that wait for others. Zero means 64 MiB. What does not fit
	// is given up with ErrLimit.
	MaxBuffered int
	// MaxMessage is the number of bytes of one SMB message that are looked at. Zero means 256 KiB.
	MaxMessage int
	// MaxStub is the number of bytes of the stub of one request or response. Zero means 1 MiB.
	MaxStub int
}

// withDefaults returns the configuration without zeros.
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

// tokenCost is what the messages of an NTLM exchange take up until it is over.
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
