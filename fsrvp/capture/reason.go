package capture

// A Reason is why something in a capture could not be decoded. Errors of calls match one with
// errors.Is.
type Reason uint8

// The reasons.
const (
	ErrLinkType   Reason = iota + 1 // packets of a link layer that is not known
	ErrPacket                       // a packet whose headers make no sense
	ErrFragment                     // an IP packet whose fragments could not be put together
	ErrLost                         // bytes that the capture lacks
	ErrCut                          // packets that were cut short when they were captured
	ErrMidstream                    // requests on an association that was opened before the capture began
	ErrProtocol                     // bytes that break SMB's or RPC's rules
	ErrDialect                      // SMB 1, or compressed SMB 3
	ErrEncrypted                    // SMB 3 messages without the key that decrypts them
	ErrSealed                       // a stub that RPC has encrypted, without the key
	ErrKey                          // a log-on that none of the keys opens: a Kerberos ticket, an NTLM response
	ErrSignature                    // a sealed stub that does not decrypt with its context's key
	ErrTampered                     // a signature that does not verify: the message was changed on its way
	ErrStub                         // a stub that is not a message of its method
	ErrOrphan                       // a response whose request the capture lacks
	ErrUnanswered                   // a request that nothing answered before its connection or the capture ended
	ErrRefused                      // a bind to the interface that the server refused
	ErrLimit                        // a limit of Config was reached
)

func (r Reason) Error() string {
	switch r {
	case ErrLinkType:
		return "link layer not supported"
	case ErrPacket:
		return "damaged packet"
	case ErrFragment:
		return "fragments of an IP packet could not be put together"
	case ErrLost:
		return "missing from the capture"
	case ErrCut:
		return "packets were cut short when captured"
	case ErrMidstream:
		return "association opened before the capture began"
	case ErrProtocol:
		return "malformed message"
	case ErrDialect:
		return "SMB dialect not supported"
	case ErrEncrypted:
		return "SMB 3 encryption without the session's key"
	case ErrSealed:
		return "stub is sealed and there is no key"
	case ErrKey:
		return "log-on not opened by the keys that were given"
	case ErrSignature:
		return "sealed stub does not decrypt"
	case ErrTampered:
		return "signature does not verify, the message was changed on its way"
	case ErrStub:
		return "stub is no message of its method"
	case ErrOrphan:
		return "response without its request"
	case ErrUnanswered:
		return "unanswered"
	case ErrRefused:
		return "interface refused by the server"
	case ErrLimit:
		return "limit reached"
	}
	return "unknown reason"
}
