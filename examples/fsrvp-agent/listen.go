package main

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/epm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/sambapipe"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// access is who may come in: the mechanisms that the settings allow, each by itself and all of them
// within SPNEGO.
type access struct {
	list []dcerpc.Acceptor
	// hosts are those of the keytab's service principals, which are names that clients call this
	// server by.
	hosts []string
	close func() error

	kerberos kerberosSwap
	users    usersSwap
	inForce  options // what the mechanisms were made of
}

// A kerberosSwap is Kerberos with a keytab that can be exchanged for another one.
type kerberosSwap struct{ atomic.Pointer[krb5.Acceptor] }

func (s *kerberosSwap) AuthType() dcerpc.AuthType { return s.Load().AuthType() }

func (s *kerberosSwap) OID() asn1.ObjectIdentifier { return s.Load().OID() }

func (s *kerberosSwap) NewContext(level dcerpc.AuthLevel) (dcerpc.Context, error) {
	return s.Load().NewContext(level)
}

// A usersSwap is a file of accounts that can be exchanged for another one.
type usersSwap struct{ atomic.Pointer[ntlm.HashFile] }

func (s *usersSwap) Verify(ctx context.Context, c *ntlm.Challenge) (*ntlm.Result, error) {
	return s.Load().Verify(ctx, c)
}

// acceptors makes the mechanisms.
func (o *options) acceptors(ctx context.Context) (_ *access, err error) {
	a := &access{close: func() error { return nil }, inForce: *o}
	var mechs []spnego.AcceptorMechanism
	if o.keytab != "" {
		keytab, err := krb5.LoadKeytab(o.keytab)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.from.at("keytab", 0), err)
		}
		for _, p := range keytab.Principals() {
			if len(p.Name) == 2 && (strings.EqualFold(p.Name[0], "host") || strings.EqualFold(p.Name[0], "cifs")) {
				a.hosts = append(a.hosts, p.Name[1])
			}
		}
		if err := a.loadKerberos(o); err != nil {
			return nil, err
		}
		a.list, mechs = append(a.list, &a.kerberos), append(mechs, &a.kerberos)
	}
	accounts := ntlm.AcceptorConfig{}
	switch {
	case o.ntlmUsers != "":
		if err := a.loadUsers(o); err != nil {
			return nil, err
		}
		accounts.Verifier = &a.users
	case o.winbind:
		// Clients answer for the domain that they are told, and a domain controller refuses another
		// one's answers.
		domain, err := exec.CommandContext(ctx, "wbinfo", "--own-domain").Output()
		if err != nil {
			return nil, fmt.Errorf("%s: wbinfo --own-domain, which asks winbindd: %w; start winbindd, and see that wbinfo -t succeeds",
				o.from.at("ntlm-winbind", 0), err)
		}
		helper := ntlm.NewWinbindHelper(&ntlm.WinbindConfig{SIDs: ntlm.Wbinfo("")})
		accounts.Verifier, accounts.DomainName, a.close = helper, strings.TrimSpace(string(domain)), helper.Close
	}
	if accounts.Verifier != nil {
		mech, err := ntlm.NewAcceptor(&accounts)
		if err != nil {
			return nil, errors.Join(err, a.close())
		}
		a.list, mechs = append(a.list, mech), append(mechs, mech)
	}
	if len(mechs) == 0 {
		return a, nil
	}
	nego, err := spnego.NewAcceptor(mechs...)
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	a.list = append(a.list, nego)
	return a, nil
}

func (a *access) loadKerberos(o *options) error {
	mech, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: o.keytab, RequirePAC: o.requirePAC})
	if err != nil {
		return fmt.Errorf("%s: %w", o.from.at("keytab", 0), err)
	}
	a.kerberos.Store(mech)
	return nil
}

func (a *access) loadUsers(o *options) error {
	users, err := ntlm.OpenHashFile(o.ntlmUsers)
	if err != nil {
		return fmt.Errorf("%s: %w", o.from.at("ntlm-users", 0), err)
	}
	a.users.Store(users)
	return nil
}

