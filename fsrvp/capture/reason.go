package capture

// A Reason says why something in a capture could not be decoded. Match errors of calls with
// [errors.Is].
type Reason uint8

// The reasons.
const (
	ErrLinkType   Reason = iota + 1 // packets of an unknown link layer
	ErrPacket                       // a packet with malformed headers
	ErrFragment                     // an IP packet whose fragments could not be put together
	ErrLost                         // bytes that the capture lacks
	ErrCut                          // packets that were truncated when they were captured
	ErrMidstream                    // requests on an association that was opened before the capture began
	ErrProtocol                     // bytes that violate the rules of SMB or RPC
	ErrDialect                      // SMB 1, or compressed SMB 3
	ErrEncrypted                    // SMB 3 messages without the key that decrypts them
	ErrSealed                       // a stub that RPC has encrypted, without the key
	ErrKey                          // a log-on that none of the keys fits: a Kerberos ticket, an NTLM response
	ErrSignature                    // a sealed stub that does not decrypt with its context's key
	ErrTampered                     // a signature that does not verify: the message was changed on its way
	ErrStub                         // a stub that is not a message of its method
	ErrOrphan                       // a response whose request the capture lacks
	ErrUnanswered                   // a request without an answer before the end of its connection or the capture
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
		return "packets were truncated when captured"
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
		return "no given key fits the log-on"
	case ErrSignature:
		return "sealed stub does not decrypt"
	case ErrTampered:
		return "signature does not verify, the message was changed on its way"
	case ErrStub:
		return "stub is not a message of its method"
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
