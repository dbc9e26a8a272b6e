package capture

import (
	"bytes"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"
)

// relatedSession in a related request stands for the session of the request before (MS-SMB2 3.2.4.1.4).
const relatedSession = ^uint64(0)

// request takes what a client sent. Bytes for pipes go on at once, everything else waits for the response.
func (c *smbConn) request(h *smb2.Header, msg []byte, why Reason, at moment) {
	switch h.Command {
	case smb2.Negotiate:
		c.preauth = smb2.Preauth{}.Add(msg)
		return
	case smb2.SessionSetup:
		c.sessionSetupRequest(h, msg)
		return
	}
	r := &smbRequest{command: h.Command, tree: h.TreeID}
	if before := c.previous; h.Flags&smb2.FlagRelated != 0 && before != nil && h.SessionID == relatedSession {
		r.session, r.tree = before.session, before.tree
	} else {
		r.session = c.midwaySession(h.SessionID)
	}
	if r.session == nil {
		return
	}
	c.previous = r
	var written smb2.Part
	switch h.Command {
	case smb2.TreeConnect, smb2.Logoff:
	case smb2.Create:
		name, ok := smb2.CreateRequest(msg)
		if pipes, known := r.session.trees[r.tree]; !ok || known && !pipes {
			return
		}
		r.pipe = c.newPipe(r.session, name)
	case smb2.Close:
		id, ok := smb2.CloseRequest(msg)
		if r.pipe = c.pipe(r.session, id); !ok || r.pipe == nil {
			return
		}
	case smb2.Read:
		id, ok := smb2.ReadRequest(msg)
		if r.pipe = c.pipe(r.session, id); !ok || r.pipe == nil {
			return
		}
	case smb2.Write:
		id, data, ok := smb2.WriteRequest(msg)
		if r.pipe = c.openedPipe(r.session, id, data); !ok || r.pipe == nil {
			return
		}
		written = data
	case smb2.IOCTL:
		code, id, data, ok := smb2.IOCTLRequest(msg)
		if !ok || code != smb2.FSCTLPipeTransceive {
			return
		}
		if r.pipe = c.openedPipe(r.session, id, data); r.pipe == nil {
			return
		}
		written = data
	default:
		return
	}
	c.remember(h.MessageID, r)
	c.transfer(r.pipe, true, written, why, at)
}

// transfer gives bytes that were written or read to a pipe.
func (c *smbConn) transfer(p *association, fromClient bool, data smb2.Part, why Reason, at moment) {
	if p == nil {
		return
	}
	if len(data.Bytes) > 0 {
		p.data(fromClient, data.Bytes, at)
	}
	if data.Missing > 0 {
		if why == 0 {
			why = ErrProtocol
		}
		p.hole(fromClient, data.Missing, why, at)
	}
}

// newPipe makes what a CREATE opens, unless there are too many.
func (c *smbConn) newPipe(s *session, name string) *association {
	if len(s.pipes) >= maxPipes {
		c.problem(ErrLimit, "open pipes")
		return nil
	}
	p := newPipeAssociation(c.stream, s, name)
	if !p.afford(associationCost) {
		return nil
	}
	return p
}

// pipe finds an open pipe by its id, or that of the request before where the id says so; nil where there is none.
func (c *smbConn) pipe(s *session, id smb2.FileID) *association {
	if !id.Related() {
		return s.pipes[id]
	}
	if c.previous == nil {
		return nil
	}
	return c.previous.pipe
}

// openedPipe is pipe for one whose CREATE the capture may lack: what is written to it looks like RPC.
func (c *smbConn) openedPipe(s *session, id smb2.FileID, data smb2.Part) *association {
	p := c.pipe(s, id)
	if p != nil || id.Related() {
		return p
	}
	if kind, fromClient, _ := recognise(data.Bytes, 0); kind != kindRPC || !fromClient {
		return nil
	}
	if p = c.newPipe(s, ""); p != nil {
		s.pipes[id] = p
	}
	return p
}

// sessionSetupRequest keeps a leg of an authentication until its answer comes. The answer to the first leg has the session's id.
func (c *smbConn) sessionSetupRequest(h *smb2.Header, msg []byte) {
	token, ok := smb2.SessionSetupRequest(msg)
	if !ok || len(token) > maxTokenSize {
		return
	}
	r := &smbRequest{command: h.Command, token: bytes.Clone(token), preauth: c.preauth}
	if h.SessionID != 0 {
		if r.session = c.midwaySession(h.SessionID); r.session == nil {
			return
		}
		if r.session.opening {
			r.preauth = r.session.preauth
		}
	}
	r.preauth = r.preauth.Add(msg)
	c.remember(h.MessageID, r)
}
