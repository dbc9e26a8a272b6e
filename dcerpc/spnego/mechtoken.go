package spnego

import "encoding/asn1"

// MechToken returns the mechanism's token in a message of either side, and the mechanisms that the
// message names: all that are offered, the token's first, or the chosen one. Both may be missing. A
// token that is not a message of a negotiation is a mechanism's own; it is returned unchanged.
//
// It is for observers of an exchange, such as decoders of captures. The token aliases b.
func MechToken(b []byte) (token []byte, mechTypes []asn1.ObjectIdentifier) {
	if init, err := ParseNegTokenInit(b); err == nil {
		return init.MechToken, init.MechTypes
	}
	resp, err := ParseNegTokenResp(b)
	if err != nil {
		return b, nil
	}
	if resp.SupportedMech != nil {
		mechTypes = []asn1.ObjectIdentifier{resp.SupportedMech}
	}
	return resp.ResponseToken, mechTypes
}
