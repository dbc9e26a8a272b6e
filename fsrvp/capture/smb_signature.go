package capture

import "github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"

// A channel is a session on one connection: each has a signing key of its own (MS-SMB2 3.2.5.3.3).
type channel struct {
	binding *handshake   // of a connection that is being bound to a session; nil of the one that has opened it
	preauth smb2.Preauth // of the binding, so far
	signer  *smb2.Signer // nil where the key is not known
}

// establish derives the signing key when the log-in is over.
func (ch *channel) establish(chosen smb2.NegotiateResponse, key []byte, hash smb2.Preauth) {
	ch.binding = nil
	if key != nil {
		ch.signer, _ = smb2.NewSigner(&chosen, key, hash)
	}
}

// bind begins to bind the connection to a session, unless it has begun.
func (c *smbConn) bind(id uint64) {
	if ch := c.channels[id]; ch == nil && len(c.channels) < maxSessions {
		c.channels[id] = &channel{binding: newHandshake(&c.d.cfg), preauth: c.preauth}
	}
}

// verify checks the signature of a whole message in clear. It is false where the message has one,
// the key is known, and it is not the right one.
func (c *smbConn) verify(h *smb2.Header, msg []byte) bool {
	if h.Flags&smb2.FlagSigned == 0 {
		return true
	}
	ch := c.channels[h.SessionID]
	if ch == nil || ch.signer == nil {
		return true
	}
	c.d.summary.Signatures++
	if ch.signer.Verify(msg) {
		return true
	}
	c.problem(ErrTampered, messageName(h))
	return false
}

// messageName names a message of SMB.
func messageName(h *smb2.Header) string {
	if h.IsResponse() {
		return "SMB " + h.Command.String() + " response"
	}
	return "SMB " + h.Command.String() + " request"
}
