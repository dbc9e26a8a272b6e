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

// A SystemDialer opens named pipes and shares with Windows' own SMB client: with the log-on of the
// process, or of the thread if that impersonates a user, and with the system's SMB settings. On
// systems other than Windows its methods return errors that match [errors.ErrUnsupported]. The zero
// value is ready to use; its fields must not be changed after the first use, and its methods are
// safe for concurrent use.
//
// The system makes, shares and ends the sessions with servers. Only pipes and shares need to be
// closed.
type SystemDialer struct {
	// PipeTimeout is the time to wait for a pipe whose service is not ready, see [Dialer]. Zero
	// means until the context's deadline, or 30 s if it has none.
	PipeTimeout time.Duration
	// Identify lets the server identify the client but not act for it. Otherwise the server may act
	// for the client on its own machine, as MS-FSRVP servers on Windows need.
	Identify bool
}

var _ dcerpc.Dialer = (*SystemDialer)(nil)

// DialRPC opens a pipe of server, a host name or an address, or "." for this machine. The endpoint
// is the pipe's name as in [Dialer.DialRPC]. The pipe carries messages: Write accepts whole PDUs
// and parts of them, and sends each PDU as one message. A Write that hits a deadline has not sent
// any of the bytes that it does not count. The context bounds only the opening, and cancels the
// system call when it ends.
//
// Errors are of type [*Error], with the system's NTSTATUS.
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

// A systemFile has the methods of *os.File that a pipe needs.
type systemFile interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// A systemPipe is a pipe opened by the system, in message mode.
type systemPipe struct {
	f    systemFile
	path string

	reading sync.Mutex // held by Read
	buf     []byte     // longer than any PDU, so that no message is read in parts
	unread  []byte     // of buf

	writing sync.Mutex // held by Write
	out     splitter
	partial []byte // of a PDU that is not yet complete
}

var _ net.Conn = (*systemPipe)(nil)

func newSystemPipe(f systemFile, path string) *systemPipe { return &systemPipe{f: f, path: path} }

// failure returns an *Error, and deadline errors unchanged.
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

// Read returns data that the server has sent.
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
			return 0, p.failure(smb2.OpReadPipe, fmt.Errorf("a message of more than %d bytes, which is not a PDU",
				maxMessage))
		}
		p.unread = p.buf[:n]
	}
	n := copy(b, p.unread)
	p.unread = p.unread[n:]
	return n, nil
}

// Write accepts bytes of PDUs and sends complete PDUs.
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

// Close cancels pending operations.
func (p *systemPipe) Close() error {
	if err := p.f.Close(); err != nil {
		return p.failure("close pipe", err)
	}
	return nil
}

// LocalAddr names this side's end of the pipe, which has no address.
func (p *systemPipe) LocalAddr() net.Addr { return pipeAddr{path: "the system's client"} }

// RemoteAddr returns the address of the pipe.
func (p *systemPipe) RemoteAddr() net.Addr { return pipeAddr{path: p.path} }

// SetDeadline sets both deadlines.
func (p *systemPipe) SetDeadline(t time.Time) error {
	return errors.Join(p.SetReadDeadline(t), p.SetWriteDeadline(t))
}

// SetReadDeadline also affects a waiting Read.
func (p *systemPipe) SetReadDeadline(t time.Time) error { return p.f.SetReadDeadline(t) }

// SetWriteDeadline also affects a waiting Write.
func (p *systemPipe) SetWriteDeadline(t time.Time) error { return p.f.SetWriteDeadline(t) }
