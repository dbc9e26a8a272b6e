package spnego

import (
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// NegState is the state of a negotiation (RFC 4178 section 4.2.2).
type NegState uint8

// The states. The value on the wire is one less.
const (
	StateAbsent NegState = iota // the field is absent
	AcceptCompleted
	AcceptIncomplete
	Reject
	RequestMIC
)

// A NegTokenInit is the initiator's offer, the first token of a negotiation (RFC 4178 section
// 4.2.1):
//
//	60 { 06 SPNEGO's OID, A0 { 30 {
//	  A0 { 30 { 06 mechType ... } }, A1 { reqFlags }, A2 { 04 mechToken }, A3 { 04 mechListMIC } } } }
//
// A NegTokenInit2 (MS-SPNG 2.2.1), with negHints at A3 and mechListMIC at A4, is read too. reqFlags
// and negHints are unprotected and without meaning, and are dropped.
type NegTokenInit struct {
	// MechTypes are the offered mechanisms, in order of preference.
	MechTypes []asn1.ObjectIdentifier
	// MechList is the MechTypeList as received, tag included, which a mechListMIC covers. It
	// aliases the token. AppendBinary ignores it.
	MechList []byte
	// MechToken is the first token of MechTypes[0]; nil if there is none.
	MechToken []byte
	// MechListMIC is nil if there is none.
	MechListMIC []byte
}

// A NegTokenResp is every later token of both sides (RFC 4178 section 4.2.2):
//
//	A1 { 30 { A0 { 0A negState }, A1 { 06 supportedMech }, A2 { 04 responseToken }, A3 { 04 mechListMIC } } }
type NegTokenResp struct {
	State         NegState
	SupportedMech asn1.ObjectIdentifier // nil if there is none
	ResponseToken []byte                // nil if there is none
	MechListMIC   []byte                // nil if there is none
}

// spnegoOID is 1.3.6.1.5.5.2.
func spnegoOID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 2} }

const tagInitialContext = der.Tag(0x60) // RFC 2743 section 3.1

// explicit returns the tag of field number n.
func explicit(n uint8) der.Tag { return der.Tag(n).ContextSpecific().Constructed() }

func malformed(name, field string) error {
	return fmt.Errorf("%w: %s: %s is malformed", ErrToken, name, field)
}

// ParseNegTokenInit reads an initiator's first token. Bytes after it are ignored, as Windows does.
// Slices of the result alias b. Errors match [ErrToken].
func ParseNegTokenInit(b []byte) (*NegTokenInit, error) {
	const name = "NegTokenInit"
	s := cryptobyte.String(b)
	var oid asn1.ObjectIdentifier
	if !s.ReadASN1(&s, tagInitialContext) || !s.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(spnegoOID()) {
		return nil, fmt.Errorf("%w: not the first token of a negotiation", ErrToken)
	}
	if !s.ReadASN1(&s, explicit(0)) || !s.ReadASN1(&s, der.SEQUENCE) {
		return nil, malformed(name, "the frame")
	}
	t := &NegTokenInit{}
	var field cryptobyte.String
	var present bool
	if !s.ReadOptionalASN1(&field, &present, explicit(0)) || present && !t.readMechTypes(field) {
		return nil, malformed(name, "mechTypes")
	}
	if !s.SkipOptionalASN1(explicit(1)) {
		return nil, malformed(name, "reqFlags")
	}
	if !readOctets(&s, 2, &t.MechToken) {
		return nil, malformed(name, "mechToken")
	}
	mic := uint8(3)
	if peek := s; peek.ReadASN1(&field, explicit(3)) && field.PeekASN1Tag(der.SEQUENCE) {
		s, mic = peek, 4
	}
	if !readOctets(&s, mic, &t.MechListMIC) {
		return nil, malformed(name, "mechListMIC")
	}
	return t, nil
}

// maxMechList is the largest MechTypeList accepted, in bytes. Windows sends less than 200.
const maxMechList = 1 << 10

