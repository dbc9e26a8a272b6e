package krb5

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/adtype"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// Types of the buffers of a PAC that matter here (MS-PAC 2.4).
const (
	pacLogonInfo       = 1
	pacServerSignature = 6
	pacKDCSignature    = 7
	pacClientInfo      = 10
)

// pacRules are an acceptor's requirements for PACs.
type pacRules struct {
	require bool // there must be one, with logon information
	local   bool // SIDs that mean something on one host alone are taken
}

// ticketSIDs returns the SIDs of the ticket's PAC: the user's first, then the groups. There are
// none without a PAC, or with a PAC that has no logon information, as those of MIT's KDC. For an
// invalid PAC the error matches ErrPAC.
func ticketSIDs(t *messages.EncTicketPart, key types.EncryptionKey, rules pacRules) ([]dcerpc.SID, error) {
	missing := func() error {
		if rules.require {
			return fmt.Errorf("krb5: %w: the ticket has none with logon information, and one is required", ErrPAC)
		}
		return nil
	}
	b := findPAC(t.AuthorizationData)
	if b == nil {
		return nil, missing()
	}
	p, err := parsePAC(b)
	if err != nil {
		return nil, err
	}
	if err := p.verify(key); err != nil {
		return nil, err
	}
	if err := p.checkClient(t); err != nil {
		return nil, err
	}
	info, ok := p.buffer(pacLogonInfo)
	if !ok {
		return nil, missing()
	}
	sids, err := parseLogonInfo(info)
	if err != nil {
		return nil, fmt.Errorf("krb5: %w: logon information: %w", ErrPAC, err)
	}
	if rules.local {
		return sids, nil
	}
	if isLocal(sids[0]) {
		return nil, fmt.Errorf("krb5: %w: the user's SID %s is no domain's", ErrPAC, sids[0])
	}
	return slices.DeleteFunc(sids, isLocal), nil
}

// isLocal reports whether a SID has a meaning only on one host or to its security authority, so
// that no KDC may decide who holds it. These are BUILTIN's groups, SYSTEM, Samba's Unix accounts,
// and all other SIDs except those of domains (S-1-5-21) and those by which a KDC says how a user
// has logged on (S-1-18, MS-DTYP 2.4.2.4).
func isLocal(sid dcerpc.SID) bool {
	return !strings.HasPrefix(string(sid), "S-1-5-21-") && !strings.HasPrefix(string(sid), "S-1-18-")
}

// findPAC returns the first AD-WIN2K-PAC in an AD-IF-RELEVANT (MS-KILE 3.3.5.6.4.6).
func findPAC(ad types.AuthorizationData) []byte {
	for _, outer := range ad {
		if outer.ADType != adtype.ADIfRelevant {
			continue
		}
		var inner types.AuthorizationData
		if err := inner.Unmarshal(outer.ADData); err != nil {
			continue
		}
		for _, e := range inner {
			if e.ADType == adtype.ADWin2KPAC {
				return e.ADData
			}
		}
	}
	return nil
}

// A pac is a PACTYPE (MS-PAC 2.3):
//
//	| n, 4 bytes | version 0 | n * ( type 4 | size 4 | offset 8 ) | buffers |
type pac struct {
	data    []byte
	buffers []pacBuffer
}

type pacBuffer struct {
	kind  uint32
	start int
	end   int
}

func parsePAC(b []byte) (*pac, error) {
	if len(b) < 8 {
		return nil, fmt.Errorf("krb5: %w: %d bytes", ErrPAC, len(b))
	}
	n := uint64(binary.LittleEndian.Uint32(b))
	if version := binary.LittleEndian.Uint32(b[4:]); version != 0 {
		return nil, fmt.Errorf("krb5: %w: version %d", ErrPAC, version)
	}
	if n > uint64(len(b)-8)/16 {
		return nil, fmt.Errorf("krb5: %w: %d buffers in %d bytes", ErrPAC, n, len(b))
	}
	p := &pac{data: b, buffers: make([]pacBuffer, n)}
	for i := range p.buffers {
		e := b[8+16*i:]
		size, offset := uint64(binary.LittleEndian.Uint32(e[4:])), binary.LittleEndian.Uint64(e[8:])
		if offset > uint64(len(b)) || size > uint64(len(b))-offset {
			return nil, fmt.Errorf("krb5: %w: buffer %d lies outside", ErrPAC, i)
		}
		p.buffers[i] = pacBuffer{binary.LittleEndian.Uint32(e), int(offset), int(offset + size)}
	}
	return p, nil
}

