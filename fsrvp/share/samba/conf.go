package samba

import (
	"errors"
	"fmt"
	"strings"
)

// A conf is Samba's whole configuration, smb.conf and the registry, as testparm prints it: defaults
// are left out, "copy" and "include" are resolved, parameters and their values have one spelling.
type conf struct {
	global section // with the shares' parameters that are their defaults
	shares []section
}

// A section is a share.
type section struct {
	name   string
	params []param
	// strange is the first line that is no parameter: what follows a line break in a value. Only
	// the registry can have one.
	strange string
}

type param struct{ key, value string }

// sameKey reports whether two spellings name one parameter: case and white space do not count, as
// in "btrfs: manipulate snapshots".
func sameKey(a, b string) bool {
	return strings.EqualFold(strings.Join(strings.Fields(a), ""), strings.Join(strings.Fields(b), ""))
}

// parseConf reads what "testparm -s" prints:
//
//	# Global parameters
//	[global]
//		registry shares = Yes
//
//
//	[vms]
//		comment = hello; # no comment
//		path = /srv/vms
//
// There are no continuation lines in it, and quotes are part of the values.
func parseConf(out string) (*conf, error) {
	c := &conf{}
	var in *section
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "", in == nil && line[0] == '#':
		case line[0] == '[' && line[len(line)-1] == ']':
			name := line[1 : len(line)-1] // which may have brackets
			if strings.EqualFold(name, "global") && in == nil {
				in = &c.global
			} else {
				c.shares = append(c.shares, section{})
				in = &c.shares[len(c.shares)-1]
			}
			in.name = name
		case in == nil:
			return nil, fmt.Errorf("samba: testparm begins with %q", line)
		default:
			key, value, ok := strings.Cut(line, "=")
			if key = strings.TrimSpace(key); !ok || key == "" || line[0] != '\t' {
				if in.strange == "" {
					in.strange = line
				}
				continue
			}
			in.params = append(in.params, param{key, strings.Trim(value, " \t")})
		}
	}
	if c.global.name == "" {
		return nil, errors.New("samba: testparm shows no [global] section")
	}
	return c, nil
}

// get returns a parameter that the section itself has.
func (s *section) get(key string) (value string, ok bool) {
	for _, p := range s.params {
		if sameKey(p.key, key) {
			return p.value, true
		}
	}
	return "", false
}

// share finds a share by its name, or returns nil.
func (c *conf) share(name string) *section {
	for i := range c.shares {
		if strings.EqualFold(c.shares[i].name, name) {
			return &c.shares[i]
		}
	}
	return nil
}

// value returns a parameter of a share, its own or the one in [global] that is its default.
func (c *conf) value(s *section, key string) string {
	if v, ok := s.get(key); ok {
		return v
	}
	v, _ := c.global.get(key)
	return v
}

// yes returns a parameter that is Yes or No. The default is Samba's.
func (c *conf) yes(s *section, key string, otherwise bool) bool {
	switch strings.ToLower(c.value(s, key)) { // testparm has yes and no alone, the registry may have the others
	case "yes", "true", "on", "1":
		return true
	case "no", "false", "off", "0":
		return false
	}
	return otherwise
}

// clustered reports whether Samba is a node of a cluster.
func (c *conf) clustered() bool { return c.yes(&c.global, "clustering", false) }

// available reports whether clients can use the share.
func (c *conf) available(s *section) bool { return c.yes(s, "available", true) }
