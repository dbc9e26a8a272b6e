package smbpipe

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/sharefs"
)

// Types of packages smb2 and sharefs.
type (
	// A Dialect is a version of SMB.
	Dialect = smb2.Dialect
	// A Status is an NTSTATUS of an SMB server.
	Status = smb2.Status
	// An Error says what failed at which server, and what to do about it.
	Error = smb2.Error
	// Attributes are returned by Sys of the [fs.FileInfo] of a file in a share.
	Attributes = sharefs.Attributes
)

// The dialects.
const (
	SMB210 = smb2.SMB210 // SMB 2.1
	SMB300 = smb2.SMB300 // SMB 3.0
	SMB302 = smb2.SMB302 // SMB 3.0.2
	SMB311 = smb2.SMB311 // SMB 3.1.1
)

// A Dialer opens named pipes and shares of SMB servers as one user. Its fields must not be changed
// after the first use; its methods are safe for concurrent use.
//
// It keeps one session with every server that it has dialed, for all pipes and shares, and makes a
// new one if that has ended.
type Dialer struct {
	// Auth is the mechanism for the log-on, such as a krb5.Initiator or ntlm.Initiator, which is
	// then the only one that SPNEGO offers, or a *spnego.Initiator with several. Its target is
	// "cifs/" and the server's name as it was dialed: Kerberos needs the full DNS name. Auth is
	// required.
	Auth dcerpc.Initiator
	// Encrypt requires SMB 3 encryption of everything; connecting to a server without it fails.
	// Without Encrypt, sessions are encrypted if the server requires it, and signed otherwise.
	Encrypt bool
	// Dialect is the only dialect to use. Zero means those in SMB, or by default the server's best
	// from SMB 2.1 to SMB 3.1.1.
	Dialect Dialect
	// Port is the TCP port. Empty means 445.
	Port string
	// Dial makes the TCP connections. Nil means a zero [net.Dialer].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// PipeTimeout is the time to wait for a pipe whose service is not ready
	// (STATUS_PIPE_NOT_AVAILABLE), since Windows starts services on demand. Zero means until the
	// context's deadline, or 30 s if it has none.
	PipeTimeout time.Duration
	// AlwaysRead makes Read ask the server for data even if no answer is due, so that it sees
	// unsolicited PDUs and the end of the pipe. It is for tests of servers: closing a pipe during
	// such a read takes up to a second, since Samba does not cancel it.
	AlwaysRead bool
	// SMB has further settings: algorithms, time-outs, a logger. The fields above take precedence
	// if they are set. Nil means the defaults.
	SMB *smb2.Config

	mu      sync.Mutex
	servers map[string]*entry
	retired []*smb2.Session // that were in servers before, and have something open
	closed  bool
}

var _ dcerpc.Dialer = (*Dialer)(nil)

// An entry holds the session with one server. Its token is the right to use and to replace the
// session.
type entry struct {
	token   chan struct{}
	session *smb2.Session
	pipes   *smb2.Tree // IPC$ of the session; nil before it is needed
}

