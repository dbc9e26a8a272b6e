package capture

import (
	"errors"
	"net/netip"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A Call is one request of the interface and its answer. It belongs to the caller that gets it.
type Call struct {
	// Time is the time of the packet that completed the request, ResponseTime that of the packet
	// that completed the answer, or zero. Packet and ResponsePacket are their numbers in the file,
	// from 1.
	Time, ResponseTime     time.Time
	Packet, ResponsePacket uint64

	Client, Server netip.AddrPort
	OnPipe         bool   // the call came over SMB, not over TCP
	Pipe           string // the pipe's name, "FssagentRpc"; empty if the capture lacks it
	// Association numbers the RPC association (one bind on one connection or pipe) in the file,
	// from 1.
	Association uint64
	CallID      uint32
	ContextID   uint16

	// Peer is the caller. Its Identity comes from the RPC security context, or without one from the
	// SMB session: for NTLM the account that the client named, for Kerberos the client in the
	// ticket, which only the keytab opens.
	Peer dcerpc.Peer

	// Syntax is the syntax of the request, ResponseSyntax that of the response. Assumed means that
	// the capture lacks their negotiation, and that they were guessed from the pipe's name and the
	// stubs.
	Syntax, ResponseSyntax ndr.Syntax
	Assumed                bool

	// Tampered means that the signature of a message of the call, by RPC or by SMB under it, does
	// not verify although the key is known: the message was changed on its way.
	Tampered bool

	Opnum fsrvp.Opnum
	// RequestStub and ResponseStub are the whole stubs, in clear, without auth padding and
	// verification trailer; nil if they could not be read.
	RequestStub, ResponseStub []byte
	// Request is nil if RequestErr is not. The error matches [ErrLost], [ErrCut], [ErrSealed],
	// [ErrSignature], [ErrKey], [ErrStub], [ErrLimit] or [ErrProtocol].
	Request    fsrvp.Message
	RequestErr error
	// Response is nil if ResponseErr or Fault is not. The error matches those of RequestErr, or
	// [ErrUnanswered]; it also matches [ErrLost] if no answer was seen but the capture lacks bytes
	// that may have held it.
	Response    fsrvp.Response
	ResponseErr error
	// Fault is the fault with which the RPC layer answered instead of a response.
	Fault *dcerpc.Fault
}

// Answered reports whether an answer was seen, readable or not.
func (c *Call) Answered() bool { return !c.ResponseTime.IsZero() }

// Status returns the status of the method, if a response could be read.
func (c *Call) Status() (fsrvp.Status, bool) {
	if c.Response == nil {
		return 0, false
	}
	return c.Response.Status(), true
}

// Transport returns the protocol sequence: "ncacn_np" or "ncacn_ip_tcp".
func (c *Call) Transport() string {
	if c.OnPipe {
		return "ncacn_np"
	}
	return "ncacn_ip_tcp"
}

// User returns the caller's name: the Kerberos principal "backup@FSRVP.TEST", for NTLM
// `FSRVP\backup`. It is empty if the caller is anonymous or unknown.
func (c *Call) User() string { return userName(&c.Peer.Identity) }

func userName(id *dcerpc.Identity) string {
	switch {
	case id.Principal != "":
		return id.Principal
	case id.Account != "" && id.Domain != "":
		return id.Domain + `\` + id.Account
	}
	return id.Account
}

// Err returns the first of RequestErr, ResponseErr, the Fault, and a status other than success; nil
// if the call could be read and succeeded.
func (c *Call) Err() error {
	switch {
	case c.RequestErr != nil:
		return c.RequestErr
	case c.ResponseErr != nil:
		return c.ResponseErr
	case c.Fault != nil:
		return c.Fault
	case c.Response == nil:
		return errors.New("capture: a call that was not yielded by Calls")
	}
	return c.Response.Status().Err()
}
