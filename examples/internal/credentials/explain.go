package credentials

import (
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// hints say what users can do about errors of servers.
var hints = []struct {
	err  error
	hint string
}{
	{fsrvp.ErrAccessDenied, `The account needs to be in BUILTIN\Administrators or BUILTIN\Backup Operators of the file server.`},
	{fsrvp.ErrShadowCopySetInProgress, "Another client is taking shadow copies on the server, which does one set at a time. Try again later."},
	{fsrvp.ErrNotSupported, "The file server cannot copy the volume that the share is on, or something else is mounted below the share."},
	{dcerpc.ErrAccessDenied, "The server refused the security of the call. Try another -mechanism, and -level privacy."},
	{dcerpc.ErrSecurityPackage, "The server refused the security of the call. Try another -mechanism, and -level privacy; under Wine, -no-header-signing."},
}

// Explain adds to an error of a server what its user can do about it. It returns other errors, and
// nil, unchanged.
func Explain(err error) error {
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return fmt.Errorf("%w\n  %s", err, h.hint)
		}
	}
	return err
}
