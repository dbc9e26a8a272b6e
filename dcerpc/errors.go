package dcerpc

import (
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// ErrBadPeer is wrapped by the errors of a connection whose server broke the protocol: it
// sent a PDU that cannot be read, that was not due, or whose signature is wrong.
var ErrBadPeer = errors.New("dcerpc: the peer broke the protocol")

// badPeer returns an error that wraps ErrBadPeer.
func badPeer(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrBadPeer, fmt.Errorf(format, args...))
}

// A BindError says that a server refused to open an association (bind_nak, C706 12.6.4.5).
type BindError struct {
	Reason pdu.NakReason
}

func (e *BindError) Error() string {
	return "dcerpc: bind refused: " + e.Reason.String()
}

// A RejectedError says that a server does not offer an interface, or not in any transfer
// syntax that it was offered in (p_result_t, C706 12.6.3.1).
type RejectedError struct {
	Interface SyntaxID
	Result    pdu.Result
	Reason    pdu.Reason
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("dcerpc: interface %v rejected: %v, %v", e.Interface, e.Result, e.Reason)
}
