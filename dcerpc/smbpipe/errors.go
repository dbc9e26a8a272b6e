package smbpipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"

	"github.com/oiweiwei/go-smb2.fork"
)

// An Error says what failed at which server, and what may be done. It matches, by errors.Is, fs.ErrNotExist and fs.ErrPermission
// where the server said so, net.ErrClosed after Close, io.ErrUnexpectedEOF where the connection broke, and the
// context's error where that ended.
type Error struct {
	Op     string // "connect", "log in", "open share", "open pipe", "read pipe", ...
	Path   string // what it was done to: `\\fs1`, `\\fs1\share`, `\\fs1\pipe\FssagentRpc`
	Target string // of the log-in: the service principal name, "cifs/fs1"
	Status Status // that the server gave, or zero
	Err    error  // or nil, where Status says it all
}

// Error says all of it in one line.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "smbpipe: %s %s", e.Op, e.Path)
	if e.Target != "" {
		fmt.Fprintf(&b, " as %s", e.Target)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, ": %v", e.Status)
	}
	if h := e.hint(); h != "" {
		b.WriteString(": " + h)
	}
	return b.String()
}

// Unwrap gives Err, and what Status means to package fs.
func (e *Error) Unwrap() []error {
	var all []error
	if e.Err != nil {
		all = append(all, e.Err)
	}
	switch e.Status {
	case statusObjectNameNotFound, statusObjectPathNotFound, statusBadNetworkName, statusNoSuchFile:
		all = append(all, fs.ErrNotExist)
	case statusAccessDenied:
		all = append(all, fs.ErrPermission)
	}
	return all
}

// hint says what to try.
func (e *Error) hint() string {
	switch {
	case e.Status == statusLogonFailure, e.Status == statusNoSuchUser, e.Status == statusWrongPassword:
		return "check user name and password; with Kerberos, whether the server's key is that of the service " + e.Target
	case e.Status == statusAccessDenied && e.Op == opLogin:
		return "check that the account may log on over the network"
	case e.Status == statusAccessDenied:
		return "the account may not open it"
	case e.Status == statusObjectNameNotFound && e.Op == opOpenPipe:
		return "the server does not offer this service; it may not be installed or not be running" +
			" (for FssagentRpc: the File Server VSS Agent Service on Windows, rpcd_fsrvp or an agent of its own with Samba)"
	case e.Status == statusConnRefused && e.Op == opOpenPipe: // Samba's, of a socket that nobody listens on
		return "the service is not running; it may have crashed"
	case e.Status == statusPipeNotAvailable:
		return "the service takes no more connections at the moment"
	case e.Status == statusBadNetworkName:
		return "the server has no such share"
	case e.Status == statusNetNameDeleted:
		return "the server has removed the share, or disconnected all who used it"
	case e.Status == statusTimeDifference:
		return "check the clocks"
	case e.Status == statusPasswordExpired, e.Status == statusPasswordMustChange:
		return "change the account's password"
	case e.Status == statusAccountDisabled, e.Status == statusAccountLocked, e.Status == statusAccountExpired:
		return "have the account enabled"
	case e.Status == statusSessionExpired:
		return "the session has outlived its ticket; dial again"
	case e.Op == opConnect && !errors.Is(e.Err, context.Canceled):
		return "check the name, and that its SMB port (TCP 445) is not blocked"
	}
	return ""
}

// Operations of an Error.
const (
	opConnect   = "connect to"
	opLogin     = "log in to"
	opOpenShare = "open share"
	opOpenPipe  = "open pipe"
	opReadPipe  = "read pipe"
	opWritePipe = "write pipe"
)

// fault makes an *Error of what go-smb2 gave; nil of nil.
func (s *session) fault(op, path string, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Op: op, Path: path, Err: err}
	var response *smb2.ResponseError
	var ctx *smb2.ContextError
	var transport *smb2.TransportError
	select {
	case <-s.g.failed:
		e.Err = s.broken()
		return e
	default:
	}
	switch {
	case errors.As(err, &response):
		e.Status, e.Err = Status(response.Code), nil
	// Go-smb2 keeps no status where package os has an error.
	case errors.Is(err, os.ErrNotExist):
		e.Status, e.Err = statusObjectNameNotFound, nil
	case errors.Is(err, os.ErrPermission):
		e.Status, e.Err = statusAccessDenied, nil
	case errors.As(err, &ctx):
		e.Err = ctx.Err
	case errors.As(err, &transport):
		e.Err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, transport.Err)
	}
	return e
}

// broken is why a session that has failed did so.
func (s *session) broken() error {
	switch err := s.g.err; {
	case errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, errBadFrame), errors.Is(err, errGuest), errors.Is(err, errNotEncrypted):
		return err
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the server has closed the connection: %w", io.ErrUnexpectedEOF)
	default:
		return fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
	}
}
