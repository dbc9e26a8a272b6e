package dcerpc

import (
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/logs"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// ErrBadPeer is wrapped by the errors of a connection whose server broke the protocol: it sent a
// PDU that is malformed, unexpected, or wrongly signed.
var ErrBadPeer = errors.New("dcerpc: the peer broke the protocol")

// badPeer returns an error that wraps ErrBadPeer.
func badPeer(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrBadPeer, fmt.Errorf(format, args...))
}

// A BindError says that a server refused to open an association (bind_nak, C706 12.6.4.5).
type BindError struct {
	Reason pdu.NakReason
	// Extended is the server's description of the reason (MS-RPCE 2.2.2.9, MS-EERR), the outermost
	// error first, or nil. It is neither signed nor sealed: use it only as text for people.
	Extended []pdu.ExtendedError
}

func (e *BindError) Error() string {
	text := "dcerpc: bind refused: " + e.Reason.String()
	for i := len(e.Extended) - 1; i >= 0; i-- { // the last one is the cause
		for _, p := range e.Extended[i].Params {
			if s, ok := p.(string); ok {
				return text + "; the server says: " + logs.Printable(s)
			}
		}
	}
	if len(e.Extended) > 0 {
		text += fmt.Sprintf("; the server says: status %#08x", e.Extended[len(e.Extended)-1].Status)
	}
	return text
}

// A SecurityError is an error of an [Acceptor]'s [Context] that the peer may know, such as a wrong
// clock or an expired ticket: the server appends it to the bind_nak as extended error information.
type SecurityError struct {
	Status uint32 // a SECURITY_STATUS (MS-ERREF 2.1), such as SEC_E_TIME_SKEW, 0x80090324
	Text   string // for people
	Err    error  // for the log
}

func (e *SecurityError) Error() string { return e.Err.Error() }
func (e *SecurityError) Unwrap() error { return e.Err }

// A RejectedError says that a server does not offer an interface, or does not offer it in any of
// the requested transfer syntaxes (p_result_t, C706 12.6.3.1).
type RejectedError struct {
	Interface SyntaxID
	Result    pdu.Result
	Reason    pdu.Reason
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("dcerpc: interface %v rejected: %v, %v", e.Interface, e.Result, e.Reason)
}