// DialRPC opens a pipe of server, a host name or an address. The endpoint is the pipe's name:
// `\PIPE\FssagentRpc`, `\pipe\fssagentrpc` and
// `FssagentRpc` are the same.
//
// The pipe's Write accepts whole PDUs and parts of them, and sends each PDU as one message. It
// returns once the message is on its way: errors come with a later Write or Read. When the server
// closes the pipe, Read returns [io.EOF]. Deadlines work; a Write that hits one has not sent any of
// the bytes that it does not count.
//
// Close cancels pending calls at once (SMB2 CANCEL), asks the server to close the pipe, and waits
// up to ten seconds for its answer; the session and its other pipes go on. Samba does not cancel a
// call, and frees its pipe only when the call or the connection ends: a session with such a pipe is
// not used for new pipes, and ends with the last pipe and share that are open in it.
//
// Errors are of type [*Error], and say what to do about them.
func (d *Dialer) DialRPC(ctx context.Context, server, endpoint string) (net.Conn, error) {
	name, err := pipeName(endpoint)
	if err != nil {
		return nil, err
	}
	for {
		s, tree, fresh, err := d.session(ctx, server, true)
		if err != nil {
			return nil, err
		}
		f, err := waitForPipe(ctx, d.PipeTimeout, func() (*smb2.File, error) { return tree.OpenPipe(ctx, name) })
		if err == nil {
			p := newPipe(s, f, `\\`+server+`\pipe\`+name)
			p.always = d.AlwaysRead
			return p, nil
		}
		if fresh || !s.Retired() || ctx.Err() != nil {
			return nil, err
		}
		// The session had ended since its last use: try again with a new one.
	}
}

// pipeWait is the wait after the first of several tries to open a pipe; the waits double up to
// maxPipeWait.
const (
	pipeWait    = 100 * time.Millisecond
	maxPipeWait = time.Second
)

// waitForPipe opens a pipe, and waits for its service.
func waitForPipe[T any](ctx context.Context, limit time.Duration, open func() (T, error)) (T, error) {
	var none T
	var late <-chan time.Time
	if _, bounded := ctx.Deadline(); limit == 0 && !bounded {
		limit = 30 * time.Second
	}
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		late = timer.C
	}
	for wait := pipeWait; ; wait = min(2*wait, maxPipeWait) {
		f, err := open()
		if smb2.StatusOf(err) != smb2.StatusPipeNotAvailable {
			return f, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-late:
			timer.Stop()
			return none, err
		case <-ctx.Done():
			timer.Stop()
			return none, fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

// pipeName cuts \pipe\ from an endpoint.
func pipeName(endpoint string) (string, error) {
	name := strings.TrimPrefix(endpoint, `\`)
	if len(name) >= 5 && strings.EqualFold(name[:5], `pipe\`) {
		name = name[5:]
	}
	if name == "" || strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, `\`) {
		return "", fmt.Errorf(`smbpipe: %q is not the name of a pipe, as \PIPE\FssagentRpc is`, endpoint)
	}
	return name, nil
}

// config returns the configuration of sessions.
func (d *Dialer) config() *smb2.Config {
	var c smb2.Config
	if d.SMB != nil {
		c = *d.SMB
	}
	if d.Auth != nil {
		c.Auth = d.Auth
	}
	if d.Dialect != 0 {
		c.Dialects = []smb2.Dialect{d.Dialect}
	}
	if d.Port != "" {
		c.Port = d.Port
	}
	if d.Dial != nil {
		c.Dial = d.Dial
	}
	c.Encrypt = c.Encrypt || d.Encrypt
	return &c
}

// session returns the session with a server, and makes one if there is none that works; with pipes,
// also the tree of its pipes.
func (d *Dialer) session(ctx context.Context, server string, pipes bool) (s *smb2.Session, ipc *smb2.Tree, fresh bool,
	err error) {
	e, err := d.entry(strings.ToLower(server))
	if err != nil {
		return nil, nil, false, err
	}
	select {
	case <-e.token:
		defer func() { e.token <- struct{}{} }()
	case <-ctx.Done():
		return nil, nil, false, &Error{Op: smb2.OpConnect, Path: `\\` + server, Err: context.Cause(ctx)}
	}
	for {
		if e.session == nil || e.session.Retired() {
			if s, err = smb2.Dial(ctx, server, d.config()); err != nil {
				return nil, nil, false, err
			}
			if fresh = true; !d.keep(e, s) {
				s.Close()
				return nil, nil, false, errDialerClosed
			}
		}
		if !pipes || e.pipes != nil {
			return e.session, e.pipes, fresh, nil
		}
		e.pipes, err = e.session.TreeConnect(ctx, "IPC$")
		if err != nil && (fresh || !e.session.Retired() || ctx.Err() != nil) {
			return nil, nil, fresh, err
		}
	}
}

// keep stores a session, unless the Dialer is closed.
func (d *Dialer) keep(e *entry, s *smb2.Session) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		if old := e.session; old != nil {
			d.retired = append(slices.DeleteFunc(d.retired, func(s *smb2.Session) bool { return !s.Alive() }), old)
		}
		e.session, e.pipes = s, nil
	}
	return !d.closed
}

var errDialerClosed = fmt.Errorf("smbpipe: the Dialer is closed: %w", net.ErrClosed)

func (d *Dialer) entry(server string) (*entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errDialerClosed
	}
	e := d.servers[server]
	if e == nil {
		e = &entry{token: make(chan struct{}, 1)}
		e.token <- struct{}{}
		if d.servers == nil {
			d.servers = make(map[string]*entry)
		}
		d.servers[server] = e
	}
	return e, nil
}

// OpenTree connects to a share, `\\server\share`, in the same session as the server's pipes. It
// makes the Dialer a [sharefs.Opener]. The context bounds only the connecting.
func (d *Dialer) OpenTree(ctx context.Context, unc string) (*smb2.Tree, error) {
	server, share, err := smb2.SplitUNC(unc)
	if err != nil {
		return nil, err
	}
	for {
		s, _, fresh, err := d.session(ctx, server, false)
		if err != nil {
			return nil, err
		}
		tree, err := s.TreeConnect(ctx, share)
		if err == nil || fresh || !s.Retired() || ctx.Err() != nil {
			return tree, err
		}
	}
}

// OpenShare connects to a share, `\\server\share`, for reading; see [sharefs.Open]. The Closer,
// like [Dialer.Close], closes everything that is open; later operations return errors that match
// [net.ErrClosed].
func (d *Dialer) OpenShare(ctx context.Context, unc string) (fs.FS, io.Closer, error) {
	fsys, err := sharefs.Open(ctx, d, unc, nil)
	if err != nil {
		return nil, nil, err
	}
	return fsys, fsys, nil
}

// Close ends all sessions. Operations on open pipes, shares and files, and later dials, return
// errors that match [net.ErrClosed].
func (d *Dialer) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, e := range d.servers {
		if e.session != nil {
			e.session.Close()
		}
	}
	for _, s := range d.retired {
		s.Close()
	}
	d.servers, d.retired = nil, nil
	return nil
}
