package smb2

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/logs"
)

// A Config says how to reach servers and what to negotiate. Its fields must not be changed once it
// is used.
type Config struct {
	// Auth logs in. It is required. An initiator of SPNEGO is used as it is; a mechanism such as a
	// krb5.Initiator or ntlm.Initiator is offered through SPNEGO as the only one; tokens of any
	// other initiator are sent without SPNEGO. The target is "cifs/" and the server's name as it
	// was dialled: Kerberos needs the full DNS name.
	Auth dcerpc.Initiator
	// Encrypt requires SMB 3 encryption of everything; servers that do not support it are not used.
	// Without Encrypt, sessions and shares are encrypted if the server requires it, and otherwise
	// signed.
	Encrypt bool
	// Dialects are the dialects to offer. Nil means all, from SMB 2.1 to SMB 3.1.1.
	Dialects []Dialect
	// Ciphers are the ciphers to offer in dialect 3.1.1, the best first. Nil means AES-128-GCM,
	// AES-128-CCM, AES-256-GCM and AES-256-CCM.
	Ciphers []Cipher
	// Signing are the signing algorithms to offer in dialect 3.1.1, the best first. Nil means
	// AES-GMAC, AES-CMAC, HMAC-SHA256.
	Signing []SigningAlgorithm
	// Port is the TCP port. Empty means 445.
	Port string
	// Dial makes the TCP connections. Nil means the Dial method of a zero [net.Dialer].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// ConnectTimeout bounds the time to make a TCP connection. Zero means 30 s; with a negative
	// value only the context limits it.
	ConnectTimeout time.Duration
	// NegotiateTimeout bounds the negotiation of the dialect. Zero means 30 s, a negative value as
	// above.
	NegotiateTimeout time.Duration
	// LoginTimeout bounds the login, including the time to get tickets. Zero means 60 s, a negative
	// value as above.
	LoginTimeout time.Duration
	// AnswerTimeout is how long a server may take to answer a request, or to say that it is working
	// on it. A server that takes longer is considered dead, and the connection ends. Calls on a
	// pipe may take any time; while they wait, the client checks at this interval that the server
	// is alive (SMB2 ECHO). Zero means 60 s; a negative value means no limit.
	AnswerTimeout time.Duration
	// PendingTimeout is how long a server may work on a request after it has sent an interim
	// answer; for example, it may first have to read a file from a tape. Calls on a pipe may take
	// any time. Zero means 1,000 s; a negative value means no limit.
	PendingTimeout time.Duration
	// MaxCredits is how many credits, of 64 KiB each, the client asks for. It bounds the data in
	// flight. Zero means 512.
	MaxCredits int
	// Logger receives notable events, such as sessions that were logged in again. Nil means no log.
	Logger *slog.Logger
}

func (c *Config) dialects() []Dialect {
	if c.Dialects != nil {
		return c.Dialects
	}
	return []Dialect{SMB210, SMB300, SMB302, SMB311}
}

func (c *Config) ciphers() []Cipher {
	if c.Ciphers != nil {
		return c.Ciphers
	}
	return []Cipher{AES128GCM, AES128CCM, AES256GCM, AES256CCM}
}

func (c *Config) signing() []SigningAlgorithm {
	if c.Signing != nil {
		return c.Signing
	}
	return []SigningAlgorithm{AESGMAC, AESCMAC, HMACSHA256}
}

func (c *Config) maxCredits() int { return min(max(cmp.Or(c.MaxCredits, 512), 1), 8192) }

func (c *Config) answerTimeout() time.Duration { return cmp.Or(c.AnswerTimeout, 60*time.Second) }

func (c *Config) pendingTimeout() time.Duration { return cmp.Or(c.PendingTimeout, 1000*time.Second) }

func (c *Config) logger() *slog.Logger { return logs.OrDiscard(c.Logger) }

// withTimeout bounds ctx; zero means def, a negative value no limit.
func withTimeout(ctx context.Context, d, def time.Duration) (context.Context, context.CancelFunc) {
	if d = cmp.Or(d, def); d < 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}