// buffer returns the first buffer of a type: further ones of the same type must be ignored (MS-PAC
// 2.5).
func (p *pac) buffer(kind uint32) ([]byte, bool) {
	for _, e := range p.buffers {
		if e.kind == kind {
			return p.data[e.start:e.end], true
		}
	}
	return nil, false
}

// A pacSignature is a PAC_SIGNATURE_DATA (MS-PAC 2.8): | type 4 | signature | and, of a read-only
// controller, 2 bytes |.
type pacSignature struct {
	cksumType int32
	start     int // of the signature in the PAC
	value     []byte
}

func (p *pac) signature(kind uint32) (s pacSignature, found bool, err error) {
	for _, e := range p.buffers {
		if e.kind != kind {
			continue
		}
		b := p.data[e.start:e.end]
		if len(b) < 4 {
			return s, false, fmt.Errorf("krb5: %w: signature of %d bytes", ErrPAC, len(b))
		}
		s = pacSignature{int32(binary.LittleEndian.Uint32(b)), e.start + 4, b[4:]}
		for _, etype := range []Etype{AES128SHA1, AES256SHA1, AES128SHA2, AES256SHA2, RC4HMAC} {
			prof, _ := profileOf(etype)
			if prof.cksumType == s.cksumType && len(s.value) >= prof.macSize {
				s.value = s.value[:prof.macSize]
				return s, true, nil
			}
		}
		return s, false, fmt.Errorf("krb5: %w: signature of type %d in %d bytes", ErrPAC, s.cksumType, len(b))
	}
	return s, false, nil
}

// verify checks the server's signature: a keyed checksum, with the service's key, over the whole
// PAC with the bytes of both signatures zero (MS-PAC 2.8.1).
func (p *pac) verify(key types.EncryptionKey) error {
	server, ok, err := p.signature(pacServerSignature)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("krb5: %w: no server signature", ErrPAC)
	}
	kdc, ok, err := p.signature(pacKDCSignature)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("krb5: %w: no KDC signature", ErrPAC)
	}
	et, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		return fmt.Errorf("krb5: %w: %w", ErrPAC, err)
	}
	if et.GetHashID() != server.cksumType {
		return fmt.Errorf("krb5: %w: server signature of type %d, key of %v", ErrPAC, server.cksumType,
			Etype(key.KeyType))
	}
	zeroed := bytes.Clone(p.data)
	clear(zeroed[server.start : server.start+len(server.value)])
	clear(zeroed[kdc.start : kdc.start+len(kdc.value)])
	want, err := et.GetChecksumHash(key.KeyValue, zeroed, keyusage.KERB_NON_KERB_CKSUM_SALT)
	if err != nil {
		return fmt.Errorf("krb5: %w: %w", ErrPAC, err)
	}
	if subtle.ConstantTimeCompare(want, server.value) != 1 {
		return fmt.Errorf("krb5: %w: the server signature does not match", ErrPAC)
	}
	return nil
}

// checkClient compares PAC_CLIENT_INFO with the ticket, so that a PAC from another ticket is not
// accepted (MS-PAC 2.7):
//
//	| FILETIME of the first authentication, 8 bytes | size of the name, 2 bytes | name, UTF-16 |
func (p *pac) checkClient(t *messages.EncTicketPart) error {
	b, ok := p.buffer(pacClientInfo)
	if !ok {
		return fmt.Errorf("krb5: %w: it does not say whose it is", ErrPAC)
	}
	if len(b) < 10 || int(binary.LittleEndian.Uint16(b[8:])) > len(b)-10 {
		return fmt.Errorf("krb5: %w: client information of %d bytes", ErrPAC, len(b))
	}
	units := make([]uint16, binary.LittleEndian.Uint16(b[8:])/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[10+2*i:])
	}
	name := string(utf16.Decode(units))
	// Some KDCs add the realm, and none escapes.
	client := strings.Join(t.CName.NameString, "/")
	if name != client && name != client+"@"+t.CRealm {
		return fmt.Errorf("krb5: %w: it is of %q, the ticket of %q", ErrPAC, name, client)
	}
	if at := filetime(binary.LittleEndian.Uint64(b)); !at.Truncate(time.Second).Equal(t.AuthTime) {
		return fmt.Errorf("krb5: %w: it is of a login at %v, the ticket of one at %v", ErrPAC, at, t.AuthTime)
	}
	return nil
}

// filetime converts 100 ns since 1601-01-01 UTC (MS-DTYP 2.3.3).
func filetime(n uint64) time.Time {
	const unixEpoch = 116444736000000000
	n -= unixEpoch
	return time.Unix(int64(n)/1e7, int64(n)%1e7*100).UTC()
}
