package krb5

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A ccache is a parsed credential cache file (MIT's format, versions 3 and 4; those before are of
// the last century).
type ccache struct {
	client  Principal
	tickets []*Ticket
}

// ccacheFile returns the file of a cache's name. In a directory that is the one that "primary"
// names (kswitch writes it).
func ccacheFile(name string) (string, error) {
	kind, rest, ok := strings.Cut(name, ":")
	if !ok || len(kind) == 1 { // a drive
		return name, nil
	}
	switch kind {
	case "FILE":
		return rest, nil
	case "DIR":
		if file, one := strings.CutPrefix(rest, ":"); one {
			return file, nil
		}
		primary := "tkt"
		b, err := os.ReadFile(filepath.Join(rest, "primary"))
		if err == nil {
			primary = strings.TrimSpace(string(b))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("krb5: %w: credential cache %s: %w", ErrConfig, name, err)
		}
		if !strings.HasPrefix(primary, "tkt") || strings.ContainsAny(primary, `/\`) {
			return "", fmt.Errorf("krb5: %w: credential cache %s: the file primary names no cache, but %q", ErrConfig,
				name, primary)
		}
		return filepath.Join(rest, primary), nil
	}
	return "", fmt.Errorf("krb5: %w: credential cache %s: only files can be read; set KRB5CCNAME=FILE:... for kinit",
		ErrConfig, name)
}

// loadCCacheFile reads a cache of the types FILE and DIR.
func loadCCacheFile(name string) (*ccache, error) {
	path, err := ccacheFile(name)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("krb5: %w: the credential cache cannot be read; run kinit: %w", ErrConfig, err)
	}
	c, err := parseCCache(b)
	if err != nil {
		return nil, fmt.Errorf("%w (file %s)", err, path)
	}
	return c, nil
}

// LoadTickets reads the tickets of a credential cache: a file, or a name of the types FILE and DIR.
// It is for an [Observer]; [NewInitiatorFromCCache] uses a cache itself.
func LoadTickets(name string) ([]*Ticket, error) {
	c, err := loadCCacheFile(name)
	if err != nil {
		return nil, err
	}
	return c.tickets, nil
}

// parseCCache reads
//
//	| 05 04 | length of header fields 2 | fields | principal | credentials |
//
// where version 3 has no header fields. gokrb5's own parser reads past the end of what it is given.
func parseCCache(b []byte) (*ccache, error) {
	r := &ccacheReader{b: b}
	switch r.uint16() {
	case 0x0503:
	case 0x0504:
		r.bytes(int(r.uint16()))
	default:
		return nil, fmt.Errorf("krb5: %w: not a credential cache of version 3 or 4", ErrConfig)
	}
	v3 := b[1] == 3
	c := &ccache{client: r.principal()}
	for !r.bad && len(r.b) > 0 {
		if t := r.credential(v3); t != nil {
			c.tickets = append(c.tickets, t)
		}
	}
	if r.bad || len(c.client.Name) == 0 {
		return nil, fmt.Errorf("krb5: %w: the credential cache is cut short; run kinit again", ErrConfig)
	}
	return c, nil
}

// find returns the ticket for a service; one without a realm matches that of any.
func (c *ccache) find(service Principal) *Ticket {
	for _, t := range c.tickets {
		want := service
		if want.Realm == "" {
			want.Realm = t.Service.Realm
		}
		if t.Service.equalFold(want) && t.Client.equal(c.client) {
			return t
		}
	}
	return nil
}

// A ccacheReader takes values from the front of b. The first one that is not there makes it bad,
// and what follows empty.
type ccacheReader struct {
	b   []byte
	bad bool
}

func (r *ccacheReader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *ccacheReader) uint16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *ccacheReader) uint32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// data is bytes after their number.
func (r *ccacheReader) data() []byte { return r.bytes(int(int32(r.uint32()))) }

// principal is | type 4 | number of names 4 | realm | names |, each after its length.
func (r *ccacheReader) principal() Principal {
	r.uint32()
	n := r.uint32()
	p := Principal{Realm: string(r.data())}
	for i := uint32(0); i < n && !r.bad; i++ {
		p.Name = append(p.Name, string(r.data()))
	}
	return p
}

func (r *ccacheReader) time() time.Time { return time.Unix(int64(r.uint32()), 0).UTC() }

// credential returns nil for an entry that is no ticket but a setting of MIT's, and for one that is
// bad.
func (r *ccacheReader) credential(v3 bool) *Ticket {
	t := &Ticket{Client: r.principal(), Service: r.principal()}
	t.SessionKey.Etype = Etype(r.uint16())
	if v3 {
		r.uint16() // the type again
	}
	t.SessionKey.Value = r.data()
	r.time() // of authentication
	r.time() // start
	t.EndTime = r.time()
	r.time()   // of renewal
	r.bytes(1) // whether encrypted in a session key
	r.uint32() // flags
	for range 2 {
		// Addresses, then authorization data: each a type and data.
		for n := r.uint32(); n > 0 && !r.bad; n-- {
			r.uint16()
			r.data()
		}
	}
	t.Raw = r.data()
	r.data() // a second ticket
	if r.bad || t.Service.Realm == "X-CACHECONF:" {
		return nil
	}
	return t
}

// loadCCache reads the file again, since kinit or a renewal may have changed it, and returns the
// ticket for the service where the cache has it itself.
func (s *kdcSource) loadCCache(service Principal) (*Ticket, error) {
	c, err := loadCCacheFile(s.ccache)
	if err != nil {
		return nil, err
	}
	if !c.client.equal(s.client) {
		return nil, fmt.Errorf("krb5: %w: the credential cache %s was of %v and is now of %v", ErrConfig, s.ccache,
			s.client, c.client)
	}
	if t := c.find(service); t.lasts(0) {
		return t, nil
	}
	clear(s.tgts)
	if t := c.find(Principal{Name: []string{"krbtgt", c.client.Realm}}); t != nil {
		s.tgts[c.client.Realm] = t
	}
	return nil, nil
}
