package krb5

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/flags"
)

// A ccache is the content of a credential cache.
type ccache struct {
	client  Principal
	tickets []*Ticket
}

// readCCache reads the cache with a given name. The cache manager listens at kcmSocket.
func readCCache(ctx context.Context, name, kcmSocket string) (*ccache, error) {
	kind, rest, ok := strings.Cut(name, ":")
	switch {
	case !ok || len(kind) == 1: // a drive
		return loadCCacheFile(name, name)
	case kind == "FILE":
		return loadCCacheFile(name, rest)
	case kind == "DIR":
		path, err := primaryOfDir(name, rest)
		if err != nil {
			return nil, err
		}
		return loadCCacheFile(name, path)
	case kind == "KCM":
		return readKCM(ctx, kcmSocket, rest)
	case kind == "KEYRING":
		return readKeyring(rest)
	}
	return nil, ccacheError(name, errors.New("a cache of this type cannot be read, only those of FILE, DIR, KCM and KEYRING; "+
		"run kinit with KRB5CCNAME=FILE:/path, and name that cache"))
}

func ccacheError(name string, err error) error {
	return fmt.Errorf("krb5: %w: credential cache %s: %w", ErrConfig, name, err)
}

// errEmptyCCache means that a cache does not exist or is empty.
var errEmptyCCache = fmt.Errorf("it does not exist; run kinit: %w", fs.ErrNotExist)

// primaryOfDir returns the file of a cache of the type DIR: the file that is named, or the one that
// the file "primary" names (kswitch writes it).
func primaryOfDir(name, dir string) (string, error) {
	if file, one := strings.CutPrefix(dir, ":"); one {
		return file, nil
	}
	primary := "tkt"
	b, err := os.ReadFile(filepath.Join(dir, "primary"))
	if err == nil {
		primary = strings.TrimSpace(string(b))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", ccacheError(name, err)
	}
	if !strings.HasPrefix(primary, "tkt") || strings.ContainsAny(primary, `/\`) {
		return "", ccacheError(name, fmt.Errorf("the file primary names no cache, but %q", primary))
	}
	return filepath.Join(dir, primary), nil
}

// maxCCacheFile is the maximum size of a cache: enough for thousands of tickets.
const maxCCacheFile = 64 << 20

func loadCCacheFile(name, path string) (*ccache, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, ccacheError(name, fmt.Errorf("it cannot be read; run kinit: %w", err))
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, ccacheError(name, errors.Join(fmt.Errorf("%s is no file", path), err))
	}
	b, err := io.ReadAll(io.LimitReader(f, maxCCacheFile+1))
	if err == nil && len(b) > maxCCacheFile {
		err = fmt.Errorf("it has more than %d bytes", maxCCacheFile)
	}
	if err != nil {
		return nil, ccacheError(name, err)
	}
	c, err := parseCCache(b)
	if err != nil {
		return nil, fmt.Errorf("%w (file %s)", err, path)
	}
	return c, nil
}

// LoadTickets reads the tickets of a credential cache, for an [Observer]. The name has one of the
// forms that [NewInitiatorFromCCache] accepts.
func LoadTickets(name string) ([]*Ticket, error) {
	c, err := readCCache(context.Background(), name, defaultKCMSocket)
	if err != nil {
		return nil, err
	}
	return c.tickets, nil
}

// parseCCache reads a cache file in MIT's format, versions 3 and 4:
//
//	| 05 04 | length of header fields 2 | fields | principal | credentials |
//
// Version 3 has no header fields. We do not use gokrb5's parser because it reads past the end of
// its input.
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

// find returns the service's ticket that ends last. A service without a realm matches any realm.
func (c *ccache) find(service Principal) *Ticket {
	var found *Ticket
	for _, t := range c.tickets {
		want := service
		if want.Realm == "" {
			want.Realm = t.Service.Realm
		}
		if t.Service.equalFold(want) && t.Client.equal(c.client) && (found == nil || t.EndTime.After(found.EndTime)) {
			found = t
		}
	}
	return found
}

// A ccacheReader takes values from the front of b. If a value is missing, the reader becomes bad
// and all further values are empty.
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

// ticketRenewable is the flag of RFC 4120 section 5.3, whose bits count from the left.
const ticketRenewable = 1 << (31 - flags.Renewable)

// credential returns nil for an entry that is one of MIT's settings rather than a ticket, and for a
// bad entry.
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
	renewTill := r.time()
	r.bytes(1) // whether encrypted in a session key
	if r.uint32()&ticketRenewable != 0 {
		t.RenewTill = renewTill
	}
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

// reloadCCache reads the cache again, because kinit or another program may have changed it. It
// returns nil if that fails but the ticket-granting ticket that was read before has not ended.
func (s *kdcSource) reloadCCache(ctx context.Context) (*ccache, error) {
	c, err := readCCache(ctx, s.ccache, s.kcmSocket)
	if err == nil && !c.client.equal(s.client) {
		err = ccacheError(s.ccache, fmt.Errorf("it was of %v and is now of %v", s.client, c.client))
	}
	home := s.tgts[s.client.Realm]
	if err != nil {
		if home.lasts(0) {
			return nil, nil
		}
		return nil, err
	}
	// After kinit the ticket in the cache ends later, after a renewal the one in memory.
	t := c.find(Principal{Name: []string{"krbtgt", s.client.Realm}})
	if t != nil && (home == nil || t.EndTime.After(home.EndTime)) {
		s.setHome(t)
	}
	return c, nil
}

// setHome replaces the ticket-granting ticket of the home realm and drops those of other realms,
// which were granted with the old one.
func (s *kdcSource) setHome(t *Ticket) {
	clear(s.tgts)
	s.tgts[s.client.Realm] = t
}

// cached returns the ticket for a service if the cache itself has it and no better one can be
// obtained.
func (s *kdcSource) cached(ctx context.Context, service Principal) (*Ticket, error) {
	c, err := s.reloadCCache(ctx)
	if c == nil {
		return nil, err
	}
	t := c.find(service)
	if t.lasts(spare) || t.lasts(0) && !s.tgts[s.client.Realm].lasts(0) {
		return t, nil
	}
	return nil, nil
}

// parseCredential reads a single credential. It returns nil if the credential is not a ticket.
func parseCredential(b []byte) (*Ticket, error) {
	r := &ccacheReader{b: b}
	t := r.credential(false)
	if r.bad {
		return nil, errors.New("a credential is cut short")
	}
	return t, nil
}
