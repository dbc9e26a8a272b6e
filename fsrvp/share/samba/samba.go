package samba

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// Config configures New. Nil means that every field is zero.
type Config struct {
	// SmbConf is the path of the smb.conf that smbd uses. Empty means Samba's default.
	SmbConf string
	// Programs is the directory of net, testparm, sharesec, smbcontrol and smbstatus. Empty means
	// that they are found in PATH.
	Programs string
	// CommandTimeout bounds every run of one of them. Zero means 30 s.
	CommandTimeout time.Duration
	// DisconnectWait bounds how long Unexpose and SealShare wait until smbd has disconnected all
	// users of the share. Zero means 10 s.
	DisconnectWait time.Duration
	// Python is an interpreter that has python3-samba in the same release as the programs. Empty
	// means /usr/bin/python3 or, if Programs is set, none.
	Python string
	// ProgramsOnly forbids the helper: a Python process that uses python3-samba to change the
	// registry and end the use of shares without a program for each step. False means that New
	// starts one if it can.
	ProgramsOnly bool
	// HelperTimeout is how long to wait for each answer of the helper before programs do the work
	// again; for a removal of shares, which has two steps, it is twice as long. Zero means 5 s.
	HelperTimeout time.Duration
	restartDelay  time.Duration // of the helper, for tests; zero: firstDelay
	// Clustered says that all nodes of Samba's cluster share the agent's state. False means that
	// New fails if smb.conf has "clustering = yes", because a client that comes to another node
	// would not find its set there.
	Clustered bool
	// Logger receives a line for every command, at debug level, and warnings. Nil means no log.
	Logger *slog.Logger
}

// Shares is the backend. It implements backend.Shares, ShareNamer, ShareSealer, ShareLister,
// ShareBatcher and ServerNamer. All methods are safe for concurrent use; those that change
// something wait for each other.
type Shares struct {
	tools          *tools
	helper         *helper // nil: there is none
	closing        sync.Once
	log            *slog.Logger
	confPath       string // of smb.conf
	stateDir       string // of Samba, unless smb.conf names one; empty: not known
	disconnectWait time.Duration
	changing       chan struct{} // a mutex: full while somebody changes the registry
	seen           atomic.Pointer[view]
	descriptors    descriptors
}

var _ interface {
	backend.Shares
	backend.ShareNamer
	backend.ShareSealer
	backend.ShareLister
	backend.ShareBatcher
	backend.ServerNamer
} = (*Shares)(nil)

// New finds Samba's programs and checks that smb.conf enables shares from the registry and that the
// registry can be read. It starts the helper, unless the Config forbids it, and logs whether there
// is one; Close ends the helper. The context bounds only New itself. New fails on a machine without
// Samba.
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
	if s.helper, err = s.startHelper(ctx, cfg); err != nil {
		s.log.InfoContext(ctx, "samba: there is no helper, and a program is run for each change of the registry", "why",
			err)
	}
	if err := s.check(ctx, cfg); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// check returns an error if something prevents the backend from working.
func (s *Shares) check(ctx context.Context, cfg *Config) error {
	s.findState(ctx)
	v, err := s.look(ctx)
	if err != nil {
		return err
	}
	c := v.conf
	if c.clustered() && !cfg.Clustered {
		return ErrClustered
	}
	if !c.yes(&c.global, "registry shares", false) {
		return errors.New(`samba: smbd would not see exposed shares: smb.conf needs "registry shares = yes" in its [global] section`)
	}
	if _, err := s.tools.run(ctx, "net", "conf", "listshares"); err != nil {
		return fmt.Errorf("samba: the registry cannot be read: %w", err)
	}
	return nil
}

// startHelper starts the helper, or says why there is none.
func (s *Shares) startHelper(ctx context.Context, cfg *Config) (*helper, error) {
	python := cfg.Python
	switch {
	case cfg.ProgramsOnly:
		return nil, errors.New("Config.ProgramsOnly forbids it")
	case python == "" && cfg.Programs != "":
		return nil, errors.New("Config.Programs is set, and Config.Python is not")
	case python == "":
		python = "/usr/bin/python3"
	}
	path, err := exec.LookPath(python)
	if err != nil {
		return nil, err
	}
	timeout := cfg.HelperTimeout
	if timeout <= 0 {
		timeout = 5 * time.Second
	}
	h, err := newHelper(ctx, []string{path, "-I", "-c", loader, s.tools.smbConf}, timeout,
		cmp.Or(cfg.restartDelay, firstDelay), s.log)
	if err != nil {
		return nil, err
	}
	release, err := s.tools.run(ctx, "net", "--version")
	if err == nil && strings.TrimSpace(strings.TrimPrefix(release, "Version ")) != h.release {
		err = fmt.Errorf("python3-samba is of release %s, net of %s", h.release, strings.TrimSpace(release))
	}
	if err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// findState finds what stamps need: smb.conf, and Samba's state directory. Without them no answer
// of a program's is kept.
func (s *Shares) findState(ctx context.Context) {
	if s.confPath = s.tools.smbConf; s.helper != nil {
		s.confPath, s.stateDir = s.helper.conf, s.helper.stateDir
		return
	}
	const loads = "Load smb config files from "
	out, notes, err := s.tools.output(ctx, "testparm", "--suppress-prompt", "--parameter-name=state directory")
	if err != nil {
		return
	}
	for line := range strings.Lines(notes) {
		if path, ok := strings.CutPrefix(line, loads); ok && s.confPath == "" {
			s.confPath = strings.TrimSpace(path)
		}
	}
	if dir := strings.TrimSpace(out); filepath.IsAbs(dir) && !strings.Contains(dir, "\n") && s.confPath != "" {
		s.stateDir = dir
	}
}

// ErrClustered means that New was called on a node of a cluster without Config.Clustered.
var ErrClustered = errors.New(`samba: smb.conf has "clustering = yes": the shares and the registry are those of all nodes of the cluster, ` +
	`but the state of this agent is this node's alone, so a client that comes to another node loses its shadow copies. ` +
	`Run the agent on a server that is not clustered, or with a state that all nodes share`)

// Clustered reports whether this machine's Samba is a node of a cluster, by CTDB. Of Samba's
// programs it needs only testparm, and it fails if testparm cannot read the configuration.
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

// conf returns what testparm says about all shares now.
func (s *Shares) conf(ctx context.Context) (*conf, error) {
	v, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	return v.conf, nil
}

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
