package smbpipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/redirector"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/sharefs"
)

// A SystemDialer opens named pipes, and shares, by the SMB client of Windows itself: with the
// log-on of the process, or that of the thread where it impersonates somebody, and with whatever
// the system's administrator has set of SMB. On others than Windows its methods return errors that
// match [errors.ErrUnsupported]. The zero value is ready for use; its fields must not be changed
// once it is used, and its methods may be called by several goroutines at once.
//
// Sessions with servers are the system's: it makes, shares and ends them. There is nothing to close
// but pipes and shares.
type SystemDialer struct {
	// PipeTimeout is how long a pipe whose service is not ready is waited for, see [Dialer]. Zero
	// means until the context's deadline, or 30 s where it has none.
	PipeTimeout time.Duration
	// Identify lets the server find out who the client is, but not act as it. Otherwise it may do
	// so on its own machine, as servers of MS-FSRVP on Windows need it.
	Identify bool
}

var _ dcerpc.Dialer = (*SystemDialer)(nil)

// DialRPC opens a pipe of server, a host name or an address, or "." for this machine. Endpoint is
// the pipe's name as in [Dialer.DialRPC]. The pipe is read and written in messages: Write takes
// whole PDUs and parts of them, and sends each PDU as one. A Write that hits a deadline has sent
// nothing of what it does not count. The context bounds the opening alone: the system's call is
// cancelled with it.
//
// Errors are *Errors with the system's NTSTATUS.
func (d *SystemDialer) DialRPC(ctx context.Context, server, endpoint string) (net.Conn, error) {
	name, err := pipeName(endpoint)
	if err != nil {
		return nil, err
	}
	path := `\\` + server + `\pipe\` + name
	f, err := waitForPipe(ctx, d.PipeTimeout, func() (*os.File, error) {
		return redirector.OpenPipe(ctx, server, name, d.Identify)
	})
	if err != nil {
		return nil, err
	}
	return newSystemPipe(f, path), nil
}

// OpenShare connects to a share; see [sharefs.OpenSystem].
func (d *SystemDialer) OpenShare(ctx context.Context, unc string) (fs.FS, io.Closer, error) {
	fsys, err := sharefs.OpenSystem(ctx, unc, nil)
	if err != nil {
		return nil, nil, err
	}
	return fsys, fsys, nil
}

// A systemFile is what a pipe needs of an *os.File.
type systemFile interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// A systemPipe is a pipe that the system has opened, in message mode.
type systemPipe struct {
	f    systemFile
	path string

	reading sync.Mutex // held by Read
	buf     []byte     // longer than any PDU, so that no message is read in parts
	unread  []byte     // of buf

	writing sync.Mutex // held by Write
	out     splitter
	partial []byte // of a PDU whose rest has not come yet
}

var _ net.Conn = (*systemPipe)(nil)

func newSystemPipe(f systemFile, path string) *systemPipe { return &systemPipe{f: f, path: path} }

// failure makes an *Error; deadlines stay what they are.
func (p *systemPipe) failure(op string, err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.Is(err, os.ErrClosed):
		return &Error{Op: op, Path: p.path, Err: net.ErrClosed}
	case op == smb2.OpReadPipe && (errors.Is(err, io.EOF) || endOfPipe(err)):
		return io.EOF
	case endOfPipe(err):
		return &Error{Op: op, Path: p.path, Err: fmt.Errorf("the server has closed the pipe: %w", io.ErrUnexpectedEOF)}
	}
	return &Error{Op: op, Path: p.path, Err: err}
}

// Read gives what the server has sent.
func (p *systemPipe) Read(b []byte) (int, error) {
	p.reading.Lock()
	defer p.reading.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	if len(p.unread) == 0 {
		if p.buf == nil {
			p.buf = make([]byte, maxMessage+1)
		}
		n, err := p.f.Read(p.buf)
		if err != nil {
			return 0, p.failure(smb2.OpReadPipe, err)
		}
		if n > maxMessage {
			return 0, p.failure(smb2.OpReadPipe, fmt.Errorf("a message of more than %d bytes, which is no PDU",
				maxMessage))
		}
		p.unread = p.buf[:n]
	}
	n := copy(b, p.unread)
	p.unread = p.unread[n:]
	return n, nil
}

// Write takes bytes of PDUs and sends those that are complete.
func (p *systemPipe) Write(b []byte) (int, error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	for done := 0; ; {
		before, have := p.out, len(p.partial)
		n, whole := p.out.next(b[done:])
		message := b[done : done+n]
		if have > 0 || !whole {
			p.partial = append(p.partial, message...)
			message = p.partial
		}
		if whole || p.out.wrong && n > 0 {
			if _, err := p.f.Write(message); err != nil {
				p.out, p.partial = before, p.partial[:have]
				return done, p.failure(smb2.OpWritePipe, err)
			}
			p.partial = p.partial[:0]
		}
		if done += n; done == len(b) {
			return done, nil
		}
	}
}

// Close ends what is pending.
func (p *systemPipe) Close() error {
	if err := p.f.Close(); err != nil {
		return p.failure("close pipe", err)
	}
	return nil
}

// LocalAddr names this side's end of the pipe, which has no address.
func (p *systemPipe) LocalAddr() net.Addr { return pipeAddr{path: "the system's client"} }

// RemoteAddr is the pipe's.
func (p *systemPipe) RemoteAddr() net.Addr { return pipeAddr{path: p.path} }

// SetDeadline sets both.
func (p *systemPipe) SetDeadline(t time.Time) error {
	return errors.Join(p.SetReadDeadline(t), p.SetWriteDeadline(t))
}

// SetReadDeadline works on a Read that waits, too.
func (p *systemPipe) SetReadDeadline(t time.Time) error { return p.f.SetReadDeadline(t) }

// SetWriteDeadline works on a Write that waits, too.
func (p *systemPipe) SetWriteDeadline(t time.Time) error { return p.f.SetWriteDeadline(t) }
