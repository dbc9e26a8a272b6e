package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// version is the protocol version that a provider speaks (MS-FSRVP 1.7).
const version = 1

// resolve finds out which machine owns each share, and connects to it: the host that the share names is asked
// with IsPathSupported, and where it names another machine, that one is connected to (MS-FSRVP 3.2.4).
func (r *run) resolve(ctx context.Context) error {
	if len(r.names) == 0 {
		return &Error{Phase: PhaseResolve, Err: errors.New("no shares were given")}
	}
	parsed := make([]fsrvp.ShareName, len(r.names))
	var hosts []string
	for i, name := range r.names {
		n, err := fsrvp.ParseShareName(name)
		if err != nil {
			return &Error{Phase: PhaseResolve, Share: name, Err: err}
		}
		if j := slices.IndexFunc(parsed[:i], n.Equal); j >= 0 {
			return &Error{Phase: PhaseResolve, Share: name, Err: fmt.Errorf("is the same share as %s", r.names[j])}
		}
		parsed[i] = n
		if !slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, n.Host) }) {
			hosts = append(hosts, n.Host)
		}
	}
	for _, h := range hosts {
		r.conns = append(r.conns, &server{name: h})
	}
	err := all(ctx, slices.Clone(r.conns), func(ctx context.Context, s *server) error {
		return r.part(PhaseResolve, s, func() error { return s.connect(ctx, r) })
	})
	if err != nil {
		return err
	}
	owners := make([]string, len(parsed))
	byHost := slices.Clone(r.conns)
	err = all(ctx, byHost, func(ctx context.Context, s *server) error {
		for i, n := range parsed {
			if !strings.EqualFold(n.Host, s.name) {
				continue
			}
			support, err := s.agent.IsPathSupported(ctx, n.UNC())
			if err == nil && !support.Supported {
				err = errors.New("the server takes no shadow copies of it")
			}
			if err != nil {
				return &Error{Phase: PhaseResolve, Server: s.name, Share: r.names[i], Err: err}
			}
			owners[i] = owner(s.name, support.Owner)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	connect := func(ctx context.Context, host string) error {
		s := &server{name: host}
		err := r.part(PhaseResolve, s, func() error { return s.connect(ctx, r) })
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			r.conns = append(r.conns, s)
		}
		return err
	}
	var others []string
	for _, o := range owners {
		if r.conn(o) == nil && !slices.ContainsFunc(others, func(h string) bool { return strings.EqualFold(h, o) }) {
			others = append(others, o)
		}
	}
	if err := all(ctx, others, connect); err != nil {
		return err
	}
	for i, o := range owners {
		s := r.conn(o)
		if len(s.shares) == 0 {
			r.servers = append(r.servers, s)
		}
		s.shares = append(s.shares, &share{index: i, unc: r.names[i]})
	}
	return nil
}

// owner is the machine to connect to, given the host that was asked and the owner that it named. A server that names
// itself by its NetBIOS name keeps the name that it was reached by: that one resolves, and has the
// service principal that the caller's tickets are for.
func owner(host, named string) string {
	named = strings.TrimLeft(named, `\`)
	label, _, _ := strings.Cut(host, ".")
	if named == "" || strings.EqualFold(named, host) || strings.EqualFold(named, label) {
		return host
	}
	return named
}

func (r *run) conn(host string) *server {
	for _, s := range r.conns {
		if strings.EqualFold(s.name, host) {
			return s
		}
	}
	return nil
}
