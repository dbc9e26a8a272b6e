package agent

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// names knows under which names clients reach this server. Nothing is resolved or opened: a name that a
// caller gives is compared, never used.
type names struct {
	machine    string
	hosts      map[string]bool // lower case
	addrs      map[netip.Addr]bool
	interfaces bool // the addresses of the interfaces count, too
}

func newNames(cfg *Config) (*names, error) {
	n := &names{machine: cfg.Machine, hosts: map[string]bool{}, addrs: map[netip.Addr]bool{}}
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
	for _, name := range slices.Concat(list, cfg.Aliases) {
		share := fsrvp.ShareName{Host: name}
		if addr, ok := share.Addr(); ok {
			n.addrs[addr.WithZone("")] = true
		} else {
			n.hosts[strings.ToLower(name)] = true
		}
	}
	return n, nil
}

// has tells whether a share's host is this server.
func (n *names) has(share fsrvp.ShareName) bool {
	addr, ok := share.Addr()
	if !ok {
		return n.hosts[strings.ToLower(share.Host)]
	}
	addr = addr.WithZone("")
	return n.addrs[addr] || n.interfaces && isInterfaceAddr(addr)
}

// isInterfaceAddr asks the machine each time, since addresses come and go while an agent runs.
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
