package krb5test

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// pac makes a PACTYPE with logon information, client information and both signatures (MS-PAC 2.3).
func (r *Realm) pac(name string, u *user, authTime time.Time, key types.EncryptionKey, o *TicketOptions) ([]byte,
	error) {
	type buffer struct {
		kind uint32
		data []byte
	}
	var buffers []buffer
	if !o.MinimalPAC {
		info, err := r.logonInfo(name, u, authTime, o)
		if err != nil {
			return nil, err
		}
		buffers = append(buffers, buffer{1, info})
	}
	clientName := name
	if o.PACName != "" {
		clientName = o.PACName
	}
	kdcKey := types.EncryptionKey{KeyType: int32(r.kdcKey.Etype), KeyValue: r.kdcKey.Value}
	server, err := emptySignature(key)
	if err != nil {
		return nil, err
	}
	kdc, err := emptySignature(kdcKey)
	if err != nil {
		return nil, err
	}
	buffers = append(buffers, buffer{10, clientInfo(clientName, authTime)}, buffer{6, server}, buffer{7, kdc})

	out := binary.LittleEndian.AppendUint32(nil, uint32(len(buffers)))
	out = binary.LittleEndian.AppendUint32(out, 0)
	at := 8 + 16*len(buffers)
	starts := make(map[uint32]int)
	for _, b := range buffers {
		out = binary.LittleEndian.AppendUint32(out, b.kind)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(b.data)))
		out = binary.LittleEndian.AppendUint64(out, uint64(at))
		starts[b.kind] = at
		at += (len(b.data) + 7) &^ 7
	}
	for _, b := range buffers {
		out = append(out, b.data...)
		for len(out)%8 != 0 {
			out = append(out, 0)
		}
	}
	// The server signs the PAC with both signatures zero, the KDC the server's signature (MS-PAC
	// 2.8).
	serverSum, err := checksum(key, out)
	if err != nil {
		return nil, err
	}
	kdcSum, err := checksum(kdcKey, serverSum)
	if err != nil {
		return nil, err
	}
	copy(out[starts[6]+4:], serverSum)
	copy(out[starts[7]+4:], kdcSum)
	if n := o.SpoilPAC % (8 * len(out)); n != 0 {
		out[n/8] ^= 1 << (n % 8)
	}
	return out, nil
}

// emptySignature is a PAC_SIGNATURE_DATA of zeros.
func emptySignature(key types.EncryptionKey) ([]byte, error) {
	et, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		return nil, err
	}
	sum, err := checksum(key, nil)
	if err != nil {
		return nil, err
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(et.GetHashID()))
	return append(b, make([]byte, len(sum))...), nil
}

func checksum(key types.EncryptionKey, data []byte) ([]byte, error) {
	et, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		return nil, err
	}
	return et.GetChecksumHash(key.KeyValue, data, keyusage.KERB_NON_KERB_CKSUM_SALT)
}

