package krb5

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// Bits of KERB_VALIDATION_INFO's UserFlags (MS-PAC 2.5) and of a group's attributes (MS-PAC 2.2.1).
const (
	logonExtraSIDs      = 0x20
	logonResourceGroups = 0x200

	groupEnabled     = 0x04
	groupUseDenyOnly = 0x10
)

// parseLogonInfo returns the SIDs of a KERB_VALIDATION_INFO (MS-PAC 2.5), type-serialized in NDR
// 2.0 (MS-RPCE 2.2.6): the user's first, then the groups of the domain, extra SIDs, and resource
// groups. Groups that are not enabled, and those that serve for refusal alone, are left out.
//
//	01 10 08 00 CC CC CC CC | length 4 | 4 | referent 4 | structure | what its pointers point to
func parseLogonInfo(b []byte) ([]dcerpc.SID, error) {
	const head = 16
	if len(b) < head || b[0] != 1 || b[1] != 0x10 {
		return nil, errors.New("not little-endian NDR")
	}
	d := ndr.NewDecoder(b[head:], ndr.NDR20)
	if !d.Pointer() {
		d.Fail("KERB_VALIDATION_INFO", "is NULL")
	}
	for range 6 { // LogonTime to PasswordMustChange
		d.Filetime()
	}
	var names [6]bool // EffectiveName to HomeDirectoryDrive
	for i := range names {
		names[i] = unicodeString(&d)
	}
	d.Uint16() // LogonCount
	d.Uint16() // BadPasswordCount
	user, primary := d.Uint32(), d.Uint32()
	groupCount := d.Uint32()
	hasGroups := d.Pointer()
	flags := d.Uint32()
	d.Raw(16) // UserSessionKey
	var servers [2]bool
	for i := range servers { // LogonServer, LogonDomainName
		servers[i] = unicodeString(&d)
	}
	hasDomain := d.Pointer()
	for range 2 + 1 + 1 { // Reserved1, UserAccountControl, SubAuthStatus
		d.Uint32()
	}
	d.Filetime() // LastSuccessfulILogon
	d.Filetime() // LastFailedILogon
	d.Uint32()   // FailedILogonCount
	d.Uint32()   // Reserved3
	extraCount := d.Uint32()
	hasExtra := d.Pointer()
	hasResourceDomain := d.Pointer()
	resourceCount := d.Uint32()
	hasResource := d.Pointer()

	for _, present := range names {
		skipUnicode(&d, present)
	}
	groups := rids(&d, hasGroups, groupCount)
	for _, present := range servers {
		skipUnicode(&d, present)
	}
	domain := sid(&d, hasDomain)
	extra := sidsAndAttributes(&d, hasExtra, extraCount)
	resourceDomain := sid(&d, hasResourceDomain)
	resource := rids(&d, hasResource, resourceCount)
	if err := d.Err(); err != nil {
		return nil, err
	}

	var out []dcerpc.SID
	add := func(s dcerpc.SID) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	if flags&logonExtraSIDs == 0 {
		extra = nil
	}
	switch {
	case user != 0 && domain == "":
		return nil, errors.New("a user without a domain")
	case user != 0:
		add(relative(domain, user))
		add(relative(domain, primary))
	case len(extra) == 0:
		return nil, errors.New("no user")
	}
	// With a UserId of zero the user's SID is the first of the extra ones (MS-PAC 2.5).
	for i, e := range extra {
		if i == 0 && user == 0 {
			add(e.sid)
		}
	}
	for _, g := range groups {
		if g.enabled() {
			add(relative(domain, g.rid))
		}
	}
	for _, e := range extra {
		if e.enabled() {
			add(e.sid)
		}
	}
	if flags&logonResourceGroups != 0 && resourceDomain != "" {
		for _, g := range resource {
			if g.enabled() {
				add(relative(resourceDomain, g.rid))
			}
		}
	}
	return out, nil
}

func relative(domain dcerpc.SID, rid uint32) dcerpc.SID {
	return dcerpc.SID(fmt.Sprintf("%s-%d", domain, rid))
}

// A group is a GROUP_MEMBERSHIP or a KERB_SID_AND_ATTRIBUTES (MS-PAC 2.2.1, 2.2.2).
type group struct {
	rid        uint32
	sid        dcerpc.SID
	attributes uint32
}

func (g *group) enabled() bool { return g.attributes&(groupEnabled|groupUseDenyOnly) == groupEnabled }

// unicodeString reads an RPC_UNICODE_STRING and reports whether its buffer follows.
func unicodeString(d *ndr.Decoder) bool {
	d.Align3264()
	d.Uint16()
	d.Uint16()
	return d.Pointer()
}

// skipUnicode passes over such a buffer: nothing is read from them.
func skipUnicode(d *ndr.Decoder, present bool) {
	if !present {
		return
	}
	max := d.Uint3264()
	d.Raw(2 * d.Variance(max, 2))
}

// rids reads a conformant array of GROUP_MEMBERSHIP that count says the size of too.
func rids(d *ndr.Decoder, present bool, count uint32) []group {
	n := arrayOf(d, present, count)
	groups := make([]group, n)
	for i := range groups {
		groups[i] = group{rid: d.Uint32(), attributes: d.Uint32()}
	}
	return groups
}

// sidsAndAttributes reads a conformant array of KERB_SID_AND_ATTRIBUTES.
func sidsAndAttributes(d *ndr.Decoder, present bool, count uint32) []group {
	n := arrayOf(d, present, count)
	groups := make([]group, n)
	has := make([]bool, n)
	for i := range groups {
		has[i] = d.Pointer()
		groups[i].attributes = d.Uint32()
	}
	for i := range groups {
		groups[i].sid = sid(d, has[i])
	}
	return slices.DeleteFunc(groups, func(g group) bool { return g.sid == "" })
}

// arrayOf reads the conformance of an array with elements of 8 bytes.
func arrayOf(d *ndr.Decoder, present bool, count uint32) int {
	if !present {
		if count != 0 {
			d.Fail("array", "is NULL with a count that is not zero")
		}
		return 0
	}
	n := d.Count(8)
	if uint32(n) != count {
		d.Fail("array", "two counts that differ")
		return 0
	}
	return n
}

// sid reads an RPC_SID (MS-DTYP 2.4.2.3): the number of subauthorities, then the packet form.
func sid(d *ndr.Decoder, present bool) dcerpc.SID {
	if !present {
		return ""
	}
	n := d.Count(4)
	b := d.Raw(8 + 4*n)
	if b == nil {
		return ""
	}
	s, size, err := dcerpc.SIDFromBinary(b)
	if err != nil || size != len(b) {
		d.Fail("SID", "has another number of subauthorities")
		return ""
	}
	return s
}