// readMechTypes reads the MechTypeList out of its field.
func (t *NegTokenInit) readMechTypes(field cryptobyte.String) bool {
	var element, list cryptobyte.String
	if !field.ReadASN1Element(&element, der.SEQUENCE) || !field.Empty() {
		return false
	}
	if len(element) > maxMechList {
		return false
	}
	t.MechList = element
	if !element.ReadASN1(&list, der.SEQUENCE) {
		return false
	}
	for !list.Empty() {
		var oid asn1.ObjectIdentifier
		if !list.ReadASN1ObjectIdentifier(&oid) {
			return false
		}
		t.MechTypes = append(t.MechTypes, oid)
	}
	return true
}

// readOctets reads the OCTET STRING of an optional field.
func readOctets(s *cryptobyte.String, n uint8, out *[]byte) bool {
	var field, octets cryptobyte.String
	var present bool
	if !s.ReadOptionalASN1(&field, &present, explicit(n)) {
		return false
	}
	if !present {
		return true
	}
	if !field.ReadASN1(&octets, der.OCTET_STRING) || !field.Empty() {
		return false
	}
	*out = octets
	return true
}

// ParseNegTokenResp reads a later token. Slices of the result alias b. Errors match [ErrToken].
func ParseNegTokenResp(b []byte) (*NegTokenResp, error) {
	const name = "NegTokenResp"
	s := cryptobyte.String(b)
	var inner cryptobyte.String
	if !s.ReadASN1(&inner, explicit(1)) || !s.Empty() || !inner.ReadASN1(&s, der.SEQUENCE) {
		return nil, malformed(name, "the frame")
	}
	t := &NegTokenResp{}
	var field cryptobyte.String
	var present bool
	if !s.ReadOptionalASN1(&field, &present, explicit(0)) {
		return nil, malformed(name, "negState")
	}
	if present {
		var state int
		if !field.ReadASN1Enum(&state) || !field.Empty() || state < 0 || state > int(RequestMIC)-1 {
			return nil, malformed(name, "negState")
		}
		t.State = NegState(state + 1)
	}
	if !s.ReadOptionalASN1(&field, &present, explicit(1)) ||
		present && (!field.ReadASN1ObjectIdentifier(&t.SupportedMech) || !field.Empty()) {
		return nil, malformed(name, "supportedMech")
	}
	if !readOctets(&s, 2, &t.ResponseToken) {
		return nil, malformed(name, "responseToken")
	}
	if !readOctets(&s, 3, &t.MechListMIC) {
		return nil, malformed(name, "mechListMIC")
	}
	return t, nil
}

// appendMechList appends the MechTypeList of the names.
func appendMechList(dst []byte, mechTypes []asn1.ObjectIdentifier) ([]byte, error) {
	b := cryptobyte.NewBuilder(dst)
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, oid := range mechTypes {
			b.AddASN1ObjectIdentifier(oid)
		}
	})
	return b.Bytes()
}

// AppendBinary appends the token. It fails if a name is not an object identifier.
func (t *NegTokenInit) AppendBinary(dst []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(dst)
	b.AddASN1(tagInitialContext, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(spnegoOID())
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
					list, err := appendMechList(nil, t.MechTypes)
					if err != nil {
						b.SetError(err)
					}
					b.AddBytes(list)
				})
				addOctets(b, 2, t.MechToken)
				addOctets(b, 3, t.MechListMIC)
			})
		})
	})
	return b.Bytes()
}

// AppendBinary appends the token. It fails if SupportedMech is not an object identifier.
func (t *NegTokenResp) AppendBinary(dst []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(dst)
	b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			if t.State != StateAbsent {
				b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(t.State) - 1) })
			}
			if t.SupportedMech != nil {
				b.AddASN1(explicit(1), func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(t.SupportedMech) })
			}
			addOctets(b, 2, t.ResponseToken)
			addOctets(b, 3, t.MechListMIC)
		})
	})
	return b.Bytes()
}

// addOctets adds an optional field with an OCTET STRING.
func addOctets(b *cryptobyte.Builder, n uint8, octets []byte) {
	if octets != nil {
		b.AddASN1(explicit(n), func(b *cryptobyte.Builder) { b.AddASN1OctetString(octets) })
	}
}
