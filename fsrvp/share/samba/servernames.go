package samba

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// ServerNames returns Samba's names. The machine is the "netbios name", which in a domain has the
// service principals. The aliases are the same name in the realm's DNS domain, "netbios aliases",
// "dns hostname" and "additional dns hostnames".
func (s *Shares) ServerNames(ctx context.Context) (backend.ServerNames, error) {
	c, err := s.conf(ctx)
	if err != nil {
		return backend.ServerNames{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		return backend.ServerNames{}, fmt.Errorf("samba: %w", err)
	}
	return c.serverNames(host), nil
}

// serverNames takes them from the configuration; host is what the machine is called, which the
// NetBIOS name is made of where there is none.
func (c *conf) serverNames(host string) backend.ServerNames {
	get := func(key string) string {
		v, _ := c.global.get(key)
		return strings.Trim(v, `"`)
	}
	var n backend.ServerNames
	if n.Machine = get("netbios name"); n.Machine == "" || strings.Contains(n.Machine, "%") {
		const most = 15 // of a NetBIOS name
		first, _, _ := strings.Cut(host, ".")
		n.Machine = strings.ToUpper(first[:min(len(first), most)])
	}
	bare := append([]string{n.Machine}, words(get("netbios aliases"))...)
	n.Aliases = append(n.Aliases, bare[1:]...)
	if realm := get("realm"); realm != "" {
		for _, name := range bare {
			n.Aliases = append(n.Aliases, strings.ToLower(name+"."+realm))
		}
	}
	if name := get("dns hostname"); name != "" && !strings.Contains(name, "%") && !strings.Contains(name, "[") {
		n.Aliases = append(n.Aliases, name)
	}
	n.Aliases = append(n.Aliases, words(get("additional dns hostnames"))...)
	return n
}
