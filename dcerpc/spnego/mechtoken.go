package spnego

import "encoding/asn1"

// MechToken returns what a message of either side carries of a mechanism, and the names of
// mechanisms in it: all that are offered, the token's own first, or the one that was chosen. Both
// may be missing. A token that is no message of a negotiation is a mechanism's own, and is returned
// as it is.
//
// It is for who looks on from outside. The token aliases b.
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
