package dcerpc

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// A SID is a security identifier in its string form, "S-1-5-32-544" (MS-DTYP 2.4.2.1): it is
// comparable and can be a map key.
type SID string

// Well-known SIDs (MS-DTYP 2.4.2.4).
const (
	SIDAnonymous              SID = "S-1-5-7"
	SIDAuthenticatedUsers     SID = "S-1-5-11"
	SIDBuiltinAdmins          SID = "S-1-5-32-544"
	SIDBuiltinBackupOperators SID = "S-1-5-32-551"
)

// ParseSID checks the string form of a SID and returns it with decimal numbers in their
// shortest form.
func ParseSID(s string) (SID, error) {
	parts := strings.Split(s, "-")
	if len(parts) < 3 || len(parts) > 3+15 || (parts[0] != "S" && parts[0] != "s") || parts[1] != "1" {
		return "", fmt.Errorf("dcerpc: %q is not a SID (S-1-authority-subauthority...)", s)
	}
	auth, err := strconv.ParseUint(parts[2], 0, 48)
	if err != nil {
		return "", fmt.Errorf("dcerpc: SID %q: bad authority", s)
	}
	b := appendAuthority(make([]byte, 0, len(s)), auth)
	for _, p := range parts[3:] {
		n, err := strconv.ParseUint(p, 10, 32)
		if err != nil {
			return "", fmt.Errorf("dcerpc: SID %q: bad subauthority %q", s, p)
		}
		b = strconv.AppendUint(append(b, '-'), n, 10)
	}
	return SID(b), nil
}

// appendAuthority writes "S-1-" and the authority, in hexadecimal from 2^32 on (MS-DTYP 2.4.2.1).
func appendAuthority(b []byte, auth uint64) []byte {
	b = append(b, "S-1-"...)
	if auth >= 1<<32 {
		return fmt.Appendf(b, "0x%012x", auth)
	}
	return strconv.AppendUint(b, auth, 10)
}

// SIDFromBinary reads the packet form of a SID (MS-DTYP 2.4.2.2) at the start of b and returns
// it with its length in bytes.
//
//	| revision 1 | n | authority, 6 bytes big-endian | n subauthorities, uint32 little-endian |
func SIDFromBinary(b []byte) (SID, int, error) {
	if len(b) < 8 {
		return "", 0, fmt.Errorf("dcerpc: SID of %d bytes is too short", len(b))
	}
	n := int(b[1])
	if b[0] != 1 || n > 15 {
		return "", 0, fmt.Errorf("dcerpc: SID with revision %d and %d subauthorities", b[0], n)
	}
	size := 8 + 4*n
	if len(b) < size {
		return "", 0, fmt.Errorf("dcerpc: SID of %d subauthorities in %d bytes", n, len(b))
	}
	var auth [8]byte
	copy(auth[2:], b[2:8])
	out := appendAuthority(make([]byte, 0, 16+11*n), binary.BigEndian.Uint64(auth[:]))
	for i := range n {
		out = strconv.AppendUint(append(out, '-'), uint64(binary.LittleEndian.Uint32(b[8+4*i:])), 10)
	}
	return SID(out), size, nil
}
