package transcript

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A statusValue is a status in JSON: a number, or in the form that people write,
// "FSRVP_E_BAD_STATE" or "0x80042301".
type statusValue fsrvp.Status

// UnmarshalJSON reads both forms.
func (s *statusValue) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '"' {
		var n uint32
		if err := json.Unmarshal(b, &n); err != nil {
			return err
		}
		*s = statusValue(n)
		return nil
	}
	var name string
	if err := json.Unmarshal(b, &name); err != nil {
		return err
	}
	if n, err := strconv.ParseUint(name, 0, 32); err == nil {
		*s = statusValue(n)
		return nil
	}
	for _, known := range knownStatuses() {
		if strings.EqualFold(known.Name(), name) {
			*s = statusValue(known)
			return nil
		}
	}
	return fmt.Errorf("there is no status %q; write a name of MS-FSRVP 2.2.4 or a number", name)
}

func knownStatuses() []fsrvp.Status {
	return []fsrvp.Status{
		0, fsrvp.ErrAccessDenied, fsrvp.ErrOutOfMemory, fsrvp.ErrInvalidArg, fsrvp.ErrFail, fsrvp.ErrBadState, fsrvp.ErrBadID,
		fsrvp.ErrObjectNotFound, fsrvp.ErrNotSupported, fsrvp.ErrObjectAlreadyExists, fsrvp.ErrNotExposed,
		fsrvp.ErrShadowCopySetInProgress, fsrvp.ErrUnsupportedContext, fsrvp.ErrTimeout, fsrvp.ErrShadowCopySetIDMismatch,
		fsrvp.ErrWaitTimeout, fsrvp.ErrWaitFailed,
	}
}

// onlyStatus reports whether a response has no results besides its status.
func onlyStatus(r fsrvp.Response) bool {
	switch r.Opnum() {
	case fsrvp.OpGetSupportedVersion, fsrvp.OpStartShadowCopySet, fsrvp.OpAddToShadowCopySet, fsrvp.OpIsPathSupported,
		fsrvp.OpIsPathShadowCopied, fsrvp.OpGetShareMapping:
		return false
	}
	return true
}

func statusText(s fsrvp.Status) string { return fmt.Sprintf("%s (0x%08X)", s.Name(), uint32(s)) }
