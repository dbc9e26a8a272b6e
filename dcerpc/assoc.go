package dcerpc

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
)

// associations are the association groups of a server (C706 9.3.1): connections of one client to
// one endpoint that belong together. They do not share presentation or security contexts.
type associations struct {
	mu     sync.Mutex
	groups map[uint32]*association
}

// An association is one group. It dies with its last connection.
type association struct {
	id       uint32
	endpoint string // the server's own
	host     string // of the client
	members  int
}

// join returns the group with this id, or a new group if the id is zero. It returns nil if the
// client may not join the group on this endpoint (MS-RPCE 3.3.3.5).
func (a *associations) join(id uint32, endpoint, host string) *association {
	a.mu.Lock()
	defer a.mu.Unlock()
	if id != 0 {
		g := a.groups[id]
		if g == nil || g.endpoint != endpoint || g.host != host {
			return nil
		}
		g.members++
		return g
	}
	g := &association{id: a.newIDLocked(), endpoint: endpoint, host: host, members: 1}
	if a.groups == nil {
		a.groups = make(map[uint32]*association)
	}
	a.groups[g.id] = g
	return g
}

// newIDLocked returns an unused id that cannot be guessed.
func (a *associations) newIDLocked() uint32 {
	for {
		var b [4]byte
		rand.Read(b[:]) // never fails
		id := binary.LittleEndian.Uint32(b[:])
		if id != 0 && a.groups[id] == nil {
			return id
		}
	}
}

func (a *associations) leave(g *association) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g.members--
	if g.members == 0 {
		delete(a.groups, g.id)
	}
}