// clientInfo is a PAC_CLIENT_INFO (MS-PAC 2.7).
func clientInfo(name string, authTime time.Time) []byte {
	units := utf16.Encode([]rune(name))
	b := binary.LittleEndian.AppendUint64(nil, filetime(authTime))
	b = binary.LittleEndian.AppendUint16(b, uint16(2*len(units)))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func filetime(t time.Time) uint64 {
	const unixEpoch = 116444736000000000
	return uint64(t.Unix()*1e7+int64(t.Nanosecond()/100)) + unixEpoch
}

// logonInfo is a KERB_VALIDATION_INFO in its type serialization (MS-PAC 2.5, MS-RPCE 2.2.6).
func (r *Realm) logonInfo(name string, u *user, authTime time.Time, o *TicketOptions) ([]byte, error) {
	var rids []uint32
	var extra []dcerpc.SID
	for _, g := range u.groups {
		if rid, ok := inDomain(r.domain, g); ok {
			rids = append(rids, rid)
		} else {
			extra = append(extra, g)
		}
	}
	const domainUsers = 513
	rids = append([]uint32{domainUsers}, rids...)
	var resourceDomain dcerpc.SID
	var resource []uint32
	for _, g := range o.ResourceGroups {
		i := strings.LastIndexByte(string(g), '-')
		resourceDomain = g[:i]
		rid, ok := inDomain(resourceDomain, g)
		if !ok {
			return nil, fmt.Errorf("krb5test: resource groups of several domains: %v", o.ResourceGroups)
		}
		resource = append(resource, rid)
	}
	flags := uint32(0x20)
	if len(resource) > 0 {
		flags |= 0x200
	}

	e := ndr.NewEncoder(nil, ndr.NDR20)
	never := uint64(0x7FFFFFFFFFFFFFFF)
	e.Pointer(true)
	for _, t := range []uint64{filetime(authTime), never, never, 0, 0, never} {
		putFiletime(&e, t)
	}
	for _, s := range []string{name, "", "", "", "", ""} {
		putUnicodeHeader(&e, s)
	}
	e.Uint16(0)
	e.Uint16(0)
	e.Uint32(u.rid)
	e.Uint32(domainUsers)
	e.Uint32(uint32(len(rids)))
	e.Pointer(true)
	e.Uint32(flags)
	e.Raw(make([]byte, 16))
	netbios, _, _ := strings.Cut(r.name, ".")
	putUnicodeHeader(&e, "DC")
	putUnicodeHeader(&e, netbios)
	e.Pointer(true)
	for range 2 + 1 + 1 {
		e.Uint32(0)
	}
	putFiletime(&e, 0)
	putFiletime(&e, 0)
	e.Uint32(0)
	e.Uint32(0)
	e.Uint32(uint32(len(extra)))
	e.Pointer(len(extra) > 0)
	e.Pointer(len(resource) > 0)
	e.Uint32(uint32(len(resource)))
	e.Pointer(len(resource) > 0)

	for _, s := range []string{name, "", "", "", "", ""} {
		putUnicode(&e, s)
	}
	putRIDs(&e, rids)
	putUnicode(&e, "DC")
	putUnicode(&e, netbios)
	putSID(&e, r.domain)
	if len(extra) > 0 {
		e.Uint32(uint32(len(extra)))
		for range extra {
			e.Pointer(true)
			e.Uint32(groupAttributes)
		}
		for _, s := range extra {
			putSID(&e, s)
		}
	}
	if len(resource) > 0 {
		putSID(&e, resourceDomain)
		putRIDs(&e, resource)
	}
	e.Align(8)
	body, err := e.Bytes()
	if err != nil {
		return nil, fmt.Errorf("krb5test: logon information: %w", err)
	}
	head := []byte("\x01\x10\x08\x00\xCC\xCC\xCC\xCC")
	head = binary.LittleEndian.AppendUint32(head, uint32(len(body)))
	head = append(head, 0, 0, 0, 0)
	return append(head, body...), nil
}

// groupAttributes are mandatory, enabled by default, enabled (MS-PAC 2.2.1).
const groupAttributes = 7

// inDomain returns the last number of a SID that is otherwise the domain's.
func inDomain(domain, sid dcerpc.SID) (uint32, bool) {
	rest, ok := strings.CutPrefix(string(sid), string(domain)+"-")
	if !ok {
		return 0, false
	}
	rid, err := strconv.ParseUint(rest, 10, 32)
	return uint32(rid), err == nil
}

func putFiletime(e *ndr.Encoder, t uint64) {
	e.Uint32(uint32(t))
	e.Uint32(uint32(t >> 32))
}

// putUnicodeHeader writes an RPC_UNICODE_STRING, putUnicode what its buffer points to.
func putUnicodeHeader(e *ndr.Encoder, s string) {
	n := uint16(2 * len(utf16.Encode([]rune(s))))
	e.Uint16(n)
	e.Uint16(n)
	e.Pointer(s != "")
}

func putUnicode(e *ndr.Encoder, s string) {
	if s == "" {
		return
	}
	units := utf16.Encode([]rune(s))
	e.Uint32(uint32(len(units)))
	e.Uint32(0)
	e.Uint32(uint32(len(units)))
	for _, u := range units {
		e.Uint16(u)
	}
}

func putRIDs(e *ndr.Encoder, rids []uint32) {
	e.Uint32(uint32(len(rids)))
	for _, rid := range rids {
		e.Uint32(rid)
		e.Uint32(groupAttributes)
	}
}

// putSID writes an RPC_SID (MS-DTYP 2.4.2.3).
func putSID(e *ndr.Encoder, sid dcerpc.SID) {
	parts := strings.Split(string(sid), "-")
	if len(parts) < 3 {
		e.Fail("SID", "is not one: "+string(sid))
		return
	}
	authority, err := strconv.ParseUint(parts[2], 0, 48)
	if err != nil {
		e.Fail("SID", "is not one: "+string(sid))
		return
	}
	subs := parts[3:]
	e.Uint32(uint32(len(subs)))
	e.Uint8(1)
	e.Uint8(uint8(len(subs)))
	for shift := 40; shift >= 0; shift -= 8 {
		e.Uint8(byte(authority >> shift))
	}
	for _, s := range subs {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			e.Fail("SID", "is not one: "+string(sid))
			return
		}
		e.Uint32(uint32(n))
	}
}
