// Package epm serves the endpoint mapper (ept, C706 appendix O, MS-RPCE 2.2.1.2): a client that
// knows an interface but not its TCP port asks the endpoint mapper, which has a well-known port.
package epm

import (
	"context"
	"encoding/binary"
	"net/netip"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// Port is the well-known TCP port of endpoint mappers (MS-RPCE 2.1.1.1).
const Port = 135

// Interface returns the interface that a Mapper serves (ept, C706 appendix O).
func Interface() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("e1af8308-5d1f-11c9-91a4-08002b14a0fa"), Major: 3}
}

// A Mapper answers which TCP port an interface is served on. It is the [dcerpc.Handler] of
// [Interface], usually on a listener of its own at [Port], and must be registered with
// LevelInsecureNone, since clients ask without security:
//
//	srv.Handle(epm.Interface(), mapper, &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone})
//
// It answers ept_map, ept_lookup and ept_lookup_handle_free from a fixed list; ept_insert is not
// supported, so nobody can register entries over the network.
type Mapper struct {
	// Entries must not be changed while the mapper serves.
	Entries []Entry
}

// An Entry says where an interface is served.
type Entry struct {
	Interface dcerpc.SyntaxID
	Object    uuid.UUID // zero means any
	Port      uint16
	// Addr is the server's IPv4 address; the zero value lets clients use the one they asked.
	Addr netip.Addr
	// Annotation is a comment for people, of at most 63 bytes; the rest is cut off.
	Annotation string
}

// The operations of ept.
const (
	eptLookup           = 2
	eptMap              = 3
	eptLookupHandleFree = 4
)

// Statuses of ept, as error_status_t (C706 appendix E).
const (
	statusOK         = 0
	eptNotRegistered = 0x16C9A0D6 // no, or no more, entries
)

// maxMapped is the range of max_ents and max_towers (MS-RPCE 2.2.1.2.4).
const maxMapped = 500

// What ept_lookup asks for, and how it compares versions (C706 appendix O).
const (
	inquireAll       = 0
	inquireInterface = 1
	inquireObject    = 2
	inquireBoth      = 3

	versionsAll        = 1
	versionsCompatible = 2
	versionsExact      = 3
	versionsMajorOnly  = 4
	versionsUpTo       = 5
)

// ServeRPC answers one operation.
func (m *Mapper) ServeRPC(_ context.Context, call *dcerpc.Call) error {
	d := ndr.NewDecoder(call.Stub, call.Syntax)
	e := ndr.NewEncoder(call.Response, call.ResponseSyntax)
	var err error
	switch call.Opnum {
	case eptLookup:
		err = m.lookup(&d, &e)
	case eptMap:
		err = m.mapTower(&d, &e)
	case eptLookupHandleFree:
		decodeLookupHandle(&d)
		encodeLookupHandle(&e, 0)
		e.Uint32(statusOK)
	default:
		return dcerpc.ErrOpnumRange
	}
	if d.Err() != nil {
		return d.Err()
	}
	if err != nil {
		return err
	}
	call.Response, err = e.Bytes()
	return err
}

// mapTower finds the endpoints of one interface:
//
//	[in,ptr] uuid_t *object, [in,ptr] twr_t *map_tower, [in,out] ept_lookup_handle_t *entry_handle,
//	[in,range(0,500)] unsigned32 max_towers, [out] unsigned32 *num_towers,
//	[out,length_is(*num_towers),size_is(max_towers)] twr_t *towers[], [out] error_status_t *status
func (m *Mapper) mapTower(d *ndr.Decoder, e *ndr.Encoder) error {
	var object uuid.UUID
	if d.Pointer() {
		object = d.GUID()
	}
	var octets []byte
	if d.Pointer() {
		octets = decodeTower(d)
	}
	start, limit := decodeLookupHandle(d), d.Uint32()
	if limit > maxMapped {
		d.Fail("max_towers", "over 500")
	}
	if d.Err() != nil {
		return d.Err()
	}
	var found []tower
	// A tower of another protocol sequence is treated as one that is not registered.
	if want, err := parseTower(octets); err == nil {
		for i := range m.Entries {
			entry := &m.Entries[i]
			if entry.matchesTower(&want, object) {
				found = append(found, entry.tower(want.transfer))
			}
		}
	}
	if start > len(found) {
		return dcerpc.ErrContextMismatch
	}
	found, next := page(found, start, int(limit))
	encodeLookupHandle(e, next)
	e.Uint32(uint32(len(found)))
	e.Uint3264(uint64(limit))
	e.Uint3264(0)
	e.Uint3264(uint64(len(found)))
	for range found {
		e.Pointer(true)
	}
	for i := range found {
		encodeTower(e, &found[i])
	}
	e.Uint32(lookupStatus(len(found)))
	return nil
}

