package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// The kinds of errors of the check before the first case, in words that scripts can match.
const (
	wrongCredentials = "wrong credentials"
	noRights         = "no rights"
	noShare          = "no such share"
	noService        = "no service"
	unreachable      = "unreachable"
	cannotCopy       = "not supported"
	busyServer       = "busy"
	strangeAnswers   = "strange answers"
)

// hints say what to do about each kind.
var hints = map[string]string{
	wrongCredentials: "check -user and -keytab, -ccache or -password-file, and that -server is the full name that the server has in the realm; see also -mechanism",
	noRights:         `add the account to BUILTIN\Administrators or BUILTIN\Backup Operators of the file server`,
	noShare:          `-share must be \\HOST\share, with a name of the host that the server knows as its own`,
	noService:        "start the server's agent for shadow copies (Windows: the role service File Server VSS Agent Service; Samba: rpcd_fsrvp); see also -transport",
	unreachable:      "check -server, -transport, and that no firewall is between",
	cannotCopy:       "choose a share on a volume that the server can take snapshots of, with nothing else mounted below it",
	busyServer:       "wait until the other backup has ended, or let -reset make the server forget it",
	strangeAnswers:   "look at the server's log; without a share that can be copied once, no case says anything",
}

// explain adds to an error of the check its kind, and what to do.
func explain(err error) error {
	kind := kindOf(err)
	return fmt.Errorf("%s: %w\n  %s", kind, err, hints[kind])
}

func kindOf(err error) string {
	switch {
	case errors.Is(err, fsrvptest.ErrNoRights):
		return noRights
	case errors.Is(err, fsrvptest.ErrNoShare):
		return noShare
	case errors.Is(err, fsrvptest.ErrNotSupported):
		return cannotCopy
	case errors.Is(err, fsrvptest.ErrBusy):
		return busyServer
	case errors.Is(err, fsrvptest.ErrNoService):
		return noService
	case errors.Is(err, fsrvptest.ErrProtection), isCredentials(err):
		return wrongCredentials
	case errors.Is(err, fsrvptest.ErrUnreachable):
		return kindOfTransport(err)
	}
	return strangeAnswers
}

// kindOfTransport returns the kind of an error of SMB or TCP.
func kindOfTransport(err error) string {
	var smb *smb2.Error
	switch {
	case errors.As(err, &smb) && smb.Op == smb2.OpOpenPipe && errors.Is(err, fs.ErrPermission):
		return noRights
	case errors.As(err, &smb) && smb.Op == smb2.OpOpenPipe:
		return noService
	case smb == nil && errors.Is(err, syscall.ECONNREFUSED): // -transport tcp:PORT
		return noService
	}
	return unreachable
}

// isCredentials reports whether a log-on failed because of the credentials.
func isCredentials(err error) bool {
	for _, e := range []error{
		smb2.StatusLogonFailure, smb2.StatusNoSuchUser, smb2.StatusWrongPassword, smb2.StatusAccountRestriction, smb2.StatusInvalidLogonHours,
		smb2.StatusInvalidWorkstation, smb2.StatusPasswordExpired, smb2.StatusPasswordMustChange, smb2.StatusAccountDisabled,
		smb2.StatusAccountExpired, smb2.StatusAccountLockedOut, smb2.StatusLogonTypeNotGranted, smb2.StatusTimeDifference, smb2.ErrGuest,
		krb5.ErrPassword, krb5.ErrPasswordAge, krb5.ErrClientUnknown, krb5.ErrClientRevoked, krb5.ErrServiceUnknown, krb5.ErrExpired,
		krb5.ErrNotYetValid, krb5.ErrSkew, krb5.ErrNoKey, krb5.ErrWrongKey, krb5.ErrEtype, ntlm.ErrLogonFailure,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
