package agent

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// names holds the names by which clients reach this server. It resolves and opens nothing: a name
// from a caller is compared, never used.
type names struct {
	machine    string          // this server's, as Config.Owner may return it
	asCalled   bool            // IsPathSupported answers the name that the client used, and not machine
	hosts      map[string]bool // lower case
	addrs      map[netip.Addr]bool
	interfaces bool // the addresses of the interfaces count, too
}

// newNames combines the names in the Config with those that the file server gives itself.
func newNames(cfg *Config, server backend.ServerNames) (*names, error) {
	n := &names{machine: cfg.Machine, hosts: map[string]bool{}, addrs: map[netip.Addr]bool{}}
	if n.machine == "" {
		n.machine = server.Machine
	}
	n.asCalled = n.machine == "" && cfg.Names == nil
	list := cfg.Names
	if list == nil {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("agent: Config.Names is nil and the host has no name: %w", err)
		}
		first, _, _ := strings.Cut(host, ".")
		list = []string{host, first, "localhost"}
		n.interfaces = true
	}
	if n.machine == "" && len(list) > 0 {
		n.machine = list[0]
	}
	if n.machine == "" {
		return nil, fmt.Errorf("agent: Config.Names is empty")
	}
	n.machine = strings.TrimSuffix(n.machine, ".")
	for _, name := range slices.Concat(list, cfg.Aliases, server.Aliases, []string{server.Machine}) {
		name = strings.TrimSuffix(name, ".") // as ParseShareName does
		share := fsrvp.ShareName{Host: name}
		if addr, ok := share.Addr(); ok {
			n.addrs[addr.WithZone("")] = true
		} else if name != "" {
			n.hosts[strings.ToLower(name)] = true
		}
	}
	return n, nil
}

// answer returns the machine that a client should connect to, after it named a share of this host.
func (n *names) answer(host string) string {
	if n.asCalled {
		return host
	}
	return n.machine
}

// list returns the names and addresses, sorted, without those of the machine's interfaces.
func (n *names) list() []string {
	list := slices.Collect(maps.Keys(n.hosts))
	for addr := range n.addrs {
		list = append(list, addr.String())
	}
	slices.Sort(list)
	return list
}

// has reports whether a share's host is this server.
func (n *names) has(share fsrvp.ShareName) bool {
	addr, ok := share.Addr()
	if !ok {
		return n.hosts[strings.ToLower(share.Host)]
	}
	addr = addr.WithZone("")
	return n.addrs[addr] || n.interfaces && isInterfaceAddr(addr)
}

// isInterfaceAddr asks the machine each time, because addresses come and go while an agent runs.
func isInterfaceAddr(addr netip.Addr) bool {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap().WithZone("") == addr {
			return true
		}
	}
	return false
}
