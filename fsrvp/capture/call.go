package capture

import (
	"errors"
	"net/netip"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A Call is one request of the interface and what answered it. It belongs to whom it was yielded
// to.
type Call struct {
	// Time is when the packet that completed the request was captured, ResponseTime when that of
	// the answer was; zero without one. Packet and ResponsePacket are their numbers in the file,
	// from 1.
	Time, ResponseTime     time.Time
	Packet, ResponsePacket uint64

	Client, Server netip.AddrPort
	OnPipe         bool   // the call came over SMB, not over TCP
	Pipe           string // the pipe's name, "FssagentRpc"; empty where the capture lacks it
	// Association numbers the RPC association (one bind on one connection or pipe) in the file,
	// from 1.
	Association uint64
	CallID      uint32
	ContextID   uint16

	// Peer is who called. Its Identity is that of the RPC security context, or without one that of
	// the SMB session: for NTLM the account that the client named, for Kerberos the ticket's
	// client, which takes the keytab to read.
	Peer dcerpc.Peer

	// Syntax is that of the request, ResponseSyntax that of the response. Assumed tells that the
	// capture lacks their negotiation, and that they were guessed from the pipe's name and the
	// stubs.
	Syntax, ResponseSyntax ndr.Syntax
	Assumed                bool

	// Tampered says that a message of the call has a signature, of RPC or of SMB under it, that
	// does not verify although the key is known: somebody has changed it on its way.
	Tampered bool

	Opnum fsrvp.Opnum
	// RequestStub and ResponseStub are the whole stubs, in clear, without auth padding and
	// verification trailer; nil where they could not be read.
	RequestStub, ResponseStub []byte
	// Request is nil where RequestErr is not. The error matches ErrLost, ErrCut, ErrSealed,
	// ErrSignature, ErrKey, ErrStub, ErrLimit or ErrProtocol.
	Request    fsrvp.Message
	RequestErr error
	// Response is nil where ResponseErr or Fault is not. The error matches those of RequestErr, or
	// ErrUnanswered; ErrLost too where no answer was seen and the capture lacks bytes that may have
	// held it.
	Response    fsrvp.Response
	ResponseErr error
	// Fault is what the RPC layer answered with instead of a response.
	Fault *dcerpc.Fault
}

// Answered reports whether an answer was seen, readable or not.
func (c *Call) Answered() bool { return !c.ResponseTime.IsZero() }

// Status returns what the method returned, where a response could be read.
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
// `FSRVP\backup`. It is empty for an anonymous caller and for one that is not known.
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

// Err returns the first of RequestErr, ResponseErr, the Fault and the status where it is no
// success; nil for a call that could be read and succeeded.
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
