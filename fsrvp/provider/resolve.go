package provider

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// version is the protocol version of the provider (MS-FSRVP 1.7).
const version = 1

// A request is one of the paths passed to Run.
type request struct {
	index int // among them
	name  string
	fsrvp.ShareName
	asked *server // the host that the path names
	via   *server // the connection to the machine that owns the share
	// sharePart is the share on that machine, which several paths may have in common.
	sharePart *share
}

// resolve finds out which machine owns each share, and connects to it: it asks the host in the path
// with IsPathSupported, and if the answer names another machine, it connects to that one (MS-FSRVP
// 3.2.4). Connections that lead to one machine become one server, whatever names were used.
func (r *run) resolve(ctx context.Context) error {
	requests, err := parseRequests(r.names)
	if err != nil {
		return err
	}
	for i := range requests {
		q := &requests[i]
		if q.asked = r.conn(q.Host); q.asked == nil {
			q.asked = &server{name: q.Host, shown: q.Host}
			r.conns = append(r.conns, q.asked)
		}
	}
	hosts := slices.Clone(r.conns)
	err = all(ctx, hosts, func(ctx context.Context, s *server) error {
		return r.part(ctx, PhaseResolve, s, func() error { return s.connect(ctx, r) })
	})
	if err != nil {
		return err
	}
	owners := make([]string, len(requests))
	err = all(ctx, hosts, func(ctx context.Context, s *server) error {
		return r.attempt(ctx, PhaseResolve, s, func() error { return s.askOwners(ctx, r, requests, owners) })
	})
	if err != nil {
		return err
	}
	if err := r.connectOwners(ctx, requests, owners); err != nil {
		return err
	}
	for i := range requests {
		if err := r.place(requests, i); err != nil {
			return err
		}
	}
	r.conns = slices.DeleteFunc(r.conns, func(s *server) bool {
		if slices.Contains(r.servers, s) {
			return false
		}
		s.drop() // a second name of a machine
		return true
	})
	return nil
}

// askOwners asks the host for the owners of its shares.
func (s *server) askOwners(ctx context.Context, r *run, requests []request, owners []string) error {
	for i := range requests {
		q := &requests[i]
		if q.asked != s {
			continue
		}
		if same := slices.IndexFunc(requests[:i], q.sameShare); same >= 0 {
			owners[i] = owners[same]
			continue
		}
		named, err := s.isPathSupported(ctx, r, q.UNC())
		if err != nil {
			return &Error{Phase: PhaseResolve, Server: s.shown, Share: q.name, Err: err}
		}
		owners[i] = named
	}
	return nil
}

// parseRequests parses the paths, and refuses paths that are the same or contain one another.
func parseRequests(names []string) ([]request, error) {
	if len(names) == 0 {
		return nil, &Error{Phase: PhaseResolve, Err: errors.New("no shares were given")}
	}
	requests := make([]request, len(names))
	for i, name := range names {
		n, err := fsrvp.ParseShareName(name)
		if err != nil {
			return nil, &Error{Phase: PhaseResolve, Share: name, Err: err}
		}
		requests[i] = request{index: i, name: name, ShareName: n}
		for j := range requests[:i] {
			if requests[j].Equal(n) && overlap(requests[j].Rest, n.Rest) {
				return nil, twice(&requests[j], &requests[i])
			}
		}
	}
	return requests, nil
}

func twice(first, second *request) error {
	how := "is the same share as %s; name it once"
	if first.Rest != second.Rest {
		how = "is the same share as %s, and one of the paths contains the other; name only that one"
	}
	return &Error{Phase: PhaseResolve, Share: second.name, Err: fmt.Errorf(how, first.name)}
}

