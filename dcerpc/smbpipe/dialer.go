package smbpipe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// A Dialect is a version of SMB (MS-SMB2 2.2.3).
type Dialect uint16

// The dialects.
const (
	SMB210 Dialect = 0x0210 // SMB 2.1
	SMB300 Dialect = 0x0300 // SMB 3.0
	SMB302 Dialect = 0x0302 // SMB 3.0.2
	SMB311 Dialect = 0x0311 // SMB 3.1.1
)

// String returns "SMB 3.1.1", and "SMB dialect 0x0202" for one that is not known.
func (d Dialect) String() string {
	switch d {
	case SMB210:
		return "SMB 2.1"
	case SMB300:
		return "SMB 3.0"
	case SMB302:
		return "SMB 3.0.2"
	case SMB311:
		return "SMB 3.1.1"
	}
	return fmt.Sprintf("SMB dialect 0x%04X", uint16(d))
}

// A Dialer opens named pipes, and shares, of SMB servers as one user. Its fields must not be changed once it is used; its methods may be called by
// several goroutines at once.
//
// It keeps a session to every server that it has dialled, for all pipes, and makes a new one where that has ended. Every share that is opened has a session
// of its own, so that nothing waits for the transfer of files.
type Dialer struct {
	// Auth logs in: a mechanism such as a krb5.Initiator or ntlm.Initiator, which SPNEGO then offers alone, or the several of a
	// *spnego.Initiator. Its target is "cifs/" and the server's name as it was dialled: Kerberos wants the full DNS name. It is required.
	Auth dcerpc.Initiator
	// Encrypt demands SMB 3's encryption of everything; servers that cannot do so are not used. Without it sessions are
	// encrypted where the server demands it, and signed otherwise.
	Encrypt bool
	// Dialect is the only one to be used. Zero means the best that the server has, from SMB 2.1 to SMB 3.1.1.
	Dialect Dialect
	// Port is the TCP port. Empty means 445.
	Port string
	// Dial makes the TCP connections. Nil means that of a zero net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu      sync.Mutex
	pipes   map[string]*entry     // by server
	retired []*session            // that were in pipes before, and may have open ones
	shares  map[*session]struct{} // that are open
	closed  bool
}

var _ dcerpc.Dialer = (*Dialer)(nil)

// An entry is the place of the session for one server's pipes. Its token is the right to look at the session and to replace it.
type entry struct {
	token   chan struct{}
	session *session
}

// DialRPC opens a pipe of server, a host name or an address. Endpoint is the pipe's name: `\PIPE\FssagentRpc`, `\pipe\fssagentrpc` and
// `FssagentRpc` are the same.
//
// The pipe's Write takes whole PDUs and parts of them, and sends each PDU as one message. It returns once the message is on its way: errors come with
// a later Write or Read. At the end that the server makes, Read returns io.EOF. Deadlines work; a Write that hits one has sent nothing
// of what it does not count.
//
// Close ends pending calls at once, has the server free the pipe, and waits for its answer, ten seconds at most. Samba does not free a
// pipe before the call that is pending on it is over: so a session whose only pipe is closed under a call ends with it, and one with
// several is not used for new ones.
//
// Errors are *Errors, which say what can be done about them.
func (d *Dialer) DialRPC(ctx context.Context, server, endpoint string) (net.Conn, error) {
	name, err := pipeName(endpoint)
	if err != nil {
		return nil, err
	}
	for {
		s, fresh, err := d.session(ctx, server)
		if err != nil {
			return nil, err
		}
		p, err := s.openPipe(ctx, name)
		if err == nil {
			return p, nil
		}
		var e *Error
		if errors.As(err, &e) && e.Status == statusSessionExpired {
			s.g.fail(fmt.Errorf("%w: %v", net.ErrClosed, e.Status))
		}
		if fresh || s.alive() || ctx.Err() != nil {
			return nil, err
		}
		// The session had ended since it was used last: once more with a new one.
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

// session returns the session for the pipes of a server, and makes it where there is none that works. One more pipe is
// counted in it.
func (d *Dialer) session(ctx context.Context, server string) (s *session, fresh bool, err error) {
	e, err := d.entry(strings.ToLower(server))
	if err != nil {
		return nil, false, err
	}
	select {
	case <-e.token:
		defer func() { e.token <- struct{}{} }()
	case <-ctx.Done():
		return nil, false, &Error{Op: opConnect, Path: `\` + server, Err: ctx.Err()}
	}
	if e.session != nil && e.session.acquire() {
		return e.session, false, nil
	}
	if s, err = d.connect(ctx, server, "IPC$"); err != nil {
		return nil, false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		s.close()
		return nil, false, errDialerClosed
	}
	s.pipes = 1
	if e.session != nil {
		d.retired = append(slices.DeleteFunc(d.retired, func(s *session) bool { return !s.alive() }), e.session)
	}
	e.session = s
	return s, true, nil
}

var errDialerClosed = fmt.Errorf("smbpipe: the Dialer is closed: %w", net.ErrClosed)

func (d *Dialer) entry(server string) (*entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errDialerClosed
	}
	e := d.pipes[server]
	if e == nil {
		e = &entry{token: make(chan struct{}, 1)}
		e.token <- struct{}{}
		if d.pipes == nil {
			d.pipes = make(map[string]*entry)
		}
		d.pipes[server] = e
	}
	return e, nil
}

// Close ends all sessions. Pipes, shares and files that are open end with errors that match net.ErrClosed; so does what is dialled later.
func (d *Dialer) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.pipes {
		if e.session != nil {
			e.session.close()
		}
	}
	for _, s := range d.retired {
		s.close()
	}
	for s := range d.shares {
		s.close()
	}
	d.pipes, d.retired, d.shares, d.closed = nil, nil, nil, true
	return nil
}