// lookup lists entries:
//
//	[in] unsigned32 inquiry_type, [in,ptr] uuid_t *object, [in,ptr] rpc_if_id_t *interface_id,
//	[in] unsigned32 vers_option, [in,out] ept_lookup_handle_t *entry_handle,
//	[in,range(0,500)] unsigned32 max_ents, [out] unsigned32 *num_ents,
//	[out,length_is(*num_ents),size_is(max_ents)] ept_entry_t entries[], [out] error_status_t *status
//
//	ept_entry_t: object 16 | tower's referent | annotation: offset, actual_count, bytes with NUL
func (m *Mapper) lookup(d *ndr.Decoder, e *ndr.Encoder) error {
	q := mapperQuery{inquiry: d.Uint32()}
	if d.Pointer() {
		q.object = d.GUID()
	}
	if d.Pointer() {
		q.iface.UUID = d.GUID()
		q.iface.Major, q.iface.Minor = d.Uint16(), d.Uint16()
	}
	q.versions = d.Uint32()
	start, limit := decodeLookupHandle(d), d.Uint32()
	if limit > maxMapped {
		d.Fail("max_ents", "over 500")
	}
	if d.Err() != nil {
		return d.Err()
	}
	var found []*Entry
	for i := range m.Entries {
		if entry := &m.Entries[i]; entry.matches(&q) {
			found = append(found, entry)
		}
	}
	if start > len(found) {
		return dcerpc.ErrContextMismatch
	}
	found, next := page(found, start, int(limit))
	if next == 0 && len(found) > 0 {
		// Windows marks the end by a call that finds nothing, and Samba's clients wait for that.
		next = start + len(found)
	}
	encodeLookupHandle(e, next)
	e.Uint32(uint32(len(found)))
	e.Uint3264(uint64(limit))
	e.Uint3264(0)
	e.Uint3264(uint64(len(found)))
	for _, entry := range found {
		e.Align3264()
		e.GUID(entry.Object)
		e.Pointer(true)
		annotation := entry.Annotation[:min(len(entry.Annotation), 63)]
		e.Uint3264(0)
		e.Uint3264(uint64(len(annotation) + 1))
		e.Raw([]byte(annotation))
		e.Uint8(0)
	}
	for _, entry := range found {
		t := entry.tower(pdu.NDR20())
		encodeTower(e, &t)
	}
	e.Uint32(lookupStatus(len(found)))
	return nil
}

func lookupStatus(found int) uint32 {
	if found == 0 {
		return eptNotRegistered
	}
	return statusOK
}

// page returns the elements of all to send from start on, and where the next page starts; zero
// means that there is none.
func page[T any](all []T, start, limit int) ([]T, int) {
	all = all[start:]
	if len(all) <= limit {
		return all, 0
	}
	return all[:limit], start + limit
}

// A mapperQuery is what ept_lookup asks for.
type mapperQuery struct {
	inquiry  uint32
	object   uuid.UUID
	iface    dcerpc.SyntaxID
	versions uint32
}

func (en *Entry) matches(q *mapperQuery) bool {
	object := en.Object == q.object
	iface := en.Interface.UUID == q.iface.UUID && en.versionMatches(q)
	switch q.inquiry {
	case inquireAll:
		return true
	case inquireInterface:
		return iface
	case inquireObject:
		return object
	case inquireBoth:
		return object && iface
	}
	return false
}

func (en *Entry) versionMatches(q *mapperQuery) bool {
	have, want := &en.Interface, &q.iface
	switch q.versions {
	case versionsAll:
		return true
	case versionsCompatible:
		return have.Major == want.Major && have.Minor >= want.Minor
	case versionsExact:
		return have.Major == want.Major && have.Minor == want.Minor
	case versionsMajorOnly:
		return have.Major == want.Major
	case versionsUpTo:
		return have.Major < want.Major || have.Major == want.Major && have.Minor <= want.Minor
	}
	return false
}

// matchesTower reports whether the entry is what ept_map asks for: the interface in a compatible
// version, for this object or any.
func (en *Entry) matchesTower(want *tower, object uuid.UUID) bool {
	id := &en.Interface
	return id.UUID == want.iface.UUID && id.Major == want.iface.Major && id.Minor >= want.iface.Minor &&
		(en.Object == uuid.Nil || en.Object == object) &&
		(want.transfer == pdu.NDR20() || want.transfer == pdu.NDR64())
}

func (en *Entry) tower(transfer dcerpc.SyntaxID) tower {
	return tower{iface: en.Interface, transfer: transfer, port: en.Port, addr: ipv4(en.Addr)}
}

// A twr_t is a conformant structure: max_count | tower_length | octets.
func decodeTower(d *ndr.Decoder) []byte {
	count := d.Count(1)
	n := d.Uint32()
	if int64(n) != int64(count) {
		d.Fail("tower_length", "is not the tower's max_count")
		return nil
	}
	return d.Raw(count)
}

func encodeTower(e *ndr.Encoder, t *tower) {
	octets := t.append(nil)
	e.Uint3264(uint64(len(octets)))
	e.Uint32(uint32(len(octets)))
	e.Raw(octets)
}

// A lookup handle is a context handle of 20 bytes: attributes, zero, and a UUID, whose first bytes
// say where to continue. The server keeps no state. A zero handle stands for both the start and the
// end.
func decodeLookupHandle(d *ndr.Decoder) int {
	d.Uint32()
	g := d.GUID()
	return int(binary.BigEndian.Uint32(g[:]) & 0x7FFFFFFF)
}

func encodeLookupHandle(e *ndr.Encoder, next int) {
	var g [16]byte
	binary.BigEndian.PutUint32(g[:], uint32(next))
	e.Uint32(0)
	e.GUID(g)
}
