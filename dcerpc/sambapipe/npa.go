package sambapipe

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// magic follows the length in requests and replies.
const magic = "NPAM"

// headSize is the fixed start of a request, up to the union:
//
//	| length of the rest, uint32 big-endian | "NPAM" | level, uint32 | the same again |
const headSize = 16

// A request is the named_pipe_auth_req of every level: who opened the pipe.
type request struct {
	level uint32
	// transport is 1, NCACN_NP; level 4 has none.
	transport                uint8
	clientName, clientAddr   ndr.NullString
	clientPort               uint16
	serverName, serverAddr   ndr.NullString
	serverPort               uint16
	needIdleServer           uint8 // level 5
	session                  *sessionInfo
	exportedGSSAPICredential []byte
}

// A sessionInfo is auth_session_info.
type sessionInfo struct {
	token      *securityToken
	unixToken  *unixToken
	user       *userInfo
	unixUser   *unixUserInfo
	torture    uint32 // a pointer that is never sent
	sessionKey []byte
	// credentials is a pointer that is never sent.
	credentials   uint32
	uniqueToken   [16]byte
	ticketType    uint16
	hasTicketType bool // not in level 4, nor in the level 5 of Samba 4.16.0 to 4.16.3
}

type securityToken struct {
	sids       []dcerpc.SID // the user, its primary group, other groups
	privileges uint64
	rights     uint32
	// Level 8:
	deviceSIDs     []dcerpc.SID
	evaluateClaims uint16
}

type unixToken struct {
	uid, gid uint64
	groups   []uint64
}

// A userInfo is auth_user_info.
type userInfo struct {
	account, principal         ndr.NullString
	principalConstructed       uint8
	domain, dnsDomain          ndr.NullString
	fullName, logonScript      ndr.NullString
	profilePath, homeDirectory ndr.NullString
	homeDrive, logonServer     ndr.NullString
	times                      [6]int64 // last logon, last logoff, expiry, last, allowed and forced password change
	logonCount, badPasswords   uint16
	accountFlags               uint32
	// up to Samba 4.18 1 means authenticated; from 4.19 on flags of the logon, of which 1 means guest
	flags uint32
}

// A unixUserInfo is auth_user_info_unix.
type unixUserInfo struct {
	unixName, sanitizedUsername ndr.NullString
}

// parseRequest reads a request with its length prefix, and nothing after it. Alignment counts from
// the prefix.
func parseRequest(b []byte) (*request, error) {
	if len(b) < headSize || string(b[4:8]) != magic {
		return nil, errors.New("sambapipe: not a hand-over: no NPAM")
	}
	if n := binary.BigEndian.Uint32(b); uint64(n) != uint64(len(b)-4) {
		return nil, fmt.Errorf("sambapipe: hand-over of %d bytes says that it has %d", len(b)-4, n)
	}
	level := binary.LittleEndian.Uint32(b[8:])
	if sw := binary.LittleEndian.Uint32(b[12:]); sw != level {
		return nil, fmt.Errorf("sambapipe: hand-over of level %d has the union of level %d", level, sw)
	}
	switch level {
	case 4:
		return parseLayout(b, level, false)
	case 5:
		// Two layouts have the same number; the end of a request, and its counts, show which one it
		// is.
		r, err := parseLayout(b, level, true)
		if err == nil {
			return r, nil
		}
		if r, old := parseLayout(b, level, false); old == nil {
			return r, nil
		}
		return nil, err
	case 7, 8:
		return parseLayout(b, level, true)
	}
	return nil, fmt.Errorf("sambapipe: hand-over of level %d, which is not known (4, 5, 7 and 8 are)", level)
}

func parseLayout(b []byte, level uint32, ticketType bool) (*request, error) {
	d := ndr.NewDecoder(b, ndr.NDR20)
	d.Raw(headSize)
	r := &request{level: level}
	r.decode(&d, ticketType)
	if n := d.Remaining(); n != 0 {
		d.Fail("end", fmt.Sprintf("%d bytes too many", n))
	}
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("sambapipe: hand-over of level %d: %w", level, err)
	}
	if c := r.session; c == nil || c.token == nil || len(c.token.sids) == 0 {
		return nil, fmt.Errorf("sambapipe: hand-over of level %d names no user", level)
	}
	return r, nil
}

func (r *request) decode(d *ndr.Decoder, ticketType bool) {
	if r.level > 4 {
		if r.transport = d.Uint8(); r.transport != 1 && d.Err() == nil {
			d.Fail("transport", fmt.Sprintf("is %d, not 1, a named pipe", r.transport))
		}
	}
	r.clientName.Valid = d.Pointer()
	r.clientAddr.Valid = d.Pointer()
	r.clientPort = d.Uint16()
	r.serverName.Valid = d.Pointer()
	r.serverAddr.Valid = d.Pointer()
	r.serverPort = d.Uint16()
	hasSession := d.Pointer()
	if r.level == 5 {
		r.needIdleServer = d.Uint8()
	}
	for _, s := range []*ndr.NullString{&r.clientName, &r.clientAddr, &r.serverName, &r.serverAddr} {
		decodeString(d, s)
	}
	if !hasSession || d.Err() != nil {
		return
	}
	hasSession = d.Pointer()
	r.exportedGSSAPICredential = decodeBlob(d)
	if hasSession {
		r.session = &sessionInfo{hasTicketType: ticketType}
		r.session.decode(d, r.level)
	}
}

