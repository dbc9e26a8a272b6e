package samba

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// Config is what New needs to know. Nil means that every field is zero.
type Config struct {
	// SmbConf is the path of smb.conf. Empty: Samba's own.
	SmbConf string
	// Programs is the directory of net, testparm, sharesec, smbcontrol and smbstatus. Empty: they are found
	// in PATH.
	Programs string
	// CommandTimeout bounds every run of one of them. Zero: 30 s.
	CommandTimeout time.Duration
	// DisconnectWait bounds how long Unexpose and SealShare wait for smbd to have disconnected who uses
	// the share. Zero: 10 s.
	DisconnectWait time.Duration
	// Logger gets a line for every command, at debug level. Nil: nothing is logged.
	Logger *slog.Logger
}

// Shares is the backend. It implements agent.Shares, ShareNamer, ShareSealer and ShareLister. All methods may
// be called by several goroutines at once.
type Shares struct {
}

var _ interface {
	agent.Shares
	agent.ShareNamer
	agent.ShareSealer
	agent.ShareLister
} = (*Shares)(nil)

var errUnfinished = errors.New("samba: not written yet")

// New returns the backend.
func New(ctx context.Context, cfg *Config) (*Shares, error) { return nil, errUnfinished }

func (s *Shares) Lookup(ctx context.Context, name string) (agent.Share, error) {
	return agent.Share{}, errUnfinished
}
func (s *Shares) Expose(ctx context.Context, e agent.Exposure) error    { return errUnfinished }
func (s *Shares) Unexpose(ctx context.Context, name string) error       { return errUnfinished }
func (s *Shares) SealShare(ctx context.Context, e agent.Exposure) error { return errUnfinished }
func (s *Shares) List(ctx context.Context) ([]string, error)            { return nil, errUnfinished }
func (s *Shares) CheckName(name string) error                           { return errUnfinished }
