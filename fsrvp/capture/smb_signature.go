package capture

import "github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"

// A channel is a session on one connection. Each channel has its own signing key (MS-SMB2
// 3.2.5.3.3).
type channel struct {
	binding *handshake   // of a connection that is being bound to a session; nil for the one that opened it
	preauth smb2.Preauth // of the binding, so far
	signer  *smb2.Signer // nil if the key is not known
}

// establish derives the signing key at the end of the log-on.
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

// verify checks the signature of a whole message in clear. It returns false only if the message is
// signed, the key is known, and the signature is wrong.
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

// messageName returns the name of an SMB message.
func messageName(h *smb2.Header) string {
	if h.IsResponse() {
		return "SMB " + h.Command.String() + " response"
	}
	return "SMB " + h.Command.String() + " request"
}
