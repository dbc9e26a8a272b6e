package pdu

import (
	"strconv"

	"github.com/google/uuid"
)

// BindNak refuses a bind (C706 12.6.4.5, MS-RPCE 2.2.2.9):
//
//	16 provider_reject_reason, 2 bytes
//	18 n_protocols | {major, minor} of each that the server speaks
//	   anything: padding, or MS-RPCE's signature and extended error information
type BindNak struct {
	Header
	Reason   NakReason
	Versions []Version
	Auth     Auth // whatever follows, in Padding if it is not a trailer
}

// Version is a version of the protocol.
type Version struct{ Major, Minor uint8 }

// NakReason is why a bind was refused (p_reject_reason_t, MS-RPCE 2.2.2.5).
type NakReason uint16

// The reasons.
const (
	NakReasonNotSpecified          NakReason = 0
	NakTemporaryCongestion         NakReason = 1
	NakLocalLimitExceeded          NakReason = 2
	NakProtocolVersionNotSupported NakReason = 4
	NakAuthTypeNotRecognized       NakReason = 8
	NakInvalidChecksum             NakReason = 9 // also means that the security package refused the token
)

// String returns the standard's name, "protocol_version_not_supported".
func (r NakReason) String() string {
	switch r {
	case NakReasonNotSpecified:
		return "reason_not_specified"
	case NakTemporaryCongestion:
		return "temporary_congestion"
	case NakLocalLimitExceeded:
		return "local_limit_exceeded"
	case NakProtocolVersionNotSupported:
		return "protocol_version_not_supported"
	case NakAuthTypeNotRecognized:
		return "authentication_type_not_recognized"
	case NakInvalidChecksum:
		return "invalid_checksum"
	}
	return "reason " + strconv.Itoa(int(r))
}

// NewBindNak returns the bind_nak that Windows and Samba send: version 5.0, 24 bytes in all.
func NewBindNak(callID uint32, reason NakReason) BindNak {
	return BindNak{
		Header:   Header{Flags: FirstFrag | LastFrag, CallID: callID},
		Reason:   reason,
		Versions: []Version{{5, 0}},
		Auth:     Auth{Padding: make([]byte, 3)},
	}
}

// extendedSignature says that extended error information follows (MS-RPCE 2.2.1.1.2).
var extendedSignature = uuid.MustParse("90740320-fad0-11d3-82d7-009027b130ab")

// Extended returns the extended error information, or nil if there is none or it is malformed.
func (p *BindNak) Extended() []ExtendedError {
	pad := p.extendedPad()
	if len(p.Auth.Padding) < pad+len(extendedSignature) {
		return nil
	}
	r := reader{b: p.Auth.Padding[pad:], be: p.DataRep.order()}
	if r.uuid() != extendedSignature {
		return nil
	}
	records, err := ParseExtendedErrors(r.rest())
	if err != nil {
		return nil
	}
	return records
}

// SetExtended appends extended error information; none if records is empty. It fails as
// [AppendExtendedErrors] does.
func (p *BindNak) SetExtended(records []ExtendedError) error {
	if len(records) == 0 {
		return nil
	}
	w := writer{b: make([]byte, p.extendedPad()), be: p.DataRep.order()}
	w.uuid(extendedSignature)
	b, err := AppendExtendedErrors(w.b, records)
	if err != nil {
		return err
	}
	p.Auth.Padding = b
	return nil
}

// extendedPad is how many bytes of padding stand before the signature.
func (p *BindNak) extendedPad() int { return -(HeaderSize + 3 + 2*len(p.Versions)) & 7 }

// ParseBindNak reads a bind_nak. Beyond the PDU's own bytes it allocates the list of versions.
func ParseBindNak(b []byte) (BindNak, error) {
	h, b, err := openType(b, TypeBindNak, HeaderSize+3)
	if err != nil {
		return BindNak{}, err
	}
	p := BindNak{Header: h}
	b, p.Auth, err = splitAuth(&h, b, HeaderSize+3)
	if err != nil {
		return BindNak{}, err
	}
	r := reader{b: b, off: HeaderSize, be: h.DataRep.order()}
	p.Reason = NakReason(r.uint16())
	n := int(r.uint8())
	if 2*n > r.left() {
		return BindNak{}, fail(ErrBody, h.Type, "%d versions in %d bytes", n, r.left())
	}
	if n > 0 {
		p.Versions = make([]Version, n)
	}
	for i := range p.Versions {
		p.Versions[i] = Version{r.uint8(), r.uint8()}
	}
	p.Auth.Padding = r.rest()
	return p, nil
}

// AppendBinary appends the bind_nak. It fails with [ErrCount] if there are more than 255 versions.
func (p *BindNak) AppendBinary(dst []byte) ([]byte, error) {
	w := begin(dst, &p.Header, TypeBindNak)
	w.uint16(uint16(p.Reason))
	w.count8(len(p.Versions))
	for _, v := range p.Versions {
		w.uint8(v.Major)
		w.uint8(v.Minor)
	}
	return w.finish(&p.Auth, 0, trailerAlign)
}
