package krb5

import (
	"encoding/asn1"
	"fmt"
)

// tokenID is the first two bytes inside a GSS frame (RFC 4121 section 4.1).
type tokenID uint16

const (
	tokAPReq    tokenID = 0x0100
	tokAPRep    tokenID = 0x0200
	tokKRBError tokenID = 0x0300
)

// The first byte of a raw message: its ASN.1 application tag (RFC 4120 section 5.10).
const (
	tagFrame    = 0x60
	tagAPReq    = 0x6E
	tagAPRep    = 0x6F
	tagKRBError = 0x7E
)

// mechOID is Kerberos 5 (RFC 4121 section 1).
func mechOID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2} }

// isMech also accepts the identifier that Windows 2000 gave Kerberos, with 113554 cut to 16 bits
// (MS-SPNG 3.1.5.2).
func isMech(oid asn1.ObjectIdentifier) bool {
	return oid.Equal(mechOID()) || oid.Equal(asn1.ObjectIdentifier{1, 2, 840, 48018, 1, 2, 2})
}

// frame puts a message into the frame of RFC 2743 section 3.1:
//
//	60 | length | 06 09 OID | token id 2 | message
func frame(id tokenID, msg []byte) ([]byte, error) {
	oid, err := asn1.Marshal(mechOID())
	if err != nil {
		return nil, err
	}
	inner := append(oid, byte(id>>8), byte(id))
	return asn1.Marshal(asn1.RawValue{Class: asn1.ClassApplication, Tag: 0, IsCompound: true,
		Bytes: append(inner, msg...)})
}

// unframe returns the message of a token that may be framed or raw, and what it is.
func unframe(token []byte) (msg []byte, id tokenID, err error) {
	if len(token) == 0 {
		return nil, 0, fmt.Errorf("krb5: %w: it is empty", ErrToken)
	}
	switch token[0] {
	case tagAPReq:
		return token, tokAPReq, nil
	case tagAPRep:
		return token, tokAPRep, nil
	case tagKRBError:
		return token, tokKRBError, nil
	case tagFrame:
	default:
		return nil, 0, fmt.Errorf("krb5: %w: first byte %#02x", ErrToken, token[0])
	}
	var outer asn1.RawValue
	if _, err := asn1.Unmarshal(token, &outer); err != nil {
		return nil, 0, fmt.Errorf("krb5: %w: GSS frame: %w", ErrToken, err)
	}
	var oid asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(outer.Bytes, &oid)
	if err != nil {
		return nil, 0, fmt.Errorf("krb5: %w: GSS frame: %w", ErrToken, err)
	}
	if !isMech(oid) {
		return nil, 0, fmt.Errorf("krb5: %w: GSS frame of mechanism %v", ErrToken, oid)
	}
	if len(rest) < 2 {
		return nil, 0, fmt.Errorf("krb5: %w: GSS frame without a message", ErrToken)
	}
	return rest[2:], tokenID(rest[0])<<8 | tokenID(rest[1]), nil
}