func (s *sessionInfo) decode(d *ndr.Decoder, level uint32) {
	token, unix, user, unixUser := d.Pointer(), d.Pointer(), d.Pointer(), d.Pointer()
	s.torture = d.Uint32()
	s.sessionKey = decodeBlob(d)
	s.credentials = d.Uint32()
	s.uniqueToken = d.GUID()
	if s.hasTicketType {
		s.ticketType = d.Uint16()
	}
	if s.torture != 0 || s.credentials != 0 {
		d.Fail("session", "holds what has no form on the wire")
	}
	if token {
		s.token = new(securityToken)
		s.token.decode(d, level)
	}
	if unix {
		s.unixToken = new(unixToken)
		s.unixToken.decode(d)
	}
	if user {
		s.user = new(userInfo)
		s.user.decode(d, level)
	}
	if unixUser {
		s.unixUser = new(unixUserInfo)
		s.unixUser.decode(d)
	}
}

func (t *securityToken) decode(d *ndr.Decoder, level uint32) {
	d.Align(8)
	n := d.Uint32()
	t.sids = decodeSIDs(d, n)
	t.privileges = d.Uint64()
	t.rights = d.Uint32()
	if level < 8 {
		return
	}
	none := zeros(d, 3) // the numbers of local, user and device claims
	n = d.Uint32()
	if !zeros(d, 3) || !none { // the same again, before the empty arrays
		// Their values are between the token and the next field, so finding the end requires
		// understanding all of them. Tokens of domain controllers have claims; those of a file
		// server have none.
		d.Fail("claims", "are not supported")
	}
	t.deviceSIDs = decodeSIDs(d, n)
	t.evaluateClaims = d.Uint16()
}

// zeros reads n words and reports whether all of them are zero.
func zeros(d *ndr.Decoder, n int) bool {
	zero := true
	for range n {
		zero = d.Uint32() == 0 && zero
	}
	return zero
}

func (t *unixToken) decode(d *ndr.Decoder) {
	conformance := d.Uint32() // of groups, which end the structure, so it comes first
	t.uid = d.Uint64()
	t.gid = d.Uint64()
	n := d.Uint32()
	if n != conformance {
		d.Fail("groups", "counts differ")
	}
	d.Align(8)
	if uint64(n) > uint64(d.Remaining()/8) {
		d.Fail("groups", "more than there are bytes for")
		return
	}
	t.groups = make([]uint64, n)
	for i := range t.groups {
		t.groups[i] = d.Uint64()
	}
}

func (u *userInfo) decode(d *ndr.Decoder, level uint32) {
	u.account.Valid = d.Pointer()
	u.principal.Valid = d.Pointer()
	u.principalConstructed = d.Uint8()
	rest := []*ndr.NullString{&u.domain, &u.dnsDomain, &u.fullName, &u.logonScript, &u.profilePath, &u.homeDirectory,
		&u.homeDrive, &u.logonServer}
	for _, s := range rest {
		s.Valid = d.Pointer()
	}
	for i := range u.times {
		u.times[i] = d.Filetime()
	}
	u.logonCount = d.Uint16()
	u.badPasswords = d.Uint16()
	u.accountFlags = d.Uint32()
	// One octet up to Samba 4.18, four from 4.19 on, which has level 7 too; the next field is
	// aligned to 4 in both.
	if level < 8 {
		u.flags = uint32(d.Uint8())
	} else {
		u.flags = d.Uint32()
	}
	for _, s := range append([]*ndr.NullString{&u.account, &u.principal}, rest...) {
		decodeString(d, s)
	}
}

func (u *unixUserInfo) decode(d *ndr.Decoder) {
	u.unixName.Valid = d.Pointer()
	u.sanitizedUsername.Valid = d.Pointer()
	decodeString(d, &u.unixName)
	decodeString(d, &u.sanitizedUsername)
}

// decodeString reads the referent of a string's pointer, unless that was NULL.
func decodeString(d *ndr.Decoder, s *ndr.NullString) {
	if s.Valid {
		s.String = d.CString()
	}
}

// decodeBlob reads a DATA_BLOB: a length, and the bytes inline.
func decodeBlob(d *ndr.Decoder) []byte {
	return append([]byte(nil), d.Raw(d.Count(1))...)
}

// decodeSIDs reads an array of n SIDs, which begins with its own count.
func decodeSIDs(d *ndr.Decoder, n uint32) []dcerpc.SID {
	count := d.Count(8)
	if uint32(count) != n {
		d.Fail("SIDs", "counts differ")
		return nil
	}
	sids := make([]dcerpc.SID, 0, count)
	for range count {
		// dom_sid: | revision 1 | n | authority, 6 bytes | n subauthorities, aligned to 4 as a
		// whole |
		d.Align(4)
		head := d.Raw(8)
		if head == nil {
			return nil
		}
		b := append(head, d.Raw(4*int(head[1]))...)
		sid, _, err := dcerpc.SIDFromBinary(b)
		if err != nil {
			d.Fail("SID", err.Error())
			return nil
		}
		sids = append(sids, sid)
	}
	return sids
}

// reply returns a named_pipe_auth_rep for an open pipe in message mode. smbd looks only at the
// level, which must be the request's, and at the type of the file.
//
//	| 32, uint32 big-endian | "NPAM" | level | level | file type 2, message mode | device state | pad 4 | allocation size, 8 | status 0 |
func reply(level uint32) []byte {
	b := make([]byte, 0, 36)
	b = binary.BigEndian.AppendUint32(b, 32)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, level)
	b = binary.LittleEndian.AppendUint32(b, level)
	b = binary.LittleEndian.AppendUint16(b, 2)
	b = binary.LittleEndian.AppendUint16(b, 0x05ff)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, 4096)
	return binary.LittleEndian.AppendUint32(b, 0)
}
