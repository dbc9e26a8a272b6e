package smb2

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Errors of a connection. All of them end it.
var (
	// ErrNotSigned means that an answer has no signature, or a wrong one, in a session that
	// requires signing.
	ErrNotSigned = errors.New("the server's answer is not signed as it must be; somebody may have changed it on its way")
	// ErrNotEncrypted means that a server does not encrypt what must be encrypted.
	ErrNotEncrypted = errors.New("the server does not encrypt, and it has to: encryption is demanded, or negotiated")
	// ErrGuest means that a server has logged the user in as a guest or anonymously.
	ErrGuest = errors.New("the server has made a guest of the user: it does not know the account")
	// ErrDowngrade means that somebody has changed the negotiation on its way (MS-SMB2
	// 3.2.5.14.12).
	ErrDowngrade = errors.New("the server did not negotiate what it says that it did; somebody has changed it on its way")
	// ErrProtocol means that a server violates MS-SMB2.
	ErrProtocol = errors.New("the server broke SMB2")
	// ErrNoAnswer means that a server has not answered within [Config.AnswerTimeout].
	ErrNoAnswer = errors.New("the server does not answer")
	// ErrNoCredits means that a server lets the client send no more requests.
	ErrNoCredits = errors.New("the server has left the client without a credit")
)

// Operations of an [Error].
const (
	OpConnect   = "connect to"
	OpLogin     = "log in to"
	OpOpenShare = "open share"
	OpOpenPipe  = "open pipe"
	OpReadPipe  = "read pipe"
	OpWritePipe = "write pipe"
	OpOpen      = "open"
	OpRead      = "read"
	OpWrite     = "write"
	OpList      = "list"
	OpQuery     = "query"
	OpClose     = "close"
)

// An Error says what failed at which server, and what can be done about it. With [errors.Is] it
// matches its Status, [fs.ErrNotExist] and [fs.ErrPermission] if the Status means one of these,
// [net.ErrClosed] after Close, [io.ErrUnexpectedEOF] if the connection broke, and the context's
// error if the context ended.
type Error struct {
	Op     string // "connect to", "log in to", "open share", "open pipe", "read pipe", ...
	Path   string // what it was done to: `\\fs1`, `\\fs1\share`, `\\fs1\pipe\FssagentRpc`
	Target string // of a log-in: the service principal name, "cifs/fs1"
	Status Status // that the server gave, or zero
	Err    error  // or nil, where Status says it all
}

// Error returns the whole message in one line.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "smb: %s %s", e.Op, e.Path)
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

// Unwrap returns Err, and the error of package fs that corresponds to Status.
func (e *Error) Unwrap() []error {
	var all []error
	if e.Err != nil {
		all = append(all, e.Err)
	}
	if e.Status != 0 {
		all = append(all, e.Status)
	}
	switch e.Status {
	case StatusObjectNameNotFound, StatusObjectPathNotFound, StatusBadNetworkName, StatusNoSuchFile,
		StatusDeletePending:
		all = append(all, fs.ErrNotExist)
	case StatusAccessDenied, StatusPrivilegeNotHeld, StatusNetworkAccessDenied:
		all = append(all, fs.ErrPermission)
	case StatusObjectNameInvalid:
		all = append(all, fs.ErrInvalid)
	}
	return all
}

// hint says what to try.
func (e *Error) hint() string {
	switch {
	case e.Status == StatusLogonFailure, e.Status == StatusNoSuchUser, e.Status == StatusWrongPassword:
		return "check user name and password; with Kerberos, whether the server's key is that of the service " + e.Target
	case e.Status == StatusAccessDenied && e.Op == OpLogin:
		return "check that the account may log on over the network"
	case e.Status == StatusAccessDenied && e.Op == OpConnect:
		return "the server's and the client's lists of dialects or algorithms may have nothing in common"
	case (e.Status == StatusNotSupported || e.Status == StatusInvalidParameter) && e.Op == OpConnect:
		return "the server's and the client's lists of dialects or algorithms have nothing in common"
	case e.Status == StatusAccessDenied:
		return "the account may not open it, or the server demands encryption"
	case e.Status == StatusObjectNameNotFound && e.Op == OpOpenPipe:
		return "the server does not offer this service; it may not be installed or not be running" +
			" (for FssagentRpc: the File Server VSS Agent Service on Windows, rpcd_fsrvp or an agent of its own with Samba)"
	case e.Status == StatusConnRefused && e.Op == OpOpenPipe: // Samba's, of a socket that nobody listens on
		return "the service is not running; it may have crashed"
	case e.Status != 0:
		return statusTexts[e.Status].hint
	case e.Op == OpConnect && !errors.Is(e.Err, context.Canceled) && e.Err != nil && !isOurs(e.Err):
		return "check the name, and that its SMB port (TCP 445) is not blocked"
	}
	return ""
}

// isOurs reports whether an error says by itself what is wrong with the server.
func isOurs(err error) bool {
	for _, e := range []error{ErrNotSigned, ErrNotEncrypted, ErrGuest, ErrDowngrade, ErrProtocol, ErrMessage,
		ErrNoCredits} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// StatusOf returns the status in err, or zero.
func StatusOf(err error) Status {
	var e *Error
	var s Status
	switch {
	case errors.As(err, &e) && e.Status != 0:
		return e.Status
	case errors.As(err, &s):
		return s
	}
	return 0
}
