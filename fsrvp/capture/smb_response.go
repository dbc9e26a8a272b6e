package capture

import "github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"

// response takes a server's message.
func (c *smbConn) response(h *smb2.Header, msg []byte, why Reason, at moment) {
	if h.Command == smb2.Negotiate {
		c.negotiateResponse(msg)
		return
	}
	if h.Interim() {
		return
	}
	r, ok := c.recall(h.MessageID)
	if !ok {
		c.orphan(h, msg)
		return
	}
	if r.command != h.Command {
		c.problem(ErrProtocol, "SMB response to another command")
		return
	}
	success := h.Status == smb2.StatusSuccess
	switch h.Command {
	case smb2.SessionSetup:
		c.sessionSetupResponse(h, msg, r)
	case smb2.Logoff:
		if success && c.sessions[r.session.key.id] == r.session {
			delete(c.sessions, r.session.key.id)
			delete(c.channels, r.session.key.id)
			r.session.leave(c.d)
		}
	case smb2.TreeConnect:
		pipes, ok := smb2.TreeConnectResponse(msg)
		if success && ok && len(r.session.trees) < maxTrees && r.session.buffers.take(treeCost) {
			r.session.trees[h.TreeID] = pipes
		}
	case smb2.Create:
		if r.pipe == nil {
			return
		}
		id, ok := smb2.CreateResponse(msg)
		if !success || !ok {
			r.pipe.close()
			return
		}
		r.session.openPipe(id, r.pipe)
	case smb2.Close:
		r.pipe.close()
		if r.session.pipes[r.pipe.id] == r.pipe {
			delete(r.session.pipes, r.pipe.id)
		}
	case smb2.Read:
		if data, ok := smb2.ReadResponse(msg); ok && (success || h.Status == smb2.StatusBufferOverflow) {
			c.transfer(r.pipe, false, data, why, at)
		}
	case smb2.IOCTL:
		if data, ok := smb2.IOCTLResponse(msg); ok && (success || h.Status == smb2.StatusBufferOverflow) {
			c.transfer(r.pipe, false, data, why, at)
		}
	}
}

// orphan counts a response with RPC in it whose request is not in the capture.
func (c *smbConn) orphan(h *smb2.Header, msg []byte) {
	var data smb2.Part
	switch h.Command {
	case smb2.Read:
		data, _ = smb2.ReadResponse(msg)
	case smb2.IOCTL:
		data, _ = smb2.IOCTLResponse(msg)
	}
	if kind, fromClient, _ := recognise(data.Bytes, 0); kind == kindRPC && !fromClient {
		c.problem(ErrOrphan, "SMB response with RPC in it")
	}
}

func (c *smbConn) negotiateResponse(msg []byte) {
	if r, ok := smb2.ParseNegotiateResponse(msg); ok {
		c.chosen = r
		c.preauth = c.preauth.Add(msg)
	}
}

// sessionSetupResponse continues the authentication of a session, or begins it.
func (c *smbConn) sessionSetupResponse(h *smb2.Header, msg []byte, r *smbRequest) {
	more := h.Status == smb2.StatusMoreProcessingRequired
	if h.Status != smb2.StatusSuccess && !more {
		return
	}
	s := r.session
	if s == nil {
		if h.SessionID == 0 || len(c.sessions) >= maxSessions {
			return
		}
		if s = c.newSession(h.SessionID); s == nil {
			return
		}
		s.opening = true
	}
	token, _ := smb2.SessionSetupResponse(msg)
	if ch := c.channels[h.SessionID]; ch != nil && ch.binding != nil {
		c.exchange(ch.binding, r.token, token)
		if more {
			ch.preauth = r.preauth.Add(msg)
			return
		}
		ch.establish(c.chosen, ch.binding.sessionKey(), r.preauth)
		return
	}
	if s.established {
		return // the same user again: the keys stay
	}
	c.exchange(s.handshake, r.token, token)
	if more {
		s.preauth = r.preauth.Add(msg)
		return
	}
	s.establish(c.chosen, r.preauth)
	if key := s.handshake.sessionKey(); key != nil && s.hashed(c.chosen) {
		ch := new(channel)
		ch.establish(c.chosen, key, r.preauth)
		c.channels[h.SessionID] = ch
	}
}

// exchange passes both tokens of a leg to a handshake.
func (c *smbConn) exchange(h *handshake, request, response []byte) {
	if err := h.fromClient(request); err != nil {
		c.problem(reasonOf(err), cause(err))
	}
	h.fromServer(response)
}
