// Package krb5test is a Kerberos realm in memory, for tests and demonstrations: its keys are made
// at start and its tickets in the process that uses them. There is no KDC, nothing is written to a
// file, and nobody is authenticated: whoever holds a Realm can be any of its users. It is for
// nothing else.
package krb5test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

// A Realm holds users and services. It may be used by several goroutines at once.
type Realm struct {
	name   string
	etype  krb5.Etype
	domain dcerpc.SID
	kdcKey krb5.Key

	mu       sync.Mutex
	users    map[string]*user
	services map[string]krb5.Key
	nextRID  uint32
}

type user struct {
	rid    uint32
	groups []dcerpc.SID
}

// The version of every key of a realm.
const keyVersion = 3

// NewRealm makes an empty realm, "EXAMPLE.TEST", with keys of one encryption type; zero means
// krb5.AES256SHA1. It panics for a type that package krb5 does not have.
func NewRealm(name string, etype krb5.Etype) *Realm {
	if etype == 0 {
		etype = krb5.AES256SHA1
	}
	var b [12]byte
	rand.Read(b[:])
	return &Realm{
		name:  name,
		etype: etype,
		domain: dcerpc.SID(fmt.Sprintf("S-1-5-21-%d-%d-%d", binary.LittleEndian.Uint32(b[0:]),
			binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:]))),
		kdcKey:   newKey(etype),
		users:    make(map[string]*user),
		services: make(map[string]krb5.Key),
		nextRID:  1000,
	}
}

func newKey(e krb5.Etype) krb5.Key {
	size := map[krb5.Etype]int{krb5.AES128SHA1: 16, krb5.AES256SHA1: 32, krb5.AES128SHA2: 16, krb5.AES256SHA2: 32,
		krb5.RC4HMAC: 16}[e]
	if size == 0 {
		panic(fmt.Sprintf("krb5test: %v", e))
	}
	value := make([]byte, size)
	rand.Read(value)
	return krb5.Key{Etype: e, Value: value}
}

// Name returns the realm's name.
func (r *Realm) Name() string { return r.name }

// DomainSID returns the SID of the domain that users are in.
func (r *Realm) DomainSID() dcerpc.SID { return r.domain }

// AddUser adds a user who is a member of groups, or changes them, and returns the user's SID.
func (r *Realm) AddUser(name string, groups ...dcerpc.SID) dcerpc.SID {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.users[name]
	if u == nil {
		u = &user{rid: r.nextRID}
		r.nextRID++
		r.users[name] = u
	}
	u.groups = append([]dcerpc.SID(nil), groups...)
	return dcerpc.SID(fmt.Sprintf("%s-%d", r.domain, u.rid))
}

// AddService adds a service, "host/fs1.example.test", with a key of its own, or gives it a new one.
func (r *Realm) AddService(spn string) {
	key := newKey(r.etype)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.services[spn] = key
}

// Keytab returns the keys of services, which AddService must have added; those of all where none is
// named.
func (r *Realm) Keytab(spns ...string) *krb5.Keytab {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(spns) == 0 {
		for spn := range r.services {
			spns = append(spns, spn)
		}
	}
	kt := &krb5.Keytab{}
	for _, spn := range spns {
		key, ok := r.services[spn]
		if !ok {
			panic("krb5test: no service " + spn)
		}
		kt = kt.Add(krb5.Principal{Name: strings.Split(spn, "/"), Realm: r.name}, keyVersion, key)
	}
	return kt
}

// Initiator returns the client's side of security contexts for a user, whom AddUser must have
// added.
func (r *Realm) Initiator(user string) *krb5.Initiator { return r.InitiatorWith(user, nil) }

// InitiatorWith is Initiator with tickets that differ from good ones.
func (r *Realm) InitiatorWith(user string, o *TicketOptions) *krb5.Initiator {
	return krb5.NewInitiator(source{r, user, o}, &krb5.InitiatorConfig{InsecureRC4: r.etype == krb5.RC4HMAC})
}

// Acceptor returns the server's side for services, as Keytab has them. Unlike others it takes the
// local groups that AddUser gave to an account, BUILTIN\Backup Operators for instance, so that a
// test needs no domain's group.
func (r *Realm) Acceptor(spns ...string) *krb5.Acceptor {
	a, err := krb5.NewAcceptor(&krb5.AcceptorConfig{
		Keytab: r.Keytab(spns...), InsecureRC4: r.etype == krb5.RC4HMAC, InsecureLocalSIDs: true,
	})
	if err != nil {
		panic(err) // a keytab is all that it needs
	}
	return a
}

// TicketOptions say how a ticket differs from a good one. Nil means a good one, for ten hours from
// now.
type TicketOptions struct {
	StartTime time.Time // zero means now
	EndTime   time.Time // zero means ten hours after StartTime
	// Version is that of the service's key, as the ticket says; zero means the right one.
	Version int
	// Key encrypts the ticket and signs the PAC; nil means the service's.
	Key *krb5.Key
	// Realm is that which the ticket says to be of; empty means the right one.
	Realm string
	// SessionEtype is the type of the session key; zero means that of the service's.
	SessionEtype krb5.Etype
	// Invalid sets the flag of a postdated ticket that was not validated yet.
	Invalid bool
	// NoPAC leaves the PAC out. MinimalPAC leaves its logon information out, as MIT's KDC does.
	NoPAC, MinimalPAC bool
	// ResourceGroups are put into the PAC in addition to the user's groups. All belong to one
	// domain.
	ResourceGroups []dcerpc.SID
	// SpoilPAC changes one bit of the PAC after it was signed, whose number is taken modulo the
	// PAC's size. Zero means none.
	SpoilPAC int
	// PACName is the client that the PAC says to be of; empty means the right one.
	PACName string
	// NameType is the type of the client's name; zero means NT-PRINCIPAL, 1.
	NameType int32
}

type source struct {
	r    *Realm
	user string
	o    *TicketOptions
}

// Ticket implements krb5.TicketSource.
func (s source) Ticket(_ context.Context, service string) (*krb5.Ticket, error) {
	return s.r.Ticket(s.user, service, s.o)
}
