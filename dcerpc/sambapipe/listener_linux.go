package sambapipe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// handshakeTime is the time for smbd's hand-over, which smbd has ready before it connects.
const handshakeTime = 10 * time.Second

// A Listener is a [net.Listener] of the handles that SMB clients open on a pipe. It returns
// connections that implement [dcerpc.SessionConn], after their hand-over. It is safe for concurrent
// use.
type Listener struct {
	cfg   Config
	sock  *socket
	uid   uint32 // smbd's user
	conns chan *conn
	wg    sync.WaitGroup

	clients clients // of all connections, accepted ones included

	ctx  context.Context // ends with Close
	stop context.CancelFunc

	closing  sync.Once
	closeErr error
}

// Listen makes the pipe's socket and serves hand-overs until Close. It makes missing directories
// with the modes that smbd requires: Config.Dir 0755, np in it 0700, owned by this process's user,
// who must be root if smbd is.
//
// Errors: another Listener has the pipe, in this or another process (os.ErrExist); a directory
// cannot be made, or has another mode or owner than smbd requires; the socket cannot be made.
//
// Samba's own server for a pipe of the same name is displaced.
func Listen(cfg *Config) (*Listener, error) { return listen(cfg, 0) }

func listen(cfg *Config, uid uint32) (*Listener, error) {
	l := &Listener{cfg: cfg.filled(), uid: uid, conns: make(chan *conn)}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.clients.log = l.cfg.Logger.With(slog.String("pipe", l.cfg.Pipe))
	for _, path := range rivals(l.cfg.LibexecDirs) {
		l.cfg.Logger.Warn("samba-dcerpcd can take the pipe over: make its server not executable, or hide it from smbd and winbindd",
			slog.String("pipe", l.cfg.Pipe), slog.String("path", path))
	}
	var err error
	if l.sock, err = openSocket(&l.cfg, l.serve, &l.wg); err != nil {
		return nil, fmt.Errorf("sambapipe: %w", err)
	}
	return l, nil
}

// Accept waits for the next handle that a client opens on the pipe. After Close it returns an error
// that matches [net.ErrClosed].
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ctx.Done():
		return nil, &net.OpError{Op: "accept", Net: "unix", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

// Addr returns the socket's address.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: l.sock.path, Net: "unix"} }

// Close removes the socket, unless another server has taken it over, and ends Accept and unfinished
// hand-overs. Connections that were accepted stay open.
func (l *Listener) Close() error {
	l.closing.Do(func() {
		l.stop()
		l.closeErr = l.sock.close()
		l.wg.Wait()
	})
	return l.closeErr
}

// serve makes the hand-over of one connection, without delay, since the client's whole SMB
// connection waits for it.
func (l *Listener) serve(c *net.UnixConn) {
	defer context.AfterFunc(l.ctx, func() { c.Close() })()
	out, err := l.open(c)
	if err != nil {
		c.Close()
		if l.ctx.Err() == nil && !errors.Is(err, errProbe) {
			l.cfg.Logger.Warn("a hand-over failed", slog.String("pipe", l.cfg.Pipe), slog.Any("err", err))
		}
		return
	}
	if out.session.Refuse != nil {
		l.cfg.Logger.Warn("a hand-over is not acceptable; the caller will be refused", slog.String("pipe", l.cfg.Pipe),
			slog.Any("err", out.session.Refuse))
	}
	select {
	case l.conns <- out:
	case <-l.ctx.Done():
		out.Close()
	}
}

func (l *Listener) open(c *net.UnixConn) (*conn, error) {
	smbd, err := peerOf(c)
	if err != nil {
		return nil, err
	}
	if smbd.Uid != l.uid {
		return nil, fmt.Errorf("sambapipe: a process of user %d has connected, not smbd's user %d", smbd.Uid, l.uid)
	}
	if err := c.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return nil, err
	}
	out, err := handshake(c, `\pipe\`+l.cfg.Pipe)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	l.clients.watch(out, smbd.Pid)
	return out, nil
}
