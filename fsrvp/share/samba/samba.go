package samba

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// Config is what New needs to know. Nil means that every field is zero.
type Config struct {
	// SmbConf is the path of smb.conf, the one that smbd uses. Empty: Samba's own.
	SmbConf string
	// Programs is the directory of net, testparm, sharesec, smbcontrol and smbstatus. Empty: they are found
	// in PATH.
	Programs string
	// CommandTimeout bounds every run of one of them. Zero: 30 s.
	CommandTimeout time.Duration
	// DisconnectWait bounds how long Unexpose and SealShare wait until smbd has disconnected all who use
	// the share. Zero: 10 s.
	DisconnectWait time.Duration
	// Clustered says that all nodes of Samba's cluster share the agent's state. False: New fails where smb.conf has
	// "clustering = yes", since a client that comes to another node would not find its set there.
	Clustered bool
	// Logger gets a line for every command, at debug level, and warnings. Nil: nothing is logged.
	Logger *slog.Logger
}

// Shares is the backend. It implements backend.Shares, ShareNamer, ShareSealer and ShareLister. All methods may
// be called by several goroutines at once; those that change something wait for each other.
type Shares struct {
	tools          *tools
	log            *slog.Logger
	disconnectWait time.Duration
	changing       chan struct{} // a mutex: full while somebody changes the registry
	seen           atomic.Pointer[seenConf]
}

var _ interface {
	backend.Shares
	backend.ShareNamer
	backend.ShareSealer
	backend.ShareLister
} = (*Shares)(nil)

// New finds Samba's programs and checks that shares can come from the registry, and that it can be read. Its context
// bounds that alone. It fails on a machine without Samba, also on systems that have none.
func New(ctx context.Context, cfg *Config) (*Shares, error) {
	if cfg == nil {
		cfg = &Config{}
	}
	s := &Shares{
		log:            cfg.Logger,
		disconnectWait: cfg.DisconnectWait,
		changing:       make(chan struct{}, 1),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.disconnectWait <= 0 {
		s.disconnectWait = 10 * time.Second
	}
	var err error
	if s.tools, err = newTools(cfg, s.log, "net", "testparm", "sharesec", "smbcontrol", "smbstatus"); err != nil {
		return nil, err
	}
	c, err := s.conf(ctx)
	if err != nil {
		return nil, err
	}
	if c.clustered() && !cfg.Clustered {
		return nil, ErrClustered
	}
	if !c.yes(&c.global, "registry shares", false) {
		return nil, errors.New(`samba: smbd would not see exposed shares: smb.conf needs "registry shares = yes" in its [global] section`)
	}
	if _, err := s.tools.run(ctx, "net", "conf", "listshares"); err != nil {
		return nil, fmt.Errorf("samba: the registry cannot be read: %w", err)
	}
	return s, nil
}

// ErrClustered is what New fails with on a node of a cluster, unless Config.Clustered is set.
var ErrClustered = errors.New(`samba: smb.conf has "clustering = yes": the shares and the registry are those of all nodes of the cluster, ` +
	`but the state of this agent is this node's alone, so a client that comes to another node loses its shadow copies. ` +
	`Run the agent on a server that is not clustered, or with a state that all nodes share`)

// Clustered reports whether this machine's Samba is a node of a cluster, by CTDB. It needs testparm alone of Samba's programs, and fails where
// that cannot read the configuration.
func Clustered(ctx context.Context, cfg *Config) (bool, error) {
	if cfg == nil {
		cfg = &Config{}
	}
	t, err := newTools(cfg, slog.New(slog.DiscardHandler), "testparm")
	if err != nil {
		return false, err
	}
	c, err := t.conf(ctx)
	return err == nil && c.clustered(), err
}

// conf asks testparm for all shares.
func (s *Shares) conf(ctx context.Context) (*conf, error) { return s.tools.conf(ctx) }

// conf asks testparm for all shares.
func (t *tools) conf(ctx context.Context) (*conf, error) {
	out, err := t.run(ctx, "testparm", "--suppress-prompt", "--skip-logic-checks")
	if err != nil {
		return nil, err
	}
	return parseConf(out)
}

// lock waits until nobody else changes the registry.
func (s *Shares) lock(ctx context.Context) error {
	select {
	case s.changing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("samba: %w", context.Cause(ctx))
	}
}

func (s *Shares) unlock() { <-s.changing }
