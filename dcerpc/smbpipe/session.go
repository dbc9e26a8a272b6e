package smbpipe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/oiweiwei/go-smb2.fork"
)

// closeTime is how long a server has to take the message that frees a pipe, and to answer it.
const closeTime = 10 * time.Second

// A session is one SMB session on one TCP connection, with one share.
type session struct {
	server string
	g      *guard
	smb    *smb2.Session
	tree   *smb2.Share

	// starting is locked by whoever begins an operation, until its message was written.
	starting sync.Mutex

	mu      sync.Mutex
	pipes   int  // that are open, or being opened
	retired bool // no more pipes are opened; the last one ends the session
}

// connect logs in to a server and connects to a share.
func (d *Dialer) connect(ctx context.Context, server, share string) (_ *session, err error) {
	path := `\\` + server
	dial := d.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	c, err := dial(ctx, "tcp", net.JoinHostPort(server, cmp.Or(d.Port, "445")))
	if err != nil {
		return nil, &Error{Op: opConnect, Path: path, Err: err}
	}
	s := &session{server: server, g: newGuard(c)}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	target := "cifs/" + server
	l, err := newLogin(ctx, d.Auth, target)
	if err != nil {
		return nil, &Error{Op: opLogin, Path: path, Target: target, Err: err}
	}
	dialer := &smb2.Dialer{
		Negotiator: smb2.Negotiator{
			RequireMessageSigning: true,
			UseMessageEncryption:  d.Encrypt,
			SpecifiedDialect:      uint16(d.Dialect),
		},
		Initiator: l,
	}
	err = safely(func() (err error) {
		s.smb, err = dialer.DialContext(ctx, s.g)
		return err
	})
	if err != nil {
		return nil, s.loginError(ctx, path, target, l, err)
	}
	if dialect := Dialect(s.smb.NegotiatedDialect()); dialect < SMB210 {
		return nil, &Error{Op: opConnect, Path: path, Err: fmt.Errorf("the server speaks %v, and at least %v is needed", dialect, SMB210)}
	}
	if d.Encrypt {
		s.g.demandEncryption()
	}
	path += `\` + share
	err = s.do(func() (err error) {
		s.tree, err = s.smb.WithContext(ctx).Mount(path)
		return err
	}, nil)
	if err != nil {
		return nil, s.fault(opOpenShare, path, err)
	}
	return s, nil
}

// loginError finds the reason for which a log-in has failed: the mechanism's, the server's status, the context's, or go-smb2's.
func (s *session) loginError(ctx context.Context, path, target string, l *login, err error) error {
	e := &Error{Op: opLogin, Path: path, Target: target}
	switch status := s.g.lastLoginStatus(); {
	case l.err != nil:
		e.Err = l.err
	case ctx.Err() != nil:
		e.Err = ctx.Err()
	case status != statusMoreProcessing && status != 0:
		e.Status = status
	default:
		var f *Error
		if errors.As(s.fault(opLogin, path, err), &f) {
			e.Err, e.Status = f.Err, f.Status
		}
	}
	return e
}

// safely calls f, which is go-smb2 at work on what a server has sent. Its decoders trust some of that; the panic of an index out of
// range becomes an error.
func safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errBadFrame, p)
		}
	}()
	return f()
}

// do performs an operation of exactly one message. Operations reach the server in the order in which they are begun, and sent, which may be nil,
// is called when this one's message was written, or will not be.
func (s *session) do(op func() error, sent func()) error {
	s.starting.Lock()
	once := s.g.onSent(func() {
		s.starting.Unlock()
		if sent != nil {
			sent()
		}
	})
	defer once()
	err := safely(op)
	if errors.Is(err, errBadFrame) {
		s.g.fail(err)
	}
	return err
}

// alive tells whether the connection is still there.
func (s *session) alive() bool {
	select {
	case <-s.g.failed:
		return false
	default:
		return true
	}
}

// acquire counts one more pipe, unless the session is of no use for new ones.
func (s *session) acquire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired || !s.alive() {
		return false
	}
	s.pipes++
	return true
}

// release counts one less. A pipe that could not be closed retires the session.
func (s *session) release(retire bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pipes--
	if s.retired = s.retired || retire; s.retired && s.pipes == 0 {
		s.close()
	}
}

// close closes the connection, by which the server ends the session and all that is open in it: net.ErrClosed here. Go-smb2's log-off is
// not used, since it leaves a connection on which every later message waits for ever, finalizers of files among them.
func (s *session) close() { s.g.fail(net.ErrClosed) }