// reload takes other files over. What is in files of the same name is read whenever it has changed,
// and needs no reload.
func (a *access) reload(o *options) error {
	if o.keytab != a.inForce.keytab || o.requirePAC != a.inForce.requirePAC {
		if err := a.loadKerberos(o); err != nil {
			return err
		}
	}
	if o.ntlmUsers != a.inForce.ntlmUsers {
		if err := a.loadUsers(o); err != nil {
			return err
		}
	}
	a.inForce = *o
	return nil
}

// serve opens the listeners, calls ready when all accept, serves them until ctx ends, calls
// stopping, and drains for as long as drain says then.
func (o *options) serve(ctx context.Context, srv *dcerpc.Server, stdout io.Writer, log *slog.Logger, ready,
	stopping func(), drain func() time.Duration) (err error) {
	mapper := &epm.Mapper{}
	type server struct {
		*dcerpc.Server
		net.Listener
		name string
	}
	var servers []server
	defer func() {
		for _, s := range servers {
			s.Listener.Close()
		}
	}()
	add := func(name string, l net.Listener) {
		if tcp, ok := l.Addr().(*net.TCPAddr); ok {
			mapper.Entries = append(mapper.Entries, epm.Entry{
				Interface: fsrvp.Interface(), Port: uint16(tcp.Port), Annotation: "File Server VSS Agent",
			})
			name = "tcp:" + net.JoinHostPort(tcp.IP.String(), strconv.Itoa(tcp.Port))
		}
		servers = append(servers, server{srv, l, name})
	}
	for i, name := range o.listen {
		list, err := o.open(name, log)
		if err != nil {
			return fmt.Errorf("%s is %q: %w", o.from.at("listen", i), name, err)
		}
		for _, l := range list {
			add(name, l)
		}
	}
	all := []*dcerpc.Server{srv}
	if o.epmapper != "" {
		// A server of its own: who asks for a port is not authenticated, and sees nothing but
		// ports.
		ports := &dcerpc.Server{Logger: log}
		ports.Handle(epm.Interface(), mapper, &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone})
		l, err := net.Listen("tcp", strings.TrimPrefix(o.epmapper, "tcp:"))
		if err != nil {
			return fmt.Errorf("%s: %w", o.from.at("epmapper", 0), err)
		}
		servers = append(servers, server{ports, l, "epmapper " + o.epmapper})
		all = append(all, ports)
	}
	ended := make(chan error, len(servers))
	for _, s := range servers {
		fmt.Fprintln(stdout, "listening", s.name)
		go func() {
			err := s.Serve(s.Listener)
			if !errors.Is(err, dcerpc.ErrServerClosed) {
				err = fmt.Errorf("listener %s: %w", s.name, err)
			} else {
				err = nil
			}
			ended <- err
		}()
	}
	running := len(servers)
	ready()
	limit := time.Duration(0)
	select {
	case <-ctx.Done():
		limit = drain()
		log.Info("draining", "limit", limit)
	case err = <-ended:
		running--
	}
	stopping()
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	for _, s := range all {
		if e := s.Shutdown(draining); e != nil {
			log.Warn("calls were cut off", "err", e)
		}
	}
	for range running {
		err = errors.Join(err, <-ended)
	}
	return err
}

// open opens the listeners of one setting. They accept connections from then on.
func (o *options) open(name string, log *slog.Logger) ([]net.Listener, error) {
	if name == "systemd" {
		return fromSystemd()
	}
	var l net.Listener
	var err error
	if dir, ok := strings.CutPrefix(name, "samba:"); ok {
		l, err = sambapipe.Listen(&sambapipe.Config{Dir: dir, Logger: log})
	} else {
		l, err = net.Listen("tcp", strings.TrimPrefix(name, "tcp:"))
	}
	if err != nil {
		return nil, err
	}
	return []net.Listener{l}, nil
}
