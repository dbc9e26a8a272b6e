package dcerpc

import (
	"cmp"
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// mgmtInterface is the remote management interface, which every server has (C706 appendix Q).
func mgmtInterface() SyntaxID {
	return SyntaxID{UUID: uuid.MustParse("afa8bd80-7d8a-11c9-bef4-08002b102989"), Major: 1}
}

// The operations of mgmt.
const (
	mgmtInqIfIDs = iota
	mgmtInqStats
	mgmtIsServerListening
	mgmtStopServerListening
	mgmtInqPrincName
	mgmtOpnums
)

// Statuses of mgmt, as error_status_t.
const (
	statusOK                  = 0
	statusAccessDenied        = 5     // ERROR_ACCESS_DENIED
	statusInsufficientBuffer  = 0x7A  // ERROR_INSUFFICIENT_BUFFER
	statusUnknownAuthnService = 0x6D3 // RPC_S_UNKNOWN_AUTHN_SERVICE
)

// maxStats is the largest count that inq_stats accepts; there are only four statistics.
const maxStats = 50

// mgmt answers the management interface of a server.
type mgmt struct {
	server *Server
}

// ServeRPC answers one operation.
func (m *mgmt) ServeRPC(_ context.Context, call *Call) error {
	d := ndr.NewDecoder(call.Stub, call.Syntax)
	e := ndr.NewEncoder(call.Response, call.ResponseSyntax)
	switch call.Opnum {
	case mgmtInqIfIDs:
		m.inqIfIDs(&e)
	case mgmtInqStats:
		m.inqStats(&d, &e)
	case mgmtIsServerListening:
		e.Uint32(statusOK)
		e.Uint32(1)
	case mgmtStopServerListening:
		e.Uint32(statusAccessDenied)
	case mgmtInqPrincName:
		m.inqPrincName(&d, &e)
	default:
		return ErrOpnumRange
	}
	if err := d.Err(); err != nil {
		return err
	}
	var err error
	call.Response, err = e.Bytes()
	return err
}

// inqIfIDs returns the interfaces of the server, without mgmt itself:
//
//	[out] rpc_if_id_vector_t **vector, [out] error_status_t *status
//
//	referent | max_count | count | referent of each | {uuid, major 2, minor 2} of each | status
func (m *mgmt) inqIfIDs(e *ndr.Encoder) {
	ids := m.server.registered()
	slices.SortFunc(ids, func(a, b SyntaxID) int {
		return cmp.Or(slices.Compare(a.UUID[:], b.UUID[:]), cmp.Compare(a.Major, b.Major), cmp.Compare(a.Minor, b.Minor))
	})
	e.Pointer(true)
	e.Uint3264(uint64(len(ids)))
	e.Uint32(uint32(len(ids)))
	for range ids {
		e.Pointer(true)
	}
	for _, id := range ids {
		e.GUID(id.UUID)
		e.Uint16(id.Major)
		e.Uint16(id.Minor)
	}
	e.Uint32(statusOK)
}

// inqStats returns up to four counters: calls in, calls out, PDUs in, PDUs out:
//
//	[in,out] unsigned32 *count, [out,size_is(*count)] unsigned32 statistics[], [out] error_status_t *status
func (m *mgmt) inqStats(d *ndr.Decoder, e *ndr.Encoder) {
	count := d.Uint32()
	if count > maxStats {
		d.Fail("count", "over 50")
		return
	}
	s := &m.server.stats
	all := []uint32{s.callsIn.Load(), s.callsOut.Load(), s.pduIn.Load(), s.pduOut.Load()}
	all = all[:min(int(count), len(all))]
	e.Uint32(uint32(len(all)))
	e.Uint3264(uint64(len(all)))
	for _, v := range all {
		e.Uint32(v)
	}
	e.Uint32(statusOK)
}

// inqPrincName returns the server's principal for an authentication service:
//
//	[in] unsigned32 authn_proto, [in] unsigned32 princ_name_size,
//	[out,string,size_is(princ_name_size)] char princ_name[], [out] error_status_t *status
//
//	max_count = princ_name_size | offset 0 | actual_count | the name and its NUL | status
func (m *mgmt) inqPrincName(d *ndr.Decoder, e *ndr.Encoder) {
	service, size := d.Uint32(), d.Uint32()
	if size == 0 {
		d.Fail("princ_name_size", "is 0")
		return
	}
	name, status := m.server.Principal, uint32(statusOK)
	switch {
	case service > 0xFF || m.server.acceptor(AuthType(service)) == nil:
		name, status = "", statusUnknownAuthnService
	case uint64(len(name))+1 > uint64(size):
		name, status = "", statusInsufficientBuffer
	}
	e.Uint3264(uint64(size))
	e.Uint3264(0)
	e.Uint3264(uint64(len(name) + 1))
	e.Raw([]byte(name))
	e.Uint8(0)
	e.Uint32(status)
}
