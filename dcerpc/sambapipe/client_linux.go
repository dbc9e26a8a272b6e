package sambapipe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// clientTime is the interval at which the clients of open handles are checked. A client must be
// missing twice.
const clientTime = time.Second

// clients ends the handles of clients that have gone. Samba 4.17 closes a handle when its client's
// connection ends; 4.22 does so only when the server behind the handle has answered, so the end of
// a client would not cancel its call.
type clients struct {
	log *slog.Logger

	mu     sync.Mutex
	open   map[*conn]*client
	spaces map[string]*diag // by the target of /proc/PID/ns/net
	stop   chan struct{}    // closed when there are no clients any more
	warned bool
}

// A client is the SMB client of one handle.
type client struct {
	smbd    int32 // the process that serves it
	diag    *diag
	socket  tcpSocket // one of its connections
	missing bool      // at the last check
}

// watch watches the client of a handle while the handle is open. It does not watch a client whose
// connection the kernel does not know from the start, since it is connected in an unknown way.
func (w *clients) watch(c *conn, smbd int32) {
	if c.channel == (channel{}) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	cl := &client{smbd: smbd}
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", smbd))
	if err == nil {
		if cl.diag = w.spaces[space]; cl.diag == nil {
			cl.diag, err = openDiag(fmt.Sprintf("/proc/%d/ns/net", smbd))
		}
	}
	if err == nil {
		cl.socket, err = cl.diag.find(c.channel, anyCookie)
	}
	if err == nil && cl.socket.state != stateEstablished {
		err = errNoSocket
	}
	if err == nil {
		_, err = sockets(smbd)
	}
	if err != nil {
		if cl.diag != nil && w.spaces[space] == nil {
			cl.diag.close()
		}
		w.unwatchedLocked(c, err)
		return
	}
	if w.open == nil {
		w.open, w.spaces = make(map[*conn]*client), make(map[string]*diag)
	}
	w.spaces[space] = cl.diag
	if w.open[c] = cl; len(w.open) == 1 {
		w.stop = make(chan struct{})
		go w.run(w.stop)
	}
	c.closed = func() { w.forget(c) }
}

// unwatchedLocked logs once why a client cannot be watched.
func (w *clients) unwatchedLocked(c *conn, err error) {
	level := slog.LevelDebug
	if !w.warned && !errors.Is(err, errNoSocket) && !errors.Is(err, os.ErrNotExist) {
		level, w.warned = slog.LevelWarn, true
	}
	w.log.Log(context.Background(), level, "cannot see when a client is gone: its calls may outlive it",
		slog.String("client", c.client.String()), slog.Any("err", err))
}

// forget stops watching the client of a handle.
func (w *clients) forget(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open[c] == nil {
		return
	}
	if delete(w.open, c); len(w.open) > 0 {
		return
	}
	close(w.stop)
	for space, d := range w.spaces {
		d.close()
		delete(w.spaces, space)
	}
}

// run checks the clients until there are none.
func (w *clients) run(stop <-chan struct{}) {
	tick := time.NewTicker(clientTime)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		w.mu.Lock()
		all := make(map[*conn]*client, len(w.open))
		for c, cl := range w.open {
			all[c] = cl
		}
		w.mu.Unlock()
		for c, cl := range all {
			if cl.gone() {
				w.log.Debug("a client is gone; the end of its handle ends its calls",
					slog.String("client", c.client.String()))
				w.forget(c)
				c.end()
			}
		}
	}
}

// gone reports whether the client has no connection any more. If that cannot be determined, it
// returns false.
func (cl *client) gone() bool {
	s, err := cl.diag.find(cl.socket.channel, cl.socket.cookie)
	switch {
	case err == nil && s.state == stateEstablished:
		cl.missing = false
		return false
	case err != nil && !errors.Is(err, errNoSocket):
		return false
	}
	another, ok, err := cl.another()
	if ok {
		cl.socket = another
	}
	missing := err == nil && !ok
	gone := missing && cl.missing
	cl.missing = missing // a connection may be on its way to the process
	return gone
}

// another returns another open connection of the client: with SMB multichannel all connections of a
// client go to one smbd process, which serves only that client.
func (cl *client) another() (s tcpSocket, ok bool, err error) {
	own, err := sockets(cl.smbd)
	if err != nil {
		return s, false, err
	}
	all, err := cl.diag.established(cl.socket.local.Port())
	if err != nil {
		return s, false, err
	}
	for _, s := range all {
		if own[s.inode] {
			return s, true, nil
		}
	}
	return s, false, nil
}

// sockets returns the inodes of all sockets that a process has.
func sockets(pid int32) (map[uint32]bool, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := make(map[uint32]bool)
	for _, name := range names {
		link, err := os.Readlink(filepath.Join(dir, name.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // closed meanwhile
		}
		if err != nil {
			return nil, err
		}
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			if n, err := strconv.ParseUint(strings.TrimSuffix(inode, "]"), 10, 32); err == nil {
				all[uint32(n)] = true
			}
		}
	}
	return all, nil
}
