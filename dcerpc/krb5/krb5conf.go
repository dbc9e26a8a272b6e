package krb5

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
)

// The limits of a configuration, for files that include one another.
const (
	maxConfFile  = 4 << 20 // bytes
	maxConfFiles = 1000
	maxConfDepth = 16 // of includes, and of braces
)

// defaultKrb5Conf is where systems have the configuration.
const defaultKrb5Conf = "/etc/krb5.conf"

// loadKrb5Conf reads the files of a configuration, as the field Krb5Conf names them.
func loadKrb5Conf(paths string) (*config.Config, error) {
	root, err := readKrb5Conf(paths)
	if err != nil {
		return nil, err
	}
	return root.config()
}

// readKrb5Conf reads and parses the files. gokrb5's own reader knows no includes, needs the brace
// behind the equals sign, and panics at some lines that are none.
func readKrb5Conf(paths string) (*confNode, error) {
	p := &confParser{root: new(confNode)}
	if paths == "" {
		err := p.file(defaultKrb5Conf, 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, path := range filepath.SplitList(paths) {
		if err := p.file(path, 0); err != nil {
			return nil, err
		}
	}
	return p.root, nil
}

// A confNode is a relation: a value, or a section with further ones. They keep their order.
type confNode struct {
	name, value string
	at          string // file and line
	section     bool
	final       bool // marked with "*": later ones of this name do not count
	children    []*confNode
}

// A confParser reads what MIT's profile library reads (krb5.conf(5)).
type confParser struct {
	root  *confNode
	files int
}

func confError(at, format string, args ...any) error {
	return fmt.Errorf("krb5: %w: %s: %w", ErrConfig, at, fmt.Errorf(format, args...))
}

// file reads one file. Its sections are its own: those of the file that includes it go on
// afterwards.
func (p *confParser) file(path string, depth int) error {
	if p.files++; p.files > maxConfFiles || depth > maxConfDepth {
		return confError(path, "more than %d files, or %d deep: it includes itself", maxConfFiles, maxConfDepth)
	}
	f, err := os.Open(path)
	if err != nil {
		return confError(path, "%w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfFile+1))
	if err == nil && len(b) > maxConfFile {
		err = fmt.Errorf("it has more than %d bytes", maxConfFile)
	}
	if err != nil {
		return confError(path, "%w", err)
	}
	return p.parse(path, b, depth)
}

// parse reads the text of one file.
func (p *confParser) parse(path string, text []byte, depth int) error {
	var open []*confNode // the section and the braces that are open
	var brace *confNode  // a relation whose brace is on a later line
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxConfFile+1)
	for n := 1; lines.Scan(); n++ {
		at := fmt.Sprintf("%s:%d", path, n)
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if brace != nil {
			if line != "{" {
				return confError(at, "%q where the { of %s is due", line, brace.name)
			}
			open, brace = append(open, brace), nil
			continue
		}
		switch word, rest, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " "); {
		case word == "include" && !strings.HasPrefix(strings.TrimSpace(rest), "="):
			if err := p.file(strings.TrimSpace(rest), depth+1); err != nil {
				return fmt.Errorf("%w (included by %s)", err, at)
			}
			continue
		case word == "includedir" && !strings.HasPrefix(strings.TrimSpace(rest), "="):
			if err := p.dir(strings.TrimSpace(rest), depth+1); err != nil {
				return fmt.Errorf("%w (included by %s)", err, at)
			}
			continue
		case word == "module" && !strings.HasPrefix(strings.TrimSpace(rest), "="):
			continue // configuration by a program of another library
		}
		var err error
		if open, brace, err = p.line(open, line, at); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return confError(path, "%w", err)
	}
	if len(open) > 1 || brace != nil {
		return confError(path, "it ends within braces")
	}
	return nil
}

// line reads a section's head, a relation, or the end of braces.
func (p *confParser) line(open []*confNode, line, at string) ([]*confNode, *confNode, error) {
	switch {
	case line[0] == '[':
		name, _, ok := strings.Cut(line[1:], "]")
		if !ok {
			return nil, nil, confError(at, "a section's name without its ]")
		}
		if len(open) > 1 {
			return nil, nil, confError(at, "a section within braces")
		}
		return []*confNode{p.root.sub(strings.TrimSpace(name), at)}, nil, nil
	case line == "}" || line == "}*":
		if len(open) < 2 {
			return nil, nil, confError(at, "a } without its {")
		}
		return open[:len(open)-1], nil, nil
	case len(open) == 0:
		return nil, nil, confError(at, "%q before any section", line)
	}
	name, value, ok := strings.Cut(line, "=")
	if !ok {
		return nil, nil, confError(at, "%q has no =", line)
	}
	name, final := strings.CutSuffix(strings.TrimSpace(name), "*")
	value = strings.TrimSpace(value)
	in := open[len(open)-1]
	if value != "" && value != "{" {
		in.children = append(in.children, &confNode{name: name, value: confValue(value), at: at, final: final})
		return open, nil, nil
	}
	if len(open) > maxConfDepth {
		return nil, nil, confError(at, "braces more than %d deep", maxConfDepth)
	}
	next := in.sub(name, at)
	if value == "" {
		return open, next, nil
	}
	return append(open, next), nil, nil
}

// sub returns the section of a name, which may have been begun before.
func (n *confNode) sub(name, at string) *confNode {
	for _, c := range n.children {
		if c.section && c.name == name {
			return c
		}
	}
	c := &confNode{name: name, at: at, section: true}
	n.children = append(n.children, c)
	return c
}

// confValue reads a value: in quotes, or up to what looks like a comment.
func confValue(s string) string {
	if s[0] != '"' {
		for i := 1; i < len(s); i++ {
			if (s[i] == '#' || s[i] == ';') && (s[i-1] == ' ' || s[i-1] == '\t') {
				s = s[:i]
			}
		}
		return strings.TrimSpace(s)
	}
	var b strings.Builder
	for i := 1; i < len(s) && s[i] != '"'; i++ {
		c := s[i]
		if c == '\\' && i+1 < len(s) {
			i++
			switch c = s[i]; c {
			case 'n':
				c = '\n'
			case 't':
				c = '\t'
			case 'b':
				c = '\b'
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

// dir reads the files of a directory that have a name for it: letters, digits, dashes and
// underscores alone, or an end in ".conf". A directory that is not there holds nothing.
func (p *confParser) dir(path string, depth int) error {
	entries, err := os.ReadDir(path) // in the order of their names
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return confError(path, "%w", err)
	}
	for _, e := range entries {
		name := e.Name()
		plain := !strings.ContainsFunc(name, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
		})
		if !plain && (name[0] == '.' || !strings.HasSuffix(name, ".conf")) || e.IsDir() {
			continue
		}
		if err := p.file(filepath.Join(path, name), depth); err != nil {
			return err
		}
	}
	return nil
}

// values returns what the relations of a path say, the first one first.
func (n *confNode) values(path ...string) []*confNode {
	at := n
	for _, name := range path[:len(path)-1] {
		var next *confNode
		for _, c := range at.children {
			if c.section && c.name == name {
				next = c
			}
		}
		if next == nil {
			return nil
		}
		at = next
	}
	var out []*confNode
	for _, c := range at.children {
		if c.section || !strings.EqualFold(c.name, path[len(path)-1]) {
			continue
		}
		out = append(out, c)
		if c.final {
			break
		}
	}
	return out
}

// config returns what an initiator uses of the configuration, with MIT's defaults.
func (n *confNode) config() (*config.Config, error) {
	c := config.New()
	l := &c.LibDefaults
	l.DNSLookupKDC = true
	if v := n.values("libdefaults", "default_realm"); len(v) > 0 {
		l.DefaultRealm = v[0].value
	}
	for _, b := range []struct {
		name  string
		field *bool
	}{
		{"dns_fallback", &l.DNSLookupKDC}, // of both look-ups, where they say nothing themselves
		{"dns_lookup_kdc", &l.DNSLookupKDC},
		{"forwardable", &l.Forwardable},
		{"proxiable", &l.Proxiable},
	} {
		if v := n.values("libdefaults", b.name); len(v) > 0 {
			on, ok := confBool(v[0].value)
			if !ok {
				return nil, confError(v[0].at, "%s is %q, and not true or false", b.name, v[0].value)
			}
			*b.field = on
		}
	}
	for _, d := range []struct {
		name  string
		field *time.Duration
	}{
		{"clockskew", &l.Clockskew}, {"ticket_lifetime", &l.TicketLifetime}, {"renew_lifetime", &l.RenewLifetime},
	} {
		if v := n.values("libdefaults", d.name); len(v) > 0 {
			t, ok := confDuration(v[0].value)
			if !ok {
				return nil, confError(v[0].at, "%s is %q, and no time", d.name, v[0].value)
			}
			*d.field = t
		}
	}
	for _, s := range n.children {
		if !s.section {
			continue
		}
		for _, r := range s.children {
			switch {
			case s.name == "realms" && r.section:
				c.Realms = append(c.Realms, config.Realm{Realm: r.name, KDC: n.kdcs(r.name)})
			case s.name == "domain_realm" && !r.section:
				if _, have := c.DomainRealm[strings.ToLower(r.name)]; !have {
					c.DomainRealm[strings.ToLower(r.name)] = r.value
				}
			}
		}
	}
	return c, nil
}

// kcmSocket returns the path of the socket of the Kerberos cache manager.
func (n *confNode) kcmSocket() string {
	if v := n.values("libdefaults", "kcm_socket"); len(v) > 0 {
		return v[0].value
	}
	return defaultKCMSocket
}

// kdcs returns the addresses of a realm's KDCs that TCP reaches.
func (n *confNode) kdcs(realm string) []string {
	var out []string
	for _, v := range append(n.values("realms", realm, "kdc"), n.values("realms", realm, "primary_kdc")...) {
		host := strings.TrimSuffix(v.value, "*")
		if strings.Contains(host, "://") {
			continue // a proxy (MS-KKDCP)
		}
		host = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(host, "tcp/"), "udp/"))
		if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
			host = net.JoinHostPort(addr.String(), "88")
		} else if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(host, "88")
		}
		out = append(out, host)
	}
	return out
}

func confBool(s string) (on, ok bool) {
	switch strings.ToLower(s) {
	case "y", "yes", "true", "t", "1", "on":
		return true, true
	case "n", "no", "false", "nil", "0", "off", "f":
		return false, true
	}
	return false, false
}

// confDuration reads seconds, h:m or h:m:s, and numbers with the units d, h, m and s in this order.
func confDuration(s string) (time.Duration, bool) {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if parts := strings.Split(s, ":"); len(parts) == 2 || len(parts) == 3 {
		var d time.Duration
		for i, unit := range []time.Duration{time.Hour, time.Minute, time.Second}[:len(parts)] {
			n, err := strconv.ParseUint(strings.TrimSpace(parts[i]), 10, 16)
			if err != nil {
				return 0, false
			}
			d += time.Duration(n) * unit
		}
		return d, true
	}
	var d time.Duration
	s = strings.Join(strings.Fields(s), "")
	for _, u := range []struct {
		name string
		unit time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		number, rest, ok := strings.Cut(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return 0, false
		}
		d, s = d+time.Duration(n)*u.unit, rest
	}
	return d, s == "" && d > 0
}
