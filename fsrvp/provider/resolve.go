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

// version is the protocol version that a provider speaks (MS-FSRVP 1.7).
const version = 1

// A request is one of the paths that Run was given.
type request struct {
	index int // among them
	name  string
	fsrvp.ShareName
	asked *server // the host that the path names
	via   *server // the connection to the machine that owns the share
	// sharePart is the share on that machine; several paths may have it in common.
	sharePart *share
}

// resolve finds out which machine owns each share, and connects to it: the host that the share
// names is asked with IsPathSupported, and where it names another machine, that one is connected to
// (MS-FSRVP 3.2.4). What turns out to be one machine then becomes one server, whatever names it was
// given by.
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

// askOwners asks the host for the owners of the shares that are named by it.
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

// parseRequests takes the paths apart, and refuses those that are, or hold, one another.
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
		how = "is the same share as %s, and one of the paths contains the other; name that one alone"
	}
	return &Error{Phase: PhaseResolve, Share: second.name, Err: fmt.Errorf(how, first.name)}
}

// overlap reports whether one of two paths below a share is the other, or leads to it.
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
		// A host that was connected to already, as the owner that it is.
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
			return nil // the host that was asked may do
		})
	})
	if err != nil {
		return err
	}
	for i := range requests {
		q := &requests[i]
		switch {
		case q.via.lost != nil:
			// No client can reach the owner by the name that it has for itself. Where the host that
			// was asked is that owner, it can be worked with all the same; else it refuses the
			// share.
			r.Logger.Warn("the owner of a share cannot be reached by its own name; the host that was named is used",
				"share", q.name, "owner", q.via.owner, "err", q.via.lost)
			q.asked.lost, q.via = q.via.lost, q.asked
		case q.via != q.asked && q.via.addr.IsValid() && q.via.addr == q.asked.addr:
			q.via = q.asked // one machine: the user's name for it is as good
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

// owner is the machine to connect to, given the host that was asked and the owner that it named. A
// server that names itself by its NetBIOS name keeps the name that it was reached by: that one
// resolves, and has the service principal that the caller's tickets are for.
func owner(host, named string) string {
	named = strings.TrimLeft(named, `\`)
	label, _, _ := strings.Cut(host, ".")
	if named == "" || strings.EqualFold(named, host) || strings.EqualFold(named, label) {
		return host
	}
	return named
}

// ownerConn returns the connection to a machine that a host has named, where there is one.
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

// domainOf returns the domain of a full name, and nothing for an address.
func domainOf(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	_, domain, _ := strings.Cut(host, ".")
	return domain
}

// place adds a request to the server that it belongs to.
func (r *run) place(requests []request, i int) error {
	q := &requests[i]
	g := slices.IndexFunc(r.servers, q.via.sameMachine)
	if g < 0 {
		g = len(r.servers)
		r.servers = append(r.servers, q.via)
	}
	s := r.servers[g]
	// Names that reach the machine in one way see the same shares; a cluster's roles may each have
	// a share of that name.
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

// sameMachine reports whether two connections lead to one machine: by its address, since a server
// may name itself as the client has named it; and where that is not known by the name that it has
// for itself. Machines of several domains may share a name, so names of several domains count as
// several machines then.
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

// sameScope reports whether two hosts that were asked have the same shares.
func (s *server) sameScope(o *server) bool {
	if s == o || s.addr.IsValid() && o.addr.IsValid() {
		return s == o || s.addr == o.addr
	}
	return s.direct && o.direct
}
