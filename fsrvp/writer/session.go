package writer

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
)

// A session is the connection to a database on which a writer holds its lock. The server releases
// the lock when the connection breaks, however this program ends.
type session struct {
	db *sql.DB
	// kill ends the session with an id from another connection, and returns nil when the session
	// has ended.
	kill func(ctx context.Context, db *sql.DB, id sessionID) error

	mu      sync.Mutex
	conn    *sql.Conn // nil if there is none
	id      sessionID
	busy    bool // a call of use is underway
	refused int  // runs that open has refused, whose abort is still to come
}

// A sessionID identifies a session on the server, and is never reused.
type sessionID struct {
	number int64
	since  string // the start of the session, on servers that reuse numbers
}

// open takes a connection from the pool, and prepares it with init, which returns its id on the
// server.
func (s *session) open(ctx context.Context, init func(context.Context, *sql.Conn) (sessionID, error)) error {
	s.mu.Lock()
	if s.conn != nil || s.busy {
		s.refused++
		s.mu.Unlock()
		return errors.New("the writer is in use by another run")
	}
	s.busy = true
	s.mu.Unlock()
	conn, err := s.db.Conn(ctx)
	var id sessionID
	if err == nil {
		if id, err = init(ctx, conn); err != nil {
			discard(conn)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	if err == nil {
		s.conn, s.id = conn, id
	}
	return err
}

// use calls f with the connection. An error ends the session.
func (s *session) use(ctx context.Context, f func(context.Context, *sql.Conn) error) error {
	s.mu.Lock()
	conn := s.conn
	if conn == nil || s.busy {
		s.mu.Unlock()
		if conn == nil {
			return errNoSession
		}
		return errors.New("the session is still busy with an earlier call")
	}
	s.busy = true
	s.mu.Unlock()
	err := f(ctx, conn)
	s.mu.Lock()
	s.busy = false
	s.mu.Unlock()
	return err
}

var errNoSession = errors.New("no session")

// held reports whether there is a session.
func (s *session) held() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn != nil
}

// end closes the session for good, and makes sure that the server has ended it too: a server that
// waits for a lock on the session's behalf does not notice that the client has gone. If end fails,
// the session is still held.
func (s *session) end(ctx context.Context) error {
	s.mu.Lock()
	conn, id := s.conn, s.id
	s.mu.Unlock()
	if conn == nil {
		return nil
	}
	discard(conn)
	if err := s.kill(ctx, s.db, id); err != nil {
		return fmt.Errorf("cannot make sure that session %d of the server has ended: %w", id.number, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id == id {
		s.conn = nil
	}
	return nil
}

// leave closes a session that holds no lock any more.
func (s *session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		discard(s.conn) // other users of the pool do not expect its settings
		s.conn = nil
	}
}

// abort is end for a failed run, unless open has refused that run.
func (s *session) abort(ctx context.Context) error {
	s.mu.Lock()
	if s.refused > 0 {
		s.refused--
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	return s.end(ctx)
}

// discard closes a connection instead of returning it to the pool, in the background if a call
// still holds it.
func discard(conn *sql.Conn) {
	go func() {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = conn.Close()
	}()
}
