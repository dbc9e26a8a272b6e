package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/epm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/sambapipe"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// acceptors makes the mechanisms that the flags allow: each by itself, and all of them within SPNEGO. Hosts are those of the
// keytab's service principals, which are names that clients call this server by.
func (o *options) acceptors(ctx context.Context) (list []dcerpc.Acceptor, closeAll func() error, hosts []string, err error) {
	closeAll = func() error { return nil }
	var mechs []spnego.AcceptorMechanism
	if o.keytab != "" {
		keytab, err := krb5.LoadKeytab(o.keytab)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("-keytab: %w", err)
		}
		for _, p := range keytab.Principals() {
			if len(p.Name) == 2 && (strings.EqualFold(p.Name[0], "host") || strings.EqualFold(p.Name[0], "cifs")) {
				hosts = append(hosts, p.Name[1])
			}
		}
		mech, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: o.keytab, RequirePAC: o.requirePAC})
		if err != nil {
			return nil, nil, nil, fmt.Errorf("-keytab: %w", err)
		}
		list, mechs = append(list, mech), append(mechs, mech)
	}
	accounts := ntlm.AcceptorConfig{}
	switch {
	case o.ntlmUsers != "":
		if accounts.Verifier, err = ntlm.OpenHashFile(o.ntlmUsers); err != nil {
			return nil, nil, nil, fmt.Errorf("-ntlm-users: %w", err)
		}
	case o.winbind:
		// Clients answer for the domain that they are told, and a domain controller refuses another one's answers.
		domain, err := exec.CommandContext(ctx, "wbinfo", "--own-domain").Output()
		if err != nil {
			return nil, nil, nil, fmt.Errorf("-ntlm-winbind: wbinfo --own-domain, which asks winbindd: %w", err)
		}
		helper := ntlm.NewWinbindHelper(&ntlm.WinbindConfig{SIDs: ntlm.Wbinfo("")})
		accounts.Verifier, accounts.DomainName, closeAll = helper, strings.TrimSpace(string(domain)), helper.Close
	}
	if accounts.Verifier != nil {
		mech, err := ntlm.NewAcceptor(&accounts)
		if err != nil {
			return nil, nil, nil, errors.Join(err, closeAll())
		}
		list, mechs = append(list, mech), append(mechs, mech)
	}
	if len(mechs) == 0 {
		if slices.ContainsFunc(o.listen, func(s string) bool { return strings.HasPrefix(s, "tcp:") }) {
			return nil, nil, nil, errors.New("-listen tcp: needs -keytab, -ntlm-users or -ntlm-winbind: nobody may call without security")
		}
		if o.requireRPC {
			return nil, nil, nil, errors.New("-require-rpc-security needs -keytab, -ntlm-users or -ntlm-winbind")
		}
		return nil, closeAll, nil, nil
	}
	nego, err := spnego.NewAcceptor(mechs...)
	if err != nil {
		return nil, nil, nil, errors.Join(err, closeAll())
	}
	return append(list, nego), closeAll, hosts, nil
}

// serve opens the listeners, serves them until ctx ends, and drains.
func (o *options) serve(ctx context.Context, srv *dcerpc.Server, stdout io.Writer, log *slog.Logger) (err error) {
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
	for _, name := range o.listen {
		l, err := o.open(name, log)
		if err != nil {
			return fmt.Errorf("-listen %s: %w", name, err)
		}
		if tcp, ok := l.Addr().(*net.TCPAddr); ok {
			mapper.Entries = append(mapper.Entries, epm.Entry{
				Interface: fsrvp.Interface(), Port: uint16(tcp.Port), Annotation: "File Server VSS Agent",
			})
			name = "tcp:" + net.JoinHostPort(tcp.IP.String(), strconv.Itoa(tcp.Port))
		}
		servers = append(servers, server{srv, l, name})
	}
	all := []*dcerpc.Server{srv}
	if o.epmapper != "" {
		// A server of its own: who asks for a port is not authenticated, and sees nothing but ports.
		ports := &dcerpc.Server{Logger: log}
		ports.Handle(epm.Interface(), mapper, &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone})
		addr, ok := strings.CutPrefix(o.epmapper, "tcp:")
		if !ok {
			return fmt.Errorf("-epmapper is %q; it has to be tcp:HOST:PORT", o.epmapper)
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("-epmapper: %w", err)
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
	select {
	case <-ctx.Done():
		log.Info("draining", "limit", o.drain)
	case err = <-ended:
		running--
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.drain)
	defer cancel()
	for _, s := range all {
		if e := s.Shutdown(drain); e != nil {
			log.Warn("calls were cut off", "err", e)
		}
	}
	for range running {
		err = errors.Join(err, <-ended)
	}
	return err
}

// open opens one listener. It accepts connections from then on.
func (o *options) open(name string, log *slog.Logger) (net.Listener, error) {
	if addr, ok := strings.CutPrefix(name, "tcp:"); ok {
		return net.Listen("tcp", addr)
	}
	if dir, ok := strings.CutPrefix(name, "samba:"); ok && dir != "" {
		return sambapipe.Listen(&sambapipe.Config{Dir: dir, Logger: log})
	}
	return nil, errors.New("it has to be tcp:HOST:PORT or samba:NCALRPC_DIR")
}
