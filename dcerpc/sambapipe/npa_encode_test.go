package sambapipe

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// encode does what smbd does: the encoder that parseRequest's tests make hand-overs of every level
// with. That it writes what Samba does is shown by real hand-overs, which it reproduces.
func (r *request) encode() []byte {
	e := ndr.NewEncoder(nil, ndr.NDR20)
	e.Raw([]byte{0, 0, 0, 0, 'N', 'P', 'A', 'M'})
	e.Uint32(r.level)
	e.Uint32(r.level)
	if r.level > 4 {
		e.Uint8(r.transport)
	}
	e.Pointer(r.clientName.Valid)
	e.Pointer(r.clientAddr.Valid)
	e.Uint16(r.clientPort)
	e.Pointer(r.serverName.Valid)
	e.Pointer(r.serverAddr.Valid)
	e.Uint16(r.serverPort)
	e.Pointer(r.session != nil)
	if r.level == 5 {
		e.Uint8(r.needIdleServer)
	}
	encodeStrings(&e, r.clientName, r.clientAddr, r.serverName, r.serverAddr)
	if r.session != nil {
		e.Pointer(true)
		encodeBlob(&e, r.exportedGSSAPICredential)
		r.session.encode(&e, r.level)
	}
	b, err := e.Bytes()
	if err != nil {
		panic(err)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func (s *sessionInfo) encode(e *ndr.Encoder, level uint32) {
	e.Pointer(s.token != nil)
	e.Pointer(s.unixToken != nil)
	e.Pointer(s.user != nil)
	e.Pointer(s.unixUser != nil)
	e.Uint32(s.torture)
	encodeBlob(e, s.sessionKey)
	e.Uint32(s.credentials)
	e.GUID(s.uniqueToken)
	if s.hasTicketType {
		e.Uint16(s.ticketType)
	}
	if t := s.token; t != nil {
		e.Align(8)
		e.Uint32(uint32(len(t.sids)))
		encodeSIDs(e, t.sids)
		e.Uint64(t.privileges)
		e.Uint32(t.rights)
		if level >= 8 {
			for range 3 {
				e.Uint32(0)
			}
			e.Uint32(uint32(len(t.deviceSIDs)))
			for range 3 {
				e.Uint32(0)
			}
			encodeSIDs(e, t.deviceSIDs)
			e.Uint16(t.evaluateClaims)
		}
	}
	if u := s.unixToken; u != nil {
		e.Uint32(uint32(len(u.groups)))
		e.Uint64(u.uid)
		e.Uint64(u.gid)
		e.Uint32(uint32(len(u.groups)))
		e.Align(8)
		for _, g := range u.groups {
			e.Uint64(g)
		}
	}
	if u := s.user; u != nil {
		all := []ndr.NullString{u.account, u.principal, u.domain, u.dnsDomain, u.fullName, u.logonScript, u.profilePath,
			u.homeDirectory, u.homeDrive, u.logonServer}
		for i, v := range all {
			if i == 2 {
				e.Uint8(u.principalConstructed)
			}
			e.Pointer(v.Valid)
		}
		for _, t := range u.times {
			e.Uint32(uint32(t))
			e.Uint32(uint32(uint64(t) >> 32))
		}
		e.Uint16(u.logonCount)
		e.Uint16(u.badPasswords)
		e.Uint32(u.accountFlags)
		if level < 8 {
			e.Uint8(uint8(u.flags))
		} else {
			e.Uint32(u.flags)
		}
		encodeStrings(e, all...)
	}
	if u := s.unixUser; u != nil {
		e.Pointer(u.unixName.Valid)
		e.Pointer(u.sanitizedUsername.Valid)
		encodeStrings(e, u.unixName, u.sanitizedUsername)
	}
}

func encodeStrings(e *ndr.Encoder, all ...ndr.NullString) {
	for _, s := range all {
		if s.Valid {
			e.CString(s.String)
		}
	}
}

func encodeBlob(e *ndr.Encoder, b []byte) {
	e.Uint32(uint32(len(b)))
	e.Raw(b)
}

func encodeSIDs(e *ndr.Encoder, sids []dcerpc.SID) {
	e.Uint32(uint32(len(sids)))
	for _, sid := range sids {
		e.Align(4)
		e.Raw(binarySID(sid))
	}
}

// binarySID is the packet form of a SID with an authority below 2^32.
func binarySID(sid dcerpc.SID) []byte {
	var n []uint32
	for _, f := range strings.Split(string(sid), "-")[2:] {
		v, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			panic(err)
		}
		n = append(n, uint32(v))
	}
	b := []byte{1, byte(len(n) - 1), 0, 0}
	b = binary.BigEndian.AppendUint32(b, n[0])
	for _, v := range n[1:] {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}
