package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/credentials"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// connect fills in the target as the flags say. It opens no connections: the cases connect when
// they make calls. The caller must close the result.
func (o *options) connect(ctx context.Context) (io.Closer, error) {
	if o.demo {
		return o.startDemo(ctx)
	}
	var all closers
	pace := &pacer{least: o.pace}
	caller := func(cred credentials.Flags, server string, local net.Addr, level dcerpc.AuthLevel) (fsrvp.Service,
		dcerpc.Dialer, error) {
		access, err := cred.Access()
		if err != nil {
			return nil, nil, err
		}
		all = append(all, access)
		cfg := access.Client
		if err := from(cfg, local); err != nil {
			return nil, nil, err
		}
		cfg.CallTimeout = o.callTimeout
		if level != 0 {
			cfg.Level = level
		}
		if level == dcerpc.LevelInsecureNone {
			cfg.Auth = nil
		}
		return fsrvptest.NewLine(func(ctx context.Context) (fsrvp.Service, error) {
			c, err := fsrvp.Dial(ctx, server, cfg)
			if err != nil {
				return nil, err
			}
			return paced{c, pace}, nil
		}), cfg.Transport, nil
	}

	t := &o.target
	var transport dcerpc.Dialer
	var err error
	if t.Client, transport, err = caller(*o.cred, o.server, nil, 0); err != nil {
		return all, err
	}
	if t.SameHost, _, err = caller(*o.cred, o.server, nil, 0); err != nil {
		return all, err
	}
	if o.otherAddress != "" || o.otherServer != "" {
		var local net.Addr
		if o.otherAddress != "" {
			ip := net.ParseIP(o.otherAddress)
			if ip == nil {
				return all, fmt.Errorf("-other-address is %q; it must be an address of this machine, such as 192.0.2.7",
					o.otherAddress)
			}
			local = &net.TCPAddr{IP: ip}
		}
		server := o.otherServer
		if server == "" {
			server = o.server
		}
		if t.Other, _, err = caller(*o.cred, server, local, 0); err != nil {
			return all, err
		}
	}
	if o.unprivileged.Given() {
		cred := *o.cred
		cred.User, cred.Keytab, cred.CCache, cred.PasswordFile =
			o.unprivileged.User, o.unprivileged.Keytab, o.unprivileged.CCache, o.unprivileged.PasswordFile
		if t.Unprivileged, _, err = caller(cred, o.server, nil, 0); err != nil {
			return all, fmt.Errorf("the unprivileged account: %w", err)
		}
	}
	t.Levels = map[dcerpc.AuthLevel]fsrvp.Service{}
	for _, name := range o.levelList() {
		level := levelNames[name]
		if t.Levels[level], _, err = caller(*o.cred, o.server, nil, level); err != nil {
			return all, err
		}
	}
	return all, o.hooks(ctx, transport)
}

// startDemo starts a server in memory, and makes it the target.
func (o *options) startDemo(ctx context.Context) (io.Closer, error) {
	cfg := &fsrvptest.ServerConfig{Agent: agent.Config{Profile: o.target.Profile}}
	if d := o.target.SequenceTimeout; d > 0 {
		cfg.Agent.Timers = agent.Timers{SetContext: d, Start: d, Add: d, Prepare: d, Commit: d, Expose: d,
			GetShareMapping: d, Failure: d}
	}
	s, err := fsrvptest.NewServer(cfg)
	if err != nil {
		return closers{}, err
	}
	t, err := s.Target(ctx)
	if err != nil {
		return s, err
	}
	given := &o.target
	t.SequenceTimeout, t.BlockedWait, t.CaseTimeout = given.SequenceTimeout, given.BlockedWait, given.CaseTimeout
	t.Known, t.Lacks = given.Known, given.Lacks
	o.target, o.server = t, fsrvptest.ServerName
	return s, nil
}

// from makes a Config connect from a local address.
func from(cfg *fsrvp.Config, local net.Addr) error {
	if local == nil {
		return nil
	}
	dialer := net.Dialer{LocalAddr: local}
	switch d := cfg.Transport.(type) {
	case *smbpipe.Dialer:
		d.Dial = dialer.DialContext
	case *dcerpc.TCPDialer:
		d.Dialer = dialer
	default:
		return errors.New("-other-address: this -transport cannot connect from a given address")
	}
	return nil
}

// closers are closed together.
type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, each := range c {
		errs = append(errs, each.Close())
	}
	return errors.Join(errs...)
}

// A pacer prevents adding the shares of one set too soon after those of another, since servers may
// name the snapshots of a volume by the time at which a share was added.
type pacer struct {
	least time.Duration

	mu   sync.Mutex
	set  fsrvp.SetID // of the last share
	last time.Time
}

// wait waits until a share may be added to a set.
func (p *pacer) wait(ctx context.Context, set fsrvp.SetID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := time.Until(p.last.Add(p.least)); d > 0 && set != p.set {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// added records that a share was added to a set.
func (p *pacer) added(set fsrvp.SetID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set, p.last = set, time.Now()
}

// paced is a Client that adds shares at a limited pace.
type paced struct {
	*fsrvp.Client
	pace *pacer
}

// AddToShadowCopySet waits before the call. A refused share has no snapshot.
func (p paced) AddToShadowCopySet(ctx context.Context, client fsrvp.CopyID, set fsrvp.SetID,
	share string) (fsrvp.CopyID, error) {
	if err := p.pace.wait(ctx, set); err != nil {
		return fsrvp.CopyID{}, err
	}
	id, err := p.Client.AddToShadowCopySet(ctx, client, set, share)
	if err == nil {
		p.pace.added(set)
	}
	return id, err
}
