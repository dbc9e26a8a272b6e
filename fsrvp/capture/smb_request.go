package capture

import (
	"bytes"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"
)

// relatedSession in a related request means the session of the previous request (MS-SMB2
// 3.2.4.1.4).
const relatedSession = ^uint64(0)

// request takes a client's message. Bytes for pipes are passed on at once; everything else waits
// for the response.
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
		*r = smbRequest{command: h.Command, tree: before.tree, session: before.session, pipe: before.pipe}
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
		r.pipe = nil
		name, ok := smb2.CreateRequest(msg)
		if pipes, known := r.session.trees[r.tree]; !ok || known && !pipes {
			return
		}
		r.pipe = c.newPipe(r.session, name)
	case smb2.Close:
		id, ok := smb2.CloseRequest(msg)
		if r.pipe = r.pipeOf(id); !ok || r.pipe == nil {
			return
		}
	case smb2.Read:
		id, ok := smb2.ReadRequest(msg)
		if r.pipe = r.pipeOf(id); !ok || r.pipe == nil {
			return
		}
	case smb2.Write:
		id, data, ok := smb2.WriteRequest(msg)
		if r.pipe = c.writtenPipe(r, id, data); !ok || r.pipe == nil {
			return
		}
		written = data
	case smb2.IOCTL:
		code, id, data, ok := smb2.IOCTLRequest(msg)
		if !ok || code != smb2.FSCTLPipeTransceive {
			return
		}
		if r.pipe = c.writtenPipe(r, id, data); r.pipe == nil {
			return
		}
		written = data
	default:
		return
	}
	c.remember(h.MessageID, r)
	c.transfer(r.pipe, true, written, why, at)
}

// transfer passes bytes that were written or read to a pipe.
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

// newPipe makes the pipe that a CREATE opens, unless there are too many.
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

// pipeOf returns an open pipe by its id, which may mean that of the previous request, or nil.
func (r *smbRequest) pipeOf(id smb2.FileID) *association {
	if id.Related() {
		return r.pipe
	}
	return r.session.pipes[id]
}

// writtenPipe is pipeOf for a pipe whose CREATE may not be in the capture, if the written bytes
// look like RPC.
func (c *smbConn) writtenPipe(r *smbRequest, id smb2.FileID, data smb2.Part) *association {
	p := r.pipeOf(id)
	if p != nil || id.Related() {
		return p
	}
	if kind, fromClient, _ := recognise(data.Bytes, 0); kind != kindRPC || !fromClient {
		return nil
	}
	if p = c.newPipe(r.session, ""); p != nil {
		r.session.openPipe(id, p)
	}
	return p
}

// sessionSetupRequest keeps a leg of an authentication until its answer comes. The answer to the
// first leg has the session's id.
func (c *smbConn) sessionSetupRequest(h *smb2.Header, msg []byte) {
	token, binding, ok := smb2.SessionSetupRequest(msg)
	if !ok || len(token) > maxTokenSize {
		return
	}
	r := &smbRequest{command: h.Command, token: bytes.Clone(token), preauth: c.preauth}
	if h.SessionID != 0 {
		if r.session = c.midwaySession(h.SessionID); r.session == nil {
			return
		}
		if binding {
			c.bind(h.SessionID)
		}
		if ch := c.channels[h.SessionID]; ch != nil && ch.binding != nil {
			r.preauth = ch.preauth
		} else if r.session.opening {
			r.preauth = r.session.preauth
		}
	}
	r.preauth = r.preauth.Add(msg)
	c.remember(h.MessageID, r)
}
