package capture

import "github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"

// wanted reports, by its first headSize-netbiosHeader bytes, whether a message is needed as a
// whole. The data of files, which is most of the traffic, is not collected: the head is enough for
// a READ or WRITE of anything but a pipe, for a listing, and for an encrypted message whose key is
// not known.
//
// If the signing key is known, a signed message of up to Config.MaxMessage bytes is wanted, as long
// as half of the buffer memory is free.
func (c *smbConn) wanted(head []byte, size int) bool {
	switch string(head[:4]) {
	case smb2.Magic:
	case smb2.MagicTransform:
		t, ok := smb2.ParseTransform(head)
		s := c.session(t.SessionID)
		return ok && s != nil && s.keys != nil
	default:
		return false
	}
	h, ok := smb2.ParseHeader(head)
	if !ok {
		return false
	}
	if ch := c.channels[h.SessionID]; h.Flags&smb2.FlagSigned != 0 && ch != nil && ch.signer != nil {
		if cfg := &c.d.cfg; size <= cfg.MaxMessage && c.d.buffers.left > cfg.MaxBuffered/2 {
			return true
		}
	}
	if h.NextCommand != 0 {
		return true // any part of a compound may be about a pipe
	}
	switch h.Command {
	case smb2.Negotiate, smb2.SessionSetup, smb2.TreeConnect, smb2.Create, smb2.IOCTL:
		return true
	case smb2.Read:
		r := c.pending[h.MessageID]
		return h.IsResponse() && r != nil && r.pipe != nil
	case smb2.Write:
		return !h.IsResponse() && c.writes(&h, head)
	}
	return false
}

// writes reports whether a WRITE may be about a pipe.
func (c *smbConn) writes(h *smb2.Header, head []byte) bool {
	id, data, ok := smb2.WriteRequest(head)
	if !ok {
		return false
	}
	if id.Related() {
		return true
	}
	s := c.session(h.SessionID)
	if s != nil && s.pipes[id] != nil {
		return true
	}
	kind, fromClient, _ := recognise(data.Bytes, 0)
	return kind == kindRPC && fromClient
}