// overlap reports whether one of two paths below a share contains the other.
func overlap(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	within := func(path, dir string) bool {
		return dir == "" || path == dir || strings.HasPrefix(path, dir+`\`)
	}
	return within(a, b) || within(b, a)
}

func (q *request) sameShare(o request) bool {
	return o.asked == q.asked && strings.EqualFold(o.Share, q.Share)
}

// isPathSupported asks for a share's owner.
func (s *server) isPathSupported(ctx context.Context, r *run, unc string) (owner string, err error) {
	err = s.call(ctx, r, func(ctx context.Context, a Agent) error {
		support, err := a.IsPathSupported(ctx, unc)
		if err == nil && !support.Supported {
			err = errors.New("the server takes no shadow copies of it")
		}
		owner = strings.TrimSuffix(strings.TrimLeft(support.Owner, `\`), ".")
		return err
	})
	return owner, err
}

// connectOwners gives each request the connection to the machine that owns its share.
func (r *run) connectOwners(ctx context.Context, requests []request, owners []string) error {
	type want struct{ owner, domain string }
	var mu sync.Mutex
	wanted := make(map[want]*server)
	var order []want
	for i := range requests {
		q := &requests[i]
		if owner(q.Host, owners[i]) == q.Host {
			q.via = q.asked
			q.asked.direct = true
			if q.asked.owner == "" {
				q.asked.owner = owners[i]
			}
		}
	}
	for i := range requests {
		q := &requests[i]
		if q.via != nil {
			continue
		}
		// The owner is a host that is already connected.
		q.via = r.ownerConn(q, owners[i])
		if q.via == nil {
			w := want{strings.ToLower(owners[i]), strings.ToLower(domainOf(q.Host))}
			if wanted[w] == nil {
				wanted[w] = &server{name: owners[i], owner: owners[i], shown: q.Host + " (owned by " + owners[i] + ")"}
				order = append(order, w)
			}
			q.via = wanted[w]
		}
	}
	err := all(ctx, order, func(ctx context.Context, w want) error {
		s := wanted[w]
		return r.part(ctx, PhaseResolve, s, func() error {
			err := s.connectOwner(ctx, r, w.domain)
			if err == nil {
				s.shown = s.name
				mu.Lock()
				defer mu.Unlock()
				r.conns = append(r.conns, s)
			}
			s.lost = err
			if ctx.Err() != nil {
				return err
			}
			return nil // the asked host may do
		})
	})
	if err != nil {
		return err
	}
	for i := range requests {
		q := &requests[i]
		switch {
		case q.via.lost != nil:
			// The owner cannot be reached by the name that it reports. If the asked host is that
			// owner, it can be used all the same; otherwise it refuses the share.
			r.Logger.Warn("the owner of a share cannot be reached by its own name; the host that was named is used",
				"share", q.name, "owner", q.via.owner, "err", q.via.lost)
			q.asked.lost, q.via = q.via.lost, q.asked
		case q.via != q.asked && q.via.addr.IsValid() && q.via.addr == q.asked.addr:
			q.via = q.asked // it is one machine, so the user's name for it will do
		}
		if q.via.owner == "" {
			q.via.owner = owners[i]
		}
	}
	return nil
}

// connectOwner connects to the owner by its name, or by its name in a domain.
func (s *server) connectOwner(ctx context.Context, r *run, domain string) error {
	err := s.connect(ctx, r)
	if err == nil || errors.Is(err, errNoConnection) || ctx.Err() != nil || domain == "" ||
		strings.Contains(s.name, ".") {
		return err
	}
	full := &server{name: s.name + "." + domain}
	if full.connect(ctx, r) != nil {
		return err
	}
	s.name, s.agent, s.addr, s.inMemory, s.used = full.name, full.agent, full.addr, full.inMemory, full.used
	return nil
}

// owner returns the machine to connect to, given the asked host and the owner in its answer. If a
// server names itself by its NetBIOS name, owner keeps the name by which it was reached, since that
// one resolves, and has the service principal for the caller's tickets.
func owner(host, named string) string {
	named = strings.TrimLeft(named, `\`)
	label, _, _ := strings.Cut(host, ".")
	if named == "" || strings.EqualFold(named, host) || strings.EqualFold(named, label) {
		return host
	}
	return named
}

// ownerConn returns the connection to a machine that a host has named, if there is one.
func (r *run) ownerConn(q *request, named string) *server {
	if s := r.conn(named); s != nil {
		return s
	}
	for _, s := range r.conns {
		if s.direct && strings.EqualFold(s.owner, named) && s.addr.IsValid() && s.addr == q.asked.addr {
			return s
		}
	}
	return nil
}

func (r *run) conn(host string) *server {
	for _, s := range r.conns {
		if strings.EqualFold(s.name, host) {
			return s
		}
	}
	return nil
}

// domainOf returns the domain of a full name, or "" for an address.
func domainOf(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	_, domain, _ := strings.Cut(host, ".")
	return domain
}

// place adds a request to its server.
func (r *run) place(requests []request, i int) error {
	q := &requests[i]
	g := slices.IndexFunc(r.servers, q.via.sameMachine)
	if g < 0 {
		g = len(r.servers)
		r.servers = append(r.servers, q.via)
	}
	s := r.servers[g]
	// Names that reach the machine in the same way see the same shares, but each role of a cluster
	// may have a different share of that name.
	for j := range requests[:i] {
		o := &requests[j]
		if o.sharePart == nil || !slices.Contains(s.shares, o.sharePart) || !strings.EqualFold(o.Share, q.Share) ||
			!o.asked.sameScope(q.asked) {
			continue
		}
		if overlap(o.Rest, q.Rest) {
			return twice(o, q)
		}
		q.sharePart = o.sharePart
	}
	if q.sharePart == nil {
		q.sharePart = &share{unc: q.UNC()}
		s.shares = append(s.shares, q.sharePart)
	}
	q.sharePart.paths = append(q.sharePart.paths, path{index: q.index, name: q.name, rest: q.Rest})
	return nil
}

// sameMachine reports whether two connections lead to one machine. It compares addresses, since a
// server may just repeat the client's name for it; if an address is not known, it compares the
// names that the machines report. Machines in different domains may share a name, so names in
// different domains then count as different machines.
func (s *server) sameMachine(o *server) bool {
	switch {
	case s == o:
		return true
	case s.addr.IsValid() && s.addr == o.addr:
		return true
	case s.owner == "" || !strings.EqualFold(s.owner, o.owner):
		return false
	case s.addr.IsValid() && o.addr.IsValid():
		return s.addr == o.addr
	}
	a, b := domainOf(s.name), domainOf(o.name)
	return a == "" || b == "" || strings.EqualFold(a, b)
}

// sameScope reports whether two asked hosts have the same shares.
func (s *server) sameScope(o *server) bool {
	if s == o || s.addr.IsValid() && o.addr.IsValid() {
		return s == o || s.addr == o.addr
	}
	return s.direct && o.direct
}
